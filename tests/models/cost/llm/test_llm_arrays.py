"""Arrays on language models: shapes against checkpoints, costs against hand-made ones, the paper's figures."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from bitkiln.models.cost.cycles.bitserial import closed_form, event_cycles
from bitkiln.models.cost.llm.llm_arrays import (
    ARRAYS,
    LlmArray,
    Memory,
    Operand,
    area_ratio,
    product_cost,
    serial_cycles,
)
from bitkiln.models.cost.llm.llm_compare import compare, contenders, phase_cost, task_cost
from bitkiln.models.cost.llm.llm_engine import channel_cycles, engine_array
from bitkiln.models.cost.llm.llm_published import CYCLES, DRAM_UJ, MEANS
from bitkiln.models.cost.llm.llm_shapes import (
    LLMS,
    Llm,
    Product,
    attention_products,
    get_llm,
    linear_products,
    released_attention,
)
from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.models.errors import BitkilnError

SMALL = LlmArray("small", (4, 2), (8, 1), pe_um2=10.0, pe_pj=0.5)


def left_out(model: Llm) -> int:
    """Norms and biases, from the models' own definitions."""
    hidden, ffn, layers = model.hidden, model.ffn, model.layers
    if model.name.startswith("OPT"):   # two layer norms; biases on all six matrices
        return layers * (2 * 2 * hidden + 4 * hidden + ffn + hidden) + 2 * hidden
    if model.name.startswith("Phi"):   # one layer norm; biases on all matrices, the output's too
        return layers * (2 * hidden + 4 * hidden + ffn + hidden) + 2 * hidden + model.vocabulary
    return (2 * layers + 1) * hidden   # RMS norms only


@pytest.mark.parametrize("model", LLMS.values(), ids=LLMS)
def test_parameters_are_those_of_the_checkpoint(model):
    assert model.parameters == pytest.approx(model.published, rel=1e-3)
    assert model.parameters + left_out(model) == model.published


def test_parameters_by_hand():
    assert get_llm("Llama-2-7B").parameters == 32 * (4 * 4096**2 + 3 * 4096 * 11008) + 2 * 32000 * 4096
    assert get_llm("Yi-6B").kv_width == 512
    assert [m[0] for m in get_llm("OPT-1.3B").matrices] == ["query", "key", "value", "out", "up", "down", "vocabulary"]


@pytest.mark.parametrize("model", LLMS.values(), ids=LLMS)
@pytest.mark.parametrize(("tokens", "context"), [(256, 256), (1, 300)])
def test_attention_has_the_products_of_attention(model, tokens, context):
    wanted = 2 * model.layers * model.hidden * tokens * context
    assert sum(p.macs for p in attention_products(model, tokens, context)) == wanted
    keys_and_values = sum(p.outputs * p.inputs * p.count for p in attention_products(model, tokens, context))
    assert keys_and_values == 2 * model.layers * model.kv_width * context
    released = sum(p.macs for p in released_attention(model, tokens, context))
    assert released > 2 * wanted if tokens > 1 else released < wanted


