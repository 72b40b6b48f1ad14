"""A FuseSoC generator: the user's core file holds a design description, FuseSoC calls Bitkiln for the Verilog."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files as resources
from typing import TYPE_CHECKING, Any

from ... import __version__

if TYPE_CHECKING:
    from ...config import Resolved

__all__ = ["files"]

FOLDER = "fusesoc-generator"


def files(resolved: Resolved, facts: dict[str, Any], texts: Mapping[str, str]) -> dict[str, str]:
    """Below ``fusesoc-generator/``: the generator, its core file, a core that uses it for this design, README.md."""
    script = (resources("bitkiln.flow.packages") / "bitkiln_gen.py.txt").read_text(encoding="utf-8")
    name, example = resolved.name, f"bitkiln:examples:{resolved.name}"
    description = {key: value for key, value in resolved.config.items() if value is not None} | {"name": name}
    parameters = "\n".join(f"      {key}: {json.dumps(value)}" for key, value in description.items())
    return {f"{FOLDER}/bitkiln_gen.py": script, f"{FOLDER}/bitkiln_generator.core": GENERATOR,
            f"{FOLDER}/example.core": EXAMPLE.format(vlnv=f"{example}:{__version__}", name=name, parameters=parameters),
            f"{FOLDER}/README.md": README.format(vlnv=example)}


GENERATOR = f"""CAPI=2:

name: bitkiln:utils:generator:{__version__}
description: "Verilog of low-precision arithmetic from a design description"
license: Apache-2.0

generators:
  bitkiln:
    interpreter: python3
    command: bitkiln_gen.py
    cache_type: input
    file_input_parameters: file
    description: Bitkiln, a generator of verified low-precision arithmetic
    usage: |
      The parameters are a design description, with the keys of a design file (`bitkiln init` writes one,
      `bitkiln schema` lists the keys). `name` is the Verilog module. Or, instead of all others:

      file: name of a design file, relative to the core file
"""

EXAMPLE = """CAPI=2:

name: {vlnv}
description: "a core that lets FuseSoC generate its Verilog"

filesets:
  rtl:
    depend: ["bitkiln:utils:generator"]

generate:
  core:
    generator: bitkiln
    parameters:
{parameters}

targets:
  default: &default
    filesets: [rtl]
    generate: [core]
    toplevel: {name}
  lint:
    <<: *default
    description: "Verilator's lint, no warning"
    flow: lint
    flow_options:
      tool: verilator
"""

README = """# FuseSoC generator

`example.core` describes a design; FuseSoC calls `bitkiln_gen.py`, and that calls `bitkiln generate`. In this folder:

    fusesoc --cores-root . run --target lint {vlnv}

For a core of your own, copy `bitkiln_gen.py` and `bitkiln_generator.core` into a folder that FuseSoC searches, depend
on `bitkiln:utils:generator`, and put the description under `generate:` as in `example.core`. What is generated is kept
until the description changes. `bitkiln` must be on PATH, or importable by `python3`; the variable `BITKILN` names
another program.
"""
