"""BitMoD's claims on six language models: FP16, ANT, OliVe and BitMoD arrays, and ours.

    python benchmarks/bitserial_llm.py [--pe-um2 1234 --technology "28 nm"] [-o FILE]

Prints tables and writes JSON (build/benchmarks/bitserial_llm.json by default). The arrays of others are literature
(28 nm, 1 GHz); ours is the closed form of its RTL's cycles. See
`models/cost/llm/llm_compare.py` for the two accountings.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from bitkiln.files import write_atomically
from bitkiln.models.cost.llm.llm_arrays import ARRAYS, LlmArray, Memory, area_ratio
from bitkiln.models.cost.llm.llm_compare import PROMPT, TASKS, Comparison, compare, contenders, phase_cost
from bitkiln.models.cost.llm.llm_engine import engine_array
from bitkiln.models.cost.llm.llm_published import CYCLES, DRAM_UJ, MEANS, PAPER_GENERATED
from bitkiln.models.cost.llm.llm_shapes import LLMS
from bitkiln.models.errors import BitkilnError
from bitkiln.report.table import Row, print_targets

COMMAND = "make bench SUITE=bitserial ONLY=bitserial_llm"
OFF = 0.01   # the paper prints two decimals, and averages rounded means
ORDER = ("FP16", "ANT", "OliVe", "BitMoD lossy")
OURS = ("FP16", "ANT", "OliVe", "Bitkiln lossy")
VARIANTS = ("ANT 4-bit", "OliVe 4-bit", "ANT 8-bit", "OliVe 8-bit")
PAIRS = tuple((faster, slower) for faster, slower, task in MEANS if task == "generative")

Key = tuple[str, str, int]


def comparisons(engine: LlmArray | None = None) -> dict[Key, Comparison]:
    """By accounting, task and generated tokens."""
    found = {}
    for accounting in ("published", "exact"):
        for generated in (0, PAPER_GENERATED, PROMPT):
            task = TASKS[generated > 0]
            found[accounting, task, generated] = compare(task, accounting, generated, engine=engine)
    return found


def reproduced() -> tuple[int, float]:
    """Published cycle counts that come out differently; largest deviation of DRAM energies in microjoules."""
    different, off = 0, 0.0
    for (name, phase), cycles in CYCLES.items():
        for model, wanted, microjoules in zip(LLMS.values(), cycles, DRAM_UJ[name, phase], strict=True):
            who = contenders(model, "generative", "published")[name]
            cost = phase_cost(model, who, phase, PROMPT if phase == "prefill" else 1, PROMPT, "published")
            different += cost.cycles != wanted
            off = max(off, abs(cost.dram_pj / 1e6 - microjoules))
    return different, off


def rows_of(found: dict[Key, Comparison]) -> list[Row]:
    different, off = reproduced()
    total = sum(map(len, CYCLES.values()))
    rows = [Row(f"cycles that the paper's simulator printed, {total} of them: different", different, "counts", 0,
                command=COMMAND, note="36 without anything fitted; the mean bits of ANT and OliVe were searched for"),
            Row("DRAM energies of the same runs: largest deviation", round(off, 2), "uJ", 1.1, command=COMMAND,
                note="the paper's are differences of two rounded numbers")]
    by_task = {task: found["published", task, PAPER_GENERATED if task == "generative" else 0] for task in TASKS}
    for (faster, slower, task), paper in MEANS.items():
        tasks = TASKS if task == "mean" else (task,)
        mean = sum(by_task[each].means(faster, slower).paper for each in tasks) / len(tasks)
        rows.append(Row(f"{faster} over {slower}, {task}, the paper's accounting: off its {paper}x",
                        round(abs(mean - paper), 4), "x", OFF, command=COMMAND, note=f"{mean:.3f}x"))
    for (accounting, task, generated), each in found.items():
        what = f"{accounting} accounting, {task}" + (f", {generated} tokens" if generated else "")
        for names in (ORDER, OURS) if accounting == "exact" else (ORDER,):
            rows.append(Row(f"{' <= '.join(names)} in speed, {what}: out of order", each.disorder(names),
                            "model pairs", 0, command=COMMAND))
    for (accounting, task, generated), each in found.items():
        if accounting == "published":
            continue
        suffix = f", {generated} tokens" if generated else ""
        for faster, slower in PAIRS:
            for name in (faster, faster.replace("BitMoD", "Bitkiln")):
                mean = each.means(name, slower)
                note = f"geometric mean; arithmetic {mean.arithmetic:.3f}; the paper {MEANS[faster, slower, task]}"
                rows.append(Row(f"{name} over {slower}, {task}{suffix}, exact accounting", round(mean.geometric, 3),
                                "x", command=COMMAND, note=note))
    return rows


def run() -> list[Row]:
    return rows_of(comparisons())


def _line(name: str, cells: list[str], width: int = 11) -> None:
    print(f"{name:<30}" + "".join(f"{cell:>{width}}" for cell in cells))


def _print_arrays(engine: LlmArray) -> None:
    _line("array", ["PEs", "um2/PE", "mm2", "pJ/cycle", "technology", "source"], 12)
    for array in (*ARRAYS.values(), engine):
        cells = [array.pe_um2, None if array.um2 is None else round(array.um2 / 1e6, 3), array.pe_pj, array.technology]
        _line(array.name, [str(array.pes), *("-" if cell is None else str(cell) for cell in cells),
                           array.provenance.split(":")[0]], 12)
    print("PE areas as synthesised, encoders and buffers apart; bits of a weight, the paper's and with all metadata "
          "(hidden size):")
    for model in LLMS.values():
        bits = []
        for name, task in (("lossy", "generative"), ("lossy", "discriminative"), ("lossless", "discriminative")):
            paper, exact = (contenders(model, task, accounting)[f"BitMoD {name}"].weights[
                "generation" if task == "generative" else "prefill"] for accounting in ("published", "exact"))
            bits += [f"{paper.bits:.4f}", f"{exact.stored_bits(model.hidden):.4f}"]
        _line(f"  {model.name}", bits)


def _print_comparison(each: Comparison, engine: LlmArray) -> None:
    tokens = f" + {each.generated} generated" if each.generated else ""
    print(f"\n{each.task}, {PROMPT} tokens{tokens}, {each.accounting} accounting: million cycles")
    _line("", [*LLMS, "DRAM J", "PE J"], 12)
    for name, costs in each.costs.items():
        energy = [sum(cost.dram_pj for cost in costs.values()) / 1e12,
                  None if any(cost.compute_pj is None for cost in costs.values())
                  else sum(cost.compute_pj for cost in costs.values()) / 1e12]
        _line(name, [*(f"{cost.cycles / 1e6:,.1f}" for cost in costs.values()),
                     *("-" if value is None else f"{value:.3g}" for value in energy)], 12)
    print("speed-ups")
    _line("", [*LLMS, "arithmetic", "geometric", "paper's", "per area", "paper"], 12)
    arrays = {**ARRAYS, "Bitkiln": engine}
    pairs = [*PAIRS, *(("BitMoD lossy", slower) for slower in VARIANTS)]
    if each.accounting == "exact":
        pairs += [(faster.replace("BitMoD", "Bitkiln"), slower) for faster, slower in pairs]
    for faster, slower in pairs:
        means = each.means(faster, slower)
        ratio = area_ratio(arrays[slower.split()[0]], arrays[faster.split()[0]])
        paper = MEANS.get((faster, slower, each.task))
        _line(f"{faster} / {slower}", [*(f"{value:.2f}" for value in each.speedups(faster, slower).values()),
                                       *(f"{value:.3f}" for value in (means.arithmetic, means.geometric, means.paper)),
                                       "-" if ratio is None else f"{means.geometric * ratio:.3f}",
                                       "-" if paper is None else f"{paper}"], 12)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pe-um2", type=float, help="measured cell area of one of our PEs")
    parser.add_argument("--technology", help="in which it was measured")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/benchmarks/bitserial_llm.json"))
    options = parser.parse_args()
    try:
        engine = engine_array(options.pe_um2, options.technology)
    except BitkilnError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    found = comparisons(engine)
    _print_arrays(engine)
    for each in found.values():
        _print_comparison(each, engine)
    print("\npaper's: mean speed-up over FP16 of one, divided by that of the other. Energy of buffers: no constants.")
    rows = rows_of(found)
    passed = print_targets(rows, title="bitserial_llm")
    arrays = {array.name: {"pes": array.pes, "pe_um2": array.pe_um2, "pe_pj": array.pe_pj, "um2": array.um2,
                           "technology": array.technology, "provenance": array.provenance}
              for array in (*ARRAYS.values(), engine)}
    results = [{"accounting": each.accounting, "task": each.task, "prompt": PROMPT, "generated": each.generated,
                "provenance": "model", "costs": {name: {model: {**asdict(cost), "sram_pj": None}
                                                        for model, cost in costs.items()}
                                                 for name, costs in each.costs.items()}} for each in found.values()]
    paper = [{"faster": faster, "slower": slower, "task": task, "mean": mean, "provenance": "literature, 28 nm"}
             for (faster, slower, task), mean in MEANS.items()]
    content = {"benchmark": "bitserial_llm", "memory": asdict(Memory()), "arrays": arrays, "paper": paper,
               "results": results, "rows": [row.as_dict() for row in rows]}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.output, json.dumps(content, indent=2) + "\n")
    print(f"written to {options.output}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
