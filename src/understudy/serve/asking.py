"""Several models of a run asked one question at once, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from understudy.errors import UnderstudyError, unknown
from understudy.run import Run
from understudy.serve.answers import Answer, Parting, answer_with, example_of, parting
from understudy.serve.exchange import Thumb
from understudy.serve.feedback import row_of, unlabelled, write_thumb
from understudy.serve.opening import calibration_of
from understudy.serve.sides import Opening, Side, open_side
from understudy.types import Example


@dataclass(frozen=True)
class Asked:
    """What several models said to one question.

    Attributes:
        example: the question.
        answers: of the models that answered, in the order in which they were asked.
        faults: model -> why it did not.
        partings: model -> where its answer parts from the first model's.
    """

    example: Example
    answers: Sequence[Answer]
    faults: Mapping[str, str] = field(default_factory=dict)

    @property
    def first(self) -> str:
        """The model with whose answer the others are compared."""
        return self.answers[0].model if self.answers else ""

    @property
    def partings(self) -> dict[str, Parting]:
        """Model -> where its answer parts from the first model's."""
        pairs = ((answer.model, parting(answer.answer, self.answers[0].answer)) for answer in self.answers[1:])
        return {name: place for name, place in pairs if place is not None}

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "question": self.example.question,
            "context": self.example.context,
            "choices": list(self.example.choices),
            "answers": [answer.to_json() for answer in self.answers],
            "faults": dict(self.faults),
            "parts_from": self.first or None,
            "partings": {name: place.to_json() for name, place in self.partings.items()},
        }

    def keep(self, model: str, verdict: str, path: Path, *, correction: str | None = None) -> Path:
        """Keep what is thought of one model's answer; the file it went to.

        Raises:
            ConfigError: this model gave no answer.
            RunError: the file cannot be written.
        """
        answers = {answer.model: answer for answer in self.answers}
        if model not in answers:
            raise unknown("model", model, answers)
        example, answer = self.example, answers[model]
        thumb = Thumb(
            cast(Literal["up", "down"], verdict),
            example.question,
            answer.answer,
            model,
            example.context,
            example.choices,
            correction,
            confidence=answer.confidence,
        )
        write_thumb(path, thumb)
        return path if "answers" in row_of(thumb) else unlabelled(path)


class Panel:
    """Models of a run that are asked side by side; the event loop is its own."""

    def __init__(self, run: Run, sides: Sequence[Side], runner: asyncio.Runner) -> None:
        self._sides, self._runner = sides, runner
        self._calibration = calibration_of(run)

    @classmethod
    @contextmanager
    def open(cls, run: Run, names: Sequence[str], *, device: str | None = None) -> Iterator[Panel]:
        """Load the models, and end them.

        Args:
            run: the run folder.
            names: of the models.
            device: where they go; None: as the recipe says.

        Raises:
            ConfigError: the run has no such model.
            RunError: it was not trained yet.
            ModelError: it cannot be loaded.
        """
        with asyncio.Runner() as runner:
            sides = [open_side(run, name, Opening(device=device)) for name in dict.fromkeys(names)]
            try:
                yield cls(run, sides, runner)
            finally:
                for side in sides:
                    runner.run(side.close())

    @property
    def names(self) -> list[str]:
        """Of the models."""
        return [side.name for side in self._sides]

    def check_named(self, names: Sequence[str]) -> None:
        """Refuse a model that is not asked.

        Raises:
            ConfigError: it is none of these.
        """
        for name in names:
            if name not in self.names:
                raise unknown("model", name, self.names)

    def ask(self, question: str, context: str | None = None, choices: Sequence[str] = ()) -> Asked:
        """Ask all of them, one after the other, so that each has the machine to itself.

        Raises:
            UnderstudyError: no model could answer.
        """
        example = example_of(question, context, choices)
        answers: list[Answer] = []
        faults: dict[str, UnderstudyError] = {}
        for side in self._sides:
            own = self._calibration if self._calibration and self._calibration.arm == side.arm else None
            try:
                answers.append(self._runner.run(answer_with(side, example, calibration=own)))
            except UnderstudyError as fault:
                faults[side.name] = fault
        if not answers:
            raise next(iter(faults.values()))
        return Asked(example, answers, {name: fault.message for name, fault in faults.items()})
