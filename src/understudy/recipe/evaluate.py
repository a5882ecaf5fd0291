"""The section `evaluate` of a recipe: what is measured at the end, and how."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from understudy import bounds
from understudy.normal_form import NormalForm
from understudy.recipe.endpoint import JudgeConfig, Section


class EvaluateConfig(Section):
    """What is measured at the end."""

    metrics: tuple[str, ...] | Literal["all"] = (
        "exact_match",
        "token_f1",
        "bleu",
        "rouge1",
        "rouge2",
        "rougeL",
        "chrf",
    )
    """Metrics of written answers, names out of `understudy.metrics.METRICS`, or `all`."""
    embedding_model: str = "auto"
    """Sentence embeddings for answer_similarity: folder or hub id; auto: MiniLM of `understudy-distil[offline]`."""
    bertscore_model: str = "auto"
    """Encoder for bertscore_f1: a folder or hub id; auto: MiniLM of `understudy-distil[offline]`."""
    normalise: NormalForm = "numbers"
    """How exact_match and token_f1 compare: numbers keep sign and point; squad: as published figures do."""
    judge: JudgeConfig | None = None
    """The judge of the five judged metrics; without one they are reported as not measured."""
    arms: tuple[str, ...] = ("sft", "seqkd", "kd_gold", "distilled")
    """Students to train: sft, seqkd, kd_gold (the method on gold rows only), distilled; with `tasks` also explained,
    and what `arms` declares."""
    constrained: bool | Literal["both"] = False
    """Answers to sessions that can be nothing but JSON of bundles of their own items; both: free and constrained."""
    batch_size: int = Field(default=64, gt=0, le=bounds.AT_ONCE)
    """Rows generated at once."""
    rows: int | None = Field(default=None, gt=0, le=bounds.ROWS)
    """Evaluate only so many test rows."""
    slices: tuple[str, ...] = ()
    """Fields of the data (kept in `meta`) by whose values figures are given too, such as `category`; `answerable` tells
    questions that the context answers from those that it leaves open."""
    resamples: int = Field(default=10_000, ge=100, le=bounds.RESAMPLES)
    """Resamples of bootstrap and randomisation."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Level of the intervals."""
    simulatability: bool = False
    """Train an observer and measure how much explanations help it to foresee the student's answers (arm explained)."""
    speed: bool = True
    """Time teacher and student at the end, each alone on the machine; best left off in a grid."""
