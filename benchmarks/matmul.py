"""The targets of the matmul core: `make bench SUITE=matmul`. Each module has ``run() -> list[Row]``."""

MODULES = ["pe_sharing", "pe_isolation", "core_utilisation", "core_speed", "core_place"]
