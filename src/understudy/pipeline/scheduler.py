"""Runs the stages of a run that are missing, in order of need, several side by side where the recipe allows it.

This module loads no torch: with `workers > 1` the stages run in processes forked from a server that has loaded it
once; with one worker they run right here.
"""

from __future__ import annotations

import multiprocessing.connection
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from understudy.errors import RunError
from understudy.pipeline import processes
from understudy.recipe import ModelConfig, Recipe
from understudy.run import Run

TRAINED_FROM_ANSWERS = ("seqkd", "distilled")


@dataclass(frozen=True)
class Stage:
    """A piece of a run.

    Attributes:
        name: picks the function in `pipeline.stages` and the folder.
        needs: stages that must be done before.
        exclusive: runs alone, because it measures time.
        distributed: runs on every process of an `accelerate launch`; all others run on the first.
    """

    name: str
    needs: tuple[str, ...] = ()
    exclusive: bool = False
    distributed: bool = False


class Display(Protocol):
    """Who shows progress."""

    def start(self, stage: str) -> None:
        """A stage begins."""

    def update(self, stage: str, done: int, total: int, note: str) -> None:
        """A stage has come so far."""

    def finish(self, stage: str, seconds: float) -> None:
        """A stage is done."""


FIRST = (Stage("data"), Stage("pair", ("data",)))
"""What comes before everything else: the data, and whether the two models fit it and the method."""


def stages(recipe: Recipe, *, unlabelled: bool) -> list[Stage]:
    """The stages of a recipe, in an order in which each finds what it needs.

    Args:
        recipe: the run's recipe.
        unlabelled: whether there are questions without gold; without any, training on gold only *is* distillation
            and gets no arm of its own.
    """
    plan = list(FIRST)
    teacher = _before(recipe.teacher, "teacher", plan) if recipe.teacher else ()
    student = _before(recipe.student, "student", plan)
    if recipe.generate:
        plan.append(Stage("generate", teacher if recipe.teacher_writes else ("data",)))
    asked = recipe.evaluate.arms
    arms = [arm for arm in asked if unlabelled or arm != "kd_gold" or "distilled" not in asked]
    if "sft" in arms:
        plan.append(Stage("train-sft", student, distributed=True))
    if set(TRAINED_FROM_ANSWERS) & set(arms):
        plan.append(Stage("answers", teacher))
    if recipe.tasks:
        plan += _explained(recipe, teacher, student)
    for arm in arms:
        if arm not in ("sft", "explained"):
            source = ("answers",) if arm in TRAINED_FROM_ANSWERS else teacher
            plan.append(Stage(f"train-{arm}", tuple(dict.fromkeys(source + student)), distributed=True))
    if recipe.teacher:
        plan.append(Stage("predict-teacher", teacher))
    plan.append(Stage("predict-base_student", ("data",)))
    plan += [Stage(f"predict-{arm}", (f"train-{arm}",)) for arm in arms if arm != "explained"]
    trained = tuple(stage.name for stage in plan)
    if recipe.evaluate.speed:
        timed = ("teacher", "student") if recipe.teacher else ("student",)
        plan += [Stage(f"speed-{name}", trained, exclusive=True) for name in timed]
    plan.append(Stage("report", tuple(stage.name for stage in plan)))
    return plan


def _explained(recipe: Recipe, teacher: tuple[str, ...], student: tuple[str, ...]) -> list[Stage]:
    """The student that learns from texts, the observer that foresees its answers, and what they are measured by."""
    assert recipe.tasks is not None
    texts = () if recipe.tasks.kind == "answer" else ("generate",)
    source = teacher if recipe.tasks.logits else ()
    learned = Stage("train-explained", tuple(dict.fromkeys((*texts, *source, *student))), distributed=True)
    plan, measured = [learned], (learned.name, *texts)
    if texts and recipe.evaluate.simulatability:
        plan.append(Stage("train-observer", tuple(dict.fromkeys((*texts, *student))), distributed=True))
        measured = (*measured, "train-observer")
    return [*plan, Stage("predict-explained", measured)]


def upto(plan: Sequence[Stage], name: str) -> list[Stage]:
    """The part of a plan that one stage needs, itself included."""
    needed = {name}
    for stage in reversed(plan):
        if stage.name in needed:
            needed |= set(stage.needs)
    return [stage for stage in plan if stage.name in needed]


def side_of(stage: str) -> str:
    """Whose own training a stage is, or whose answers it takes: `teacher`, `student` (its own training), or neither."""
    if stage in ("answers", "generate", "predict-teacher", "speed-teacher") or stage.startswith("teacher_"):
        return "teacher"
    return "student" if stage.startswith("student_") else ""


def _before(model: ModelConfig, side: str, plan: list[Stage]) -> tuple[str, ...]:
    """Append what is done to a model before distillation; what then has to be done for it to be used."""
    last = ("data",)
    if model.pretrain:
        plan.append(Stage(f"{side}_pretrain", distributed=True))
        last = ("data", f"{side}_pretrain")
    if model.sft:
        plan.append(Stage(f"{side}_sft", last, distributed=True))
        last = (f"{side}_sft",)
    return last


