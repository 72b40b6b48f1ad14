"""Do the published orderings of low-bit formats hold on a real network? Errors of its weights, and words right.

g2p-en's GRU, groups of 128, fp16 activations, exact sums. Words: a row less another on the same words, so that its
standard error is that of the difference.
"""

from __future__ import annotations

from bitkiln.models.workloads.g2p_serial import compare, paired
from bitkiln.report.table import Row

COMMAND = "make bench SUITE=bitserial ONLY=bitserial_orderings"
WORDS, SEED = 10_000, 1
NMSE = (("bitmod3", "int3_asym"), ("bitmod3", "fp3"), ("bitmod4", "fp4"), ("bitmod4", "int4_asym"),
        ("bitmod4", "ant4"))
# Of the words' orderings the three-bit ones are claimed; the four-bit differences are smaller than chance on a sample.
CLAIMED = (("bitmod3", "int3_asym"), ("bitmod3", "fp3"))
SHOWN = (("bitmod4", "fp4"), ("bitmod4", "int4_asym"), ("bitmod4", "ant4"), ("float32", "int6"),
         ("float32", "bitmod4"), ("bitmod4", "bitmod3"))


def run() -> list[Row]:
    pairs = (*NMSE, *CLAIMED, *SHOWN)
    scores = {score.name: score for score in compare(dict.fromkeys(name for pair in pairs for name in pair), WORDS,
                                                     SEED)}
    rows = []
    for better, other in NMSE:
        ratio = scores[better].nmse / scores[other].nmse
        rows.append(Row(f"squared error of the weights, {better} over {other}", round(ratio, 4), "", 0.9999,
                        command=COMMAND, note=f"NMSE {scores[better].nmse:.5f} and {scores[other].nmse:.5f}"))
    for better, other in (*CLAIMED, *SHOWN):
        value, error = paired(scores[better], scores[other])
        shown = " and ".join(f"{100 * scores[name].word_accuracy:.2f} ± {100 * scores[name].standard_error:.2f} %"
                             for name in (better, other))
        rows.append(Row(f"words right, {better} less {other}", round(100 * value, 2), "points",
                        0.01 if (better, other) in CLAIMED else None, "higher", COMMAND,
                        f"± {100 * error:.2f} (standard error of the difference on the same {WORDS:,} words); {shown}"))
    return rows
