"""The stages of a run. Each reads what earlier ones wrote, writes its own folder, and knows nothing of the others.

```text
SIDE_pretrain ─┐
data ─┬─ pair  │
      ├─ teacher_sft ─┬─ answers ─┬─ train-seqkd ───┬─ predict-ARM ─ … ─┐
      ├─ student_sft ─┤           └─ train-distilled┤                   ├─ report
      │               ├─ train-sft ─────────────────┤                   │
      ├─ generate ────┼─ train-explained ── observer┤                   │
      │               └─ train-kd_gold ─────────────┘   speed-MODEL ────┘
```
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from understudy.errors import RunError, UnderstudyError
from understudy.files import RERUN_HINT, disk_fault
from understudy.pipeline.scheduler import side_of
from understudy.pipeline.stages.answers import answers
from understudy.pipeline.stages.context import Context, Progress
from understudy.pipeline.stages.evaluation import predict_arm, report, speed_of
from understudy.pipeline.stages.explained import predict_explained_arm, train_explained, train_observer
from understudy.pipeline.stages.knowledge import generate
from understudy.pipeline.stages.preparation import data, pair
from understudy.pipeline.stages.pretraining import student_pretrain, teacher_pretrain
from understudy.pipeline.stages.training import student_sft, teacher_sft, train
from understudy.recipe import Recipe
from understudy.run import Run

STAGES: dict[str, Callable[[Context, str], dict[str, Any] | None]] = {
    "data": data,
    "pair": pair,
    "teacher_pretrain": teacher_pretrain,
    "student_pretrain": student_pretrain,
    "teacher_sft": teacher_sft,
    "student_sft": student_sft,
    "answers": answers,
    "generate": generate,
    "train": train,
    "train-explained": train_explained,
    "train-observer": train_observer,
    "predict": predict_arm,
    "predict-explained": predict_explained_arm,
    "speed": speed_of,
    "report": report,
}


def run_stage(
    name: str, needs: Sequence[str], recipe: Recipe, folder: Path, progress: Progress, *, first: bool = True
) -> None:
    """Run one stage to its end and mark it done.

    Args:
        name: `data`, `train-distilled` …; the whole of it, or what stands before the dash, picks the function.
        needs: the stages that it is made from.
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
    kind, _, argument = name.partition("-")
    work = STAGES.get(name) or STAGES[kind]
    recipe = own_seed(recipe, name)
    seed_all(recipe.seed)
    begin = time.perf_counter()
    with _mendable(name):
        if first:
            run.begin(name, needs)
        record = work(Context(run, recipe, progress), argument) or {}
        if first:
            run.mark_done(name, {"stage": name, "seconds": round(time.perf_counter() - begin, 3), **record})


def own_seed(recipe: Recipe, stage: str) -> Recipe:
    """The recipe with the seed that a stage goes by: that of the model it works on, where the model has one."""
    side = side_of(stage)
    model = (recipe.teacher if side == "teacher" else recipe.student) if side else None
    return recipe.model_copy(update={"seed": model.seed_or(recipe.seed)}) if model else recipe


@contextmanager
def _mendable(name: str) -> Iterator[None]:
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
