"""What a plan says of one stage."""

from __future__ import annotations

from dataclasses import dataclass

from understudy.planning.memory import Memory


@dataclass(frozen=True)
class StageFigures:
    """What one stage will take.

    Attributes:
        stage: its name.
        title: in words.
        memory: at the peak, by part.
        seconds: of its process; None where nothing tells.
        tokens: read in it, as far as prompts and answers are known.
        kept: bytes that it leaves on disk.
        meanwhile: bytes that it needs on disk besides until it is done.
        micro_batch: rows at once of a training, or of answers.
        steps: optimiser steps; 0 where nothing is trained.
        chunk: tokens whose logits are computed at once; 0 where there are none.
        row_bytes: what a row more at once takes; None where it is not known.
        by: what validated the line.
    """

    stage: str
    title: str
    memory: Memory
    seconds: float | None
    tokens: float
    kept: float
    meanwhile: float
    micro_batch: int
    steps: int
    chunk: int
    row_bytes: float | None
    by: str
