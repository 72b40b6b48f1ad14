"""Cycles of the unit that makes pairs of a map's rows, equal to the RTL: a pair each cycle, at least one for a row.

Two rows wait in front of the present one, so that none is lost between them. A search whose rows are not always taken
(`map_search`, `map_compact`) asks here when each of them is.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["RowTaker"]

AHEAD = 2       # cycles from an item's place in the unit to its transfer


class RowTaker:
    """`hw.spconv.rows`, whose items are always taken.

    Parameters
    ----------
    items : sequence of int, optional
        Pairs of each row, in the order of the rows; beyond its end, and where it is 0, a row has one item. None: rows
        are taken at once.
    """

    def __init__(self, items: Sequence[int] | None = None):
        self.items, self.rows = items, 0
        # Of the row before: when it was taken, went on to the next place, became the present one; its items.
        self.taken, self.moved, self.turned, self.count = -1, 0, 0, 0

    def take(self, offered: int) -> int:
        """Cycle in which the next row is taken, offered from a given one on."""
        if self.items is None:
            return offered
        self.taken = max(offered, self.taken + 1, self.moved)
        self.moved = max(self.taken + 1, self.turned)
        self.turned = max(self.moved + 1, self.turned + self.count)
        self.count = max(int(self.items[self.rows]), 1) if self.rows < len(self.items) else 1
        self.rows += 1
        return self.taken

    @property
    def last_item(self) -> int:
        """Cycle of the last item of the rows so far."""
        return self.turned + self.count + AHEAD
