"""What the core refuses is what `Job.check` refuses, for random jobs of several builds."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bitkiln.hw.mac.jobs import job_error, job_layout
from bitkiln.models.design import Accumulator, ArrayDesign, Job, MatmulDesign, MorphableDesign
from bitkiln.models.design.matmul import RULES
from bitkiln.models.errors import BitkilnError
from bitkiln.sim.batch import BatchModel

SEED = 31
JOBS = 3000


def core(modes, *, kind="exact", **options) -> MatmulDesign:
    return MatmulDesign(ArrayDesign(2, 2, MorphableDesign(modes, Accumulator(kind))), **options)


BUILDS = {
    "all rules": core(("fp4", "posit8_0", "int8", "posit16_1")),
    "raw only": core(("int8", "int4"), rules=("raw",), bias=False, accumulate=False),
    "integer": core(("int8", "int8xint4"), kind="int32", rules=("integer",), k_words=16, outputs=("int8", "int4")),
    "blocks": core(("fp4", "fp8_e4m3", "int8"), block=("mxfp4", "nvfp4", "mxfp8_e4m3"), k_words=64),
    "fp32 sums": core(("bf16", "fp4"), kind="fp32", rules=("float", "raw")),
}


class Check(wiring.Component):
    """``job_error`` alone."""

    reset_less = True

    def __init__(self, design: MatmulDesign):
        self.design, self.module_name = design, "job_check"
        super().__init__({**{name: In(field.shape) for name, field in job_layout(design)}, "code": Out(4)})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.d.comb += self.code.eq(job_error(self.design, self))
        return m


def sensible(design: MatmulDesign, job: dict[str, int]) -> bool:
    """Whether `Job.check` takes the job, with fields as the registers spell them."""
    modes, outputs, blocks = design.pe.modes, design.outputs, design.block
    if job["mode"] >= len(modes) or job["block"] > len(blocks) or job["rule"] >= len(RULES):
        return False
    rule = RULES[job["rule"]]
    if rule != "raw" and job["output"] >= len(outputs):
        return False
    made = Job(modes[job["mode"]].name, job["m"], job["k"], job["n"], rule=rule,
               output=outputs[job["output"]] if rule != "raw" else None, order="aw"[job["order"]],
               per_channel=bool(job["per_channel"]), bias=bool(job["bias"]), bias_shift=job["bias_shift"],
               # Scale and shift of a job with records are not looked at.
               scale=0 if job["per_channel"] else job["scale"], shift=0 if job["per_channel"] else job["shift"],
               zero_point=0,
               accumulate=bool(job["accumulate"]), block=blocks[job["block"] - 1] if job["block"] else None)
    try:
        made.check(design)
    except BitkilnError:
        return False
    return True


@pytest.mark.parametrize("build", BUILDS)
def test_core_refuses_what_the_model_refuses(build):
    design = BUILDS[build]
    rng = np.random.default_rng(SEED)
    print(f"seed {SEED}")

    def one() -> dict[str, int]:
        """Legal in most fields, so that most jobs break one rule or none."""
        job = {name: 0 for name, _ in job_layout(design)}
        job["mode"] = int(rng.integers(len(design.pe.modes) + (rng.random() < 0.2)))
        longest = design.max_k(design.pe.modes[min(job["mode"], len(design.pe.modes) - 1)])
        few = [0.04, 0.32, 0.32, 0.32]
        job.update(m=int(rng.choice([0, 1, 65535, 7], p=few)), n=int(rng.choice([0, 1, 65535, 40], p=few)),
                   k=int(rng.choice([0, longest + 1, longest, 1], p=[0.04, 0.06, 0.45, 0.45])))
        job["rule"] = int(rng.integers(4)) if rng.random() < 0.3 else RULES.index(str(rng.choice(design.rules)))
        job["output"] = int(rng.integers(min(16, len(design.outputs) + 1)))
        if rng.random() < 0.4:
            job["block"] = int(rng.integers(len(design.block) + 2))
        for name in ("order", "per_channel", "bias", "accumulate", "clamp"):
            job[name] = int(rng.integers(2)) if rng.random() < 0.5 else 0
        job["scale"] = int(rng.choice([1, (1 << 31) - 1, 1 << 31], p=[0.45, 0.45, 0.1]))
        job["shift"], job["bias_shift"] = int(rng.integers(64)), int(rng.integers(16))
        return job

    jobs = [one() for _ in range(JOBS)]
    # A float32 scale may have any bits; the model takes a number.
    wanted = np.array([sensible(design, {**job, "scale": job["scale"] if RULES[job["rule"] % 3] == "integer" else 1})
                       for job in jobs])
    model = BatchModel(Check(design))
    seen = model.run({name: np.array([job[name] for job in jobs]) for name in jobs[0]})["code"]
    assert 200 < wanted.sum() < JOBS - 200
    wrong = np.flatnonzero((np.asarray(seen).reshape(-1) == 0) != wanted)
    assert not len(wrong), (jobs[wrong[0]], int(np.asarray(seen).reshape(-1)[wrong[0]]))
    assert len(np.unique(seen)) >= 4
