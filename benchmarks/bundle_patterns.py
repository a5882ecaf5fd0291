"""Libraries of frequent itemsets side by side: seconds and memory on sessions of a shop, each in a process of its own.

    python benchmarks/bundle_patterns.py                 # 100,000 sessions, all short and with 30 very long ones
    python benchmarks/bundle_patterns.py --only ours     # ours alone, at several sizes

Sessions have 2 to 10 items out of 50,000, drawn by Zipf's law; support 0.001, itemsets of 2 to 5. `ours` is
`understudy.sessions.itemsets`. A library that is not installed is passed over; PAMI is not among the project's own
dependencies and is measured where somebody installed it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

SUPPORT, LARGEST, ITEMS = 0.001, 5, 50_000
LONG, LONG_ITEMS = 30, 5_000


def baskets_of(sessions: int, long: int, seed: int = 0) -> list[list[int]]:
    """Sessions of 2 to 10 different items by Zipf's law, the last `long` of them of 5,000 items."""
    generator = np.random.default_rng(seed)
    chance = 1 / np.arange(1, ITEMS + 1)
    drawn = generator.choice(ITEMS, size=(sessions, 10), p=chance / chance.sum())
    lengths = generator.integers(2, 11, size=sessions)
    baskets = [sorted(set(row[:length].tolist())) for row, length in zip(drawn, lengths, strict=True)]
    for number in range(long):
        baskets[-1 - number] = sorted(generator.choice(ITEMS, size=LONG_ITEMS, replace=False).tolist())
    return baskets


def ours(baskets: list[list[int]]) -> int:
    from understudy.sessions.itemsets import frequent_itemsets

    return len(frequent_itemsets(baskets, support=SUPPORT, largest=LARGEST).itemsets)


def mlxtend_growth(baskets: list[list[int]]) -> int:
    from mlxtend.frequent_patterns import fpgrowth

    return _mlxtend(baskets, fpgrowth)


def mlxtend_apriori(baskets: list[list[int]]) -> int:
    from mlxtend.frequent_patterns import apriori

    return _mlxtend(baskets, lambda table, **options: apriori(table, low_memory=True, **options))


def _mlxtend(baskets: list[list[int]], mine: Callable) -> int:
    import pandas
    from mlxtend.preprocessing import TransactionEncoder

    encoder = TransactionEncoder()
    matrix = encoder.fit(baskets).transform(baskets, sparse=True)
    table = pandas.DataFrame.sparse.from_spmatrix(matrix, columns=encoder.columns_)
    found = mine(table, min_support=SUPPORT, max_len=LARGEST)
    return int((found["itemsets"].map(len) > 1).sum())


def efficient_apriori(baskets: list[list[int]]) -> int:
    from efficient_apriori import itemsets_from_transactions

    found, _ = itemsets_from_transactions(baskets, min_support=SUPPORT, max_length=LARGEST)
    return sum(len(sets) for size, sets in found.items() if size > 1)


def pami_growth(baskets: list[list[int]]) -> int:
    from PAMI.frequentPattern.basic.FPGrowth import FPGrowth

    return _pami(baskets, FPGrowth)


def pami_eclat(baskets: list[list[int]]) -> int:
    from PAMI.frequentPattern.basic.ECLAT import ECLAT

    return _pami(baskets, ECLAT)


def _pami(baskets: list[list[int]], algorithm: Callable) -> int:
    import pandas

    rows = ["\t".join(map(str, basket)) for basket in baskets]
    miner = algorithm(pandas.DataFrame({"Transactions": rows}), int(SUPPORT * len(baskets)))
    miner.mine()
    return sum(1 < len(pattern) <= LARGEST for pattern in map(_parts, miner.getPatterns()))


def _parts(pattern: str | Iterable[str]) -> list[str]:
    return [part for part in pattern.split("\t") if part] if isinstance(pattern, str) else list(pattern)


