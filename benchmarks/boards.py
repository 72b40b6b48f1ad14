"""The targets of boards and packages: `make bench SUITE=boards`. Each module has ``run() -> list[Row]``."""

MODULES = ["board_link", "board_bitstreams", "tinytapeout"]
