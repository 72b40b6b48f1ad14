"""Headers, SystemRDL and Markdown of a register map say what the description says."""

import re
import shutil
import subprocess
import sys

import pytest

from bitkiln.flow.registers import c_header, collateral, constants, core_constants, markdown, python_module, systemrdl
from bitkiln.models.design import Accumulator, ArrayDesign, MatmulDesign, MorphableDesign
from bitkiln.models.design.registers import DESCRIPTOR_REGISTERS, Field, Register, RegisterMap, core_registers
from bitkiln.models.errors import BitkilnError

FULL = MatmulDesign(ArrayDesign(4, 8, MorphableDesign(("fp4", "posit8_0", "int8"))), block=("mxfp4",),
                    descriptors=True, address_bits=40)
SMALL = MatmulDesign(ArrayDesign(2, 2, MorphableDesign(("int8",), Accumulator(kind="int32"))), rules=("raw",),
                     bias=False, accumulate=False)
ODD = RegisterMap("odd", (
    Register("REG", 0, (Field("number", 0, 3, "rw", 'a "quoted" */ | text', enum={"signal": 1, "plain": 2}),
                        Field("sw", 8, 9, "rw", "", signed=True)), "Words | of other languages."),
    Register("PULSE", 8, (Field("go", 0, 1, "wo", ""), Field("level", 4, 4, "wo", "")), ""),
    Register("STICKY", 12, (Field("value", 0, 1, "w1c", ""),), ""),
))
MAPS = {"full": core_registers(FULL), "small": core_registers(SMALL), "odd": ODD}


def expected(registers: RegisterMap) -> dict[str, int]:
    """The constants, written down once more from the description."""
    found = {}
    for register in registers.registers:
        found[register.name + "_OFFSET"] = register.offset
        for f in register.fields:
            stem = register.name if f.name == "value" else register.name + "_" + f.name.upper()
            found[stem + "_SHIFT"] = f.low
            found[stem + "_MASK"] = sum(1 << bit for bit in range(f.low, f.low + f.bits))
            if f.constant is not None:
                found[stem + "_VALUE"] = f.constant
            found |= {f"{stem}_{name.upper()}": value for name, value in f.enum or ()}
    return found


@pytest.mark.parametrize("name", MAPS)
def test_c_header_compiles_and_equals_the_description(name, tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    registers = MAPS[name]
    extra = core_constants(FULL) if name == "full" else {}
    (tmp_path / "regs.h").write_text(c_header(registers, "my_core", extra))
    (tmp_path / "only.c").write_text('#include "regs.h"\n#include "regs.h"\nint one;\n')
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run([compiler, *flags, "-ffreestanding", "-c", "only.c"], cwd=tmp_path, check=True)
    wanted = {**expected(registers), **extra}
    shown = "\n".join(f'    printf("{key} %lu\\n", (unsigned long)MY_CORE_{key});' for key in wanted)
    program = f'#include <stdio.h>\n#include "regs.h"\nint main(void) {{\n{shown}\nreturn 0; }}\n'
    (tmp_path / "show.c").write_text(program)
    subprocess.run([compiler, *flags, "show.c", "-o", "show"], cwd=tmp_path, check=True)
    text = subprocess.run([tmp_path / "show"], capture_output=True, text=True, check=True).stdout
    assert {line.split()[0]: int(line.split()[1]) for line in text.splitlines()} == wanted
    assert len(re.findall(r"^#define MY_CORE_\w+ \w", (tmp_path / "regs.h").read_text(), re.M)) == len(wanted)


@pytest.mark.parametrize("name", MAPS)
def test_python_module_equals_the_description(name):
    registers = MAPS[name]
    space: dict = {}
    exec(python_module(registers), space)
    assert {key: value for key, value in space.items() if key.isupper()} == expected(registers)


def test_descriptor_layout():
    layout = core_constants(FULL)
    assert layout["DESCRIPTOR_BYTES"] == 128 and layout["DESCRIPTOR_NEXT"] == 124
    assert layout["DESCRIPTOR_A_ADDR"] == 44 and layout["DESCRIPTOR_O_STRIDE"] == 120
    assert {key.removeprefix("DESCRIPTOR_") for key in layout} == {*DESCRIPTOR_REGISTERS, "BYTES", "NEXT"}
    assert core_constants(SMALL) == {}


@pytest.mark.parametrize("name", MAPS)
def test_markdown_has_every_field(name):
    registers = MAPS[name]
    text = markdown(registers)
    sections = re.split(r"^### ", text, flags=re.M)
    assert len(sections) == 1 + len(registers.registers)
    for register, section in zip(registers, sections[1:], strict=True):
        assert section.startswith(f"`{register.offset:03X}` {register.name}\n")
        rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in section.splitlines() if line.startswith("|")][2:]
        assert [[cell.strip() for cell in row[:2]] for row in rows] == [
            [f"{f.high}:{f.low}" if f.bits > 1 else str(f.low), f"`{f.name}`"] for f in register.fields]
        for f, row in zip(register.fields, rows, strict=True):
            assert all(f"{value} {choice}" in row[3] for choice, value in f.enum or ())
            assert f.constant is None or f.constant == int(row[2].strip(" `"), 0)


