"""The section `candidates`: answers that the teacher scores, and how the student learns their distribution."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from understudy import bounds
from understudy.recipe.endpoint import Section


class CandidatesConfig(Section):
    """What the student of the arm `candidates` learns: several answers to a question, as the teacher weighs them."""

    source: Literal["auto", "choices", "written", "generate"] = "auto"
    """Where the answers come from: a row's `choices`; `written` by the teacher; kept texts of the step `answer` of
    `generate`; or `auto`, its choices where a row has some, else written."""
    number: int = Field(default=4, gt=0, le=bounds.REPEATS)
    """How many answers the teacher writes to a question: the first is its likeliest, the others are drawn. Of equal
    ones one is kept."""
    sampling_temperature: float = Field(default=1.0, gt=0, le=bounds.TEMPERATURE)
    """At which they are drawn."""
    gold: bool = True
    """Whether the gold answer, where there is one, is among the candidates."""
    score: Literal["mean", "sum"] = "mean"
    """How likely an answer is: `sum` of the log-probabilities of its tokens, stop token included, or their `mean`,
    which does not punish long ones."""
    temperature: float = Field(default=1.0, gt=0, le=bounds.TEMPERATURE)
    """Divides the scores of both models before the softmax over a question's candidates."""
    learn: Literal["distribution", "sequences"] = "distribution"
    """`distribution`: the student's own scores of the same candidates come to be the teacher's, beside writing.
    `sequences`: each candidate is a text to write, weighted by the teacher's probability."""
    divergence: str = "forward_kl"
    """Between the two distributions over candidates, as in `distil.divergence`."""
    distribution_weight: float = Field(default=0.5, ge=0, le=1)
    """Weight of that divergence; writing gets the rest."""
    gold_weight: float = Field(default=0.5, ge=0, le=1)
    """On rows with a gold answer, its share in what is written; the candidates share the rest as the teacher weighs
    them, and all of it on rows without."""

    @property
    def words(self) -> str:
        """What is learned, in a sentence's part."""
        if self.learn == "sequences":
            return "each as a text, weighted by the teacher's probability of it"
        return f"the teacher's distribution over them by `{self.divergence}` beside writing them"


ASKED = ("source", "number", "sampling_temperature", "gold")
"""The fields that decide which answers there are, not what is learned of them."""
