"""Runs the stages of a run that are missing, in order of need, several side by side where the recipe allows it.

This module loads no torch: with `workers > 1` the stages run in processes forked from a server that has loaded it
once; with one worker they run right here.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from understudy.errors import RunError, UnderstudyError
from understudy.recipe import Recipe
from understudy.run import Run

TRAINED_FROM_ANSWERS = ("seqkd", "distilled")


@dataclass(frozen=True)
class Stage:
    """A piece of a run.

    Attributes:
        name: picks the function in `experiments.stages` and the folder.
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


def stages(recipe: Recipe, *, unlabelled: bool) -> list[Stage]:
    """The stages of a recipe, in an order in which each finds what it needs.

    Args:
        recipe: the run's recipe.
        unlabelled: whether there are questions without gold; without any, training on gold only *is* distillation
            and gets no arm of its own.
    """
    plan = [Stage("data")]
    teacher, student = ("data",), ("data",)
    if recipe.teacher.sft:
        plan.append(Stage("teacher_sft", ("data",), distributed=True))
        teacher = ("teacher_sft",)
    if recipe.student.sft:
        plan.append(Stage("student_sft", ("data",), distributed=True))
        student = ("student_sft",)
    asked = recipe.evaluate.arms
    arms = [arm for arm in asked if unlabelled or arm != "kd_gold" or "distilled" not in asked]
    if "sft" in arms:
        plan.append(Stage("train-sft", student, distributed=True))
    if set(TRAINED_FROM_ANSWERS) & set(arms):
        plan.append(Stage("answers", teacher))
    for arm in arms:
        if arm != "sft":
            source = ("answers",) if arm in TRAINED_FROM_ANSWERS else teacher
            plan.append(Stage(f"train-{arm}", source + student, distributed=True))
    plan.append(Stage("predict-teacher", teacher))
    plan.append(Stage("predict-base_student", ("data",)))
    plan += [Stage(f"predict-{arm}", (f"train-{arm}",)) for arm in arms]
    trained = tuple(stage.name for stage in plan)
    plan += [Stage(f"speed-{name}", trained, exclusive=True) for name in ("teacher", "student")]
    plan.append(Stage("report", tuple(stage.name for stage in plan)))
    return plan


def execute(run: Run, recipe: Recipe, display: Display) -> None:
    """Run whatever is missing, and whatever was made from something that has been made anew.

    Raises:
        UnderstudyError: a stage failed for a reason a user can mend; what was done before stays.
    """
    from understudy.experiments.sources import check_trackers

    check_trackers(recipe)
    runner = _inline if recipe.workers == 1 or _launched() else _side_by_side
    runner(run, recipe, [Stage("data")], display)
    _check_sources(run, recipe)
    unlabelled = run.record("data")["rows"]["unlabelled"] > 0
    runner(run, recipe, stages(recipe, unlabelled=unlabelled), display)


def missing(run: Run, plan: Iterable[Stage]) -> list[Stage]:
    """The stages of a plan that are not done, or that need one that is about to be done again."""
    found: dict[str, Stage] = {}
    for stage in plan:
        if not found.keys().isdisjoint(stage.needs) or not run.is_current(stage.name, stage.needs):
            found[stage.name] = stage
    return list(found.values())


def _check_sources(run: Run, recipe: Recipe) -> None:
    from understudy.experiments.sources import changed

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
            from understudy.experiments.stages import run_stage
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


@dataclass(frozen=True)
class _Worker:
    """A process at work on a stage, and the end of the pipe that it speaks into."""

    stage: Stage
    process: Any
    channel: Any


def _side_by_side(run: Run, recipe: Recipe, plan: Sequence[Stage], display: Display) -> None:
    """Run the stages in a few processes, one stage each, the cores shared out among them."""
    waiting = missing(run, plan)
    running: dict[Any, _Worker] = {}
    context = _forkserver() if waiting else None
    try:
        while waiting or running:
            for stage in _ready(waiting, [worker.stage for worker in running.values()], recipe.workers):
                waiting.remove(stage)
                display.start(stage.name)
                worker = _start(context, stage, recipe, run)
                running[worker.channel] = worker
            for channel in multiprocessing.connection.wait(list(running)):
                if _listen(running[channel], run, display):
                    del running[channel]
    finally:
        _end([worker.process for worker in running.values()])


def _forkserver() -> Any:
    """The server that has loaded torch and forks the workers.

    Ctrl-C reaches every process of a terminal; this one and its children leave it to the parent, which ends them.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["understudy.experiments.stages"])
    # Started by itself first, for it unblocks the signal once it has started.
    multiprocessing.resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def _ready(waiting: Sequence[Stage], running: Sequence[Stage], workers: int) -> list[Stage]:
    """The stages that can start now; one that measures time waits until it has the machine to itself."""
    if any(stage.exclusive for stage in running):
        return []
    outstanding = {stage.name for stage in (*waiting, *running)}
    ready = [stage for stage in waiting if outstanding.isdisjoint(stage.needs)]
    shared = [stage for stage in ready if not stage.exclusive]
    if shared:
        return shared[: workers - len(running)]
    return ready[:1] if not running else []


def _start(context: Any, stage: Stage, recipe: Recipe, run: Run) -> _Worker:
    channel, speaking_end = context.Pipe(duplex=False)
    threads = _cores() if stage.exclusive else max(1, _cores() // recipe.workers)
    arguments = (stage.name, stage.needs, recipe, run.folder, speaking_end, threads)
    process = context.Process(target=_work, args=arguments, name=stage.name)
    process.start()
    # Ours must be closed, or the pipe would not end with the worker.
    speaking_end.close()
    return _Worker(stage, process, channel)


def _cores() -> int:
    """Cores this process may use; a thread count set from outside wins."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _listen(worker: _Worker, run: Run, display: Display) -> bool:
    """Take one message; true once the stage is done.

    Raises:
        RunError: the worker was killed from outside, most often for memory.
    """
    name = worker.stage.name
    try:
        kind, value = worker.channel.recv()
    except (EOFError, OSError) as error:
        worker.process.join()
        raise RunError(
            f"the process of stage {name} was killed (exit status {worker.process.exitcode})",
            hint="out of memory? try workers=1 or a smaller distil.micro_batch_size, then run the same again",
        ) from error
    if kind == "progress":
        display.update(name, *value)
        return False
    worker.process.join()
    if kind == "failed":
        raise value
    display.finish(name, run.record(name)["seconds"])
    return True


def _end(processes: Sequence[Any]) -> None:
    """End workers that are no longer wanted; what they had finished stays, and checkpoints go on from there."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(timeout=5)
        if process.is_alive():
            process.kill()
            process.join()


def _work(name: str, needs: tuple[str, ...], recipe: Recipe, folder: Path, channel: Any, threads: int) -> None:
    """The body of a worker process."""
    import torch

    from understudy.experiments.stages import run_stage

    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(threads)
    try:
        run_stage(name, needs, recipe, folder, lambda *progress: channel.send(("progress", progress)))
    except UnderstudyError as error:
        channel.send(("failed", error))
    except BaseException:
        channel.send(("failed", RuntimeError(f"stage {name} failed:\n{traceback.format_exc()}")))
    else:
        channel.send(("done", None))


def _die_with(parent: Any) -> None:
    """No orphan goes on computing, or holds files, after its parent was killed."""
    parent.join()
    os._exit(1)
