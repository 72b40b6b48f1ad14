"""``bitkiln spconv``: a point cloud through a sparse network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import complete
from .common import Json, Seed, command, echo_json, notice, progress, table


def register(app: typer.Typer) -> None:
    command(app, spconv, "bitkiln spconv frame.pcd --voxel 0.1 --net minkunet-small",
            "bitkiln spconv street --voxel 0.2 --rtl", "bitkiln spconv room --voxel 0.05 --net second-small --pack row")


def spconv(
    frame: Annotated[str, typer.Argument(help="A .bin, .pcd, .ply, .npy, .las or .laz file; or a generated scene: "
                                              "street, room.", autocompletion=complete.clouds)],
    voxel: Annotated[str, typer.Option(help="Size of a voxel in metres, one number or three with commas.")] = "0.1",
    net: Annotated[str, typer.Option(help="minkunet-small, minkunet-tiny or second-small.",
                                     autocompletion=complete.sparse_networks)] = "minkunet-small",
    format: Annotated[str, typer.Option("--format", help="Of features and weights: int8, fp8_e4m3, "
                                                         "posit8_0.", autocompletion=complete.features)] = "int8",
    lanes: Annotated[int, typer.Option(help="Input channels at a time.")] = 16,
    outputs: Annotated[int, typer.Option(help="Output channels at a time.")] = 16,
    pack: Annotated[str, typer.Option(help="item or row: how zero channels are skipped.",
                                      autocompletion=complete.packs)] = "item",
    pinned: Annotated[int, typer.Option(min=0, max=27, help="Weight tiles that stay on the chip.")] = 27,
    axes: Annotated[str, typer.Option(help="What x, y and z of the grid are in the file: xz-y for a camera.")] = "xyz",
    extent: Annotated[str | None, typer.Option(help="x,y,z of the lowest corner and of the highest: points outside "
                                                    "are left out.")] = None,
    clock: Annotated[float, typer.Option(min=0.001, help="MHz for frames a second.")] = 100.0,
    seed: Seed = 0,
    drop_nan: Annotated[bool, typer.Option("--drop-nan", help="Drop points that are not numbers.")] = False,
    rtl: Annotated[bool, typer.Option("--rtl", help="Simulate the core on the whole frame, every result "
                                                    "compared.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder of the pictures.",
                                                show_default="build/spconv")] = None,
    picture: Annotated[bool, typer.Option("--picture/--no-picture", help="Draw the frame and the layers.")] = True,
    json: Json = False,
) -> None:
    """A point cloud through a sparse network on the convolution core, layer by layer.

    Voxelises, builds the octree and the maps, and runs a seeded network (random weights, normalised on this frame) in
    the core's arithmetic. Prints the cloud's statistics, the cycles of the map search by method, and for each layer
    products issued and skipped, cycles, and what the weight cache moves.
    """
    from ..flow.spconv import frame_report

    folder = (output or Path("build") / "spconv") if picture else None
    if folder is not None and output is None and not _can_draw():
        notice("no pictures: pip install 'bitkiln[plots]'")
        folder = None
    report = frame_report(frame, _numbers(voxel, "--voxel", (1, 3)), net, fmt=format, pack=pack, lanes=lanes,
                          outputs=outputs, pinned=pinned, axes=axes,
                          extent=None if extent is None else _numbers(extent, "--extent", (6,)), seed=seed,
                          clock_mhz=clock, drop_nan=drop_nan, rtl=rtl, pictures=folder, progress=progress)
    if json:
        echo_json(report.as_dict())
        return
    _print(report)


def _can_draw() -> bool:
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


def _numbers(text: str, where: str, counts: tuple[int, ...]) -> list[float] | float:
    from ..models.errors import BitkilnError

    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) not in counts:
        raise BitkilnError("not a list of numbers", where=where, got=text,
                           expected=" or ".join(map(str, counts)) + " numbers with commas between")
    return found[0] if len(found) == 1 else found


def _print(report) -> None:
    s = report.statistics
    table(f"{report.source}", ["", ""], [
        ["points", f"{s['points']:,}"], ["voxels", f"{s['voxels']:,}"],
        ["grid", " x ".join(map(str, s["shape"]))], ["occupancy", f"{s['occupancy']:.2e}"],
        ["neighbours per voxel, itself included", f"{s['neighbours_per_voxel']:.2f}"],
        ["voxels without neighbours", f"{s['isolated']:.1%}"],
        ["children per octant", f"{s['children_per_octant']:.2f}"],
        ["octree nodes, voxels first", ", ".join(f"{n:,}" for n in s["levels"])]], right=(1,))
    count = s["voxels"]
    table("map search of one 3x3x3 layer", ["method", "cycles", "per voxel", "words read", "comparators"],
          [[row["name"], f"{row['cycles']:,}", f"{row['cycles'] / count:.2f}",
            f"{row['words']:,}", row["comparators"]] for row in report.search],
          right=(1, 2, 3, 4))
    rows = []
    for name, op, zeros, cost in report.layers:
        rows.append([name, op, f"{cost.inputs}>{cost.outputs}", f"{cost.rows:,}", f"{cost.pairs:,}", f"{zeros:.0%}",
                     f"{cost.macs:,}", f"{cost.macs_skipped:,}", f"{report.layer_cycles(name):,}", f"{cost.absent:.1%}",
                     f"{cost.zero:.1%}", f"{cost.both:.1%}", f"{cost.weight_bytes / 1024:,.0f}"])
    table(f"{report.run.network.name} on {report.design.name}",
          ["layer", "map", "channels", "rows", "pairs", "zeros", "MACs", "skipped", "cycles", "absent", "zero", "both",
           "weights KiB"], rows, right=tuple(range(3, 13)))
    print("absent: cycles saved by absent neighbours against 27 (8) of each voxel; zero: of the rest, by zero "
          "channels; both together. SpOctA (40 nm, 16x16 INT8) states 44.4 to 79.1 % less latency.")
    hits = sum(c.hits + c.buffered for *_, c in report.layers)
    misses = sum(c.misses for *_, c in report.layers)
    moved, without = (sum(getattr(c, key) for *_, c in report.layers)
                      for key in ("weight_bytes", "weight_bytes_uncached"))
    print(f"weight cache: {hits:,} hits, {misses:,} misses, {moved / 2**20:.2f} MiB read, {without / 2**20:.2f} MiB "
          f"without it, in tiles of {report.design.gather.slots} rows (SpOctA: 57.6 % less energy for accesses "
          "outside)")
    print(f"{report.cycles:,} cycles a frame, {report.frames_per_second:.1f} frames/s at {report.clock_mhz:g} MHz; "
          "energy: no model yet")
    if report.rtl is not None:
        print(f"RTL: every feature of the last layer equal; {report.rtl['CYCLES']:,} cycles "
              f"({report.cycles:,} predicted), {report.rtl['PAIRS']:,} pairs, "
              f"{report.rtl['FETCHED']:,} weight tiles fetched")
    for path in report.pictures:
        print(path)
