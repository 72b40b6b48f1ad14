"""cocotb bench of the dot unit: every cycle has new operands and every cycle is checked."""

from __future__ import annotations

import random
import time

import cocotb
import numpy as np
from cocotb.clock import Clock

from bitkiln.models.design import DotDesign
from bitkiln.models.golden.dot import trace
from bitkiln.sim.batch import pack_lanes, to_ints
from bitkiln.sim.bench_report import parameters, report

DEFAULT_CYCLES = 4000
FLAGS = ("nan", "inf_pos", "inf_neg", "illegal", "overflow")


def special_codes(fmt) -> np.ndarray:
    """Extremes, zeros, smallest values and every special code of a format (at most 16 bits)."""
    codes = np.arange(1 << fmt.bits, dtype=np.int64)
    values = fmt.decode(codes)
    finite = np.where(np.isfinite(values), values, 0.0)
    positive = np.where(finite > 0, finite, np.inf)
    negative = np.where(finite < 0, finite, -np.inf)
    picked = [0, len(codes) - 1, int(finite.argmax()), int(finite.argmin()), int(positive.argmin()),
              int(negative.argmax()), 1 << (fmt.bits - 1), *np.flatnonzero(fmt.unpack(codes).special)[:64].tolist()]
    return np.unique(picked)


def stimuli(design: DotDesign, cycles: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """``(a, w, en, clear)``: random codes with stretches of extremes, gaps in ``en``, clears on the way.

    The first cycles clear; a third of the cycles hold only extreme and special codes.
    """
    shape = (cycles, design.lanes)
    operands = []
    for fmt in (design.activation, design.weight):
        codes = rng.integers(0, 1 << fmt.bits, shape)
        edge = rng.choice(special_codes(fmt), shape)
        # Whole stretches of one extreme code drive the accumulator as far as it goes.
        same = np.repeat(rng.choice(special_codes(fmt), -(-cycles // 16)), 16)[:cycles, None]
        kind = np.repeat(rng.integers(0, 6, -(-cycles // 16)), 16)[:cycles, None]
        operands.append(np.where(kind == 0, edge, np.where(kind == 1, same, codes)))
    dense = np.repeat(rng.random(-(-cycles // 64)), 64)[:cycles]
    en = rng.random(cycles) < np.maximum(dense, 0.3)
    clear = rng.random(cycles) < 0.02
    clear[:design.latency + 1] = True
    return operands[0], operands[1], en, clear


def expected_ports(design: DotDesign, a, w, en, clear) -> dict[str, list[int]]:
    """Golden value of every output port (unsigned codes) after each edge."""
    golden = trace(design, a, w, en, clear)
    mask = (1 << design.accumulator_bits) - 1
    ports = {"acc": [int(value) & mask for value in golden.acc]}
    for flag in FLAGS:
        if getattr(design, f"has_{'inf' if flag.startswith('inf') else flag}") and _has_port(design, flag):
            ports[flag] = [int(value) for value in getattr(golden, flag)]
    if design.output is not None:
        ports["o"] = [int(value) for value in golden.o]
    return ports


def _has_port(design: DotDesign, flag: str) -> bool:
    from bitkiln.hw.mac.dot import DotUnit

    return flag in DotUnit(design).signature.members


@cocotb.test()
async def every_cycle(dut) -> None:
    """Random operands, gaps, clears and extremes; all outputs equal to the golden trace in every cycle."""
    given = parameters()
    design: DotDesign = given["design"]
    cycles = int(given.get("cycles", DEFAULT_CYCLES))
    seed = int(given["seed"]) if given.get("seed") is not None else random.getrandbits(32)
    dut._log.info("seed %d, %d cycles of %s", seed, cycles, design.name)
    a, w, en, clear = stimuli(design, cycles, np.random.default_rng(seed))
    ports = expected_ports(design, a, w, en, clear)
    rows = list(zip(to_ints(pack_lanes(a, design.activation.bits), 0).tolist(),
                    to_ints(pack_lanes(w, design.weight.bits), 0).tolist(),
                    en.astype(int).tolist(), clear.astype(int).tolist(),
                    zip(*ports.values(), strict=True), strict=True))
    handles = [getattr(dut, name) for name in ports]

    for port in (dut.clk, dut.a, dut.w, dut.en, dut.clear):
        port.value = 0
    started = time.process_time()
    await _drive_and_check(dut, rows, handles, list(ports))
    report(vectors=cycles, cycles=cycles, seed=seed, cpu_seconds=time.process_time() - started)


async def _drive_and_check(dut, rows, handles, names) -> None:
    """One trigger per cycle: at a rising edge the ports still show the state before it, and what is written
    there is sampled by the next edge. So outputs of row t are seen two edges after row t was written."""
    Clock(dut.clk, 2, unit="step").start()
    edge = dut.clk.rising_edge
    a, w, en, clear = dut.a, dut.w, dut.en, dut.clear
    acc, others = handles[0], handles[1:]
    was_en = was_clear = 0
    seen: list = [None, None]
    for at, (a_now, w_now, en_now, clear_now, outputs) in enumerate(rows):
        await edge
        if at > 1:
            _compare(seen[at & 1], acc, others, names, at - 2)
        a.value = a_now
        w.value = w_now
        if en_now != was_en:
            en.value = was_en = en_now
        if clear_now != was_clear:
            clear.value = was_clear = clear_now
        seen[at & 1] = outputs
    for at in range(len(rows), len(rows) + 2):
        await edge
        _compare(seen[at & 1], acc, others, names, at - 2)


def _compare(wanted, acc, others, names, row) -> None:
    if int(acc.value) != wanted[0]:
        raise AssertionError(f"row {row}: {names[0]} is {acc.value}, expected {wanted[0]:b}")
    for at, handle in enumerate(others, 1):
        if int(handle.value) != wanted[at]:
            raise AssertionError(f"row {row}: {names[at]} is {handle.value}, expected {wanted[at]:b}")
