"""``bitkiln formats``: the number formats."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .common import Json, command, echo_json, examples, table

TABLE_BITS = 6          # whole value table up to this width


def register(app: typer.Typer) -> None:
    group = typer.Typer(invoke_without_command=True, help="List the number formats; `show NAME` describes one.",
                        epilog=examples("bitkiln formats", "bitkiln formats show fp8_e4m3",
                                        "bitkiln formats show posit4_1 --json"))
    group.callback()(list_formats)
    command(group, show, "bitkiln formats show fp8_e4m3", name="show")
    app.add_typer(group, name="formats")


def _number(value: float) -> str:
    return f"{value:.6g}"


def list_formats(context: typer.Context, json: Json = False) -> None:
    """List the number formats; `show NAME` describes one."""
    if context.invoked_subcommand is not None:
        return
    from ..models.formats import format_names, get_format

    facts = [_facts(get_format(name)) for name in format_names()]
    if json:
        echo_json(facts)
        return
    table("number formats", ["name", "family", "bits", "min > 0", "max", "specials"],
          [[f["name"], f["family"], f["bits"], _number(f["min_positive"]) if f["min_positive"] else None,
            _number(f["max"]) if f["max"] else None, f["specials"]] for f in facts], right=(2, 3, 4))
    typer.echo("any ExMy of 3-8 bits, positN_es up to 16 bits, intN and uintN up to 16 bits are known by name too")


def show(
    name: Annotated[str, typer.Argument(help="Format name.")],
    json: Json = False,
) -> None:
    """Range, precision and specials of a format; the whole value table up to 6 bits."""
    from ..models.formats import get_format

    fmt = get_format(name)
    facts = _facts(fmt, detailed=True)
    values = _values(fmt)
    if json:
        echo_json({**facts, **({"values": values} if values else {})})
        return
    table(facts["name"], ["property", "value"],
          [[key.replace("_", " "), _number(value) if isinstance(value, float) else value]
           for key, value in facts.items()])
    if values:
        table("values", ["code", "bits", "value"],
              [[f"0x{v['code']:02x}", format(v["code"], f"0{fmt.bits}b"), v["special"] or f"{v['value']:g}"]
               for v in values], right=(2,))


def _facts(fmt: Any, detailed: bool = False) -> dict[str, Any]:
    """What a listing shows of a format; group formats have an element instead of a range."""
    from ..models.formats import Format

    if not isinstance(fmt, Format):
        element = fmt.element
        facts: dict[str, Any] = {
            "name": fmt.name, "family": "block-scaled", "bits": element.bits, "min_positive": None, "max": None,
            "specials": f"{element.name} x {fmt.scale.name} per {fmt.block_size}"}
        if detailed:
            facts |= {"element": element.name, "scale": fmt.scale.name, "block_size": fmt.block_size}
        return facts
    specials = [word for word, has in (("NaR" if fmt.family == "posit" else "NaN", fmt.has_nan), ("Inf", fmt.has_inf),
                                       ("illegal code", fmt.has_illegal)) if has]
    facts = {"name": fmt.name, "family": fmt.family, "bits": fmt.bits, "min_positive": float(fmt.min_positive),
             "max": float(fmt.max), "specials": ", ".join(specials) or "none"}
    if detailed:
        integer, fraction = fmt.fixed_point()
        facts |= {"signed": fmt.signed, "unit_exponent": fmt.unit_exponent,
                  "exact_fixed_point": f"{integer} integer and {fraction} fraction bits",
                  "description": " ".join((type(fmt).__doc__ or "").strip().split("\n\n")[0].split()),
                  "definition": repr(fmt)}
    return facts


def _values(fmt: Any) -> list[dict[str, Any]] | None:
    from ..models.formats import Format, Special

    if not isinstance(fmt, Format) or fmt.bits > TABLE_BITS:
        return None
    import numpy as np

    codes = np.arange(1 << fmt.bits)
    decoded, kinds = fmt.decode(codes), fmt.unpack(codes).special
    nan = "NaR" if fmt.family == "posit" else "NaN"
    names = {Special.NAN: nan, Special.INF: "Inf", Special.ILLEGAL: "illegal"}
    return [{"code": int(code), "value": float(value), "special":
             ("-Inf" if value < 0 else "Inf") if kind == Special.INF else names.get(Special(int(kind)))}
            for code, value, kind in zip(codes, decoded, kinds, strict=True)]
