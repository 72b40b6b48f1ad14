"""A made-up sweep with the shape of a real one, for the tests of its report."""

from __future__ import annotations

import random
from typing import Any

FORMATS = [("int4", "int", 4), ("int5", "int", 5), ("int6", "int", 6), ("int8", "int", 8), ("fp4_e2m1", "minifloat", 4),
           ("fp6_e3m2", "minifloat", 6), ("fp8_e4m3", "minifloat", 8), ("fp8_e5m2", "minifloat", 8),
           ("posit8_0", "posit", 8), ("posit8_1", "posit", 8), ("nf4", "codebook", 4), ("int8xfp4_e2m1", "mixed", 6)]
DECODE = {"int": 0.0, "minifloat": 6.0, "posit": 34.0, "codebook": 12.0, "mixed": 9.0}
LOSS = {"int": 26.0, "minifloat": 22.0, "posit": 21.0, "codebook": 17.0, "mixed": 20.0}
LAYERS = [("conv1", 20736, 72), ("conv2", 51200, 1152), ("dense1", 16384, 16384), ("dense2", 640, 640)]
DRAM_BYTES_PER_CYCLE = 2.0


def example_sweep(count: int = 60, seed: int = 0) -> dict[str, Any]:
    """``count`` points over formats, lanes and pipeline depths; the same seed gives the same sweep."""
    dice = random.Random(seed)
    sweep = {
        "schema": "bitkiln.sweep/1", "name": "digits_macs", "title": "Dot units for the digits networks, ECP5",
        "digest": "sha256:5d1f0c7e9ab2440c", "space": {"engine": "dot_unit", "pe": [name for name, _, _ in FORMATS],
                                                       "lanes": [1, 2, 4, 8, 16], "target": "ecp5"},
        "provenance": {"tools": {"yosys": "0.70", "bitkiln": "0.1.0"}, "seed": seed,
                       "command": "bitkiln sweep digits_macs.yaml --measure front"},
        "metrics": [
            {"name": "accuracy_digits", "title": "Accuracy, digits CNN", "unit": "%", "higher_is_better": True},
            {"name": "area", "title": "Area", "unit": "cells", "higher_is_better": False},
            {"name": "cycles", "title": "Cycles", "unit": "cycles", "higher_is_better": False},
            {"name": "energy", "title": "Energy", "unit": "pJ", "higher_is_better": False},
            {"name": "nmse", "title": "Weight NMSE", "unit": "", "higher_is_better": False},
        ],
        "axes": [{"x": "area", "y": "accuracy_digits"}, {"x": "cycles", "y": "accuracy_digits"},
                 {"x": "area", "y": "cycles"}],
        "points": [_point(at, dice) for at in range(count)],
    }
    _mark_fronts(sweep)
    for point in sweep["points"]:
        if point["fronts"]:
            point["measured"] = _measured(point, dice)
    return sweep


def _point(at: int, dice: random.Random) -> dict[str, Any]:
    pe, family, bits = FORMATS[at % len(FORMATS)]
    lanes = (1, 2, 4, 8, 16)[at // len(FORMATS) % 5]
    config = {"pe": pe, "lanes": lanes, "accumulator": dice.choice([20, 26, 32]), "pipeline": dice.randrange(3)}
    parts = {"decode": lanes * DECODE[family], "multiply": lanes * bits * bits * 1.4,
             "align": lanes * DECODE[family] * 1.5, "add": lanes * 9.0,
             "accumulate": config["accumulator"] * 1.5, "control": 14.0 + 6.0 * config["pipeline"]}
    area = sum(parts.values())
    layers = [_layer(name, macs, weights, bits, lanes) for name, macs, weights in LAYERS]
    cycles, macs = sum(layer["cycles"] for layer in layers), sum(layer["macs"] for layer in layers)
    moved = sum(layer["bytes"]["DRAM"] for layer in layers)
    accuracy = 97.3 - LOSS[family] * 2.0 ** (3.0 - bits) + dice.uniform(-0.3, 0.3)
    energy = None if family == "posit" else area * cycles * 2.1e-4
    return {
        "id": f"{at:04x}{dice.randrange(1 << 32):08x}", "engine": "dot_unit", "family": family, "config": config,
        "name": f"dot_{pe}_l{lanes}_exact{config['accumulator']}_p{config['pipeline']}",
        "command": "bitkiln estimate dot_unit " + " ".join(f"--set {key}={value}" for key, value in config.items())
                   + " --workload digits-cnn --target ecp5",
        "metrics": {
            "accuracy_digits": {"value": round(accuracy, 2), "low": round(accuracy - 0.9, 2),
                                "high": round(accuracy + 0.8, 2), "kind": "measured",
                                "source": "1,797 images, golden model, 95 % interval (Wilson)"},
            "area": {"value": area, "low": area * 0.96, "high": area * 1.05, "kind": "model",
                     "source": "ecp5 area model of 150 PEs"},
            "cycles": {"value": cycles, "low": cycles, "high": cycles, "kind": "exact",
                       "source": "closed form, equal to RTL"},
            "energy": {"value": energy, "low": energy and energy * 0.9, "high": energy and energy * 1.4,
                       "kind": "literature" if energy else None, "source": "45 nm table, Horowitz 2014"},
            "nmse": {"value": LOSS[family] * 4.0 ** -bits, "low": None, "high": None, "kind": "proxy",
                     "source": "mean over the layers"},
        },
        "measured": {}, "fronts": [], "area_parts": parts, "layers": layers,
        "roofline": {"intensity": macs / moved, "macs_per_cycle": macs / cycles, "peak": float(lanes),
                     "bandwidth": DRAM_BYTES_PER_CYCLE,
                     "roof": "compute" if macs / moved * DRAM_BYTES_PER_CYCLE > lanes else "DRAM"},
    }


def _layer(name: str, macs: int, weights: int, bits: int, lanes: int) -> dict[str, Any]:
    compute, fill = -(-macs // lanes), 7 * (1 + weights // 4096)
    dram = weights * bits // 8 + 64
    wait = max(0, int(dram / DRAM_BYTES_PER_CYCLE) - compute)
    return {"name": name, "macs": macs, "cycles": compute + fill + wait + 3, "compute": compute,
            "stalls": {"fill and drain": fill, "DRAM": wait}, "bytes": {"SRAM": macs * bits // 8, "DRAM": dram},
            "bound": "DRAM" if wait else "compute", "energy_pj": macs * bits * 0.05}


def _mark_fronts(sweep: dict[str, Any]) -> None:
    better = {metric["name"]: metric["higher_is_better"] for metric in sweep["metrics"]}

    def cost(point: dict[str, Any], name: str) -> float:
        value = point["metrics"][name]["value"]
        return -value if better[name] else value

    for pair in sweep["axes"]:
        for point in sweep["points"]:
            mine = [cost(point, pair[axis]) for axis in "xy"]
            others = ([cost(other, pair[axis]) for axis in "xy"] for other in sweep["points"])
            if not any(a <= mine[0] and b <= mine[1] and [a, b] != mine for a, b in others):
                point["fronts"].append(f"{pair['x']}/{pair['y']}")


def _measured(point: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    area, cycles = (point["metrics"][name]["value"] for name in ("area", "cycles"))
    return {"area": {"value": round(area * dice.uniform(0.94, 1.05)), "source": "yosys 0.70, synth_ecp5"},
            "cycles": {"value": cycles, "source": "Verilator, cycle counter of the unit"}}