def test_stored_bits():
    assert Operand(16).row_bytes(10) == 20
    assert Operand(3.0625).row_bytes(2048) == 784
    exact = Operand(3, 2, group_bits=10, channel_bits=32)
    assert exact.row_bytes(256) == -(-(768 + 20 + 32) // 8)
    assert exact.row_bytes(129) == -(-(387 + 20 + 32) // 8)    # a group of one weight has its metadata too
    assert exact.stored_bits(4096) == 3 + 10 / 128 + 32 / 4096
    assert [serial_cycles(bits) for bits in (3.0625, 4.0625, 5, 6.0625, 8)] == [2, 2, 3, 3, 4]


def test_cost_by_hand():
    product = Product("p", outputs=6, inputs=10, tokens=3)
    cost = product_cost(SMALL, product, Operand(16), "prefill")
    # 10 steps x 2 tiles of channels x 2 of tokens; 120 + 60 + 36 bytes.
    assert (cost.compute, cost.dram_bits, cost.dram, cost.cycles, cost.macs) == (40, 8 * 216, 6, 40, 180)
    assert cost.compute_pj == 0.5 * 1.5 * 8 * 40
    assert cost.dram_pj == 8 * 216 * 18.75
    # One tile of 8 channels, three of one token; a chunk of three cycles.
    assert product_cost(SMALL, product, Operand(16, 3), "generation").compute == 10 * 1 * 3 * 3
    assert product_cost(replace(SMALL, lanes=4), product, Operand(16, 3), "prefill").compute == 3 * 2 * 2 * 3


def test_operands_that_fit_nowhere_are_fetched_again():
    product = Product("p", outputs=6, inputs=10, tokens=3)
    small = Memory(weight_bytes=50, activation_bytes=20)
    # Activations three times: 120 + 3 * 60; weights three times would be 3 * 120 + 60.
    assert product_cost(SMALL, product, Operand(16), "prefill", small).dram_bits == 8 * (300 + 36)
    assert product_cost(SMALL, product, Operand(16), "prefill", replace(small, weight_bytes=10)).dram_bits \
        == 8 * (3 * 120 + 60 + 36)
    for fits in (replace(small, weight_bytes=120), replace(small, activation_bytes=60)):
        assert product_cost(SMALL, product, Operand(16), "prefill", fits).dram_bits == 8 * 216


def test_the_slower_of_compute_and_dram_counts_for_each_product():
    wide = Product("wide", outputs=4, inputs=4000, tokens=1)   # 4,000 cycles; 40,008 bytes
    slow = Memory(bits_per_cycle=8)
    assert product_cost(SMALL, wide, Operand(16), "prefill").cycles == 4000
    assert product_cost(SMALL, wide, Operand(16), "prefill", slow).cycles == 4 * 8000 + 8000 + 8
    both = product_cost(SMALL, replace(wide, count=3), Operand(16), "prefill") \
        + product_cost(SMALL, wide, Operand(16), "prefill", slow)
    assert both.cycles == 3 * 4000 + 40008
    assert both.macs == 4 * 16000


@pytest.mark.parametrize("options", [
    {}, {"rows": 16}, {"rows": 64, "group": 32}, {"scale": "none", "rows": 4},
    {"scale": "e8m0", "rows": 40, "group": 64}, {"scale": "uint8", "group": 8, "rows": 3},
    {"dual_scale": True, "group": 16}, {"scale": "ue4m3", "group": 16},
], ids=str)
def test_channel_cycles_equal_the_event_model(options):
    rng = np.random.default_rng(5)
    design = BitSerialDesign(("bitmod4", "int8"), **options)
    for _ in range(12):
        channels, length, index = int(rng.integers(1, 5)), int(rng.integers(1, 4 * design.group)), int(rng.integers(2))
        terms = design.weights[index].terms
        ends = [min(start + design.group, length) for start in range(0, length, design.group)]
        chunks = [-(-(end - start) // design.lanes) for start, end in zip((0, *ends[:-1]), ends, strict=True)]
        last = np.tile(np.concatenate([np.arange(count) == count - 1 for count in chunks]), channels)
        emit = np.tile(np.arange(sum(chunks)) == sum(chunks) - 1, channels)
        _, results, _ = event_cycles(design, np.full(len(last), terms), last, emit)
        assert channel_cycles(design, channels, length, terms) == results[-1]


def test_channel_cycles_of_one_group_are_the_closed_form():
    design = BitSerialDesign(("bitmod3", "int6"), rows=8)
    for terms, length in ((2, 128), (3, 20), (2, 4)):
        assert channel_cycles(design, 7, length, terms) == closed_form(design, 7, length, terms)


@pytest.mark.parametrize(("name", "phase"), CYCLES)
def test_published_cycles_and_dram_energies(name, phase):
    tokens = 256 if phase == "prefill" else 1
    costs = [phase_cost(model, contenders(model, "generative", "published")[name], phase, tokens, 256, "published")
             for model in LLMS.values()]
    assert tuple(cost.cycles for cost in costs) == CYCLES[name, phase]
    for cost, microjoules in zip(costs, DRAM_UJ[name, phase], strict=True):
        assert abs(cost.dram_pj / 1e6 - microjoules) <= 1.1   # a difference of two rounded numbers


def test_published_means():
    found = {task: compare(task, "published") for task in ("discriminative", "generative")}
    for (faster, slower, task), paper in MEANS.items():
        tasks = found if task == "mean" else (task,)
        mean = np.mean([found[each].means(faster, slower).paper for each in tasks])
        assert mean == pytest.approx(paper, abs=0.01)
    # With another number of tokens they do not come out.
    assert compare("generative", "published", 256).means("BitMoD lossless", "FP16").paper > 2.6


@pytest.fixture(scope="module")
def exact():
    return {"discriminative": compare("discriminative"), "generative": compare("generative", generated=20)}


@pytest.mark.parametrize("task", ["discriminative", "generative"])
def test_order_of_the_arrays(task, exact):
    for names in (("FP16", "ANT", "OliVe", "BitMoD lossy"), ("FP16", "BitMoD lossless", "BitMoD lossy"),
                  ("FP16", "ANT 8-bit", "ANT 4-bit"), ("FP16", "ANT", "OliVe", "Bitkiln lossy")):
        assert exact[task].disorder(names) == 0
    assert exact[task].disorder(("BitMoD lossy", "FP16")) == len(LLMS)
    assert compare(task, "published").disorder(("FP16", "ANT", "OliVe", "BitMoD lossy")) == 0


def test_what_each_task_stores():
    model = get_llm("Phi-2B")   # 20 groups of 128 to a row; heads of 80
    rows = {"lossless": {"discriminative": 2560 * 6 + 20 * 8 + 32, "generative": 2560 * 6 + 20 * 8 + 32},
            "lossy": {"discriminative": 2560 * 4 + 20 * 10 + 32, "generative": 2560 * 3 + 20 * 10 + 32}}
    for task in ("discriminative", "generative"):
        found = contenders(model, task)
        for name, array in (("BitMoD", "BitMoD"), ("Bitkiln", "Bitkiln")):
            for kind, bits in rows.items():
                who = found[f"{name} {kind}"]
                assert who.array.name == array
                assert {operand.row_bytes(2560) for operand in who.weights.values()} == {-(-bits[task] // 8)}
                assert {operand.cycles for operand in who.weights.values()} == {3 if kind == "lossless" else 2}
                assert set(who.cache.values()) == {Operand(8.2, 4, weight_type="int8")}
        for name in ("FP16", "ANT", "OliVe 8-bit"):
            assert set(found[name].cache.values()) == {Operand(16)}
    assert {operand.bits for operand in contenders(model, "generative")["ANT"].weights.values()} == {5}
    assert {operand.bits for operand in contenders(model, "discriminative")["ANT"].weights.values()} == {5.5}
    paper = contenders(model, "generative", "published")
    assert [operand.bits for operand in paper["BitMoD lossy"].weights.values()] == [4.0625, 3.0625]
    assert not any(name.startswith("Bitkiln") for name in paper)


def test_means_of_speedups(exact):
    ratios = list(exact["generative"].speedups("BitMoD lossy", "ANT").values())
    means = exact["generative"].means("BitMoD lossy", "ANT")
    assert means.arithmetic == pytest.approx(np.mean(ratios))
    assert means.geometric == pytest.approx(np.prod(ratios) ** (1 / 6))
    assert means.geometric < means.arithmetic


@pytest.mark.parametrize("task", ["discriminative", "generative"])
def test_nothing_beats_the_roofline(task, exact):
    memory, engine = Memory(), engine_array()
    for model in LLMS.values():
        for name, contender in contenders(model, task, "exact", engine).items():
            cost, array = exact[task].costs[name][model.name], contender.array
            fastest = min(operand.cycles for operand in (*contender.weights.values(), *contender.cache.values()))
            assert cost.cycles >= cost.macs * fastest / (array.pes * array.lanes)
            assert cost.cycles >= cost.dram >= cost.dram_bits // memory.bits_per_cycle * 0.999
            assert max(cost.compute, cost.dram) <= cost.cycles <= cost.compute + cost.dram


def test_our_array_is_as_fast_as_its_closed_form(exact):
    for each in exact.values():
        for kind in ("lossless", "lossy"):
            for model in LLMS:
                ours, theirs = (each.costs[f"{name} {kind}"][model] for name in ("Bitkiln", "BitMoD"))
                assert theirs.compute < ours.compute < 1.005 * theirs.compute   # pipelines fill, nothing stalls
                assert ours.dram_bits == theirs.dram_bits


def test_monotonic():
    model = get_llm("OPT-1.3B")
    base = contenders(model, "generative")["ANT"]

    def cycles(contender=base, generated=2, prompt=64, memory=None):
        return task_cost(model, contender, "generative", generated, prompt=prompt, memory=memory).cycles

    by_bits = [cycles(replace(base, weights=dict.fromkeys(base.weights, Operand(bits)))) for bits in (3, 4, 6, 8, 16)]
    assert all(low < high for low, high in pairwise(by_bits))
    assert cycles(generated=2) < cycles(generated=3) and cycles(prompt=64) < cycles(prompt=128)
    assert cycles(memory=Memory(bits_per_cycle=512)) < cycles() < cycles(memory=Memory(bits_per_cycle=128))
    assert cycles() <= cycles(memory=Memory(weight_bytes=4096, activation_bytes=4096))
    bigger = replace(base, array=replace(base.array, prefill=(64, 64), generation=(256, 16)))
    assert cycles(bigger) < cycles()


def test_a_generative_task_is_its_prompt_and_its_steps():
    model = get_llm("Yi-6B")
    for name in ("OliVe", "Bitkiln lossy"):
        who = contenders(model, "generative")[name]
        steps = [phase_cost(model, who, "generation", 1, context) for context in (33, 34)]
        total = phase_cost(model, who, "prefill", 32, 32) + steps[0] + steps[1]
        assert task_cost(model, who, "generative", 2, prompt=32) == total
        assert steps[0].dram_bits < steps[1].dram_bits


def test_head_and_tokens_of_linear_products():
    products = linear_products(get_llm("Llama-3-8B"), 5)
    assert products[1] == Product("key", 1024, 4096, 5, 32)
    assert products[-1] == Product("vocabulary", 128256, 4096, 5, 1)


def test_area_and_energy_that_nobody_measured():
    ours = engine_array()
    assert ours.um2 is None and area_ratio(ours, ARRAYS["FP16"]) is None
    assert ours.pes == ARRAYS["BitMoD"].pes == 1024
    assert area_ratio(ARRAYS["BitMoD"], ARRAYS["FP16"]) == pytest.approx(1024 * 1507.7 / (768 * 1968.7))
    assert area_ratio(engine_array(1507.7, "28 nm"), ARRAYS["BitMoD"]) == 1
    assert area_ratio(engine_array(1507.7, "130 nm"), ARRAYS["BitMoD"]) is None
    model = get_llm("OPT-1.3B")
    found = contenders(model, "discriminative", engine=ours)
    assert phase_cost(model, found["Bitkiln lossy"], "prefill", 8, 8).compute_pj is None
    assert phase_cost(model, found["BitMoD lossy"], "prefill", 8, 8).compute_pj > 0


@pytest.mark.parametrize(("what", "call"), [
    ("unknown language model", lambda: get_llm("Llama-2-8B")),
    ("unknown task", lambda: compare("chat")),
    ("unknown accounting", lambda: contenders(get_llm("Yi-6B"), "generative", "mine")),
    ("area or energy without a technology", lambda: engine_array(1000.0)),
    ("arrangements differ in PEs", lambda: LlmArray("odd", (4, 2), (4, 4))),
    ("heads do not divide", lambda: Llm("odd", "", 100, 1, 1, 3, 3, 1, 1)),
    ("weight type is not in the design", lambda: product_cost(engine_array(), Product("p", 1, 1, 1), Operand(4),
                                                              "prefill")),
])
def test_errors(what, call):
    with pytest.raises(BitkilnError, match=what):
        call()
