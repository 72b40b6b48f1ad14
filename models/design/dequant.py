"""Parameters of the dequantising matrix core: a bit-serial array fed from packed weights in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from ..errors import BitkilnError
from ..formats import Format, get_format
from .bitserial import BitSerialDesign
from .checks import check_integer
from .layouts import GroupLayout, packing_of

__all__ = ["DequantDesign", "DequantJob"]

BUSES = (4, 8, 16, 32)
MAX_JOB = (1 << 16) - 1


@dataclass(frozen=True)
class DequantDesign:
    """``results = activations x weights.T`` from packed groups.

    Parameters
    ----------
    array : BitSerialDesign
        Its results are float32.
    packings : tuple of str or None
        How the codes of each weight type lie in memory (`layouts_codes.packing_of`); None: the usual one.
    bus_bytes : int or None
        Word of the weight stream, and alignment of groups: 4, 8, 16 or 32. None: the smallest that feeds the lanes.
    k_chunks : int
        Chunks of activations that a buffer holds (two buffers): bounds K of a job.
    output : Format or str
        Of the results: fp32, or any minifloat, posit or integer of at most 16 bits (rounded from float32, saturating).
    channel_scale : bool or None
        Each channel has a float32 scale in the stream. None: with integer scales of groups.
    """

    array: BitSerialDesign
    packings: tuple[str | None, ...] = ()
    bus_bytes: int | None = None
    k_chunks: int = 256
    output: Format = "fp32"  # type: ignore[assignment]
    channel_scale: bool | None = None

    def __post_init__(self):
        if self.array.output != "fp32":
            raise BitkilnError("wrong output of the array", where="array.output", got=self.array.output,
                               expected="fp32")
        object.__setattr__(self, "packings", tuple(self.packings) or (None,) * len(self.array.weights))
        for weight, name in zip(self.array.weights, self.packings, strict=False):
            try:
                packing_of(weight, name)
            except BitkilnError as error:
                raise BitkilnError(error.what, where="packings", got=f"{name} for {weight.name}",
                                   expected=error.expected) from None
        object.__setattr__(self, "packings", tuple(p.name for p in self._layout(4).packings))
        widest = max(8 * ((self.array.lanes + 8) // 5) if p.trits else self.array.lanes * max(p.planes)
                      for p in self._layout(4).packings)
        if self.bus_bytes is None:
            object.__setattr__(self, "bus_bytes", next((b for b in BUSES if 8 * b >= widest), BUSES[-1]))
        if self.bus_bytes not in BUSES:
            raise BitkilnError("unknown bus width", where="bus_bytes", got=self.bus_bytes,
                               expected=", ".join(map(str, BUSES)))
        if 8 * self.bus_bytes < widest:
            raise BitkilnError("bus too narrow", where="bus_bytes", got=f"{8 * self.bus_bytes} bits",
                               expected=f"at least {8 * next(b for b in BUSES if 8 * b >= widest)} bits: a chunk of "
                                        "the lanes must fit a word")
        check_integer(self.k_chunks, "k_chunks", 16, 1 << 14)
        object.__setattr__(self, "output", get_format(self.output, where="output"))
        if self.output.name != "fp32" and not _can_leave(self.output):
            raise BitkilnError("no output stage for this format", where="output", got=self.output.name,
                               expected="fp32, or a minifloat, posit or integer of at most 16 bits")
        if self.channel_scale is None:
            object.__setattr__(self, "channel_scale", self.array.scale.startswith("uint"))

    def with_options(self, **options) -> DequantDesign:
        """A copy with some parameters changed."""
        return replace(self, **options)

    def _layout(self, align: int) -> GroupLayout:
        return GroupLayout.of(self.array, packings=self.packings, align=align)

    @cached_property
    def layout(self) -> GroupLayout:
        """Of the groups in the weight stream."""
        return self._layout(self.bus_bytes)

    @property
    def record_words(self) -> int:
        """Bus words of the longest group."""
        return max(self.layout.group_bytes(self.array.group, t) for t in range(len(self.array.weights))) \
            // self.bus_bytes

    @property
    def name(self) -> str:
        """Verilog module name; carries every parameter."""
        parts = ["dequant", self.array.name, f"b{8 * self.bus_bytes}", f"k{self.k_chunks}"]
        parts += [f"w{i}p{p.name.replace('+', '')}" for i, (p, t) in enumerate(zip(self.layout.packings,
                                                                                   self.array.weights, strict=True))
                  if p != packing_of(t)]
        parts += [f"to_{self.output.name}"] if self.output.name != "fp32" else []
        return "_".join(parts + ["cs"] * self.channel_scale)


def _can_leave(fmt: Format) -> bool:
    """Whether results can be encoded in a format: from float32, by the output stage that all engines share."""
    if fmt.family == "posit":
        return fmt.bits > 2 and fmt.max_scale < 127
    return fmt.bits <= 16 and fmt.family in ("minifloat", "int") and fmt.name != "e8m0"


@dataclass(frozen=True)
class DequantJob:
    """One matrix product: up to ``rows`` of the array's rows of activations against any number of channels.

    Parameters
    ----------
    k : int
        Weights of a channel.
    group : int
        Weights that share a scale; the last group of a channel is shorter where it does not divide ``k``.
    channels, rows : int
    """

    k: int
    group: int
    channels: int
    rows: int

    def check(self, design: DequantDesign) -> DequantJob:
        """Itself, or an error that names what the core cannot hold."""
        array = design.array
        for name, low, high in (("group", 1, array.group), ("channels", 1, MAX_JOB), ("rows", 1, array.rows),
                                ("k", 1, MAX_JOB)):
            check_integer(getattr(self, name), name, low, high)
        if self.chunks(array.lanes) > design.k_chunks:
            raise BitkilnError("K does not fit the activation buffer", where="k", got=self.k,
                               expected=f"at most {design.k_chunks} chunks of {array.lanes} lanes",
                               help="split K over jobs, or configure more k_chunks")
        if array.sums_channel and len(self.lengths) > array.groups:
            raise BitkilnError("too many groups in a channel", where="k", got=f"{len(self.lengths)} groups",
                               expected=f"at most {array.groups}")
        return self

    @property
    def lengths(self) -> tuple[int, ...]:
        """Weights of each group of a channel."""
        full, rest = divmod(self.k, self.group)
        return (self.group,) * full + (rest,) * (rest > 0)

    def chunks(self, lanes: int) -> int:
        """Chunks of a channel: every group begins a new one."""
        return sum(-(-length // lanes) for length in self.lengths)
