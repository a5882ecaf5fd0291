"""How long a whole comparison takes: fourteen metrics, ten thousand items, ten thousand resamples.

```sh
python benchmarks/significance.py                 # two systems, two threads
python benchmarks/significance.py --systems 4     # all pairs of four
```

The scores are drawn from known distributions and cost nothing: one corpus metric with BLEU's ten counts, twelve means
that hold values like token F1, one of right and wrong. Each row runs in a process of its own, so that memory is the
row's own: its high-water mark less the one before. A row is one of the parts alone, or the whole call.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> None:
    arguments = _arguments()
    if arguments.child:
        print("RESULT " + json.dumps(_measure(arguments)))
        return
    print(
        f"{arguments.systems} systems, 14 metrics, {arguments.items:,} items, {arguments.resamples:,} resamples, "
        f"{arguments.threads} threads"
    )
    print(f"{'':32} {'time':>9} {'memory':>10}")
    results = []
    for name in _rows():
        result = _run(arguments, name)
        results.append(result)
        print(f"{name:32} {result['seconds']:>7.1f} s {result['megabytes']:>7.0f} MB", flush=True)
    if arguments.json:
        record = {"command": " ".join(sys.argv), "threads": arguments.threads, "rows": results}
        Path(arguments.json).write_text(json.dumps(record, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--systems", type=int, default=2)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", help="also write the rows to this file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def _run(arguments: argparse.Namespace, name: str) -> dict[str, object]:
    command = [sys.executable, __file__, "--child", name]
    for option in ("systems", "items", "resamples"):
        command += [f"--{option}", str(getattr(arguments, option))]
    environment = {**os.environ, **dict.fromkeys(THREADS, str(arguments.threads))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))[7:])


def _measure(arguments: argparse.Namespace) -> dict[str, object]:
    systems = {f"system {number}": _scores(arguments.items, number) for number in range(arguments.systems)}
    row = _rows()[arguments.child]
    _warm()
    before, start = _megabytes(), time.perf_counter()
    row(systems, arguments.resamples)
    return {
        "row": arguments.child,
        "seconds": time.perf_counter() - start,
        "megabytes": _megabytes() - before,
    }


def _rows() -> dict[str, Callable[[Mapping, int], object]]:
    from understudy.metrics import significance

    def each_metric(test: Callable) -> Callable[[Mapping, int], object]:
        """One metric after the other, first system against second, as one would without a shared draw."""

        def run(systems: Mapping, resamples: int) -> object:
            first, second = list(systems.values())[:2]
            return [test(first[name], second[name], resampling=significance.Resampling(resamples)) for name in first]

        return run

    return {
        "everything, one call": lambda systems, count: significance.compare_many(
            systems, resampling=significance.Resampling(count)
        ),
        "bootstrap, metric by metric": each_metric(significance.paired_bootstrap),
        "randomisation, metric by metric": each_metric(significance.randomisation_test),
    }


def _scores(items: int, seed: int) -> dict:
    import numpy as np

    from understudy.metrics import Score, mean_score, score

    generator = np.random.default_rng(seed)
    bleu_from_counts = score(["a b c d"], [["a b c d"]], metrics=["bleu"])["bleu"].from_totals
    correct = np.sort(generator.integers(0, 20, size=(items, 4)), axis=1)[:, ::-1]
    totals = np.array([20, 19, 18, 17]) + np.zeros((items, 1))
    counts = np.concatenate([np.full((items, 2), 20.0), np.minimum(correct, totals), totals], axis=1)
    value = float(bleu_from_counts(counts.sum(axis=0)))
    sentences = tuple(np.atleast_1d(bleu_from_counts(counts)).tolist())
    found = {"bleu": Score("bleu", value, sentences, counts, bleu_from_counts, "synthetic", maximum=100.0)}
    found["exact_match"] = mean_score("exact_match", generator.random(items) < 0.6, "synthetic")
    for number in range(12):
        found[f"mean{number}"] = mean_score(f"mean{number}", generator.random(items) ** 2, "synthetic")
    return found


def _warm() -> None:
    """Imports are no part of a comparison."""
    import numpy as np

    from understudy.metrics import mean_score
    from understudy.metrics.significance import Resampling, compare_many

    few = np.random.default_rng(0).random((3, 300))
    compare_many({str(k): {"x": mean_score("x", row, "")} for k, row in enumerate(few)}, resampling=Resampling(10))


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
