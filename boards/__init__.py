"""FPGA boards: pins, clocks and the top around a core. One file per board; see docs/boards.md."""
