"""Memories as a list of tiers, and the time and energy of moving data through them.

    from bitkiln.models.cost.memory.memory import Hierarchy

    tiers = Hierarchy.from_dicts([
        {"name": "sram", "size_bits": 2**21, "bandwidth_bits_per_cycle": 256, "source": "8 macros"},
        {"name": "lpddr4", "size_bits": 2**33, "bandwidth_bytes_per_s": 6.4e9, "energy_pj_per_bit": 8,
         "source": "..."},
    ], clock_mhz=200)
    tiers.stream_s(size_bytes=1 << 20, passes=4)

The innermost tier comes first. What is read from a tier passes through all tiers inside it and the slowest sets the
pace; nothing else is overlapped or hidden. A tier may pay for every chunk it reads (flash): its throughput then grows
with the size of the chunks. Energy that is not known is None, and so is every sum it is part of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ...errors import BitkilnError, nearest

__all__ = ["Hierarchy", "MemoryTier"]


def _number(value: object, where: str, *, least: float = 0.0, above: bool = False) -> None:
    if (isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < least
            or above and value == least):
        raise BitkilnError("bad value", where=where, got=value,
                           expected=f"a finite number {'above' if above else 'of at least'} {least:g}")


@dataclass(frozen=True)
class MemoryTier:
    """One memory.

    Attributes
    ----------
    name : str
    size_bits : int
    source : str
        Where the figures come from, the reader's own included ("assumed").
    bandwidth_bits_per_cycle, bandwidth_bytes_per_s : float, optional
        Exactly one of them: the first follows the clock.
    energy_pj_per_bit : float, optional
        Of reads, and of writes unless ``write_pj_per_bit`` differs; None when not known.
    write_pj_per_bit : float, optional
    latency_cycles, latency_ns : float
        Before the first bit of a transfer; at most one of them.
    chunk_overhead_ns : float
        What each chunk adds, so that chunks of c bytes pass at c / (overhead + c / bandwidth).
    """

    name: str
    size_bits: int
    source: str
    bandwidth_bits_per_cycle: float | None = None
    bandwidth_bytes_per_s: float | None = None
    energy_pj_per_bit: float | None = None
    write_pj_per_bit: float | None = None
    latency_cycles: float = 0.0
    latency_ns: float = 0.0
    chunk_overhead_ns: float = 0.0

    def __post_init__(self) -> None:
        where = f"memory tier {self.name}"
        if isinstance(self.size_bits, bool) or not isinstance(self.size_bits, int) or self.size_bits < 1:
            raise BitkilnError("bad value", where=f"{where}.size_bits", got=self.size_bits,
                               expected="an integer of 1 or more")
        if not isinstance(self.source, str) or not self.source.strip():
            raise BitkilnError("figures without a source", where=f"{where}.source",
                               expected="where they come from (\"assumed\" if they are)")
        bandwidths = (self.bandwidth_bits_per_cycle, self.bandwidth_bytes_per_s)
        if sum(value is not None for value in bandwidths) != 1:
            raise BitkilnError("bandwidth needs one unit", where=where, got=bandwidths,
                               expected="one of bandwidth_bits_per_cycle and bandwidth_bytes_per_s")
        if self.latency_cycles and self.latency_ns:
            raise BitkilnError("latency needs one unit", where=where, expected="latency_cycles or latency_ns")
        for key in ("bandwidth_bits_per_cycle", "bandwidth_bytes_per_s"):
            if getattr(self, key) is not None:
                _number(getattr(self, key), f"{where}.{key}", above=True)
        for key in ("energy_pj_per_bit", "write_pj_per_bit"):
            if getattr(self, key) is not None:
                _number(getattr(self, key), f"{where}.{key}")
        for key in ("latency_cycles", "latency_ns", "chunk_overhead_ns"):
            _number(getattr(self, key), f"{where}.{key}")

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], where: str = "memory tier") -> MemoryTier:
        """From keys that are the attributes' names.

        Raises
        ------
        BitkilnError
            An unknown key (one without its unit is told the key it stands for), a missing one, or a bad value.
        """
        keys = [each.name for each in fields(cls)]
        for key in table:
            if key not in keys:
                units = [name for name in keys if name.startswith(f"{key}_")]
                raise BitkilnError("unknown key", where=f"{where}.{key}", got=key, expected=", ".join(keys),
                                   help=f"keys carry their unit: {' or '.join(units)}" if units else
                                   nearest(key, keys))
        for key in ("name", "size_bits", "source"):
            if key not in table:
                raise BitkilnError("missing key", where=f"{where}.{key}", expected="a value")
        return cls(**table)

    def bytes_per_s(self, clock_mhz: float, chunk_bytes: float | None = None) -> float:
        """Throughput, of chunks of a size where given."""
        peak = self.bandwidth_bytes_per_s or (self.bandwidth_bits_per_cycle or 0.0) / 8 * clock_mhz * 1e6
        if chunk_bytes is None:
            return peak
        _number(chunk_bytes, "chunk_bytes", above=True)
        return chunk_bytes / (self.chunk_overhead_ns * 1e-9 + chunk_bytes / peak)

    def latency_s(self, clock_mhz: float) -> float:
        return self.latency_ns * 1e-9 + self.latency_cycles / (clock_mhz * 1e6)

    def transfer_s(self, size_bytes: float, clock_mhz: float, chunk_bytes: float | None = None) -> float:
        """Seconds for ``size_bytes`` out of this tier alone; nothing takes no time."""
        _number(size_bytes, "size_bytes")
        _number(clock_mhz, "clock_mhz", above=True)
        if not size_bytes:
            return 0.0
        chunk = size_bytes if chunk_bytes is None else min(chunk_bytes, size_bytes)
        return self.latency_s(clock_mhz) + size_bytes / self.bytes_per_s(clock_mhz, chunk)

    def energy_pj(self, read_bytes: float = 0.0, written_bytes: float = 0.0) -> float | None:
        """Energy of accesses; None when not known."""
        if self.energy_pj_per_bit is None:
            return None
        write = self.energy_pj_per_bit if self.write_pj_per_bit is None else self.write_pj_per_bit
        return 8 * (read_bytes * self.energy_pj_per_bit + written_bytes * write)


@dataclass(frozen=True)
class Hierarchy:
    """Tiers from the innermost out.

    Attributes
    ----------
    tiers : tuple of MemoryTier
        Sizes never fall outwards.
    clock_mhz : float
        Of the tiers whose bandwidth is in cycles, and of results in cycles.
    """

    tiers: tuple[MemoryTier, ...]
    clock_mhz: float

    def __post_init__(self) -> None:
        _number(self.clock_mhz, "memory.clock_mhz", above=True)
        if not self.tiers:
            raise BitkilnError("no tiers", where="memory.tiers", expected="one or more, the innermost first")
        names = [tier.name for tier in self.tiers]
        for inner, outer in zip(self.tiers, self.tiers[1:], strict=False):
            if names.count(inner.name) > 1:
                raise BitkilnError("tier named twice", where="memory.tiers", got=inner.name, expected="unique names")
            if outer.size_bits < inner.size_bits:
                raise BitkilnError("a tier smaller than the one inside it", where=f"memory tier {outer.name}.size_bits",
                                   got=outer.size_bits, expected=f"{inner.size_bits} ({inner.name}) or more",
                                   help="tiers go from the innermost out")

    @classmethod
    def from_dicts(cls, tables: Sequence[Mapping[str, Any]], clock_mhz: float) -> Hierarchy:
        """From plain tables, as they stand in a YAML list."""
        return cls(tuple(MemoryTier.from_dict(table, f"memory.tiers[{number}]")
                         for number, table in enumerate(tables)), clock_mhz)

    def index(self, name: str) -> int:
        names = [tier.name for tier in self.tiers]
        if name not in names:
            raise BitkilnError("unknown tier", where="memory", got=name, expected=" or ".join(names),
                               help=nearest(name, names))
        return names.index(name)

    def holder(self, size_bytes: float) -> int:
        """The innermost tier that holds ``size_bytes``.

        Raises
        ------
        BitkilnError
            None is large enough.
        """
        for number, tier in enumerate(self.tiers):
            if 8 * size_bytes <= tier.size_bits:
                return number
        raise BitkilnError("data larger than every memory", where="memory", got=f"{size_bytes:g} bytes",
                           expected=f"{self.tiers[-1].size_bits // 8} bytes ({self.tiers[-1].name}) or fewer")

    def fetch_s(self, tier: int, size_bytes: float, chunk_bytes: float | None = None) -> float:
        """Seconds from tier number ``tier`` to the inside: all latencies, the slowest throughput on the way."""
        path = self.tiers[:tier + 1]
        latency = sum(each.latency_s(self.clock_mhz) for each in path) if size_bytes else 0.0
        return latency + max(each.transfer_s(size_bytes, self.clock_mhz, chunk_bytes) - each.latency_s(self.clock_mhz)
                             for each in path) if size_bytes else 0.0

    def cycles(self, seconds: float) -> int:
        """Whole cycles of the clock; a rounding error does not make one more."""
        return math.ceil(seconds * self.clock_mhz * 1e6 * (1 - 1e-12))

    def stream_s(self, size_bytes: float, passes: int = 1, chunk_bytes: float | None = None) -> float:
        """Seconds of reading data that begins in the outermost tier ``passes`` times.

        The first pass brings it from the outside, the others from the innermost tier that holds all of it.
        """
        if isinstance(passes, bool) or not isinstance(passes, int) or passes < 1:
            raise BitkilnError("bad value", where="passes", got=passes, expected="an integer of 1 or more")
        self.holder(size_bytes)
        first = self.fetch_s(len(self.tiers) - 1, size_bytes, chunk_bytes)
        return first + (passes - 1) * self.fetch_s(self.holder(size_bytes), size_bytes, chunk_bytes)

    def switch_s(self, model_bytes: float, source: str, target: str) -> float:
        """Seconds until another model's weights have come from one tier into one further in: bytes over the slowest
        bandwidth between them (SN40L's switch of experts, arXiv 2405.07518)."""
        outer, inner = self.index(source), self.index(target)
        if inner >= outer:
            raise BitkilnError("a switch goes inwards", where="memory", got=f"{source} to {target}",
                               expected=f"a target inside {source}")
        if 8 * model_bytes > self.tiers[inner].size_bits:
            raise BitkilnError("the model does not fit", where=f"memory tier {target}", got=f"{model_bytes:g} bytes",
                               expected=f"{self.tiers[inner].size_bits // 8} or fewer")
        return Hierarchy(self.tiers[inner:], self.clock_mhz).fetch_s(outer - inner, model_bytes)

    def energy_pj(self, read_bytes: Mapping[str, float], written_bytes: Mapping[str, float] | None = None
                  ) -> dict[str, float | None]:
        """Energy by tier of bytes by tier; None where a tier's is not known."""
        written = written_bytes or {}
        for name in (*read_bytes, *written):
            self.index(name)
        return {tier.name: tier.energy_pj(read_bytes.get(tier.name, 0.0), written.get(tier.name, 0.0))
                for tier in self.tiers if tier.name in read_bytes or tier.name in written}
