"""Test and driver of a Tiny Tapeout project: what they know of the pins, and the golden model's results."""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np

from ... import __version__
from ...models.design import DotDesign
from ...models.design.pins import CLEAR_PIN, EN_PIN, FLAG_PIN, PinsDesign
from ...models.golden.dot import dot
from ...sim.pins_check import Step, steps

__all__ = ["example", "host_files", "template"]

DRIVER = "bitkiln_pe"
# What the driver's example multiplies, as far as the formats have these numbers.
VALUES = (1.5, -2.0, 0.5, 3.0), (2.0, 1.0, 4.0, 1.0)


@cache
def template(name: str) -> str:
    """A text beside this module."""
    return resources.files(__package__).joinpath(f"tinytapeout_{name}.txt").read_text(encoding="utf-8")


def host_files(design: PinsDesign, top: str, sources: list[str], seed: int) -> dict[str, str]:
    """``test/`` and ``micropython/``, relative path -> text."""
    todo = steps(design, seed=seed)
    names = {"TOP": top, "VERSION": __version__, "MODULE": DRIVER, "SOURCES": " ".join(sources),
             "CONSTANTS": _constants(design), "VECTORS": str(len(todo))}
    a, w, result, flags = example(design)
    names |= {"EXAMPLE": f"{a}, {w}", "RESULT": f"({result}, {flags})"}

    def filled(name: str) -> str:
        text = template(name)
        for key, value in names.items():
            text = text.replace(f"@{key}@", value)
        return text

    return {"test/Makefile": filled("Makefile"), "test/verilator.mk": filled("verilator.mk"),
            "test/tb.v": filled("tb.v"), "test/test.py": filled("test.py"), "test/vectors.txt": _vectors(todo, seed),
            "test/requirements.txt": template("requirements"), f"micropython/{DRIVER}.py": filled("pe.py")}


def _constants(design: PinsDesign) -> str:
    modes = []
    for index, name in enumerate(design.modes):
        activation, weight, lanes = design.formats(index)
        pe = design.pe
        sections = (0,) if isinstance(pe, DotDesign) else pe.sections(pe.modes[index])
        unit = pe if isinstance(pe, DotDesign) else pe.dot(pe.modes[index])
        modes.append((name, lanes, activation.bits, weight.bits, sections if design.signed else (0,),
                      unit.product_exponent if design.signed else None))
    shift = CLEAR_PIN - design.mode_bits if design.mode_bits else 0
    flag_out = design.controls and bool(design.flags)
    return "\n".join([
        f"BEATS = {design.beats}    # edges for one word",
        f"LATENCY = {design.latency}    # edges from a word's last bits to its result",
        f"CONTROLS = {design.controls}    # enable and clear have pins; else every edge adds, and reset clears",
        f"EN, CLEAR, FLAG, MODE_SHIFT = 0x{1 << EN_PIN:02X}, 0x{1 << CLEAR_PIN:02X}, 0x{1 << FLAG_PIN:02X}, {shift}"
        "    # on uio",
        f"UIO_INPUTS = 0x{0x7F if flag_out else 0xFF:02X}    # pins of uio that the host drives",
        f"A_BITS = {design.a_bits}    # the weights' bits begin here in a word",
        f"RESULT_BYTES, SIGNED = {design.result_bytes}, {design.signed}",
        f"FLAGS = {design.flags!r}    # bits of the byte behind the result",
        "# Name, lanes, bits of an activation and of a weight, lowest bits of the sums that a result is made of, the",
        "# power of two that is one unit of it (None: the result is a code).",
        "MODES = (", *(f"    {mode!r}," for mode in modes), ")"])


def _vectors(todo: list[Step], seed: int) -> str:
    lines = [f"# mode clear repeat word result flags: golden model of bitkiln {__version__}, seed {seed}"]
    lines += [f"{one.mode} {int(one.clear)} {one.repeat} {one.word:x} {one.result} {one.flags}" for one in todo]
    return "\n".join(lines) + "\n"


def example(design: PinsDesign) -> tuple[list[int], list[int], int, list[str]]:
    """Two lists of codes in mode 0, the result of their product and its flags."""
    activation, weight, lanes = design.formats(0)
    codes = [[int(code) for code in fmt.encode(np.array(values))] for fmt, values in
             zip((activation, weight), VALUES, strict=True)]
    count = -len(codes[0]) % lanes
    pe = design.pe
    unit = (pe if isinstance(pe, DotDesign) else pe.dot(pe.modes[0])).with_options(pipeline=0)
    words = [np.array(one + [0] * count).reshape(1, -1, lanes) for one in codes]
    found = dot(unit, *words)
    result = found.acc if found.o is None else found.o
    return codes[0], codes[1], int(result[0]), [flag for flag in design.flags if getattr(found, flag)[0]]
