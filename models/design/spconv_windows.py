"""Where the compact map search keeps what it has fetched: windows of tree words, and the nodes that wait."""

from __future__ import annotations

from dataclasses import dataclass

from .spconv import MapDesign

__all__ = ["WindowPlan"]

SMALL_DEPTH = 8
LEAST_WAITING = 64
# More windows to a level hardly help on real clouds.
UPPER_MOST, LEAF_WINDOWS = 4, 16


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length() if least else 0


@dataclass(frozen=True)
class WindowPlan:
    """Sizes that follow from a `MapDesign`.

    A window holds the words of the 6x6x6 nodes around the 64 grandchildren of one node: eight memories, one for each
    digit, have 27 of them each, at 32 places. While the children of some of these grandchildren are passed on from one
    window of a level, others are being filled, so each level has a ring of them.

    Parameters
    ----------
    depth, queue : int
        Of the `MapDesign`.
    """

    depth: int
    queue: int

    PLACES = 32

    @classmethod
    def of(cls, design: MapDesign) -> WindowPlan:
        return cls(design.depth, design.queue)

    @property
    def leaf_windows(self) -> int:
        """Windows of the level just above the outputs: they have memories of their own."""
        return LEAF_WINDOWS

    @property
    def upper_windows(self) -> int:
        """Windows of the levels above that one, all together."""
        return min(_power_of_two(UPPER_MOST * (self.depth - 1)), 16 if self.depth <= SMALL_DEPTH else 32)

    def ring(self, level: int) -> tuple[int, int]:
        """First window of a level 2..depth, and how many: four for as many low levels as there are to spare, else two.
        """
        spare = (self.upper_windows - 2 * (self.depth - 1)) // 2
        low = min(level - 2, spare)
        return UPPER_MOST * low + 2 * (level - 2 - low), UPPER_MOST if level - 2 < spare else 2

    @property
    def waiting(self) -> int:
        """Places of the nodes of each level that wait: their ranks modulo this. One place at least stays free."""
        return max(2 * self.queue, LEAST_WAITING)

    @property
    def room(self) -> int:
        """With fewer nodes of a level on their way, another node above may be chosen, whose children join them."""
        return self.waiting // 2