def execute(run: Run, recipe: Recipe, display: Display, *, until: str | None = None) -> None:
    """Run whatever is missing, and whatever was made from something that has been made anew.

    Args:
        run: the run.
        recipe: its recipe.
        display: shows progress.
        until: a stage; only this one and what it needs. Default: all.

    Raises:
        UnderstudyError: a stage failed for a reason a user can mend; what was done before stays.
    """
    from understudy.pipeline.preflight import check_evaluation, check_trackers

    check_trackers(recipe)
    check_evaluation(recipe)
    runner = _inline if recipe.workers == 1 or _launched() else _side_by_side
    runner(run, recipe, FIRST, display)
    _check_sources(run, recipe)
    unlabelled = run.record("data")["rows"]["unlabelled"] > 0
    plan = stages(recipe, unlabelled=unlabelled)
    runner(run, recipe, upto(plan, until) if until else plan, display)


def missing(run: Run, plan: Iterable[Stage]) -> list[Stage]:
    """The stages of a plan that are not done, or that need one that is about to be done again."""
    found: dict[str, Stage] = {}
    for stage in plan:
        if not found.keys().isdisjoint(stage.needs) or not run.is_current(stage.name, stage.needs):
            found[stage.name] = stage
    return list(found.values())


def _check_sources(run: Run, recipe: Recipe) -> None:
    from understudy.pipeline.staleness import changed

    paths = changed(run, recipe)
    if paths:
        raise RunError(
            f"{', '.join(paths)} changed since this run was begun",
            hint=f"give the run another name, or remove {run.folder}",
        )


def _launched() -> bool:
    """Whether `torchrun` or `accelerate launch` has started several of us."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _inline(run: Run, recipe: Recipe, plan: Sequence[Stage], display: Display) -> None:
    """Run the stages one after the other, right here."""
    with _gang(recipe) as (first, wait):
        wait()
        # All processes look before the first one changes anything, or they would not wait for the same stages.
        todo = missing(run, plan)
        wait()
        if todo:
            from understudy.pipeline.stages import run_stage
        for stage in todo:
            if first or stage.distributed:
                display.start(stage.name)
                run_stage(stage.name, stage.needs, recipe, run.folder, _bound(display, stage.name), first=first)
                display.finish(stage.name, run.record(stage.name)["seconds"] if first else 0.0)
            wait()


@contextmanager
def _gang(recipe: Recipe) -> Iterator[tuple[bool, Callable[[], None]]]:
    """(is this the first process, wait for the others)."""
    if not _launched():
        yield True, lambda: None
        return
    import torch
    from accelerate import PartialState

    # Without a GPU it must be told, or each process takes itself for the only one.
    state = PartialState(cpu=recipe.device == "cpu" or not torch.cuda.is_available())
    yield state.is_main_process, state.wait_for_everyone


def _bound(display: Display, name: str) -> Callable[[int, int, str], None]:
    return lambda done, total, note: display.update(name, done, total, note)


# -- several processes -----------------------------------------------------------------------------------------------


def _side_by_side(run: Run, recipe: Recipe, plan: Sequence[Stage], display: Display) -> None:
    """Run the stages in a few processes, one stage each, the cores shared out among them."""
    waiting = missing(run, plan)
    running: dict[Any, tuple[Stage, processes.Worker]] = {}
    context = processes.forkserver() if waiting else None
    try:
        while waiting or running:
            for stage in ready(waiting, [stage for stage, _ in running.values()], recipe.workers):
                waiting.remove(stage)
                display.start(stage.name)
                threads = processes.cores() if stage.exclusive else max(1, processes.cores() // recipe.workers)
                work = (stage.name, stage.needs, recipe, run.folder)
                worker = processes.start(context, stage.name, threads, _work, *work)
                running[worker.channel] = stage, worker
            for channel in multiprocessing.connection.wait(list(running)):
                stage, worker = running[channel]
                if processes.listen(worker, _bound(display, stage.name)):
                    display.finish(stage.name, run.record(stage.name)["seconds"])
                    del running[channel]
    finally:
        processes.end(worker for _, worker in running.values())


def ready(waiting: Sequence[Stage], running: Sequence[Stage], workers: int) -> list[Stage]:
    """The stages that can start now; one that measures time waits until it has the machine to itself."""
    if any(stage.exclusive for stage in running):
        return []
    outstanding = {stage.name for stage in (*waiting, *running)}
    able = [stage for stage in waiting if outstanding.isdisjoint(stage.needs)]
    shared = [stage for stage in able if not stage.exclusive]
    if shared:
        return shared[: workers - len(running)]
    return able[:1] if not running else []


def _work(name: str, needs: tuple[str, ...], recipe: Recipe, folder: Path, say: processes.Say) -> None:
    from understudy.pipeline.stages import run_stage

    run_stage(name, needs, recipe, folder, say)
