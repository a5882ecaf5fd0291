"""Set the arms of `benchmarks/on_policy_study.yaml` side by side over their seeds, as Markdown and JSON.

    understudy run benchmarks/on_policy_study.yaml
    python scripts/on_policy_study.py runs/on-policy-study-*/cells/* --keep docs/results/on_policy_study.json
    python scripts/on_policy_study.py docs/results/on_policy_study.json

Differences are from the arm `distilled` of the same seed on the same items; the spread is the standard deviation
between seeds; steps are those that were taken, and the step whose weights were kept.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy import stats

from understudy.files import read_json, write_json
from understudy.records import TrainingNotes
from understudy.run import Run

METRIC, BASE = "exact_match", "distilled"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders, or a file that --keep wrote")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args()
    kept = options.runs[0].is_file()
    runs = read_json(options.runs[0]) if kept else [figures_of(Run.open(path)) for path in options.runs]
    runs.sort(key=lambda run: run["seed"])
    if options.keep:
        write_json(options.keep, runs)
    print(table(runs))


def figures_of(run: Run) -> dict[str, Any]:
    """Scores and training of each arm of a run."""
    scores = read_json(run.folder / "scores.json")["overall"]
    arms: dict[str, Any] = {}
    for arm in run.recipe.evaluate.arms:
        notes = run.notes(f"train-{arm}", TrainingNotes)
        own = {name: value for name, value in (notes.rollouts or {}).items() if not name.endswith(("_first", "_last"))}
        arms[arm] = {
            METRIC: scores["table"][arm][METRIC]["value"],
            "steps": notes.stopped_at or notes.plan.steps,
            "best_step": notes.best_step,
            "seconds": notes.train_seconds,
            **({"rollouts": own} if own else {}),
            **({"filtered": dict(notes.filtered)} if notes.filtered else {}),
        }
    return {"seed": run.recipe.seed, "items": scores["items"], "arms": arms}


def table(runs: Sequence[dict[str, Any]]) -> str:
    """A row an arm: mean, spread, difference from `distilled` with its interval over seeds, steps."""
    lines = [
        f"| arm | {METRIC}, {len(runs)} seeds | sd | − {BASE} | 95% over seeds | t-test p | steps | best | minutes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for arm in runs[0]["arms"]:
        rows = [run["arms"][arm] for run in runs]
        values = [100 * row[METRIC] for row in rows]
        spread = statistics.stdev(values) if len(values) > 1 else math.nan
        means = [statistics.mean(row[name] for row in rows) for name in ("steps", "best_step", "seconds")]
        cells = [arm, f"{statistics.mean(values):.1f}", f"{spread:.1f}", *_difference(runs, arm)]
        lines.append(f"| {' | '.join(cells)} | {means[0]:.0f} | {means[1]:.0f} | {means[2] / 60:.1f} |")
    return "\n".join(lines)


def _difference(runs: Sequence[dict[str, Any]], arm: str) -> list[str]:
    """Difference from the base arm, its t-interval over seeds, p of the paired t-test."""
    if arm == BASE or len(runs) < 2:
        return ["–", "–", "–"]
    gaps = [100 * (run["arms"][arm][METRIC] - run["arms"][BASE][METRIC]) for run in runs]
    mean, error = statistics.mean(gaps), statistics.stdev(gaps) / math.sqrt(len(gaps))
    if not error:
        return [f"{mean:+.1f}", "–", "–"]
    half = stats.t.ppf(0.975, len(gaps) - 1) * error
    p = 2 * stats.t.sf(abs(mean / error), len(gaps) - 1)
    return [f"{mean:+.1f}", f"{mean - half:+.1f} to {mean + half:+.1f}", f"{p:.3f}"]


if __name__ == "__main__":
    main()
