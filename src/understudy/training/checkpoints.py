"""Checkpoints that are whole or do not count."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from understudy.errors import RunError
from understudy.files import write_json

MARKER = "complete.json"


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn the many ways in which a full disk shows itself into one sentence; what is half-written goes.

    Raises:
        RunError: the folder could not be written.
    """
    try:
        yield
    except RunError:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RunError(
            f"cannot write the checkpoint {folder.name}: {reason}",
            hint="free some space, then run the same command again: it goes on from the last whole checkpoint",
        ) from error


def mark_whole(folder: Path, step: int) -> None:
    """Say that a checkpoint is whole; only then may older ones go."""
    write_json(folder / MARKER, {"step": step})
    for older in folder.parent.glob("checkpoint-*"):
        if older != folder:
            shutil.rmtree(older, ignore_errors=True)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint under `folder`; half-written ones are removed."""
    whole = []
    for path in folder.glob("checkpoint-*"):
        if (path / MARKER).exists():
            whole.append(path)
        else:
            shutil.rmtree(path)
    return max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)
