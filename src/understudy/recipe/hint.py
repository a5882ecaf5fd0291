"""What a teacher reads and its student does not: the section `teacher.hint`."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from understudy.recipe.endpoint import Section

MARK = "{}"
"""Stands in `hint.text` where the field goes."""
RATIONALE = "rationale"
"""The name in `hint.field` of a row's first rationale."""

SolvedQuestion = Annotated[tuple[str, ...], Field(min_length=2, max_length=2)]
"""A question and its answer."""


class HintConfig(Section):
    """What the teacher is told beside the question, in training, when it answers and when it is measured."""

    system: str = ""
    """Instructions, as a system prompt; behind `data.system`, where there is one."""
    examples: tuple[SolvedQuestion, ...] = ()
    """Questions with their answers, as turns before the question: `[["Which port does GTP-U use?", "2152"]]`."""
    field: str | None = None
    """A field of the row that stands before the question as context does: one of its own columns, or `rationale`."""
    text: str = MARK
    """How the field is worded; `{}` is its value: `Hint: {}`."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        """Something has to be told."""
        if not (self.system or self.examples or self.field):
            raise ValueError("hint: give system, examples or field")
        if self.text.count(MARK) != 1:
            raise ValueError("hint.text: write {} once, where the field goes")
        if self.text != MARK and not self.field:
            raise ValueError("hint.text words hint.field: name the field")
        return self
