"""Knowledge written by people, shown to a teacher before it is asked for its own."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from understudy.errors import DataError
from understudy.files import read_jsonl
from understudy.knowledge.plan import PlannedStep
from understudy.knowledge.prompting import Prompts
from understudy.knowledge.step import Question, Skip, StepRandom
from understudy.types import Example, Knowledge, Message


@dataclass(frozen=True)
class Demonstration:
    """An example with what people wrote about it."""

    example: Example
    rows: tuple[Knowledge, ...]


def demonstrate(examples: Iterable[Example], rows: Iterable[Knowledge]) -> tuple[Demonstration, ...]:
    """Put rows to their examples; rows of no example and examples without rows are left out."""
    by_id: dict[str, list[Knowledge]] = {}
    for row in rows:
        by_id.setdefault(row.id, []).append(row)
    return tuple(Demonstration(example, tuple(by_id[example.id])) for example in examples if example.id in by_id)


def read_demonstrations(path: str | os.PathLike[str]) -> tuple[Demonstration, ...]:
    """Read demonstrations that stand alone in a file (.jsonl); rows as in `parse_demonstrations`.

    Raises:
        DataError: the file is absent, or a row is wrong; it is named.
    """
    return parse_demonstrations(read_jsonl(path), str(path))


def parse_demonstrations(rows: Iterable[Mapping[str, Any]], origin: str) -> tuple[Demonstration, ...]:
    """Demonstrations from rows, a text each, with `id`, `step`, `text`, perhaps `choice`.

    One row of each id, or several that say the same, also has `question` and whatever else there is of `choices`,
    `answers` and `context`.

    Args:
        rows: as they stand in a file.
        origin: where they come from, for messages.

    Raises:
        DataError: a row lacks a field, or an id has no question, or two different ones.
    """
    examples: dict[str, Example] = {}
    texts: list[Knowledge] = []
    for number, row in enumerate(rows, start=1):
        try:
            name = str(row["id"])
            if row["text"] is not None:  # A row of a run may hold a reason in its place.
                sample = int(row.get("sample") or 0)
                texts.append(Knowledge(name, str(row["step"]), str(row["text"]), row.get("choice"), sample))
            if row.get("question"):
                example = _example(name, row)
                examples[name] = _merged(examples.get(name, example), example)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{origin}: row {number} is no demonstration: {error}", hint="each needs id, step and text"
            ) from error
    without_question = [row.id for row in texts if row.id not in examples]
    if without_question:
        raise DataError(
            f"{origin}: no row of {without_question[0]!r} has a question",
            hint="put question, choices, answers into one",
        )
    for row in texts:
        if row.choice is not None and row.choice not in range(len(examples[row.id].choices)):
            raise DataError(
                f"{origin}: {row.id!r} has no option {row.choice!r}", hint="choice is a place among its choices, from 0"
            )
    return demonstrate(examples.values(), texts)


def _example(name: str, row: Mapping[str, Any]) -> Example:
    answers, choices = row.get("answers") or [], row.get("choices") or []
    if not isinstance(answers, list | tuple) or not isinstance(choices, list | tuple):
        raise TypeError("answers and choices are lists")
    context = None if row.get("context") is None else str(row["context"])
    return Example(name, str(row["question"]), tuple(map(str, answers)), context, tuple(map(str, choices)))


def _merged(before: Example, now: Example) -> Example:
    """One example of two rows that tell of it; what both tell must be the same."""
    for part in ("question", "answers", "context", "choices"):
        if getattr(before, part) and getattr(now, part) and getattr(before, part) != getattr(now, part):
            raise ValueError(f"{now.id!r} has another {part} further up")
    return replace(
        before,
        answers=before.answers or now.answers,
        context=before.context or now.context,
        choices=before.choices or now.choices,
    )


class FewShotTurns:
    """The demonstrations of a step, as earlier turns of the conversation: the same ones for every example.

    They are drawn once by the seed, one text of each demonstrated example before a second of any. An example that is
    among them is not shown its own.
    """

    def __init__(self, demonstrations: Sequence[Demonstration], prompts: Prompts, *, num: int, seed: int) -> None:
        self._demonstrations = random.Random(f"{seed}/shots").sample(list(demonstrations), len(demonstrations))
        self._prompts = prompts
        self._num = num
        self._seed = seed
        self._turns: dict[str, list[tuple[str, tuple[Message, ...]]]] = {}

    def before(self, step: PlannedStep, example: Example) -> tuple[Message, ...]:
        """The turns that stand before the question of an example."""
        if step.name not in self._turns:
            # One example's own shots at most are left out, so that many more have to be there.
            num_shots = self._num + max((len(demonstration.rows) for demonstration in self._demonstrations), default=0)
            shots = self._all(step) if self._num else iter(())
            self._turns[step.name] = [turn for turn, _ in zip(shots, range(num_shots), strict=False)]
        others = [turns for name, turns in self._turns[step.name] if name != example.id]
        return tuple(message for turns in others[: self._num] for message in turns)

    def _all(self, step: PlannedStep) -> Iterator[tuple[str, tuple[Message, ...]]]:
        examples = {
            demonstration.example.id: list(demonstrated_turns(demonstration, step, self._prompts, self._seed))
            for demonstration in self._demonstrations
        }
        for place in range(max(map(len, examples.values()), default=0)):
            for name, turns in examples.items():
                if place < len(turns):
                    question, text = turns[place]
                    yield name, (*question, Message("assistant", text))


def demonstrated_turns(
    demonstration: Demonstration, step: PlannedStep, prompts: Prompts, seed: int
) -> Iterator[tuple[tuple[Message, ...], str]]:
    """What a step would ask about a demonstrated example, each question with the text that people wrote."""
    rows = [row for row in demonstration.rows if row.step == step.name and row.text]
    if not rows:
        return
    known = step.sees(demonstration.rows)
    if step.lacks(known):
        return
    try:
        questions: list[Question] = list(
            step.step.asks(demonstration.example, known, StepRandom(seed, demonstration.example.id, prompts.pairs))
        )
        by_choice = {
            question.choice: prompts.turn(step.name, demonstration.example, question) for question in questions
        }
    except Skip:
        return
    for row in rows:
        if row.choice in by_choice and row.text:
            yield by_choice[row.choice], row.text
