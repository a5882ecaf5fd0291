"""Thumbs as rows of files that a later run can learn from.

An answer that was found good, or that the user has put right, is a gold answer: `data.source: feedback.jsonl`. One that
was found bad leaves a question without an answer, which the teacher of the next run gives:
`data.unlabelled_source: feedback.unlabelled.jsonl`. What was rejected stands beside it, and is learned by nobody.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from pathlib import Path
from typing import Any

from understudy.errors import RunError
from understudy.files import unwritable
from understudy.serve.exchange import Thumb


def row_of(thumb: Thumb) -> dict[str, Any]:
    """A thumb as a row with the keys of the layout `qa`."""
    right = thumb.answer if thumb.verdict == "up" else thumb.correction
    row: dict[str, Any] = {"id": f"feedback-{uuid.uuid4().hex[:12]}", "question": thumb.question}
    row |= {"answers": [right]} if right else {}
    row |= {"context": thumb.context} if thumb.context else {}
    row |= {"choices": list(thumb.choices)} if thumb.choices else {}
    row |= {"verdict": thumb.verdict, "model": thumb.model, "time": round(time.time(), 3)}
    row |= {"rejected": thumb.answer} if thumb.verdict == "down" else {}
    row |= {"confidence": thumb.confidence} if thumb.confidence is not None else {}
    row |= {"request": thumb.id} if thumb.id else {}
    return row | ({"key": thumb.key} if thumb.key else {})


def write_thumb(path: Path, thumb: Thumb) -> dict[str, Any]:
    """Add a thumb to a file, whole and on the disk when this returns.

    Args:
        path: of rows with answers; rows without go to `NAME.unlabelled.jsonl` beside it.
        thumb: what was thought of an answer.

    Returns:
        The row.

    Raises:
        RunError: the file cannot be written.
    """
    row = row_of(thumb)
    path = path if "answers" in row else unlabelled(path)
    line = (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "replace")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # One write to a file that is only added to: lines of two processes do not mix.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            if os.write(handle, line) != len(line):
                raise RunError(f"{path} is full", hint="free some space on the disk")
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise unwritable(path, error) from error
    return row


def unlabelled(path: Path) -> Path:
    """Where the questions without an answer go, beside a file of those with one."""
    return path.with_name(f"{path.stem}.unlabelled{path.suffix}")
