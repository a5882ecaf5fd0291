"""Plan against truth: six shipped recipes, shortened, planned by a probe and then run stage by stage.

    OMP_NUM_THREADS=1 python scripts/plan_truth.py --out FOLDER --keep docs/results/plan_truth.json

Each stage runs in a process of its own, as a run with several workers has them, with nothing of ours beside it. What is
compared is that process's high-water mark and the seconds of the stage. Stages that a plan leaves out (data, pair,
report) are run and not compared. `--only NAME` does one recipe and adds it to what is kept.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from understudy.files import read_json, write_json
from understudy.pipeline import processes
from understudy.pipeline.kinds import stages
from understudy.pipeline.stage import Stage
from understudy.planning.plan import plan_recipe
from understudy.recipe import Recipe, is_grid, load_grid, load_recipe, load_yaml
from understudy.recipe.shipped import find_recipe
from understudy.records import DataNotes
from understudy.run import Run

MEMORY, TIME = 0.10, 0.25
"""How far off a plan may be."""
SHORT = ("workers=1", "device=cpu", "evaluate.speed=false", "evaluate.resamples=100")
RECIPES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "telecom_qa": (
        "telecom_qa",
        ("distil.steps=120", "teacher.sft.steps=60", "evaluate.arms=[sft,distilled]", "evaluate.rows=256"),
    ),
    "telecom_qa, cached": (
        "telecom_qa",
        ("distil.steps=120", "teacher.sft=null", "teacher.cache={}", "evaluate.arms=[distilled]", "evaluate.rows=256"),
    ),
    "telecom_study, MinED": (
        "telecom_study",
        (
            "axes.vocabulary={different: {student.model: embedded:telecom-student-other}}",
            "distil.steps=120",
            "student.sft.steps=60",
            "evaluate.metrics=[exact_match]",
            "evaluate.rows=256",
        ),
    ),
    "bert_qa": (
        "bert_qa",
        ("distil.steps=120", "teacher.sft.steps=120", "evaluate.arms=[sft,distilled]", "evaluate.rows=256"),
    ),
    "digits": ("digits", ("distil.steps=600", "teacher.sft.steps=400")),
    "vision_constellation": (
        "vision_constellation",
        ("distil.steps=120", "teacher.sft.steps=120", "evaluate.arms=[sft,distilled]", "evaluate.rows=256"),
    ),
}


def main() -> None:
    """Plan, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs; each must be new")
    parser.add_argument("--only", choices=RECIPES, help="one recipe")
    parser.add_argument("--keep", type=Path, help="write the figures there, as scripts/render_results.py reads them")
    arguments = parser.parse_args()
    rows = _before(arguments.keep) if arguments.only else {}
    for name in [arguments.only] if arguments.only else RECIPES:
        file, overrides = RECIPES[name]
        rows[name] = compared(name, recipe_of(file, (*SHORT, f"output={arguments.out}", *overrides)))
        print(json.dumps(rows[name], indent=1), flush=True)
        if arguments.keep:
            write_json(arguments.keep, document([rows[other] for other in RECIPES if other in rows]))


def _before(path: Path | None) -> dict[str, Any]:
    kept = read_json(path) if path and path.is_file() else {"tables": {"recipes": {"rows": []}}}
    return {row["recipe"]: row for row in kept["tables"]["recipes"]["rows"]}


def recipe_of(file: str, overrides: Sequence[str]) -> Recipe:
    """A shipped recipe, or the first cell of a shipped grid, with some fields changed."""
    path = find_recipe(file)
    if is_grid(load_yaml(path)):
        return load_grid(path, list(overrides)).cells[0].recipe
    return load_recipe(path, list(overrides))


