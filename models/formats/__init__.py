"""Number formats: one registry, one name grammar (docs/formats.md)."""

from .base import ROUNDINGS, Format, Special, Unpacked
from .binary32 import Binary32
from .blocks import Blocks, BlockScaled, get_group_format, group_format_names
from .codebook import Codebook
from .custom import format_from_dict
from .describe import describe, list_formats
from .integers import Fixed, Int
from .minifloat import Minifloat, PowerOfTwo
from .posit import Posit
from .registry import canonical_name, format_names, get_format, is_weight_only, register

__all__ = [
    "ROUNDINGS", "Binary32", "BlockScaled", "Blocks", "Codebook", "Fixed", "Format", "Int",
    "Minifloat", "Posit", "PowerOfTwo", "Special", "Unpacked", "canonical_name", "describe",
    "format_from_dict", "format_names", "get_format", "get_group_format", "group_format_names",
    "is_weight_only", "list_formats", "register",
]
