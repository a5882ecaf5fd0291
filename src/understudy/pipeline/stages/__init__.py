"""The work of stages. Each reads what earlier ones wrote, writes its own folder, and knows nothing of the others."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import transformers

from understudy.errors import RunError, UnderstudyError
from understudy.files import RERUN_HINT, disk_fault
from understudy.pipeline.kinds import KINDS, side_of
from understudy.pipeline.stage import Stage
from understudy.pipeline.stages.context import Context, Progress
from understudy.recipe import Recipe
from understudy.recipe.own_arms import for_arm
from understudy.records.base import json_value
from understudy.run import Run


def run_stage(stage: Stage, recipe: Recipe, folder: Path, progress: Progress, *, first: bool = True) -> None:
    """Run one stage to its end and mark it done.

    Args:
        stage: its kind says what to run; what it is made from is written down.
        recipe: the run's recipe.
        folder: the run folder.
        progress: called with (done, total, note).
        first: whether this is the first of several processes, the one that keeps the folder.

    Raises:
        UnderstudyError: for a reason that a user can mend; a full disk and exhausted memory are among them.
    """
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    run = Run(folder)
    function = KINDS[stage.kind].function()
    stage_recipe = with_stage_seed(for_arm(recipe, stage.argument), stage)
    seed_all(stage_recipe.seed)
    started_at = time.perf_counter()
    with _user_errors(stage.name):
        if first:
            run.begin(stage.name, stage.needs)
        notes = function(Context(run, stage_recipe, progress, stage, recipe), stage.argument)
        if first:
            seconds = round(time.perf_counter() - started_at, 3)
            run.mark_done(stage.name, json_value(notes or {}), seconds=seconds)


def with_stage_seed(recipe: Recipe, stage: Stage) -> Recipe:
    """The recipe with the seed that a stage goes by: that of the model it works on, where the model has one."""
    side = side_of(stage)
    model = (recipe.teacher if side == "teacher" else recipe.student) if side else None
    return recipe.model_copy(update={"seed": model.seed_or(recipe.seed)}) if model else recipe


@contextmanager
def _user_errors(name: str) -> Iterator[None]:
    """Say in one sentence what is no fault of the program: the disk or the memory is full."""
    try:
        yield
    except UnderstudyError:
        raise
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise RunError(
            f"stage {name} ran out of memory",
            hint="lower its micro_batch_size or evaluate.batch_size, then run the same command again",
        ) from error
    except Exception as error:
        reason = disk_fault(error)
        if not reason:
            raise
        raise RunError(f"stage {name} cannot write: {reason}", hint=RERUN_HINT) from error


def seed_all(seed: int) -> None:
    """Seed every generator that a stage may draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
