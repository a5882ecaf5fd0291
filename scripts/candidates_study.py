"""Several answers as the teacher weighs them against one, on the embedded default, with paired tests over seeds.

    python scripts/candidates_study.py --keep docs/results/candidates_study.json    # runs what is missing, and prints
    python scripts/candidates_study.py docs/results/candidates_study.json           # prints from the file

The recipe is `benchmarks/candidates_study.yaml`. `one` learns the teacher's likeliest answer alone, by the same
objective; `texts` the same candidates as `candidates`, as texts to write; `unweighted` these without the weights.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paired_seeds import COLUMNS, compared, groups, item_scores
from render_results import stated

from understudy.files import read_json, write_json
from understudy.grid import cell_runs
from understudy.recipe import load_grid
from understudy.run import Run

RECIPE = Path(__file__).resolve().parents[1] / "benchmarks" / "candidates_study.yaml"
PAIRS = [
    ("one", "seqkd"),
    ("candidates", "one"),
    ("texts", "one"),
    ("unweighted", "texts"),
    ("distilled", "candidates"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, help="figures that --keep wrote; nothing is run")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--folder", type=Path, default=Path("runs/candidates-study"), help="where runs go")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="fields to change, for a trial")
    options = parser.parse_args()
    document = read_json(options.file) if options.file else study(options)
    if options.keep:
        write_json(options.keep, document)
    for table in document["tables"].values():
        print("\n".join([*stated(table), ""]))


def study(options: argparse.Namespace) -> dict[str, Any]:
    """Run what is missing, and set the arms side by side: on all questions, and on those whose fact has no gold."""
    overrides = [f"output={options.folder}", *options.set]
    subprocess.run([sys.executable, "-m", "understudy", "run", str(RECIPE), *overrides], check=True)
    grid = load_grid(RECIPE, overrides)
    runs = [Run.open(grid.folder / "cells" / cell.name) for cell in cell_runs(grid)]
    tables = {"all": table_of(runs, gold=True), "unseen": table_of(runs, gold=False)}
    return {"made_by": "python scripts/candidates_study.py", "tables": tables}


def table_of(runs: Sequence[Run], *, gold: bool) -> dict[str, Any]:
    """The arms; without gold, on questions from memory whose fact no gold answer gives."""
    some = runs[0].recipe.evaluate.arms[0]
    wanted = {
        row.id for row in runs[0].predictions(some) if gold or (row.kind == "phrasing" and row.gold_fact is False)
    }
    arms = ("teacher", "base_student", *runs[0].recipe.evaluate.arms)
    scores = {
        arm: [{name: value for name, value in item_scores(run, arm).items() if name in wanted} for run in runs]
        for arm in arms
    }
    of_group = {name: group for name, group in groups(runs[0], some).items() if name in wanted}
    return {"columns": COLUMNS, "rows": compared(scores, of_group, PAIRS)}


if __name__ == "__main__":
    main()
