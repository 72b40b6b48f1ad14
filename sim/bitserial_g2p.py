"""The grapheme-to-phoneme GRU through the bit-serial array's RTL, dot product by dot product."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.workloads.g2p import predict
from bitkiln.models.workloads.g2p_serial import QuantisedG2p

from .bitserial_network import RtlProduct

__all__ = ["SerialG2p", "run_serial_g2p", "sample_design"]

ROWS, COLUMNS = 2, 4   # of the array that a sample runs on: small ones are built in seconds


@dataclass(frozen=True)
class SerialG2p:
    """What the RTL did; every result and every cycle was compared on the way.

    Attributes
    ----------
    weights, design : str
        Row and engine.
    words : int
        Taken together: each is a row of the array while it lasts.
    results : int
        Dot products compared bit for bit.
    cycles : int
        All equal to the event model's.
    products : int
        Multiplications of the network, padding not counted.
    peak : float
        Products of the array in a cycle, for a type of as many terms.
    equal : bool
        Whether the pronunciations are the golden model's.
    """

    weights: str
    design: str
    words: int
    results: int
    cycles: int
    products: int
    peak: float
    equal: bool

    @property
    def cycles_per_word(self) -> float:
        return self.cycles / self.words

    @property
    def products_per_cycle(self) -> float:
        return self.products / self.cycles

    @property
    def utilisation(self) -> float:
        """Share of the array's peak: rows stand idle while there are fewer words left than rows."""
        return self.products_per_cycle / self.peak

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), **{name: getattr(self, name) for name in ("cycles_per_word", "products_per_cycle",
                                                                          "utilisation")}}


def sample_design(network: QuantisedG2p, words: int) -> BitSerialDesign:
    """An engine for a sample: no more rows than words, since each of them is a row."""
    return network.design.with_options(rows=max(1, min(words, ROWS)), columns=COLUMNS)


def run_serial_g2p(network: QuantisedG2p, texts: Sequence[str],
                   progress: Callable[[str], None] = lambda text: None) -> SerialG2p:
    """Pronounce words with every dot product from the simulated array.

    Parameters
    ----------
    network : QuantisedG2p
        In a format that the engine has a way for.
    texts : sequence of str
        Lower case words.
    progress : callable

    Raises
    ------
    BitkilnError
        Exit code 1 where a result or a cycle differs from golden or event model.
    """
    if not texts:
        raise BitkilnError("no words", where="words", got=0, expected="1 or more")
    design = sample_design(network, len(texts))
    progress(f"building {design.name}")
    product = RtlProduct.of(design)
    progress(f"{len(texts)} words through the RTL")
    options = {"rows": design.rows, "columns": design.columns}
    spoken = predict(network.net, texts, network.product(product.matmul, **options))
    wanted = predict(network.net, texts, network.product(), tabled=True)
    if not product.results:
        raise BitkilnError("nothing compared", where="words", got=0, expected="dot products", exit_code=FAILED)
    terms = network.terms
    assert terms is not None
    return SerialG2p(network.recipe.name, design.name, len(texts), product.results, product.cycles, product.products,
                     design.rows * design.columns * design.lanes / terms, spoken == wanted)
