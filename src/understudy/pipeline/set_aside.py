"""Examples that the teacher gave no answer about, for reasons that may pass: how many, and how they are asked again."""

from __future__ import annotations

from understudy.pipeline.knowledge_report import STAGE
from understudy.records import GenerationNotes
from understudy.run import Run


def set_aside_note(run: Run) -> str:
    """How many examples were set aside, for what, and what brings them back; empty where none was."""
    notes = run.notes(STAGE, GenerationNotes) if run.is_done(STAGE) else None
    if notes is None or not notes.left:
        return ""
    reasons = ", ".join(f"{kind} {count:,}" for kind, count in (notes.set_aside or {}).items())
    return (
        f"The teacher gave no answer about {notes.left:,} of {notes.examples:,} examples ({reasons}): they are set "
        "aside, and what did not come of them is not learned. `--retry` asks again."
    )


def ask_again(run: Run) -> bool:
    """Have the next `generate` ask about the examples that were set aside.

    Returns:
        Whether there were any.
    """
    waiting = bool(set_aside_note(run))
    if waiting:
        run.reopen(STAGE)
    return waiting