def compared(name: str, recipe: Recipe) -> dict[str, Any]:
    """A recipe's plan beside what its stages took."""
    plan = plan_recipe(recipe, lambda text: print(f"{name}: {text}", flush=True))
    planned = {stage.stage: stage for stage in plan.stages}
    truth = run_stages(recipe)
    lines = [
        {
            "stage": stage,
            "memory": round(planned[stage].memory.total / 1e6),
            "memory_true": round(took["peak"] / 1e6),
            "memory_ratio": round(planned[stage].memory.total / took["peak"], 3),
            "seconds": round(planned[stage].seconds or 0.0, 1),
            "seconds_true": round(took["seconds"], 1),
            "seconds_ratio": round((planned[stage].seconds or 0.0) / took["seconds"], 3),
        }
        for stage, took in truth.items()
        if stage in planned
    ]
    memory, memory_true = (max(line[key] for line in lines) for key in ("memory", "memory_true"))
    seconds, seconds_true = (sum(line[key] for line in lines) for key in ("seconds", "seconds_true"))
    return {
        "recipe": name,
        "stages": len(lines),
        "probe": round(plan.probe_seconds or 0.0, 1),
        "memory": memory,
        "memory_true": memory_true,
        "memory_ratio": round(memory / memory_true, 3),
        "seconds": round(seconds, 1),
        "seconds_true": round(seconds_true, 1),
        "seconds_ratio": round(seconds / seconds_true, 3),
        "memory_within": sum(abs(line["memory_ratio"] - 1) <= MEMORY for line in lines),
        "seconds_within": sum(abs(line["seconds_ratio"] - 1) <= TIME for line in lines),
        "lines": lines,
    }


def run_stages(recipe: Recipe) -> dict[str, dict[str, float]]:
    """Stage → peak and seconds, each run in a process of its own."""
    run = Run.of(recipe)
    run.prepare(recipe)
    context, took = processes.forkserver(), {}
    first = [stage for stage in stages(recipe, unlabelled=True) if stage.kind in ("data", "pair")]
    for stage in first:
        took[stage.name] = run_alone(context, stage, recipe, run)
    unlabelled = run.notes("data", DataNotes).has_unlabelled
    for stage in stages(recipe, unlabelled=unlabelled):
        if stage.name not in took and stage.kind != "report":
            took[stage.name] = run_alone(context, stage, recipe, run)
    return took


def run_alone(context: Any, stage: Stage, recipe: Recipe, run: Run) -> dict[str, float]:
    """One stage, to its end."""
    note = run.folder / f"truth-{stage.name}.json"
    worker = processes.start(context, stage.name, processes.cores(), _in_process, stage, recipe, run.folder, note)
    while not processes.receive(worker, lambda *_: None):
        pass
    return read_json(note)


def _in_process(stage: Stage, recipe: Recipe, folder: Path, note: Path, progress: Any) -> None:
    from understudy.pipeline.stages import run_stage

    started = time.perf_counter()
    run_stage(stage, recipe, folder, progress)
    seconds = time.perf_counter() - started
    mark = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert mark, "the kernel keeps no high-water mark"
    write_json(note, {"peak": int(mark[1]) * 1024, "seconds": seconds})


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def document(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures as scripts/render_results.py reads them."""
    mark = {"memory_ratio": MEMORY, "seconds_ratio": TIME}
    columns = [
        ("recipe", "{recipe}"),
        ("stages", "{stages}"),
        ("memory planned", "{memory:,} MB"),
        ("measured", "{memory_true:,} MB"),
        ("ratio", "{memory_ratio:.2f}"),
        ("stages within 10%", "{memory_within}"),
        ("time planned", "{seconds:.0f} s"),
        ("measured", "{seconds_true:.0f} s"),
        ("ratio", "{seconds_ratio:.2f}"),
        ("stages within 25%", "{seconds_within}"),
    ]
    table = {"columns": [{"title": title, "cell": [cell]} for title, cell in columns], "rows": list(rows)}
    return {
        "made_by": "OMP_NUM_THREADS=1 python scripts/plan_truth.py --out FOLDER",
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}",
        "limits": mark,
        "tables": {"recipes": table},
    }


if __name__ == "__main__":
    main()
