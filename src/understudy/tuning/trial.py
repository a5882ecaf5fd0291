"""One trial: the recipe with settings put in, trained up to its last step or stopped early by its development scores.

Trials share a grid's folder, so what they agree in – the teacher's fine-tuning, its answers, a cache – is made once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from understudy.errors import RunError
from understudy.files import read_jsonl
from understudy.grid.folder import GridFolder
from understudy.grid.jobs import Job
from understudy.grid.run_job import run_job
from understudy.grid.units import CellRun, Unit, cell_stages, missing, units
from understudy.pipeline.kinds import KINDS, first_stages
from understudy.pipeline.scheduler import needed_for
from understudy.pipeline.stage import Stage
from understudy.recipe import Recipe
from understudy.records import kept_score
from understudy.run import Run

Watch = Callable[[Stage, int, int, str], None]
"""Called with (stage, done, total, note); whatever it raises ends the trial, and what was done stays."""


@dataclass(frozen=True)
class TrialRun:
    """A recipe on its way through the folder of a search.

    Attributes:
        folder: of the search.
        cell: the run.
        arm: the arm whose student is tuned.
    """

    folder: GridFolder
    cell: CellRun
    arm: str

    @classmethod
    def of(cls, folder: GridFolder, recipe: Recipe, arm: str) -> TrialRun:
        """A recipe in the folder of a search."""
        placed = recipe.model_copy(update={"output": str(folder.cells)})
        run = Run.of(placed)
        run.prepare(placed)
        return cls(folder, CellRun(run, placed, ({},)), arm)

    @property
    def stage(self) -> str:
        """The stage that trains the arm."""
        return KINDS["train"].name_of(self.arm)

    def train(self, watch: Watch) -> None:
        """Do what is missing up to the trained student."""
        self._run(lambda cell: first_stages(cell.recipe), watch)
        self._run(lambda cell: needed_for(cell_stages(cell), self.stage), watch)

    def finish(self, watch: Watch) -> None:
        """Do all that is missing: the held-out items are answered and scored."""
        self._run(lambda cell: first_stages(cell.recipe), watch)
        self._run(cell_stages, watch)

    def _run(self, stages_of: Callable[[CellRun], list[Stage]], watch: Watch) -> None:
        contents = self.folder.contents([self.cell])
        all_units = units([self.cell], contents, stages_of=stages_of)
        self.folder.link(self.cell, all_units)
        for unit in missing(all_units, lambda unit: self._is_current(unit, all_units)):
            run_job(self._job(unit), lambda done, total, note, stage=unit.stage: watch(stage, done, total, note))

    def _is_current(self, unit: Unit, all_units: Mapping[str, Unit]) -> bool:
        return self.folder.is_current(unit, all_units)

    def _job(self, unit: Unit) -> Job:
        folders = self.cell.run.folder.absolute(), self.folder.path.absolute(), Path.cwd()
        return Job(unit.id, unit.stage, self.cell.recipe, *folders)

    def scores(self) -> list[tuple[str, float]]:
        """(metric, development score) of each evaluation so far, by which the training keeps its best weights."""
        path = self.cell.run.stage(self.stage) / "training" / "metrics.jsonl"
        rows = read_jsonl(path) if path.is_file() else []
        return [found for row in rows if (found := kept_score(row))]

    def score(self) -> float:
        """The best development score: of the weights that the training keeps.

        Raises:
            RunError: nothing was scored on the way.
        """
        scores = self.scores()
        if not scores:
            raise RunError(
                f"{self.cell.run.folder} was trained without a development score",
                hint="give the recipe development rows: data.dev above 0",
            )
        return max(score for _, score in scores)

    def drop_checkpoints(self) -> None:
        """Give back the room of a trial that was stopped early; its curve stays."""
        from understudy.training.session import remove_checkpoints

        remove_checkpoints(self.cell.run.stage(self.stage) / "training")
