"""The section `knowledge` of a recipe: how a student uses what was learned of training sessions in words."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from understudy import bounds
from understudy.recipe.endpoint import EndpointConfig, Section

Use = Literal["icl", "sft", "sft_icl"]
Format = Literal["patterns", "rules", "thoughts"]


class KnowledgeConfig(Section):
    """How the student of the arm `informed` uses what is known of sessions (`understudy docs bundles`)."""

    use: Use = "sft_icl"
    """icl: in the prompt, nothing is trained; sft: to learn from, nothing in the prompt; sft_icl: both."""
    formats: tuple[Format, ...] = ("patterns", "rules", "thoughts")
    """What of the knowledge is used; an empty list: nothing but the neighbours."""
    tokens: int = Field(default=256, ge=0, le=bounds.TOKENS)
    """Tokens that knowledge may add to a prompt, turns of neighbours included, as the student's tokenizer counts."""
    neighbours: int = Field(default=1, ge=0, le=bounds.REPEATS)
    """Nearest training sessions that stand in the prompt with their answers; with thoughts, of those that have any."""
    thoughts: Literal["beside", "before"] = "beside"
    """Where thoughts are written: as a task of their own, or before every answer (then raise max_answer_tokens)."""
    weight: float = Field(default=0.2, ge=0, lt=1)
    """Share of statements and of thoughts beside answers in the loss, where something is learned of them."""
    vectors: Literal["words", "embedding"] = "words"
    """By what sessions are near: words of their titles, or the metrics' sentence model."""
    folder: str | None = None
    """A folder with statements.jsonl or thoughts.jsonl, or another run that wrote them. Default: this run's own."""
    endpoint: EndpointConfig | None = None
    """Who answers in place of the recipe's student: a model on a server, which is sent the knowledge (use: icl)."""

    @property
    def in_prompt(self) -> bool:
        """Whether knowledge stands in the prompts."""
        return self.use != "sft"

    @property
    def trains(self) -> bool:
        """Whether a student is trained."""
        return self.use != "icl"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """A server's model is not trained; thoughts before answers are there to be learned or shown."""
        if self.endpoint is not None and self.trains:
            raise ValueError(f"knowledge.endpoint: a model on a server is not trained, and use is {self.use}")
        if len(set(self.formats)) < len(self.formats):
            raise ValueError("knowledge.formats names a format twice")
        return self
