"""The sections of a method that decide what it is trained on as it learns: rollouts of the student, and schedules."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from understudy import bounds
from understudy.recipe.endpoint import Section, TransportConfig


class EngineConfig(TransportConfig):
    """A server that writes the student's answers, such as vLLM; give `model`, `base_url` and `folder`."""

    model: str = ""
    """The student's name at the endpoint."""
    folder: str = ""
    """The folder that the server was started on; the student's weights are written there, and it is asked to reload."""
    every: int = Field(default=8, gt=0, le=bounds.ROWS)
    """Optimiser steps between two weights; drawn answers are as old as those that the server has."""


class OnPolicyConfig(Section):
    """Train on what the student itself writes, judged by the teacher (`understudy docs on-policy`)."""

    share: float = Field(default=0.5, gt=0, le=1)
    """Share λ of the optimiser steps that learn answers of the student; the others learn the given ones. At 1 no row
    needs an answer."""
    loss: Literal["divergence", "policy_gradient", "contrastive"] = "divergence"
    """`divergence`: the method's own on what the student wrote (GKD). `policy_gradient`: reverse KL of whole answers
    (MiniLLM). `contrastive`: skewed forward KL on the given answer beside skewed reverse KL on the student's to the
    same question (DistiLLM-2)."""
    divergence: str | None = None
    """Of what the student wrote; default: that of the method (`policy_gradient`: reverse_kl; `contrastive`:
    skew_reverse_kl, and skew_forward_kl on given answers)."""
    skew: float = Field(default=0.1, ge=0, lt=1)
    """Of the two divergences of `contrastive`."""
    rollout_weight: float = Field(default=1.0, gt=0, le=bounds.FACTOR)
    """Multiplies the loss of what the student wrote."""
    temperature: float = Field(default=1.0, gt=0, le=bounds.TEMPERATURE)
    """Sampling temperature."""
    max_new_tokens: int | None = Field(default=None, gt=0, le=bounds.TOKENS)
    """Longest answer of the student; default: `data.max_answer_tokens`."""
    teacher_mixed: float = Field(default=0.0, ge=0, lt=1)
    """Share of the teacher in the distribution that answers are drawn from (MiniLLM: 0.2); one vocabulary alone."""
    buffer: int = Field(default=1, gt=0, le=bounds.ROWS)
    """Steps whose answers are drawn at once, with the weights of the first of them; larger batches, staler rows."""
    max_age: int | None = Field(default=None, ge=0, le=bounds.ROWS)
    """Answers drawn by weights of more optimiser steps ago are thrown away and drawn anew; default: none are."""
    importance: Literal["none", "token", "prefix"] = "none"
    """Weigh stale or mixed answers by q_now / q_then: of the token itself (MiniLLM), or of the tokens before it, which
    is right on average."""
    importance_cap: float = Field(default=2.0, gt=0, le=bounds.FACTOR)
    """Largest such weight."""
    length_normalised: bool = True
    """`policy_gradient`: mean of the rewards that follow a token, not their sum (MiniLLM)."""
    top_k: int | None = Field(default=None, gt=0, le=bounds.TOP_K)
    """Reverse KL over the student's so many likeliest tokens alone; biased, unless `stop_gradient`."""
    stop_gradient: bool = True
    """`top_k`: take the terms as constant weights of the score function, so that what is left out adds no bias of the
    first order."""
    batch_size: int = Field(default=64, gt=0, le=bounds.AT_ONCE)
    """Prompts that are answered at once."""
    engine: EngineConfig | None = None
    """A server that writes the student's answers; default: the student writes them in this process."""


class RampConfig(Section):
    """A number that changes over the optimiser steps."""

    start: float = Field(default=1.0, ge=0, le=bounds.TEMPERATURE)
    """At the first step."""
    end: float = Field(default=1.0, ge=0, le=bounds.TEMPERATURE)
    """At the last step."""
    shape: Literal["linear", "cosine"] = "linear"
    """In between: a straight line, or half a cosine, flat at both ends."""


class TaidConfig(Section):
    """The teacher interpolated with the student itself (TAID, arXiv 2501.16937)."""

    start: float = Field(default=0.4, ge=0, le=1)
    """The teacher's share t at the first step."""
    end: float = Field(default=1.0, gt=0, le=1)
    """At the last."""
    rate: float = Field(default=5e-4, ge=0, le=1)
    """How far t may run ahead of the straight line in a step; 0: it keeps to the line."""
    momentum: float = Field(default=0.99, ge=0, lt=1)
    """Of the relative change of the divergence, by which t moves."""


class AdaptConfig(Section):
    """How a method changes while it learns, and which rows it trusts (`understudy docs on-policy`)."""

    temperature: RampConfig | None = None
    """Schedule of the loss temperature; `loss_temperature` is then not read."""
    gold_weight: RampConfig | None = None
    """Schedule of `gold_weight`."""
    taid: TaidConfig | None = None
    """Learn from a teacher that begins as the student."""
    by_confidence: float = Field(default=0.0, ge=0, le=bounds.FACTOR)
    """Weigh the teacher's part of a row by c^by_confidence, c = 1 − H/log V of the teacher, mean over its tokens."""
    by_difficulty: float = Field(default=0.0, ge=0, le=bounds.FACTOR)
    """Weigh a row by d^by_difficulty, d = 1 − the student's geometric mean probability of its tokens."""
    max_teacher_entropy: float | None = Field(default=None, gt=0, le=bounds.FACTOR)
    """The teacher is not heard on rows where its mean entropy exceeds so many nats."""
    min_gold_agreement: float | None = Field(default=None, gt=0, le=1)
    """Nor on gold rows where less than this share of the tokens is the teacher's likeliest."""
    min_teacher_agreement: float | None = Field(default=None, gt=0, le=1)
    """Nor where, of several teachers that are averaged, two find the same token likeliest on less than this share."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        """Values that mean something."""
        if self.temperature and not min(self.temperature.start, self.temperature.end) > 0:
            raise ValueError("adapt.temperature: a temperature is above 0")
        if self.gold_weight and max(self.gold_weight.start, self.gold_weight.end) > 1:
            raise ValueError("adapt.gold_weight: a share lies between 0 and 1")
        return self

    @property
    def filters(self) -> bool:
        """Whether the teacher may go unheard on a row."""
        return any((self.max_teacher_entropy, self.min_gold_agreement, self.min_teacher_agreement))

    @property
    def weighs(self) -> bool:
        """Whether rows are looked at before they are learned."""
        return self.filters or self.by_confidence > 0 or self.by_difficulty > 0
