"""Set runs of one recipe with several seeds side by side, as Markdown.

    for seed in 0 1 2 3 4; do understudy run telecom_qa seed=$seed; done
    python scripts/summarise_seeds.py runs/telecom-qa-* --keep docs/results/telecom_qa_seeds.json
    python scripts/summarise_seeds.py docs/results/telecom_qa_seeds.json

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

from understudy.files import read_json, write_json
from understudy.run import Run

ARMS = ("teacher", "base_student", "majority", "sft", "kd_gold", "seqkd", "distilled")
POINTS = 100.0
"""The metrics that are put side by side here have 1 as their best value."""
PAIRS = (("distilled", "sft"), ("distilled", "seqkd"), ("distilled", "kd_gold"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders, or a file that --keep wrote")
    parser.add_argument("--metric", default="exact_match")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write the figures of these tables as JSON")
    args = parser.parse_args()
    if args.runs[0].is_file():
        runs = read_json(args.runs[0])
    else:
        runs = [figures_of(Run.open(path), args.metric) for path in args.runs]
    runs.sort(key=lambda run: run["seed"])
    if args.keep:
        write_json(args.keep, runs)
    for title, text in tables(runs, args.metric).items():
        print(f"\n{title}\n\n{text}")


def figures_of(run: Run, metric: str) -> dict[str, Any]:
    """What the tables are made of, out of a run's `scores.json`."""
    scores = read_json(run.folder / "scores.json")

    def part(whole: Mapping[str, Any]) -> dict[str, Any]:
        arms = {arm: row for arm, row in whole["table"].items() if arm in ARMS}
        names = (metric, "choice_accuracy")
        kept = {
            arm: {name: {"value": row[name]["value"]} for name in names if name in row} for arm, row in arms.items()
        }
        return {"items": whole["items"], "table": kept}

    tests = [
        {
            **{name: test[name] for name in ("a", "b", "metric", "p_value", "p_holm")},
            "comparison": {name: test["comparison"][name] for name in ("difference", "low", "high")},
        }
        for test in scores["comparison"]["tests"]
        if (test["a"], test["b"]) in PAIRS and test["metric"] == metric
    ]
    return {
        "seed": run.recipe.seed,
        "overall": part(scores["overall"]),
        "kinds": {name: part(whole) for name, whole in scores["kinds"].items()},
        "gold_facts": {name: part(whole) for name, whole in scores["gold_facts"].items()},
        "comparison": {"tests": tests},
        "gaps": {metric: {name: scores["gaps"][metric][name] for name in ("value", "low", "high")}},
    }


def tables(runs: Sequence[Mapping[str, Any]], metric: str) -> dict[str, str]:
    """Title → table, all in Markdown.

    Args:
        runs: as `figures_of` gives them, in the order of their seeds.
        metric: which to show; choice accuracy stands in where nothing was measured by it.
    """
    parts = {"overall": [run["overall"] for run in runs]}
    parts |= {f"kind: {kind}": [run["kinds"][kind] for run in runs] for kind in runs[0]["kinds"]}
    parts |= {f"fact {label}": [run["gold_facts"][label] for run in runs] for label in runs[0]["gold_facts"]}
    texts = {}
    for title, pieces in parts.items():
        name = metric if metric in pieces[0]["table"]["distilled"] else "choice_accuracy"
        seeds = [(run["seed"], piece) for run, piece in zip(runs, pieces, strict=True)]
        texts[f"**{title}** ({name}, {pieces[0]['items']} items)"] = table(seeds, name)
    return texts | {"**paired differences, all items**": differences(runs, metric)}


def table(runs: Sequence[tuple[int, Mapping[str, Any]]], metric: str) -> str:
    """Arms as columns, seeds as rows."""
    arms = [arm for arm in ARMS if arm in runs[0][1]["table"]]
    lines = ["| seed | " + " | ".join(arms) + " |", "|---" * (len(arms) + 1) + "|"]
    columns = {arm: [POINTS * part["table"][arm][metric]["value"] for _, part in runs] for arm in arms}
    for row, (seed, _) in enumerate(runs):
        lines.append(f"| {seed} | " + " | ".join(f"{columns[arm][row]:.1f}" for arm in arms) + " |")
    lines.append("| mean ± sd | " + " | ".join(_mean(columns[arm]) for arm in arms) + " |")
    return "\n".join(lines)


def differences(runs: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Each difference with its interval and p by itself and corrected, seed by seed, and the gap recovered."""
    lines = ["| seed | " + " | ".join(f"{a} − {b}" for a, b in PAIRS) + " | gap recovered |", "|---" * 5 + "|"]
    for scores in runs:
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
        lines.append(f"| {scores['seed']} | " + " | ".join([*cells, share]) + " |")
    return "\n".join(lines)


def _mean(values: Sequence[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.1f} ± {spread:.1f}"


if __name__ == "__main__":
    main()
