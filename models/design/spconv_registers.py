"""The register map of the sparse-convolution core, and jobs as register values."""

from __future__ import annotations

from functools import lru_cache

from .registers import ID, WORD_BYTES, Field, Register, RegisterMap, _bits, _number, _value, clamp_codes
from .spconv_core import KINDS, OPS, TAG_BITS, SpConvDesign, SpConvJob

__all__ = ["COUNTERS", "ENGINE", "SPCONV_ERRORS", "SPCONV_IRQS", "spconv_job_registers", "spconv_registers"]

ENGINE = 2          # in the upper half of VERSION's neighbour: which engine this is
SPCONV_VERSION = (1, 0)
SPCONV_ERRORS = {"none": 0, "unsorted": 1, "overflow": 2, "rejected": 3, "queue_full": 4}
SPCONV_IRQS = {"done": "a job has finished", "error": "ERROR holds a code",
               "invalid": "a sum that is no number met a format without one"}
COUNTERS = {
    "CYCLES": "cycles with a job in the core", "SEARCH": "cycles in which a map search was busy",
    "VOXELS": "voxels that came in", "DROPPED": "voxels out of range", "DUPLICATES": "voxels that were there already",
    "PAIRS": "pairs of voxels that were multiplied", "EMPTY": "pairs without a channel that is not zero",
    "ISSUED": "products of a channel with all outputs", "SKIPPED": "channels that were zero",
    "IDLE": "lanes without work while others had some", "PINNED": "weight tiles asked for that stay on the chip",
    "BUFFERED": "weight tiles asked for that were in the double buffer", "FETCHED": "weight tiles fetched",
}


def _tensor(side: str, offset: int) -> list[Register]:
    what = "read" if side == "IN" else "written"
    return [
        Register(f"JOB_{side}_BASE", offset, _value(24, "rw", f"first word of the tensor that is {what}"), "Tensor."),
        Register(f"JOB_{side}_ROW", offset + 4, (
            Field("stride", 0, 8, "rw", "words from row to row"),
            Field("group", 8, 8, "rw", "words that are read" if side == "IN" else "first word that is written")),
            "Rows of the tensor."),
        Register(f"JOB_{side}_MASK", offset + 8, _value(22, "rw", "first mask row of the tensor"), "Tensor."),
    ]


