"""Set runs of one recipe with several seeds side by side, as Markdown.

    for seed in 0 1 2 3 4; do understudy run telecom_qa seed=$seed; done
    python scripts/summarise_seeds.py runs/telecom-qa-*

Each row is one run: the score of every arm, and the paired differences with their bootstrap intervals, as
`scores.json` of the run holds them, in points of 0 to 100. The last row is the mean over the runs and the standard
deviation between them.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from understudy.files import read_json
from understudy.run import Run

ARMS = ("teacher", "base_student", "majority", "sft", "kd_gold", "seqkd", "distilled")
POINTS = 100.0
"""The metrics that are put side by side here have 1 as their best value."""
PAIRS = (("distilled", "sft"), ("distilled", "seqkd"), ("distilled", "kd_gold"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--metric", default="exact_match")
    args = parser.parse_args()
    runs = sorted(
        ((Run.open(path).recipe.seed, read_json(path / "scores.json")) for path in args.runs), key=lambda pair: pair[0]
    )
    names = [("overall", lambda scores: scores["overall"])]
    first = runs[0][1]
    names += [(f"kind: {kind}", lambda scores, kind=kind: scores["kinds"][kind]) for kind in first["kinds"]]
    names += [
        (f"fact {label}", lambda scores, label=label: scores["gold_facts"][label]) for label in first["gold_facts"]
    ]
    for title, part in names:
        pieces = [(seed, part(scores)) for seed, scores in runs]
        metric = args.metric if args.metric in pieces[0][1]["table"]["distilled"] else "choice_accuracy"
        print(f"\n**{title}** ({metric}, {pieces[0][1]['items']} items)\n")
        print(table(pieces, metric))
    print("\n**paired differences, all items**\n")
    print(differences(runs, args.metric))


def table(runs: Sequence[tuple[int, Mapping[str, Any]]], metric: str) -> str:
    """Arms as columns, seeds as rows."""
    arms = [arm for arm in ARMS if arm in runs[0][1]["table"]]
    lines = ["| seed | " + " | ".join(arms) + " |", "|---" * (len(arms) + 1) + "|"]
    columns = {arm: [POINTS * part["table"][arm][metric]["value"] for _, part in runs] for arm in arms}
    for row, (seed, _) in enumerate(runs):
        lines.append(f"| {seed} | " + " | ".join(f"{columns[arm][row]:.1f}" for arm in arms) + " |")
    lines.append("| mean ± sd | " + " | ".join(_mean(columns[arm]) for arm in arms) + " |")
    return "\n".join(lines)


def differences(runs: Sequence[tuple[int, Mapping[str, Any]]], metric: str) -> str:
    """Each difference with its interval and p by itself and corrected, seed by seed, and the gap recovered."""
    lines = ["| seed | " + " | ".join(f"{a} − {b}" for a, b in PAIRS) + " | gap recovered |", "|---" * 5 + "|"]
    for seed, scores in runs:
        cells = []
        for a, b in PAIRS:
            tests = scores["comparison"]["tests"]
            test = next(t for t in tests if (t["a"], t["b"], t["metric"]) == (a, b, metric))
            figures = test["comparison"]
            bounds = f"[{POINTS * figures['low']:+.1f}, {POINTS * figures['high']:+.1f}]"
            p_values = f"p = {test['p_value']:.4f} (Holm {test['p_holm']:.4f})"
            cells.append(f"{POINTS * figures['difference']:+.1f} {bounds}, {p_values}")
        gap = scores["gaps"][metric]
        share = "not given" if gap["value"] is None else f"{gap['value']:.0%} [{gap['low']:.0%}, {gap['high']:.0%}]"
        lines.append(f"| {seed} | " + " | ".join([*cells, share]) + " |")
    return "\n".join(lines)


def _mean(values: Sequence[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.1f} ± {spread:.1f}"


if __name__ == "__main__":
    main()
