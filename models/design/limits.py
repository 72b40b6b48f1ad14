"""Numbers that the core, its registers and its models have in common."""

RAW_WIDTHS = (32, 64, 128, 256, 512)
RECORD_BITS = 128     # per-channel record: bias (32), scale (32), shift (8), zeros
INTEGER_BITS = 48     # widest sum that the integer requantiser takes
MULTIPLIER_BITS = 31
MAX_SHIFT = 62
MAX_SHAPE = (1 << 16) - 1
