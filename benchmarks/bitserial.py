"""The targets of the bit-serial engines: `make bench SUITE=bitserial`. Each module has ``run() -> list[Row]``."""

MODULES = ["bitserial_cycles", "bitserial_invariance", "bitserial_area", "bitserial_errors", "bitserial_orderings",
           "bitserial_llm", "bitserial_gguf"]
