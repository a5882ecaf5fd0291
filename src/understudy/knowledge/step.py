"""What a step of generation is, the table of all steps, and steps of your own.

A step says what to ask about an example and how to read what comes back. In one file of your own:

```python
from understudy.knowledge.step import Question, step

@step("summary", needs=("explain",))
def summary(example, known, draw):
    \"\"\"The explanation in one sentence.\"\"\"
    yield Question.of(f"Say this in one sentence: {known.text('explain')}")
```

A class with a method `asks` of these arguments (without a first argument, as `self`) may have `read` beside it, which
turns the teacher's text into the one that is kept.
"""

from __future__ import annotations

import inspect
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from understudy.errors import ConfigError, unknown
from understudy.extensions import claim, load_all, registered_by
from understudy.types import Example, Knowledge, Message

RATIONALE = "rationale"
"""Stands among what a step needs for every step before it whose texts argue for the right answer."""

DEFAULT_MAX_TOKENS = 160
"""Longest text of a step that names no length of its own."""


class Skip(Exception):
    """There is nothing to ask about this example, or nothing to keep of an answer; the text says why."""


@dataclass(frozen=True)
class Question:
    """One question about an example.

    Attributes:
        variables: what the step's prompt is filled with, beside the example's own texts.
        choice: place of the wrong option it is about, if it is about one.
        sample: which of several answers to the same question.
        messages: the conversation itself, in place of a prompt from a file.
        schema: JSON schema of the answer.
        parameters: what else belongs into the provenance.
    """

    variables: Mapping[str, Any] = field(default_factory=dict)
    choice: int | None = None
    sample: int = 0
    messages: tuple[Message, ...] = ()
    schema: Mapping[str, Any] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str, **others: Any) -> Question:
        """A question in the step's own words, without a prompt file."""
        return cls(messages=(Message("user", text),), **others)


@dataclass(frozen=True)
class PriorTexts:
    """What was written about an example before, as far as a step waits for it; the newest step's rows last."""

    rows: tuple[Knowledge, ...] = ()

    def kept(self, name: str) -> list[Knowledge]:
        """The rows of a step that were not rejected."""
        return [row for row in self.rows if row.step == name and row.kept]

    def text(self, name: str) -> str | None:
        """The newest kept text of a step; None without one."""
        rows = self.kept(name)
        return rows[-1].text if rows else None

    def rationale(self) -> str | None:
        """The newest kept text that argues for the right answer; one written blind only where there is no other."""
        rationales = [row for row in self.rows if row.kept and row.choice is None and is_rationale(row.step)]
        seeing = [row for row in rationales if row.step != "explain_blind"]
        return (seeing or rationales)[-1].text if rationales else None


@dataclass(frozen=True)
class CritiqueRevision:
    """A request for critique and the request for revision that belongs to it."""

    critique: str
    revision: str


@dataclass(frozen=True)
class StepRandom:
    """Chance, the same for the same seed and example, in whatever order examples come.

    Attributes:
        seed: the recipe's.
        id: the example's.
        pairs: requests for critique and revision to draw from.
    """

    seed: int
    id: str
    pairs: tuple[CritiqueRevision, ...] = ()

    def number(self, below: int, purpose: str = "") -> int:
        """A number from 0 to `below` - 1."""
        return random.Random(f"{self.seed}/{self.id}/{purpose}").randrange(below)

    @property
    def pair(self) -> int:
        """Place of the drawn pair; critique and revision of one example draw the same."""
        return self.number(len(self.pairs), "pair")


class Questions(Protocol):
    """What to ask about an example."""

    def __call__(self, example: Example, known: PriorTexts, draw: StepRandom, /) -> Iterable[Question]:
        """Any number of questions; `Skip` where there is none."""
        ...


@dataclass(frozen=True)
class Step:
    """A registered step.

    Attributes:
        name: of the step, its file and its prompt.
        asks: what to ask.
        read: from the teacher's text to the one that is kept.
        needs: steps that must stand before it; one without a kept text leaves nothing to ask.
        after: steps that it waits for where they stand before it.
        rationale: whether its texts argue for the right answer.
        sampled: whether it is asked `generate.samples` times.
        max_tokens: longest text.
        origin: the file that registered it.
    """

    name: str
    asks: Questions
    read: Callable[[str], str]
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    rationale: bool = False
    sampled: bool = False
    max_tokens: int = DEFAULT_MAX_TOKENS
    origin: str = ""


STEPS: dict[str, Step] = {}
"""All steps by name; `step` adds to it."""


def step(
    name: str,
    *,
    needs: Sequence[str] = (),
    after: Sequence[str] = (),
    rationale: bool = False,
    sampled: bool = False,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> Callable[[Any], Any]:
    """Register the function or class below as a step; arguments as in `Step`.

    Raises:
        ConfigError: the name is taken, or is no plain word.
    """

    def register(questions: Any) -> Any:
        if not name.isidentifier():
            raise ConfigError(f"{name!r} is no name for a step", hint="letters, digits and underscores")
        code = getattr(getattr(questions, "asks", questions), "__code__", None)
        origin = code.co_filename if code else questions.__module__
        claim("step", name, STEPS)
        thing: Any = questions() if inspect.isclass(questions) else questions
        asks, read = getattr(thing, "asks", thing), getattr(thing, "read", str.strip)
        STEPS[name] = Step(name, asks, read, tuple(needs), tuple(after), rationale, sampled, max_tokens, origin)
        return questions

    return register


def is_rationale(name: str) -> bool:
    """Whether a step's texts argue for the right answer."""
    return name in STEPS and STEPS[name].rationale


def is_sampled(name: str) -> bool:
    """Whether a step has several answers to one question."""
    return name in STEPS and STEPS[name].sampled


def find_step(name: str) -> Step:
    """The step of a name.

    Raises:
        ConfigError: there is none; the nearest is named.
    """
    if name not in STEPS:
        raise unknown("step", name, STEPS, hint="own_steps names files with more")
    return STEPS[name]


def load_user_steps(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Run files that register steps; the names of what they registered.

    Raises:
        ConfigError: a file is absent, fails, or registers no step.
    """
    names: list[str] = []
    for extension in load_all(list(paths), "generate.own_steps"):
        steps = registered_by(extension, STEPS)
        if not steps:
            raise ConfigError(
                f"{extension.path} registers no step",
                hint='put @step("a_name") from understudy.knowledge.step before yours',
            )
        names += steps
    return names
