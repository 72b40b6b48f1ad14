"""The targets of the sparse-convolution engine: `make bench SUITE=spconv`. Each module has ``run() -> list[Row]``."""

MODULES = ["map_search", "spconv_golden", "spconv_layers", "gather_lanes", "gather_area", "spconv_place"]
