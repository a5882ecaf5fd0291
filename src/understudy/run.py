"""The run folder: everything one recipe made, each part whole or absent.

```text
runs/NAME-1a2b3c4d/        the recipe's name and fingerprint
  recipe.yaml              as validated, every field written out
  environment.json         versions, platform, command
  data/                    train, unlabelled, dev, test; quarantine.jsonl; notes.json
  stages/STAGE/            one folder a stage; it is done when done.json stands in it
  student/                 the distilled student with its model card
  scores.json  report.html
```
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from understudy import __version__
from understudy.errors import ConfigError, RunError
from understudy.files import atomic, read_json, write_json
from understudy.recipe import Recipe, dump_recipe, load_recipe

DONE = "done.json"


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
        return cls(Path(recipe.output) / f"{recipe.name}-{recipe.fingerprint()}")

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
        return load_recipe(self.folder / "recipe.yaml")

    def prepare(self, recipe: Recipe) -> None:
        """Create the folder and write down what is run and on what."""
        with atomic(self.folder / "recipe.yaml") as handle:
            handle.write(dump_recipe(recipe))
        write_json(self.folder / "environment.json", environment())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second process out of this folder; the lock dies with the process that holds it.

        Raises:
            RunError: somebody else works here.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / ".lock", "w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RunError(
                    f"another process is working on {self.folder}", hint="wait for it, or give this run another name"
                ) from error
            yield

    def stage(self, name: str) -> Path:
        """The folder of a stage."""
        return self.folder / "stages" / name

    def is_done(self, name: str) -> bool:
        """Whether a stage has finished."""
        return (self.stage(name) / DONE).is_file()

    def mark_done(self, name: str, record: dict[str, Any]) -> None:
        """Write the last word of a stage."""
        write_json(self.stage(name) / DONE, record)

    def record(self, name: str) -> dict[str, Any]:
        """What a finished stage said of itself."""
        return read_json(self.stage(name) / DONE)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder that takes its name only once everything in it is written."""
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        yield part
        shutil.rmtree(target, ignore_errors=True)
        os.replace(part, target)
    except OSError as error:
        raise RunError(
            f"cannot write {target}: {error.strerror or error}",
            hint="free some space, then run the same command again: it goes on from here",
        ) from error


def environment() -> dict[str, Any]:
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
    return {
        "understudy": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "command": " ".join(["understudy", *sys.argv[1:]]),
        "packages": {name: metadata.version(name) for name in packages},
    }
