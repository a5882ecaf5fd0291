"""Several answers to a question as soft labels: the student's distribution over them comes to be the teacher's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from understudy.losses import HeadLosses, HeadTerms, Pass, Passes, run_passes
from understudy.losses.divergences import Divergence
from understudy.losses.sources import CandidateLogits
from understudy.losses.token_logp import token_logp
from understudy.models.kinds.choosing import scattered
from understudy.models.output import Output, VocabularyOutput
from understudy.teachers.signals import Signal
from understudy.training.objectives.base import Objective, Result, statistics_sums
from understudy.types import Batch


class CandidateDistribution(Objective):
    """Divergence over each question's candidates, beside writing them.

    L = Σ_b d · D(p_b, q_b) + (1 − d) · Σ_k t_bk · (−m_bk),   a mean over the questions of a step

    m_bk = (1/L_k) Σ_i log q(y_ki | y_k<i, x_b) is the student's mean log-probability of the tokens of candidate k, and
    its score s_bk that mean or the sum. q_b = softmax(s_b / τ) and p_b = softmax(teacher's scores / τ) run over the
    candidates of the question; t_bk are shares of what is written (`tokens.weighed`). D alone would say nothing of how
    likely an answer is among all texts, so a student that is to write needs the second part.

    Args:
        divergence: D.
        temperature: τ.
        weight: d.
        score: what a score is.
    """

    def __init__(
        self, divergence: Divergence, *, temperature: float = 1.0, weight: float = 0.5, score: str = "mean"
    ) -> None:
        super().__init__()
        self.divergence, self.temperature, self.weight, self.score = divergence, temperature, weight, score

    def forward(self, student: Output, signal: Signal | None, batch: Batch) -> Result:
        """See the class; every question counts as one target."""
        assert isinstance(student, VocabularyOutput), "the gate lets pass no student that does not write"
        steps = run_passes(self.passes(student, signal, batch))
        written = -(_on(student, batch["shares"]) * self.means(student, batch)).sum()  # pyright: ignore
        total = steps[0][1].total + (1 - self.weight) * written
        return Result(total, self.sums(steps, student, batch) | {"written": written.detach()})

    def passes(self, student: Output, signal: Signal | None, batch: Batch) -> Passes:
        """Over the candidates of each question."""
        scores = self.means(student, batch)
        if self.score == "sum":
            scores = scores * self._scattered(torch.tensor(student.lengths, device=student.device).float(), batch)
        mask = batch["student"]["candidates"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
        weights = scores.new_full((len(scores),), self.weight)
        terms = HeadTerms(
            self.divergence, temperature=self.temperature, token_weights=weights, statistics=self.statistics
        )
        teacher = CandidateLogits(_on(student, batch["scores"]), mask)  # pyright: ignore
        yield Pass(CandidateLogits(scores, mask), teacher, terms, names={"divergence": "divergence"})

    def means(self, student: Output, batch: Batch) -> Tensor:
        """`[B, K]` m, 0 where there is no candidate."""
        assert isinstance(student, VocabularyOutput)
        logp = token_logp(student.states, student.target_ids)
        return self._scattered(torch.stack([row.mean() for row in logp.split(list(student.lengths))]), batch)

    def _scattered(self, values: Tensor, batch: Batch) -> Tensor:
        return scattered(values, batch["student"]["candidates"])  # pyright: ignore[reportTypedDictNotRequiredAccess]

    def sums(self, steps: Sequence[tuple[Pass, HeadLosses]], student: Output, batch: Batch) -> dict[str, Tensor]:
        """See the base class: `tokens` are questions."""
        losses = steps[0][1]
        assert losses.divergence is not None
        questions = torch.tensor(float(len(losses.divergence)), device=student.device)
        measured = statistics_sums(losses, student)
        if "measured_tokens" in measured:
            measured["measured_tokens"] = questions
        return {"divergence": losses.divergence.sum(), "tokens": questions} | measured


def _on(student: Output, values: Tensor) -> Tensor:
    return values.to(student.device)
