"""Runs the stages of a run that are missing, in order of need, several side by side where the recipe allows it.

This module loads no torch: with `workers > 1` the stages run in processes forked from a server that has loaded it
once; with one worker they run right here.
"""

from __future__ import annotations

import datetime
import multiprocessing.connection
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from understudy.errors import RunError, listed
from understudy.pipeline import processes
from understudy.pipeline.kinds import first_stages, left_out, stages
from understudy.pipeline.stage import Stage
from understudy.recipe import Recipe
from understudy.records import DataNotes, PairNotes
from understudy.run import Run

LONGEST_STAGE = datetime.timedelta(days=60)
"""So long the other processes wait for a stage that the first one works on alone."""


class Display(Protocol):
    """What shows progress: the console of a run, or of a grid."""

    def say(self, text: str) -> None:
        """A line of its own."""

    def start(self, stage: Stage) -> None:
        """A stage begins."""

    def update(self, stage: Stage, done: int, total: int, note: str) -> None:
        """A stage has come so far."""

    def finish(self, stage: Stage, seconds: float) -> None:
        """A stage is done."""


def needed_for(planned: Sequence[Stage], name: str) -> list[Stage]:
    """The part of a plan that one stage needs, itself included."""
    needed = {name}
    for stage in reversed(planned):
        if stage.name in needed:
            needed |= set(stage.needs)
    return [stage for stage in planned if stage.name in needed]


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
    from understudy.pipeline.preflight import check_evaluation, check_lengths, check_trackers

    check_trackers(recipe)
    check_lengths(recipe)
    check_evaluation(recipe)
    runner = _inline if recipe.workers == 1 or _is_distributed() else _side_by_side
    runner(run, recipe, first_stages(recipe), display)
    _check_sources(run, recipe)
    for sentence in run.notes("pair", PairNotes).warnings:
        display.say(f"warning: {sentence}")
    unlabelled = run.notes("data", DataNotes).has_unlabelled
    planned = stages(recipe, unlabelled=unlabelled)
    if not until:
        for sentence in left_out(recipe, unlabelled=unlabelled):
            display.say(sentence)
    runner(run, recipe, needed_for(planned, until) if until else planned, display)


def missing(run: Run, planned: Iterable[Stage]) -> list[Stage]:
    """The stages of a plan that are not done, or that need one that is about to be done again."""
    pending: dict[str, Stage] = {}
    for stage in planned:
        if not pending.keys().isdisjoint(stage.needs) or not run.is_current(stage.name, stage.needs):
            pending[stage.name] = stage
    return list(pending.values())


def _check_sources(run: Run, recipe: Recipe) -> None:
    from understudy.pipeline.staleness import changed

    paths = changed(run, recipe)
    if paths:
        raise RunError(
            f"{listed(paths)} changed since this run was begun",
            hint=f"give the run another name, or remove {run.folder}",
        )


def _is_distributed() -> bool:
    """Whether `torchrun` or `accelerate launch` has started several processes of this run."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _inline(run: Run, recipe: Recipe, planned: Sequence[Stage], display: Display) -> None:
    """Run the stages one after the other, right here."""
    with _process_group(recipe) as (is_first, wait):
        wait()
        # All processes look before the first one changes anything, or they would not wait for the same stages.
        pending = missing(run, planned)
        wait()
        if pending:
            from understudy.pipeline.stages import run_stage
        for stage in pending:
            if is_first or stage.distributed:
                display.start(stage)
                run_stage(stage, recipe, run.folder, _stage_progress(display, stage), first=is_first)
                display.finish(stage, run.record(stage.name).seconds if is_first else 0.0)
            wait()


@contextmanager
def _process_group(recipe: Recipe) -> Iterator[tuple[bool, Callable[[], None]]]:
    """Whether this is the first process of the run, and a call that waits for the others."""
    if not _is_distributed():
        yield True, lambda: None
        return
    import torch
    from accelerate import PartialState

    # Without a GPU accelerate has to be told, or each process takes itself for the only one.
    state = PartialState(cpu=recipe.device == "cpu" or not torch.cuda.is_available())
    if not torch.distributed.is_initialized():
        yield state.is_main_process, state.wait_for_everyone
        return
    # The first process works alone for hours where a teacher writes; the patience of the processes that train together
    # is for collectives that hang, and is over in minutes. Waiting on the CPU also leaves the GPUs to the first.
    waiting_room = torch.distributed.new_group(backend="gloo", timeout=LONGEST_STAGE)
    assert isinstance(waiting_room, torch.distributed.ProcessGroup)

    def wait() -> None:
        torch.distributed.barrier(waiting_room)

    yield state.is_main_process, wait


def _stage_progress(display: Display, stage: Stage) -> Callable[[int, int, str], None]:
    return lambda done, total, note: display.update(stage, done, total, note)


# -- several processes -----------------------------------------------------------------------------------------------


def _side_by_side(run: Run, recipe: Recipe, planned: Sequence[Stage], display: Display) -> None:
    """Run the stages in a few processes, one stage each, the cores shared out among them."""
    waiting = missing(run, planned)
    running: dict[Any, tuple[Stage, processes.Worker]] = {}
    context = processes.forkserver() if waiting else None
    try:
        while waiting or running:
            for stage in ready(waiting, [stage for stage, _ in running.values()], recipe.workers):
                waiting.remove(stage)
                display.start(stage)
                threads = processes.cores() if stage.exclusive else max(1, processes.cores() // recipe.workers)
                arguments = (stage, recipe, run.folder)
                worker = processes.start(context, stage.name, threads, _run_in_worker, *arguments)
                running[worker.channel] = stage, worker
            for channel in multiprocessing.connection.wait(list(running)):
                stage, worker = running[channel]
                if processes.receive(worker, _stage_progress(display, stage)):
                    display.finish(stage, run.record(stage.name).seconds)
                    del running[channel]
    finally:
        processes.end(worker for _, worker in running.values())


def ready(waiting: Sequence[Stage], running: Sequence[Stage], workers: int) -> list[Stage]:
    """The stages that can start now; one that measures time waits until it has the machine to itself."""
    if any(stage.exclusive for stage in running):
        return []
    outstanding = {stage.name for stage in (*waiting, *running)}
    startable = [stage for stage in waiting if outstanding.isdisjoint(stage.needs)]
    unmeasured = [stage for stage in startable if not stage.exclusive]
    if unmeasured:
        return unmeasured[: workers - len(running)]
    return startable[:1] if not running else []


def _run_in_worker(stage: Stage, recipe: Recipe, folder: Path, progress: processes.Progress) -> None:
    from understudy.pipeline.stages import run_stage

    run_stage(stage, recipe, folder, progress)
