"""How wrong the energy models are on what they have not seen: dot units (sky130hd) and SRAM macros (IHP SG13G2)."""

from __future__ import annotations

import time

import numpy as np

from bitkiln.models.cost.energy.energy import energy_features, energy_samples, held_out_errors, sky130_model
from bitkiln.models.cost.energy.sram import QUANTITIES, sram_errors, sram_table
from bitkiln.report.table import Row

COMMAND = "make bench SUITE=pareto ONLY=energy_model"
CONFIGURATIONS, STATISTICS = 5.0, 10.0          # [%], targets of the mean error
HELD_OUT = {"design": ("a configuration", CONFIGURATIONS), "trace": ("operand statistics", STATISTICS),
            "pe": ("all units of a pair of formats", None), "lanes": ("a number of lanes", None),
            "pipeline": ("a pipeline depth", None)}
MANY = 100_000


def run() -> list[Row]:
    fitted = [sample for sample in energy_samples() if sample.part == "fit"]
    check = [sample for sample in energy_samples() if sample.part == "check"]
    rows = []
    for target, label in (("energy", "zero delay"), ("energy_glitch", "glitch band")):
        for by, (what, limit) in HELD_OUT.items():
            mean, worst = held_out_errors(fitted, by, target)
            rows.append(Row(f"{label}, held out: {what}", mean, "% mean", limit if target == "energy" else None,
                            command=COMMAND, note=f"worst {worst:.0f} %; {len(fitted)} samples"))
        mean, worst = sky130_model().errors(check, target)
        rows.append(Row(f"{label}, new configurations under new statistics", mean, "% mean",
                        STATISTICS if target == "energy" else None, command=COMMAND,
                        note=f"worst {worst:.0f} %; {len(check)} samples, never fitted"))
    estimates = [sky130_model().predict(sample.structure, sample.activity) for sample in check]
    inside = np.mean([each.low <= sample.energy <= each.high for each, sample in zip(estimates, check, strict=True)])
    rows.append(Row("new samples within their interval of 95 %", 100 * inside, "%", command=COMMAND))
    rows.append(Row("estimates of one unit", _speed(fitted[0]), "1/s", command=COMMAND,
                    note="vectorised over structures, activity given"))
    for quantity in QUANTITIES:
        mean, worst = sram_errors()[quantity]
        rows.append(Row(f"SRAM {quantity}, leave one out", mean, "% mean", command=COMMAND,
                        note=f"worst {worst:.0f} %; {len(sram_table())} macros; on 1, bits, width, words"))
    return rows


def _speed(sample) -> float:
    from dataclasses import replace

    structure = replace(sample.structure, logic_area=np.linspace(500, 50_000, MANY))
    started = time.perf_counter()
    sky130_model().energy.predict(energy_features(structure, sample.activity))
    return MANY / (time.perf_counter() - started)
