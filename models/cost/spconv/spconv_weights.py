"""When the weights of a pass are there: pinned tiles, tiles asked for, and demands that wait for them.

Cycles count from that in which the pass begins. Records and tiles come a beat a cycle, as soon as they are wanted: the
memory behind answers at once. Two tiles can be on their way; a tile takes as many cycles as the job has input channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...design.spconv import KERNEL_OFFSETS
from ...design.spconv_core import SpConvDesign
from .weight_cache import MISS, PINNED

__all__ = ["WeightEvents"]

IN_FLIGHT = 63      # demands looked up whose work is not all issued
ON_THEIR_WAY = 2    # tiles that are asked for and not there
ASKED = 2           # from this cycle on tiles can be asked for, behind the records


class WeightEvents:
    """Loader, table of pinned offsets and cache of one pass.

    Parameters
    ----------
    design : SpConvDesign
    channels : int
        Input channels of the job: beats of a tile.
    pinned : bool ndarray (27,)

    Attributes
    ----------
    known : list of int
        By offset: from this cycle on it is known whether it is pinned, and where.
    resident : list of int
        By offset: from this cycle on its tile is there; 0 where it is not pinned.
    idle : int
        From this cycle on nothing that was wanted until now is on its way.
    """

    def __init__(self, design: SpConvDesign, channels: int, pinned: np.ndarray):
        self.channels, self.ahead = channels, design.cache.ahead
        self.asked: list[int] = []          # each tile is asked for
        self.loaded: list[int] = [design.gather.outputs]    # its last beat comes; before all, that of the records
        self.known, self.resident = [0] * KERNEL_OFFSETS, [0] * KERNEL_OFFSETS
        now = free = 1      # of the table; the cache can ask again
        for k in range(KERNEL_OFFSETS):
            if pinned[k]:
                now = max(now, free)
                self.resident[k] = self._ask(now + 1) + 1
                free = self.asked[-1] + 1
            now += 1
            self.known[k] = now
        self.free, self.complete = free, now
        # Demands.
        self.entered = self.looked = -1
        self.grants: list[int] = []
        self.there, self.users = [0, 0], [-1, -1]

    @property
    def idle(self) -> int:
        return max(self.complete, self.loaded[-1] + 1 if self.asked else 0)

    def _ask(self, earliest: int) -> int:
        """A tile is wanted from this cycle on; the cycle of its last beat."""
        before = self.loaded[-ON_THEIR_WAY] + 1 if len(self.loaded) > ON_THEIR_WAY else ASKED
        asked = max(earliest, before)
        self.asked.append(asked)
        self.loaded.append(max(asked, self.loaded[-1]) + self.channels)
        return self.loaded[-1]

    def offered(self, earliest: int) -> int:
        """Cycle in which the next demand is taken, if it is offered from ``earliest`` on."""
        return max(earliest, self.entered + 1)

    def demand(self, at: int, k: int, kind: int, side: int, released: Sequence[int]) -> int:
        """A demand is taken; from which cycle on it can be granted.

        Parameters
        ----------
        at : int
            As of `offered`.
        k, kind, side : int
            Offset; as of `weight_cache.Trace`.
        released : sequence of int
            Cycle in which each demand before it released its tile, as far as they have.
        """
        number = len(self.grants)
        self.entered = max(at, self.looked, self.known[k])
        looked = self.entered + 1
        if number >= self.ahead:
            looked = max(looked, self.grants[-self.ahead] + 1)
        if number >= IN_FLIGHT:
            looked = max(looked, released[number - IN_FLIGHT] + 1)
        if kind == PINNED:
            looked = max(looked, self.resident[k])
            ready = looked + 1
        else:
            if kind == MISS:
                user = self.users[side]
                looked = max(looked, self.complete, self.free, released[user] + 1 if user >= 0 else 0)
                self.there[side] = self._ask(looked + 1) + 1
                self.free = self.asked[-1] + 1
            self.users[side] = number
            ready = max(looked + 1, self.there[side])
        self.looked = looked
        return ready

    def granted(self, cycle: int) -> None:
        """The demand taken last is granted."""
        self.grants.append(cycle)
