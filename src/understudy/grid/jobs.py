"""What passes between a grid and its engine: one stage to be run, and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from understudy.pipeline.stage import Stage
from understudy.recipe import Recipe

JobProgress = Callable[[str, int, int, str], None]
"""Called with (job id, done, total, note)."""


@dataclass(frozen=True)
class Job:
    """One stage to be run; picklable, and the same wherever it runs.

    Attributes:
        id: names its lock and its progress.
        stage: what to run, with what it is made from.
        recipe: of the run that hosts it.
        folder: of that run, absolute.
        grid: the grid's folder, absolute.
        cwd: the folder against which paths in the recipe are read.
        exclusive: whether it measures time.
        processes: how many processes train together; 1 for stages that do not train.
        launcher: the command that starts them.
    """

    id: str
    stage: Stage
    recipe: Recipe
    folder: Path
    grid: Path
    cwd: Path
    exclusive: bool = False
    processes: int = 1
    launcher: str = ""


@dataclass(frozen=True)
class Outcome:
    """A job has ended.

    Attributes:
        id: the job's.
        error: why it failed; None where its stage is done.
    """

    id: str
    error: Exception | None = None


class Engine(Protocol):
    """Runs jobs. Whoever submits them sees to it that what a job needs is done."""

    @property
    def capacity(self) -> int:
        """How many jobs it takes at once."""
        ...

    def submit(self, job: Job) -> None:
        """Take a job on."""
        ...

    def wait(self) -> Sequence[Outcome]:
        """Jobs that have ended since the last call; waits a while for one, and may give none."""
        ...

    def close(self) -> None:
        """End what still runs; what it had finished stays."""
        ...
