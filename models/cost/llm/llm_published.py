"""What the BitMoD paper and its release say of speed: literature, 28 nm, 1 GHz. Facts to compare with, never used.

Cycles and energies: abdelfattah-lab/BitMoD-HPCA-25 (MIT) @48975fc and @578f207, ``sim/plot/speedup_plot.ipynb`` and
``energy_plot.ipynb``, in the order of `llm_shapes.LLMS`. Means: arXiv 2411.11745, abstract and section V-D.
"""

from __future__ import annotations

__all__ = ["CYCLES", "DRAM_UJ", "MEANS", "PAPER_GENERATED"]

# The notebook adds 20 generation steps, all at a context of 256, to the prefill: with that number, and no other, the
# generative means of the paper come out.
PAPER_GENERATED = 20

# (array, phase): cycles of a prefill of 256 tokens, or of one generated token.
CYCLES: dict[tuple[str, str], tuple[int, ...]] = {
    ("FP16", "prefill"): (669255680, 1399816192, 2878668800, 3156574208, 6676111360, 3969089536),
    ("ANT", "prefill"): (440975360, 847773696, 1734868992, 1949564928, 4076584960, 2266234880),
    ("OliVe", "prefill"): (403718144, 779268096, 1575157760, 1768062976, 3648512000, 2008645632),
    ("BitMoD lossless", "prefill"): (336236544, 693780480, 1414209536, 1649680384, 3537397760, 1901133824),
    ("BitMoD lossy", "prefill"): (233070592, 515194880, 946937856, 1202921472, 2601461760, 1273233408),
    ("FP16", "generation"): (82153718, 165841248, 362970848, 413518608, 804330080, 469624976),
    ("ANT", "generation"): (25779238, 51998112, 119342816, 129497936, 251907680, 132370576),
    ("OliVe", "generation"): (20018374, 41655712, 96691936, 97236816, 189155680, 105031744),
    ("BitMoD lossless", "generation"): (31220054, 62986912, 137681120, 156919888, 305157360, 178109840),
    ("BitMoD lossy", "generation"): (15857750, 31959712, 69662944, 79493200, 154552560, 90099088),
}

# As above: microjoules of DRAM, the notebook's total energy less its energy on chip.
DRAM_UJ: dict[tuple[str, str], tuple[int, ...]] = {
    ("FP16", "prefill"): (1892831, 4979097, 10400603, 12582538, 30622187, 15249329),
    ("ANT", "prefill"): (901023, 2259272, 3844512, 5391050, 12954931, 5640034),
    ("OliVe", "prefill"): (806565, 2000241, 3221501, 4706147, 11272335, 4724864),
    ("BitMoD lossless", "prefill"): (954156, 2404977, 4196922, 5776309, 13901391, 6154819),
    ("BitMoD lossy", "prefill"): (765241, 1886915, 2948383, 4406501, 10536199, 4324476),
    ("FP16", "generation"): (394117, 795670, 1740569, 1984299, 3859372, 2252666),
    ("ANT", "generation"): (123740, 249591, 571784, 621590, 1208727, 634475),
    ("OliVe", "generation"): (96089, 199947, 463060, 466737, 907518, 493763),
    ("BitMoD lossless", "generation"): (149856, 302338, 660122, 753215, 1464755, 854338),
    ("BitMoD lossy", "generation"): (76118, 153406, 333950, 381567, 741853, 432200),
}

# (faster, slower, task): mean speed-up over the six models. "mean" is the abstract's, over both tasks.
MEANS: dict[tuple[str, str, str], float] = {
    ("BitMoD lossless", "FP16", "discriminative"): 1.99,
    ("BitMoD lossless", "FP16", "generative"): 2.41,
    ("BitMoD lossy", "ANT", "discriminative"): 1.72,
    ("BitMoD lossy", "OliVe", "discriminative"): 1.56,
    ("BitMoD lossy", "ANT", "generative"): 1.66,
    ("BitMoD lossy", "OliVe", "generative"): 1.39,
    ("BitMoD lossy", "ANT", "mean"): 1.69,
    ("BitMoD lossy", "OliVe", "mean"): 1.48,
}