@pytest.mark.parametrize("name", MAPS)
def test_systemrdl_says_the_same(name, tmp_path):
    compiler = pytest.importorskip("systemrdl", reason="no SystemRDL compiler (pip install systemrdl-compiler)")
    registers = MAPS[name]
    path = tmp_path / "map.rdl"
    path.write_text(systemrdl(registers))
    compile_ = compiler.RDLCompiler()
    compile_.compile_file(str(path))
    root = compile_.elaborate().top
    found = {node.inst_name: node for node in root.registers()}
    assert {key: node.address_offset for key, node in found.items()} == {r.name: r.offset for r in registers}
    for register in registers:
        fields = {node.inst_name: node for node in found[register.name].fields()}
        assert {key: (node.low, node.width) for key, node in fields.items()} == {
            f.name: (f.low, f.bits) for f in register.fields}
        for f in register.fields:
            node = fields[f.name]
            assert (node.is_sw_readable, node.is_sw_writable) == (f.access != "wo", f.access != "ro")
            assert node.get_property("desc") == f.description
            assert f.constant is None or node.get_property("reset") == f.constant
            clears = {"w1c": "woclr", "wc": "wclr"}.get(f.access)
            assert (node.get_property("onwrite").name if clears else None) == clears
            encoded = node.get_property("encode")
            assert {m.name: m.value for m in encoded or ()} == dict(f.enum or ())


def test_systemrdl_has_every_field():
    """Without a compiler: names and places by text."""
    text = systemrdl(MAPS["full"])
    for register in MAPS["full"]:
        assert re.search(rf"^    \}} {register.name} @ 0x{register.offset:x};$", text, re.M)
        for f in register.fields:
            assert re.search(rf"^        \}} \\?{f.name}\[{f.high}:{f.low}\];$", text, re.M)
    assert "} \\number[2:0];" in systemrdl(ODD) and "\\signal = 3'h1;" in systemrdl(ODD)


def test_files_and_their_names():
    files = collateral(MAPS["full"], "core", core_constants(FULL))
    assert list(files) == ["core_registers.h", "core_registers.py", "core.rdl", "core_registers.md"]
    assert files == collateral(core_registers(FULL), "core", core_constants(FULL))
    assert all(text.endswith("\n") and not re.search(r"[ \t]$", text, re.M) for text in files.values())
    script = ("import sys; from test_register_collateral import *; "
              "sys.stdout.write(''.join(collateral(MAPS['full'], 'core').values()))")
    texts = {subprocess.run([sys.executable, "-c", script], capture_output=True, check=True,
                            cwd=__file__.rsplit("/", 1)[0],
                            env={**__import__("os").environ, "PYTHONHASHSEED": seed}).stdout for seed in ("1", "2")}
    assert len(texts) == 1 and len(texts.pop()) > 10_000


def test_clashing_constants_and_prefixes_are_refused():
    clash = RegisterMap("clash", (Register("A", 0, (Field("b_shift", 0, 1, "rw", ""), Field("b", 1, 1, "rw", "")), ""),
                                  Register("A_B", 4, (Field("x", 0, 1, "rw", ""),), "")))
    list(constants(clash))
    twice = RegisterMap("twice", (Register("A", 0, (Field("b", 0, 1, "rw", "", enum={"mask": 0}),), ""),))
    with pytest.raises(BitkilnError, match="two constants"):
        list(constants(twice))
    with pytest.raises(BitkilnError, match="illegal prefix"):
        c_header(ODD, "1x")
