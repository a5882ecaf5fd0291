"""The run folder: everything one recipe made, each part whole or absent.

```text
runs/NAME-1a2b3c4d/        the recipe's name and fingerprint
  recipe.yaml              as validated, every field written out
  extensions/              the files of the recipe's `extensions`, as they were run
  environment.json         versions, platform, command
  data/                    train, unlabelled, dev, test; quarantine.jsonl; notes.json
  stages/STAGE/            one folder a stage; begun.json names what it is made from, done.json says that it is done
  student/                 the distilled student with its model card
  scores.json  report.html
```
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from understudy import __version__
from understudy.arms import free_of
from understudy.errors import ConfigError, DataError, RunError, unknown
from understudy.files import PART, atomic, locked, read_json, read_jsonl, read_text, write_json
from understudy.recipe import Recipe, dump_recipe, load_recorded
from understudy.records import Environment, Prediction, StageRecord
from understudy.records.base import Record

BEGUN, DONE = "begun.json", "done.json"
EXTENSIONS, PREDICTIONS, CONSTRAINED = "extensions", "predictions.jsonl", "constrained.jsonl"

R = TypeVar("R", bound=Record)


class Run:
    """A run folder on disk.

    Args:
        folder: where it stands.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, recipe: Recipe) -> Run:
        """The run folder that belongs to a recipe, whether it exists or not."""
        return cls(Path(recipe.output).expanduser() / f"{recipe.name}-{recipe.fingerprint()}")

    @classmethod
    def open(cls, folder: Path) -> Run:
        """An existing run folder.

        Raises:
            ConfigError: there is none at `folder`.
        """
        if not (folder / "recipe.yaml").is_file():
            raise ConfigError(f"{folder} is no run folder", hint="give the folder that `understudy run` printed")
        return cls(folder)

    @property
    def recipe(self) -> Recipe:
        """The recipe that the folder was made from."""
        copies = self.folder / EXTENSIONS
        return load_recorded(self.folder / "recipe.yaml", extensions=copies if copies.is_dir() else None)

    @property
    def scores(self) -> dict[str, Any]:
        """Every arm's scores with their intervals, as `scores.json` has them.

        Raises:
            RunError: the run has not come to its end.
        """
        return read_json(self._finished(self.folder / "scores.json"))

    @property
    def report(self) -> Path:
        """The report, one HTML file.

        Raises:
            RunError: the run has not come to its end.
        """
        return self._finished(self.folder / "report.html")

    @property
    def student(self) -> Path:
        """The folder of the distilled student, as `from_pretrained` takes it.

        Raises:
            RunError: the run has not come to its end, or trains no such student.
        """
        return self._finished(self.folder / "student")

    def predictions(self, arm: str) -> list[Prediction]:
        """What an arm answered to the held-out questions: one row a question.

        Args:
            arm: `distilled`, `sft` …, or `teacher` and `base_student`.

        Raises:
            ConfigError: the run has no such arm.
        """
        known = [name for name in self.recipe.answering_arms if self.predictions_path(name).is_file()]
        if arm not in known:
            raise unknown("arm", arm, known, where=str(self.folder))
        return [Prediction.from_json(row) for row in read_jsonl(self.predictions_path(arm))]

    def predictions_path(self, arm: str) -> Path:
        """The file that an arm's answers stand in, whether it is there or not."""
        name, is_constrained = free_of(arm)
        return self.stage(f"predict-{name}") / (CONSTRAINED if is_constrained else PREDICTIONS)

    def _finished(self, path: Path) -> Path:
        if not path.exists():
            raise RunError(f"there is no {path}", hint="run the recipe to its end: understudy.distil, `understudy run`")
        return path

    def prepare(self, recipe: Recipe) -> None:
        """Write down what is run and on what, and sweep away what a killed process left half-written.

        What stands there already is not written again, so that a run with nothing left to do touches nothing.
        """
        for part in [*self.folder.rglob(f"*{PART}")]:
            shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)
        if not (self.folder / "recipe.yaml").is_file():
            with atomic(self.folder / "recipe.yaml") as handle:
                handle.write(dump_recipe(recipe))
        for extension in recipe.loaded:
            copy = self.folder / EXTENSIONS / extension.path.name
            if not copy.is_file():
                with atomic(copy) as handle:
                    handle.write(read_text(extension.path))
        path, current = self.folder / "environment.json", environment()
        recorded = Environment.from_json(read_json(path)) if path.is_file() else Environment()
        if (recorded.packages, recorded.understudy) != (current.packages, current.understudy):
            write_json(path, current.to_json())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second process out of this folder; the lock dies with the process that holds it.

        A run that fails before its data and models are found to be in order leaves no folder behind.

        Raises:
            RunError: somebody else works here, or the folder cannot be written.
        """
        parent_is_new = not self.folder.parent.exists()
        busy = RunError(
            f"another process is working on {self.folder}", hint="wait for it, or give this run another name"
        )
        with locked(self.folder / ".lock", busy):
            try:
                yield
            finally:
                if all(path.parent.name == "data" for path in self.folder.glob(f"stages/*/{DONE}")):
                    shutil.rmtree(self.folder, ignore_errors=True)
                    with suppress(OSError):
                        if parent_is_new:
                            self.folder.parent.rmdir()

    def stage(self, name: str) -> Path:
        """The folder of a stage."""
        return self.folder / "stages" / name

    def is_done(self, name: str) -> bool:
        """Whether a stage has finished."""
        return (self.stage(name) / DONE).is_file()

    def is_current(self, name: str, needs: Sequence[str]) -> bool:
        """Whether a stage has finished, and what it was made from has not been made anew since."""
        return (
            self.is_done(name)
            and all(self.is_done(need) for need in needs)
            and self.record(name).input_versions == self._versions_of(needs)
        )

    def begin(self, name: str, needs: Sequence[str]) -> None:
        """Make a stage's folder ready; checkpoints of an earlier attempt stay only if made from the same."""
        folder, versions = self.stage(name), self._versions_of(needs)
        if not (folder / BEGUN).is_file() or read_json(folder / BEGUN) != versions:
            # The marker goes first: whatever a kill leaves of the rest then counts for nothing.
            (folder / DONE).unlink(missing_ok=True)
            # What is in it, not the folder itself: in a grid it is a link to a stage that several runs share.
            for path in folder.iterdir() if folder.is_dir() else ():
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            write_json(folder / BEGUN, versions)

    def reopen(self, name: str) -> None:
        """Have a stage go on as if it had been stopped before its end: what it wrote stays, its last word goes."""
        (self.stage(name) / DONE).unlink(missing_ok=True)

    def mark_done(self, name: str, notes: Mapping[str, Any], *, seconds: float = 0.0) -> None:
        """Write the last word of a stage, with a new version mark, which the stages that are made from it write down.

        Args:
            name: of the stage.
            notes: what it says of itself, JSON-able.
            seconds: that it took.
        """
        versions = read_json(self.stage(name) / BEGUN)
        record = StageRecord(name, seconds, notes, uuid.uuid4().hex[:12], versions)
        write_json(self.stage(name) / DONE, record.to_json())

    def _versions_of(self, needs: Sequence[str]) -> dict[str, str | None]:
        return {need: self.record(need).version for need in needs}

    def record(self, name: str) -> StageRecord:
        """What a finished stage says of itself."""
        return StageRecord.from_json(read_json(self.stage(name) / DONE))

    def notes(self, name: str, kind: type[R]) -> R:
        """What a finished stage says besides, read as stages of its kind write it: `run.notes("data", DataNotes)`.

        Raises:
            RunError: the record is not one of that kind.
        """
        try:
            return kind.from_json(self.record(name).notes)
        except DataError as error:
            raise RunError(f"{self.stage(name) / DONE}: {error.message}", hint=error.hint) from error


def environment() -> Environment:
    """Versions and platform, for whoever wants the same figures again."""
    packages = (
        "torch",
        "transformers",
        "tokenizers",
        "accelerate",
        "peft",
        "datasets",
        "numpy",
        "sacrebleu",
        "rouge-score",
    )
    return Environment(
        understudy=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        processors=os.cpu_count(),
        command=" ".join(["understudy", *sys.argv[1:]]),
        packages={name: metadata.version(name) for name in packages},
    )