@lru_cache(maxsize=16)
def spconv_registers(design: SpConvDesign) -> RegisterMap:
    """The register map of a build."""
    g, tree = design.gather, design.map
    registers = [
        Register("ID", 0x00, (_number(32, 0, "value", ID, "identifies a Bitkiln core"),), "As of every core."),
        Register("VERSION", 0x04, (_number(16, 0, "minor", SPCONV_VERSION[1], "grows with additions"),
                                   _number(8, 16, "major", SPCONV_VERSION[0], "grows with what old drivers cannot use"),
                                   _number(8, 24, "engine", ENGINE, "2: sparse convolution")), "Version."),
        Register("SHAPE", 0x08, (_number(8, 0, "lanes", g.lanes, "input channels at a time"),
                                 _number(8, 8, "outputs", g.outputs, "output channels of a pass"),
                                 _number(8, 16, "depth", tree.depth, "bits of a coordinate"),
                                 _number(4, 24, "batch_bits", tree.batch_bits, "bits of a batch"),
                                 _number(4, 28, "trees", design.trees, "clouds at a time")), "Shape of the core."),
        Register("CAPACITY", 0x0C, (_number(24, 0, "voxels", tree.capacity, "most voxels"),
                                    _number(8, 24, "pinned", design.pinned, "weight tiles that can stay")), "Limits."),
        Register("FEATURES", 0x10, (_number(24, 0, "words", g.feature_words, "words of features on the chip"),
                                    _number(8, 24, "groups", g.groups, "most words of a row of a convolution")),
                 "Limits."),
        Register("CTRL", 0x14, _bits({"start": "push the JOB registers as a job",
                                      "clear_counters": "zero the counters"}, "wo"), "Commands."),
        Register("STATUS", 0x18, (*_bits({"busy": "a job runs or waits", "queue_full": "start would be refused",
                                          "error": "ERROR holds a code"}, "ro"),
                                  Field("queued", 8, 8, "ro", "jobs that wait"),
                                  Field("tag", 16, TAG_BITS, "ro", "of the running job")), "State."),
        Register("ERROR", 0x1C, (Field("code", 0, 8, "wc", "0 when there is none; jobs are dropped until it is cleared",
                                       enum=SPCONV_ERRORS), Field("tag", 16, TAG_BITS, "wc", "of the job")),
                 "The first error since the last write to this register."),
        Register("IRQ", 0x20, _bits(SPCONV_IRQS, "w1c"), "The interrupt is high while one that is enabled is set."),
        Register("IRQ_ENABLE", 0x24, _bits(SPCONV_IRQS, "rw"), "Events that raise the interrupt."),
        Register("JOBS_DONE", 0x28, _value(32, "ro", "finished jobs since reset, wraps"), "Progress."),
        Register("COUNT_SELECT", 0x2C, (Field("level", 0, 8, "rw", "level of the tree, 0: voxels"),
                                        Field("tree", 8, 1, "rw", "which tree")), "What COUNT shows."),
        Register("COUNT", 0x30, _value(24, "ro", "nodes of the level that COUNT_SELECT names"), "Size of a tree."),
        Register("JOB_KIND", 0x40, (Field("kind", 0, 2, "rw", "what to do", enum={k: n for n, k in enumerate(KINDS)}),
                                    Field("op", 4, 3, "rw", "which map", enum={k: n for n, k in enumerate(OPS)}),
                                    Field("tree", 8, 1, "rw", "tree of the inputs"),
                                    Field("cross", 9, 1, "rw", "outputs are the voxels of the other tree"),
                                    Field("strict", 10, 1, "rw", "a voxel that is dropped is an error"),
                                    Field("clamp", 11, 1, "rw", "limit the results"),
                                    Field("level", 16, 5, "rw", "level of the finer side")), "Kind of a job."),
        *_tensor("IN", 0x44), *_tensor("OUT", 0x50),
        Register("JOB_PASSES", 0x5C, _value(8, "rw", "output channels / SHAPE.outputs"), "Output channels."),
        Register("JOB_PINNED", 0x60, _value(27, "rw", "bit k: the weights of offset k stay"), "Weight cache."),
        Register("JOB_CLAMP_LOW", 0x64, _value(32, "rw", "least result, an integer or a float32"), "ReLU: 0."),
        Register("JOB_CLAMP_HIGH", 0x68, _value(32, "rw", "largest result"), "Limit."),
        Register("JOB_ROWS", 0x6C, _value(min(tree.out_bits + 1, 32), "rw", "rows that a store sends"), "Store."),
        Register("JOB_SHAPE_X", 0x70, _value(tree.depth + 1, "rw", "voxels along x"), "Load."),
        Register("JOB_SHAPE_Y", 0x74, _value(tree.depth + 1, "rw", "voxels along y"), "Load."),
        Register("JOB_SHAPE_Z", 0x78, _value(tree.depth + 1, "rw", "voxels along z"), "Load."),
        Register("JOB_BATCHES", 0x7C, _value(tree.batch_bits + 1, "rw", "clouds of the load"), "Load."),
        Register("JOB_TAG", 0x80, _value(TAG_BITS, "rw", "comes back in STATUS, ERROR and requests"), "Tag."),
    ]
    for n, (name, text) in enumerate(COUNTERS.items()):
        registers.append(Register(name, 0x100 + WORD_BYTES * n, _value(32, "ro", text), "Counter, wraps."))
    return RegisterMap("spconv", tuple(registers))


def spconv_job_registers(design: SpConvDesign, job: SpConvJob) -> dict[str, int]:
    """Values of the JOB registers for a job."""
    job = job.check(design)
    low, high = clamp_codes(job.clamp, design.rule == "integer")
    registers = spconv_registers(design)
    kind = registers["JOB_KIND"].pack(kind=KINDS.index(job.kind), op=OPS.index(job.op), tree=job.tree,
                                      cross=int(job.cross), strict=int(job.strict), clamp=int(job.clamp is not None),
                                      level=job.level)
    return {"JOB_KIND": kind, "JOB_IN_BASE": job.in_base,
            "JOB_IN_ROW": registers["JOB_IN_ROW"].pack(stride=job.in_stride, group=job.in_groups),
            "JOB_IN_MASK": job.in_mask, "JOB_OUT_BASE": job.out_base,
            "JOB_OUT_ROW": registers["JOB_OUT_ROW"].pack(stride=job.out_stride, group=job.out_group),
            "JOB_OUT_MASK": job.out_mask, "JOB_PASSES": job.passes, "JOB_PINNED": job.pinned,
            "JOB_CLAMP_LOW": low, "JOB_CLAMP_HIGH": high, "JOB_ROWS": job.rows, "JOB_SHAPE_X": job.shape[0],
            "JOB_SHAPE_Y": job.shape[1], "JOB_SHAPE_Z": job.shape[2], "JOB_BATCHES": job.batches, "JOB_TAG": job.tag}
