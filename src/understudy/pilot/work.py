"""A pilot from its beginning to its page; called again with the same arguments, it goes on where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from understudy.errors import ConfigError
from understudy.files import atomic, read_json, write_json
from understudy.grid import Events, GridFolder, cell_runs, cell_stages, run_grid
from understudy.grid.units import CellRun
from understudy.metrics.significance import Resampling
from understudy.pilot import setup
from understudy.pilot.full_run import FullRun, full_run
from understudy.pilot.plan import FRACTIONS, Plan, lines_of, plan, teacher_steps
from understudy.pilot.probe import measure, sizes_of
from understudy.pilot.results import Results, results_of
from understudy.pilot.setup import Choice
from understudy.pipeline.stage import Stage
from understudy.recipe import Grid, Recipe, parse_grid

PLAN, RESULT, RECIPE, PAGE = "pilot_plan.json", "pilot.json", "recipe.yaml", "pilot.html"
AMOUNTS = dict(zip(("quarter", "half", "all"), FRACTIONS, strict=True))
CELL = "amount"


@dataclass(frozen=True)
class Question:
    """What is asked of a pilot.

    Attributes:
        data: a file, a folder, a hub id or an embedded set.
        teacher: the large model.
        student: the small one.
        overrides: `KEY=VALUE` of the recipe.
        minutes: for everything.
        least: the smallest gain of interest, in points of 0 to 100.
        price_per_hour: of the machine, in whatever money; None: no money is told.
    """

    data: str
    teacher: str
    student: str
    overrides: tuple[str, ...] = ()
    minutes: float = 15.0
    least: float = 1.0
    price_per_hour: float | None = None


@dataclass(frozen=True)
class Outcome:
    """All that a pilot comes to.

    Attributes:
        question: what was asked.
        choice: the method and why.
        recipe: of the full run.
        plan: what was run.
        results: what came out.
        full: what the full run would take.
        seconds: that the pilot took, doctor and probe included.
        folder: where everything stands.
    """

    question: Question
    choice: Choice
    recipe: Recipe
    plan: Plan
    results: Results
    full: FullRun
    seconds: float
    folder: Path

    def to_json(self) -> dict[str, Any]:
        """As `pilot.json` has it."""
        return {
            "question": asdict(self.question),
            "choice": asdict(self.choice),
            "plan": self.plan.to_json(),
            "results": self.results.to_json(),
            "full_run": asdict(self.full),
            "seconds": round(self.seconds, 1),
        }


def run_pilot(question: Question, events: Events, say: Callable[[str], None], folder: Path | None = None) -> Outcome:
    """Run whatever is missing of a pilot, and write `pilot.json` and `recipe.yaml`.

    Args:
        question: what is asked.
        events: told of the stages.
        say: told of method and plan before anything is trained.
        folder: where it goes; default: `runs/NAME-pilot`.

    Raises:
        ConfigError: another pilot stands in the folder, no method suits the pair, or there is too little time.
        UnderstudyError: data or models cannot be read, or a stage failed.
    """
    mapping = setup.mapping_of(question.data, question.teacher, question.student, question.overrides)
    folder = folder or Path("runs") / f"{mapping['name']}-pilot"
    choice, planned, spent = _planned(question, mapping, folder, say)
    mapping = _settled(mapping, choice, planned)
    recipe = setup.recipe_of(mapping)
    grid = grid_of(mapping, planned, folder)
    run_grid(grid, events, without=("report",))
    cells = cell_runs(grid)
    amounts = [[cell for cell in cells if cell.levels[0][CELL] == name] for name in AMOUNTS]
    resampling = Resampling(recipe.evaluate.resamples, recipe.evaluate.confidence)
    seconds = _seconds(folder, cells)
    measured = {stage: seconds[unit] for stage, unit in _stages(folder, amounts[-1][0]).items() if unit in seconds}
    outcome = Outcome(
        question,
        choice,
        recipe,
        planned,
        results_of(amounts, planned, question.least, resampling),
        full_run(measured, recipe, planned, question.price_per_hour),
        spent + sum(seconds.values()) / recipe.workers,
        folder,
    )
    write_json(folder / RESULT, outcome.to_json())
    _write_recipe(mapping, folder / RECIPE)
    return outcome


def _planned(
    question: Question, mapping: Mapping[str, Any], folder: Path, say: Callable[[str], None]
) -> tuple[Choice, Plan, float]:
    """Method and plan: those of last time, or new ones."""
    asked = {"mapping": dict(mapping), "minutes": question.minutes}
    path = folder / PLAN
    if path.is_file():
        before = read_json(path)
        if before["asked"] != asked:
            raise ConfigError(f"{folder} holds another pilot", hint="give this one a folder of its own with --out")
        choice, planned, spent = Choice(**before["choice"]), Plan.from_json(before["plan"]), before["seconds"]
    else:
        started = time.monotonic()
        choice = setup.choose(dict(mapping))
        say(f"method: {choice.method}: {choice.why}")
        recipe = setup.recipe_of(setup.with_method(dict(mapping), choice.method))
        settled = setup.with_answers(
            setup.with_method(dict(mapping), choice.method), unlabelled=sizes_of(recipe).unlabelled > 0
        )
        recipe = setup.recipe_of(settled)
        sizes, rates = measure(recipe)
        spent = time.monotonic() - started
        planned = plan(recipe, sizes, rates, question.minutes, spent)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(
            path, {"asked": asked, "choice": asdict(choice), "plan": planned.to_json(), "seconds": round(spent, 1)}
        )
    for line in lines_of(planned):
        say(line)
    return choice, planned, spent


def _settled(mapping: dict[str, Any], choice: Choice, planned: Plan) -> dict[str, Any]:
    mapping = setup.with_method(mapping, choice.method)
    return setup.with_answers(mapping, unlabelled=planned.sizes.unlabelled > 0)


def grid_of(mapping: Mapping[str, Any], planned: Plan, folder: Path) -> Grid:
    """The grid of a pilot: three nested amounts of data by seeds; the teacher is trained once an amount."""
    design, seed = planned.design, mapping.get("seed", 0)
    levels: dict[str, dict[str, Any]] = {
        name: {"data.train_share": planned.share * fraction, "distil.steps": steps}
        for (name, fraction), steps in zip(AMOUNTS.items(), planned.steps, strict=True)
    }
    tuning = setup.recipe_of(dict(mapping)).local_teacher.sft
    if tuning is not None and tuning.steps is not None:
        for name, fraction in AMOUNTS.items():
            levels[name]["teacher.sft.steps"] = teacher_steps(tuning, 0, planned.share * fraction)
    teacher = {"seed": seed, **mapping["teacher"]}
    if isinstance(teacher.get("sft"), dict):
        teacher["sft"] = {"eval_rows": max(1, design.dev_rows), **teacher["sft"]}
    value = {
        **mapping,
        "name": folder.name,
        "output": str(folder.parent),
        "teacher": teacher,
        "distil": {**mapping["distil"], "eval_rows": max(1, design.dev_rows)},
        "evaluate": {**mapping["evaluate"], "rows": design.test_rows},
        "axes": {CELL: levels, "seed": [seed + number for number in range(design.seeds)]},
    }
    return parse_grid(value, origin="pilot")


def _stages(folder: Path, cell: CellRun) -> dict[Stage, str]:
    """The stages of a cell and the unit that each is."""
    units = next(planned.stages for planned in GridFolder(folder).plan.cells if planned.run == cell.name)
    return {stage: units[stage.name] for stage in cell_stages(cell) if stage.name in units}


def _seconds(folder: Path, cells: Sequence[CellRun]) -> dict[str, float]:
    """Unit → what it took, each once."""
    grid, seconds = GridFolder(folder), {}
    for cell in cells:
        for stage, unit in _stages(folder, cell).items():
            record = grid.record(stage.name, unit, cell.name)
            if record is not None:
                seconds[unit] = record.seconds
    return seconds


def _write_recipe(mapping: Mapping[str, Any], path: Path) -> None:
    """The recipe of the full run; what the pilot measured less of is left to its defaults."""
    evaluate = {"arms": mapping["evaluate"]["arms"]}
    evaluate |= {name: value for name, value in mapping["evaluate"].items() if name not in setup.OF_THE_PILOT}
    text = yaml.safe_dump({**mapping, "evaluate": evaluate}, sort_keys=False, allow_unicode=True, width=110)
    with atomic(path) as handle:
        handle.write(f"# The full run, as `understudy pilot` wrote it: understudy run {path.name}\n{text}")
