"""Number formats: one registry, one name grammar."""

from .base import ROUNDINGS, Format, Special, Unpacked
from .codebook import Codebook
from .integers import Fixed, Int
from .minifloat import Minifloat, PowerOfTwo
from .posit import Posit
from .registry import canonical_name, format_names, get_format, is_weight_only, register

__all__ = ["ROUNDINGS", "Codebook", "Fixed", "Format", "Int", "Minifloat", "Posit", "PowerOfTwo", "Special",
           "Unpacked", "canonical_name", "format_names", "get_format", "is_weight_only", "register"]
