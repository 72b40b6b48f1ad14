"""What an engine contributes to the README of a generated core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..models.formats import Format

__all__ = ["Datasheet", "FLAGS", "count", "format_table"]

FLAGS = {
    "nan": "a NaN or NaR operand, infinity times zero, or infinity minus infinity",
    "inf_pos": "a product was +infinity",
    "inf_neg": "a product was -infinity",
    "illegal": "an operand code without a meaning (it counts as 0)",
    "overflow": "the exact sum did not fit the accumulator",
}


@dataclass(frozen=True)
class Datasheet:
    """Parts of a README.

    Attributes
    ----------
    sections : dict of str to str
        Title to Markdown; the first two come before the table of ports, the others after it.
    ports : dict of str to str
        Meaning of a port by its name, or by the beginning of its name (the longest one counts).
    glance : dict of str to str
        What a reader wants to know first: operands, sums, latency, throughput; plain text.
    """

    sections: Mapping[str, str]
    ports: Mapping[str, str] = field(default_factory=dict)
    glance: Mapping[str, str] = field(default_factory=dict)

    def port(self, name: str) -> str | None:
        """Meaning of a port."""
        known = max((key for key in self.ports if name.startswith(key)), key=len, default=None)
        return None if known is None else self.ports[known]


def count(number: int, what: str) -> str:
    """``1 row``, ``1,024 rows``."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def format_table(first: str, rows: Sequence[tuple[str, Format]]) -> str:
    """A table of formats with their ranges; ``first`` is the heading of what each row is for."""
    lines = [f"| {first} | format | bits | smallest > 0 | largest | specials |", "|---|---|---|---|---|---|"]
    for role, fmt in rows:
        kinds = [word for word, has in (("NaN/NaR", fmt.has_nan), ("infinities", fmt.has_inf),
                                        ("illegal codes", fmt.has_illegal)) if has]
        lines.append(f"| {role} | `{fmt.name}` | {fmt.bits} | {fmt.min_positive:g} | {fmt.max:g} | "
                     f"{', '.join(kinds) or 'none'} |")
    return "\n".join(lines)
