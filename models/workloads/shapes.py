"""Layer shapes: a network as matrix products, without its weights.

Every layer is ``count`` products ``C[M, N] = A[M, K] @ W[N, K]^T``. A convolution's rows are its windows (im2col), a
depthwise one is a product for each channel, attention is a product for each head whose stationary operand is keys or
values, and a sparse convolution has a row for each pair of its map. Norms, activations, pooling, softmax, residual
additions and embedding look-ups are no matrix products and are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..design.checks import check_choice, check_integer
from ..errors import BitkilnError

__all__ = ["CLASSES", "ConvGeometry", "KINDS", "LayerShape", "Workload", "attention", "conv", "linear"]

KINDS = ("linear", "conv", "depthwise", "attention", "sparse_conv")
CLASSES = ("first", "body", "last", "attention", "embedding")
MOST = 1 << 40      # of every size: larger ones are slips of the pen


@dataclass(frozen=True)
class ConvGeometry:
    """What im2col hides: needed for the distinct inputs of a convolution and for other tools' file formats.

    Attributes
    ----------
    height, width : int
        Of the input, without padding; 1-D convolutions have height 1.
    channels, filters : int
        Input and output channels, all groups together.
    kernel, stride, dilation : (int, int)
        Rows, columns.
    padding : (int, int, int, int)
        Top, left, bottom, right.
    groups : int
        Divides channels and filters.
    """

    height: int
    width: int
    channels: int
    filters: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def __post_init__(self):
        for name in ("height", "width", "channels", "filters", "groups"):
            check_integer(getattr(self, name), f"conv.{name}", 1, MOST)
        for name, size, least in (("kernel", 2, 1), ("stride", 2, 1), ("dilation", 2, 1), ("padding", 4, 0)):
            values = getattr(self, name)
            if not isinstance(values, tuple) or len(values) != size:
                raise BitkilnError("wrong number of values", where=f"conv.{name}", got=values, expected=f"{size}")
            for value in values:
                check_integer(value, f"conv.{name}", least, MOST)
        if self.channels % self.groups or self.filters % self.groups:
            raise BitkilnError("groups do not divide", where="conv.groups", got=self.groups,
                               expected=f"a divisor of {self.channels} channels and {self.filters} filters")
        if min(self.out_height, self.out_width) < 1:
            raise BitkilnError("kernel larger than its input", where="conv.kernel", got=self.kernel,
                               expected=f"windows that fit {self.height} x {self.width} with padding {self.padding}")

    def _axis(self, axis: int) -> tuple[int, int, int, int, int, int]:
        size = (self.height, self.width)[axis]
        return (size, self.kernel[axis], self.stride[axis], self.dilation[axis], self.padding[axis],
                self.padding[axis + 2])

    def _outputs(self, axis: int) -> int:
        size, kernel, stride, dilation, before, after = self._axis(axis)
        return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1

    @property
    def out_height(self) -> int:
        """Rows of the output."""
        return self._outputs(0)

    @property
    def out_width(self) -> int:
        """Columns of the output."""
        return self._outputs(1)

    @property
    def touched(self) -> int:
        """Distinct input elements that some window reads: a strided 1x1 convolution skips most of its input."""
        counts = []
        for axis in (0, 1):
            size, kernel, stride, dilation, before, _ = self._axis(axis)
            read = {start + tap * dilation - before for start in range(0, self._outputs(axis) * stride, stride)
                    for tap in range(kernel)}
            counts.append(sum(0 <= place < size for place in read))
        return counts[0] * counts[1] * self.channels


@dataclass(frozen=True)
class LayerShape:
    """One layer as ``count`` matrix products C[M, N] = A[M, K] @ W[N, K]^T.

    Parameters
    ----------
    name : str
    m, k, n : int
        Rows of activations, products per output, output channels.
    count : int
        Products of that shape: groups, heads, repeated blocks, time steps.
    kind : str
        ``linear``, ``conv``, ``depthwise``, ``attention`` or ``sparse_conv``.
    layer_class : str
        ``first``, ``body``, ``last``, ``attention`` or ``embedding``: what a mixed-precision assignment refers to.
    inputs : int, optional
        Distinct activation elements read, all products together; by default ``m * k * count``. A convolution's are
        those before im2col. Stored resolved, never None; `dataclasses.replace` of a size must give it anew.
    weights : int, optional
        Distinct stationary elements, by default ``n * k * count``. Keys and values for attention, which has no weights.
    outputs : int, optional
        Distinct results written, by default ``m * n * count``. A sparse convolution's pairs add up in fewer rows.
    conv : ConvGeometry, optional
        None where the geometry is not known, and for transposed convolutions.
    """

    name: str
    m: int
    k: int
    n: int
    count: int = 1
    kind: str = "linear"
    layer_class: str = "body"
    inputs: int = None      # type: ignore[assignment]  # never None once made
    weights: int = None     # type: ignore[assignment]
    outputs: int = None     # type: ignore[assignment]
    conv: ConvGeometry | None = None

    def __post_init__(self):
        if not isinstance(self.name, str) or not self.name.strip():
            raise BitkilnError("empty name", where="layer name", got=self.name, expected="text")
        where = f"layer {self.name}"
        for size in ("m", "k", "n", "count"):
            check_integer(getattr(self, size), f"{where} {size}", 1, MOST)
        check_choice(self.kind, f"{where} kind", KINDS)
        check_choice(self.layer_class, f"{where} layer_class", CLASSES)
        defaults = {"inputs": self.m * self.k, "weights": self.n * self.k, "outputs": self.m * self.n}
        for name, each in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, each * self.count)
            # a convolution whose windows all lie in the padding reads nothing
            check_integer(getattr(self, name), f"{where} {name}", 0 if name == "inputs" else 1, MOST * MOST)

    @property
    def macs(self) -> int:
        """Products of two numbers, all ``count`` matrix products together."""
        return self.m * self.k * self.n * self.count

    @property
    def has_weights(self) -> bool:
        """Whether the stationary operand is known before the run; not so keys and values."""
        return self.kind != "attention"

    def batched(self, batch: int) -> LayerShape:
        """This layer for ``batch`` inputs: more rows of the same weights, or more products of attention."""
        check_integer(batch, "batch", 1, MOST)
        more = replace(self, inputs=self.inputs * batch, outputs=self.outputs * batch)
        if self.has_weights:
            return replace(more, m=self.m * batch)
        return replace(more, count=self.count * batch, weights=self.weights * batch)


@dataclass(frozen=True)
class Workload:
    """Layers in order of execution.

    Attributes
    ----------
    name : str
    layers : tuple of LayerShape
        One or more, names unique.
    source : str
        Where the shapes are from, and what was assumed.
    batch : int
        Inputs that the layers' rows stand for.
    """

    name: str
    layers: tuple[LayerShape, ...]
    source: str
    batch: int = 1

    def __post_init__(self):
        if not self.layers:
            raise BitkilnError("no layers", where=f"workload {self.name}", expected="one or more")
        seen: set[str] = set()
        for layer in self.layers:
            if layer.name in seen:
                raise BitkilnError("two layers of one name", where=f"workload {self.name}", got=layer.name,
                                   expected="each name once")
            seen.add(layer.name)

    @property
    def macs(self) -> int:
        """Products of two numbers in all layers, for the whole batch."""
        return sum(layer.macs for layer in self.layers)

    @property
    def weights(self) -> int:
        """Weights of all layers; keys and values are none."""
        return sum(layer.weights for layer in self.layers if layer.has_weights)

    def layer(self, name: str) -> LayerShape:
        """A layer by name; raises BitkilnError."""
        names = [layer.name for layer in self.layers]
        check_choice(name, f"workload {self.name}", names)
        return self.layers[names.index(name)]

    @classmethod
    def of(cls, name: str, layers: Iterable[LayerShape], source: str, batch: int = 1) -> Workload:
        """Layers of one input, made into those of ``batch`` inputs."""
        return cls(name, tuple(layer.batched(batch) for layer in layers), source, batch)


def linear(name: str, rows: int, inputs: int, outputs: int, layer_class: str = "body", count: int = 1) -> LayerShape:
    """A fully connected layer on ``rows`` rows."""
    return LayerShape(name, rows, inputs, outputs, count, layer_class=layer_class)


def conv(name: str, geometry: ConvGeometry, layer_class: str = "body", *, batch: int = 1) -> LayerShape:
    """A convolution as one product for each group, of all windows with the filters of the group."""
    groups = geometry.groups
    rows = geometry.out_height * geometry.out_width * batch
    terms = geometry.kernel[0] * geometry.kernel[1] * geometry.channels // groups
    depthwise = groups == geometry.channels and groups > 1
    return LayerShape(name, rows, terms, geometry.filters // groups, groups, "depthwise" if depthwise else "conv",
                      layer_class, inputs=geometry.touched * batch, conv=geometry)


def attention(name: str, queries: int, keys: int, head: int, heads: int) -> list[LayerShape]:
    """Scores and weighted values, head by head; all keys count, masked ones too."""
    return [LayerShape(f"{name}.scores", queries, head, keys, heads, "attention", "attention"),
            LayerShape(f"{name}.values", queries, keys, head, heads, "attention", "attention")]
