"""What other tools take of a generated core: FuseSoC, LibreLane, LiteX, Vivado and more.

One module for each, with one function ``files(resolved, facts, texts)`` that gives relative paths (``/`` between
folders) and texts; `registry` lists them.
"""