LIBRARIES: dict[str, tuple[Callable[[list[list[int]]], int], str]] = {
    "ours": (ours, "efficient_apriori"),
    "mlxtend fpgrowth": (mlxtend_growth, "mlxtend"),
    "mlxtend apriori": (mlxtend_apriori, "mlxtend"),
    "efficient-apriori": (efficient_apriori, "efficient_apriori"),
    "PAMI FP-growth": (pami_growth, "PAMI"),
    "PAMI ECLAT": (pami_eclat, "PAMI"),
}


def measure(name: str, sessions: int, long: int) -> dict[str, float]:
    """Mine once in this process: itemsets, seconds, those of the processor, most memory in MiB with the baskets."""
    baskets = baskets_of(sessions, long)
    start, start_cpu = time.perf_counter(), time.process_time()
    itemsets = LIBRARIES[name][0](baskets)
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"itemsets": itemsets, "seconds": seconds, "cpu": cpu, "mib": mib}


def in_a_process(name: str, sessions: int, long: int, limit: float) -> dict[str, Any]:
    """`measure` in a process that ends after `limit` seconds."""
    what = f"{long} of them very long" if long else "all short"
    row: dict[str, Any] = {"library": name, "sessions": sessions, "what": what}
    command = [sys.executable, __file__, "--measure", name, str(sessions), str(long)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return row | {"fault": f"stopped after {limit:g} s"}
    if done.returncode:
        return row | {
            "fault": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"
        }
    return row | json.loads(done.stdout.splitlines()[-1])


FIGURES = (
    ("itemsets", ["{itemsets:,}", ""]),
    ("seconds of the processor", ["{cpu:.1f}", "{fault}"]),
    ("of the clock", ["{seconds:.1f}", ""]),
    ("MiB", ["{mib:,.0f}", ""]),
)
"""Columns of both tables: title, and what a cell may be."""


def tables(rows: Sequence[Mapping[str, Any]], sessions: int) -> dict[str, object]:
    """The rows as the tables of docs/results.md: libraries at one size, ours at all sizes."""
    figures = [{"title": title, "cell": cell} for title, cell in FIGURES]
    libraries = [{"title": f"{sessions:,} sessions", "cell": ["{what}"]}, {"title": "library", "cell": ["{library}"]}]
    sizes = [{"title": "ours, sessions", "cell": ["{sessions:,}"]}, {"title": "", "cell": ["{what}"]}]
    ours = sorted((row for row in rows if row["library"] == "ours"), key=lambda row: (row["what"], row["sessions"]))
    of_libraries = [_without(row, "sessions") for row in rows if row["sessions"] == sessions]
    return {
        "libraries": {"columns": [*libraries, *figures], "rows": of_libraries},
        "sessions": {"columns": [*sizes, *figures], "rows": [_without(row, "library") for row in ours]},
    }


def _without(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


def main() -> None:
    """Measure, and print a row each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=100_000, help="for every library")
    parser.add_argument("--sizes", type=int, nargs="*", default=[25_000, 50_000, 200_000], help="for ours besides")
    parser.add_argument("--only", nargs="+", default=list(LIBRARIES), choices=LIBRARIES)
    parser.add_argument("--limit", type=float, default=200.0, help="seconds for one library")
    parser.add_argument("--keep", help="file for the tables as JSON")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        name, sessions, long = arguments.measure
        print(json.dumps(measure(name, int(sessions), int(long))))
        return
    wanted = [(name, arguments.sessions) for name in arguments.only if find_spec(LIBRARIES[name][1])]
    wanted += [("ours", size) for size in arguments.sizes if "ours" in arguments.only]
    rows = []
    for long in (0, LONG):
        for name, sessions in wanted:
            rows.append(in_a_process(name, sessions, long, arguments.limit))
            print(json.dumps(rows[-1]), flush=True)
    if arguments.keep:
        made_by = "python benchmarks/bundle_patterns.py"
        with open(arguments.keep, "w", encoding="utf-8") as handle:
            json.dump({"made_by": made_by, "tables": tables(rows, arguments.sessions)}, handle, indent=1)
            handle.write("\n")


if __name__ == "__main__":
    main()
