"""Runs the stages of a run that are missing, in order of need, several side by side where the recipe allows it.

This module loads no torch: with `workers > 1` the stages run in processes forked from a server that has loaded it
once; with one worker they run right here.
"""

from __future__ import annotations

import os
import queue
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
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
    arms = [arm for arm in recipe.evaluate.arms if unlabelled or arm != "kd_gold"]
    if "sft" in arms:
        plan.append(Stage("train:sft", student, distributed=True))
    if set(TRAINED_FROM_ANSWERS) & set(arms):
        plan.append(Stage("answers", teacher))
    for arm in arms:
        if arm != "sft":
            source = ("answers",) if arm in TRAINED_FROM_ANSWERS else teacher
            plan.append(Stage(f"train:{arm}", source + student, distributed=True))
    plan.append(Stage("predict:teacher", teacher))
    plan.append(Stage("predict:base_student", ("data",)))
    plan += [Stage(f"predict:{arm}", (f"train:{arm}",)) for arm in arms]
    trained = tuple(stage.name for stage in plan)
    plan += [Stage(f"speed:{name}", trained, exclusive=True) for name in ("teacher", "base_student")]
    plan.append(Stage("report", tuple(stage.name for stage in plan)))
    return plan


def execute(run: Run, recipe: Recipe, display: Display) -> None:
    """Run whatever is missing.

    Raises:
        UnderstudyError: a stage failed for a reason a user can mend; what was done before stays.
    """
    runner = _inline if recipe.workers == 1 or _launched() else _Pool(recipe.workers).run
    runner(run, recipe, [Stage("data")], display)
    _check_sources(run)
    unlabelled = run.record("data")["rows"]["unlabelled"] > 0
    runner(run, recipe, stages(recipe, unlabelled=unlabelled), display)


def _check_sources(run: Run) -> None:
    from understudy.experiments.sources import changed

    paths = changed(run)
    if paths:
        raise RunError(
            f"{', '.join(paths)} changed since this run was begun",
            hint=f"give the run another name, or remove {run.folder}",
        )


def _launched() -> bool:
    """Whether `torchrun` or `accelerate launch` has started several of us."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _inline(run: Run, recipe: Recipe, plan: Sequence[Stage], display: Display) -> None:
    from understudy.experiments.stages import run_stage

    with _gang() as (first, wait):
        for stage in plan:
            if run.is_done(stage.name):
                continue
            if first or stage.distributed:
                display.start(stage.name)
                run_stage(stage.name, recipe, run.folder, _bound(display, stage.name))
                display.finish(stage.name, run.record(stage.name)["seconds"] if first else 0.0)
            wait()


@contextmanager
def _gang() -> Iterator[tuple[bool, Callable[[], None]]]:
    """(is this the first process, wait for the others)."""
    if not _launched():
        yield True, lambda: None
        return
    from accelerate import PartialState

    state = PartialState()
    yield state.is_main_process, state.wait_for_everyone


def _bound(display: Display, name: str) -> Callable[[int, int, str], None]:
    return lambda done, total, note: display.update(name, done, total, note)


class _Pool:
    """A few processes, one stage each, the cores shared out among them."""

    def __init__(self, workers: int) -> None:
        import multiprocessing

        self.workers = workers
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["understudy.experiments.stages"])
        self.messages: Any = self.context.Queue()

    def run(self, run: Run, recipe: Recipe, plan: Sequence[Stage], display: Display) -> None:
        waiting = [stage for stage in plan if not run.is_done(stage.name)]
        running: dict[str, Any] = {}
        failure: Exception | None = None
        try:
            while running or (waiting and failure is None):
                for stage in _ready(waiting, running, run, self.workers) if failure is None else ():
                    waiting.remove(stage)
                    display.start(stage.name)
                    alone = stage.exclusive
                    running[stage.name] = (self._start(stage, recipe, run, alone), stage)
                failure = self._listen(running, run, display) or failure
        finally:
            for process, _ in running.values():
                process.terminate()
            for process, _ in running.values():
                process.join()
        if failure is not None:
            raise failure

    def _start(self, stage: Stage, recipe: Recipe, run: Run, alone: bool) -> Any:
        cores = os.cpu_count() or 1
        threads = cores if alone else max(1, cores // self.workers)
        process = self.context.Process(
            target=_work, args=(stage.name, recipe, run.folder, self.messages, threads), name=stage.name
        )
        process.start()
        return process

    def _listen(self, running: dict[str, Any], run: Run, display: Display) -> Exception | None:
        try:
            name, kind, value = self.messages.get(timeout=0.2)
        except queue.Empty:
            return self._dead(running)
        if kind == "progress":
            display.update(name, *value)
            return None
        process, _ = running.pop(name)
        process.join()
        if kind == "failed":
            return value
        display.finish(name, run.record(name)["seconds"])
        return None

    def _dead(self, running: dict[str, Any]) -> Exception | None:
        """A worker that ended without a word was killed from outside, most often for memory."""
        for name, (process, _) in list(running.items()):
            if not process.is_alive() and self.messages.empty():
                running.pop(name)
                return RunError(
                    f"the process of stage {name} was killed (exit status {process.exitcode})",
                    hint="out of memory? try workers=1 or a smaller distil.micro_batch_size, then run the same again",
                )
        return None


def _ready(waiting: Sequence[Stage], running: dict[str, Any], run: Run, workers: int) -> list[Stage]:
    if any(stage.exclusive for _, stage in running.values()):
        return []
    free = workers - len(running)
    ready = [stage for stage in waiting if all(run.is_done(need) for need in stage.needs)]
    shared = [stage for stage in ready if not stage.exclusive]
    if shared:
        return shared[:free]
    return ready[:1] if ready and not running else []


def _work(name: str, recipe: Recipe, folder: Path, messages: Any, threads: int) -> None:
    """The body of a worker process."""
    import multiprocessing
    import signal

    import torch

    from understudy.experiments.stages import run_stage

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(threads)
    try:
        run_stage(name, recipe, folder, lambda *progress: messages.put((name, "progress", progress)))
    except UnderstudyError as error:
        messages.put((name, "failed", error))
    except BaseException:
        messages.put((name, "failed", RuntimeError(f"stage {name} failed:\n{traceback.format_exc()}")))
    else:
        messages.put((name, "done", None))
    messages.close()
    messages.join_thread()


def _die_with(parent: Any) -> None:
    """No orphan goes on computing, or holds files, after its parent was killed."""
    parent.join()
    os._exit(1)
