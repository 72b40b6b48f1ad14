"""Speed-ups on the six language models: BitMoD's claims reproduced, and the same question asked with exact figures.

Two accountings:

* ``published``: what the paper's simulator does. Weights of 3.0625, 4.0625 and 6.0625 bits, attention as in
  `llm_shapes.released_attention` at the cycles of the weights, generation steps all at the prompt's context, and a
  generative task whose prefill has the discriminative task's weights;
* ``exact``: stored bits with all metadata (special-value selector and 8-bit scale of each 128 weights, float32 scale of
  each channel), attention head by head over a growing context, INT8 keys and values with a float16 scale on bit-serial
  PEs (FP16 on the others), one set of weights for a whole task.

ANT and OliVe: the paper gives each model the mean weight bits at which its accuracy and perplexity are still
acceptable, "profiled offline" (release, bitmod_sim/README.md), without a table. The bits below are those with which its
published cycles come out, found by search in steps of 1/16; the published DRAM energies, not used in the search, come
out with them too. (The scripts of the 2025 release have other, mostly lower ones.) Their metadata is not known and
counts nothing, which favours them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

from ...errors import BitkilnError
from .llm_arrays import ARRAYS, PHASES, Cost, LlmArray, Memory, Operand, product_cost, serial_cycles
from .llm_engine import engine_array
from .llm_published import PAPER_GENERATED
from .llm_shapes import LLMS, Llm, attention_products, linear_products, released_attention

__all__ = ["ACCOUNTINGS", "BASELINE_BITS", "TASKS", "Comparison", "Contender", "Means", "compare", "contenders",
           "phase_cost", "task_cost"]

ACCOUNTINGS = ("published", "exact")
TASKS = ("discriminative", "generative")
PROMPT = 256
SELECTOR_BITS, SCALE_BITS, CHANNEL_BITS, KV_SCALE_BITS = 2, 8, 32, 16

# Mean bits of a weight: of every model in prefill; of each in generation, in the order of `LLMS`.
BASELINE_BITS = {"ANT": (5.5, (5, 5, 5.25, 5, 5, 4.5)), "OliVe": (4.5, (3.875, 4, 4.25, 3.75, 3.75, 3.5))}


@dataclass(frozen=True)
class Contender:
    """An array with the precision that a task gives it.

    Attributes
    ----------
    array : LlmArray
    weights, cache : dict
        Operand of weights, and of keys and values, in each phase.
    """

    array: LlmArray
    weights: dict[str, Operand]
    cache: dict[str, Operand]


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise BitkilnError(f"unknown {name}", where=name, got=value, expected=" or ".join(choices))


def _published(bits: float) -> Operand:
    return Operand(bits, serial_cycles(bits))


def _exact(weight_type: str, bits: int) -> Operand:
    selector = SELECTOR_BITS if weight_type.startswith("bitmod") else 0
    return Operand(bits, serial_cycles(bits), selector + SCALE_BITS, CHANNEL_BITS, weight_type)


def contenders(model: Llm, task: str, accounting: str = "exact", engine: LlmArray | None = None
               ) -> dict[str, Contender]:
    """Everything that is compared on a model.

    ``ANT`` and ``OliVe`` have the paper's precision; ``ANT 4-bit``, ``ANT 8-bit`` and so on the same in all layers.
    ``Bitkiln`` is our array (``exact`` only: its attention has real shapes).
    """
    _choice("task", task, TASKS)
    _choice("accounting", accounting, ACCOUNTINGS)
    exact = accounting == "exact"
    found: dict[str, Contender] = {}

    def add(name: str, array: LlmArray, prefill: Operand, generation: Operand) -> None:
        if exact:
            bits = 8 + KV_SCALE_BITS / model.head
            cache = Operand(bits, serial_cycles(bits), weight_type="int8") if array.serial_kv else Operand(16)
            one = prefill if task == "discriminative" else generation
            found[name] = Contender(array, dict.fromkeys(PHASES, one), dict.fromkeys(PHASES, cache))
        else:
            weights = dict(zip(PHASES, (prefill, generation), strict=True))
            found[name] = Contender(array, weights, {phase: Operand(16, operand.cycles)
                                                     for phase, operand in weights.items()})

    add("FP16", ARRAYS["FP16"], Operand(16), Operand(16))
    for name, (prefill, generation) in BASELINE_BITS.items():
        own = generation[list(LLMS).index(model.name)]
        add(name, ARRAYS[name], Operand(prefill), Operand(own))
        for bits in (4, 8):
            add(f"{name} {bits}-bit", ARRAYS[name], Operand(bits), Operand(bits))
    arrays = {"BitMoD": ARRAYS["BitMoD"]}
    if exact:
        arrays["Bitkiln"] = engine or engine_array()
    for name, array in arrays.items():
        six, four, three = ((_exact("int6", 6), _exact("bitmod4", 4), _exact("bitmod3", 3)) if exact else
                            (_published(bits) for bits in (6.0625, 4.0625, 3.0625)))
        add(f"{name} lossless", array, six, six)
        add(f"{name} lossy", array, four, three)
    return found


def phase_cost(model: Llm, contender: Contender, phase: str, tokens: int, context: int, accounting: str = "exact",
               memory: Memory | None = None) -> Cost:
    """Cost of ``tokens`` new tokens that make the context ``context`` long."""
    attention = attention_products if accounting == "exact" else released_attention
    products = linear_products(model, tokens) + attention(model, tokens, context)
    weights, cache = contender.weights[phase], contender.cache[phase]
    costs = [product_cost(contender.array, product, cache if product.attention else weights, phase, memory)
             for product in products]
    return sum(costs[1:], costs[0])


def task_cost(model: Llm, contender: Contender, task: str, generated: int, accounting: str = "exact",
              prompt: int = PROMPT, memory: Memory | None = None) -> Cost:
    """Cost of a whole task: the prompt, and in a generative one ``generated`` steps of one token each."""
    total = phase_cost(model, contender, "prefill", prompt, prompt, accounting, memory)
    if task == "discriminative":
        return total
    if accounting == "published":
        return total + phase_cost(model, contender, "generation", 1, prompt, accounting, memory).times(generated)
    for step in range(generated):
        total = total + phase_cost(model, contender, "generation", 1, prompt + step + 1, accounting, memory)
    return total


@dataclass(frozen=True)
class Means:
    """Means of a speed-up over models.

    Attributes
    ----------
    paper : float
        As the paper forms it: mean speed-up over FP16 of the one, divided by that of the other.
    arithmetic, geometric : float
        Of the models' own ratios.
    """

    paper: float
    arithmetic: float
    geometric: float


@dataclass(frozen=True)
class Comparison:
    """Costs of one task, ``costs[contender][model]``."""

    accounting: str
    task: str
    generated: int
    costs: dict[str, dict[str, Cost]]

    def speedups(self, faster: str, slower: str) -> dict[str, float]:
        """Cycles of ``slower`` over those of ``faster``, for each model."""
        return {model: self.costs[slower][model].cycles / cost.cycles for model, cost in self.costs[faster].items()}

    def means(self, faster: str, slower: str) -> Means:
        ratios = list(self.speedups(faster, slower).values())
        over_fp16 = [sum(self.speedups(name, "FP16").values()) for name in (faster, slower)]
        return Means(over_fp16[0] / over_fp16[1], sum(ratios) / len(ratios), exp(sum(map(log, ratios)) / len(ratios)))

    def disorder(self, names: tuple[str, ...]) -> int:
        """Neighbours in ``names`` (slowest first) and models of which the later one takes more cycles."""
        return sum(self.costs[late][model].cycles > cost.cycles for early, late in zip(names, names[1:], strict=False)
                   for model, cost in self.costs[early].items())


def compare(task: str, accounting: str = "exact", generated: int | None = None, *, prompt: int = PROMPT,
            engine: LlmArray | None = None, memory: Memory | None = None) -> Comparison:
    """All contenders on all models.

    Parameters
    ----------
    task : str
        ``discriminative`` (a prompt alone) or ``generative``.
    accounting : str
        ``published`` or ``exact``.
    generated : int, optional
        Tokens; as many as the prompt has, or the paper's 20 where its accounting is chosen.
    prompt : int
    engine : LlmArray, optional
        Our array, e.g. with measured area (`engine_array`).
    memory : Memory, optional
    """
    _choice("task", task, TASKS)
    generated = (PAPER_GENERATED if accounting == "published" else prompt) if generated is None else generated
    if task == "discriminative":
        generated = 0
    engine = engine or engine_array()
    costs: dict[str, dict[str, Cost]] = {}
    for model in LLMS.values():
        for name, contender in contenders(model, task, accounting, engine).items():
            costs.setdefault(name, {})[model.name] = task_cost(model, contender, task, generated, accounting, prompt,
                                                               memory)
    return Comparison(accounting, task, generated, costs)
