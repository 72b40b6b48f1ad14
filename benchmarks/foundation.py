"""The targets of the foundation: `make bench SUITE=foundation`. Each module has ``run() -> list[Row]``."""

MODULES = ["simulation", "formats", "make_sim", "hierarchy", "area_vs_peers", "fmax"]
