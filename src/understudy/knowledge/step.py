r"""What a step of generation is, the table of all steps, and steps of your own.

A step says what to ask about an example and how to read what comes back. In one file of your own:

```python
from understudy.knowledge.step import Question, step

@step("summary", needs=("explain",))
def summary(example, known, draw):
    '''The explanation in one sentence.'''
    yield Question.of(f"Say this in one sentence: {known.text('explain')}")
```

A class with a method `asks` of these arguments (without a first argument, as `self`) may have `read` beside it, which
turns the teacher's text into the one that is kept.

A step whose scope is the data set sees all examples at once, and what earlier steps wrote about them. It may ask as
often as it likes, or nobody at all:

```python
from understudy.knowledge.step import Learned, Question, step

@step("common_words", scope="dataset")
def common_words(data):
    '''What half of the questions are about.'''
    shown = "\n".join(example.question for example in data.examples)
    answers = data.ask({"all": Question.of(f"What do these have in common?\n{shown}")})
    for text in answers.values():
        yield Learned(text)
```
"""

from __future__ import annotations

import inspect
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from understudy.errors import ConfigError, unknown
from understudy.extensions import claim, load_all, registered_by
from understudy.types import Example, Knowledge, Message

if TYPE_CHECKING:
    from understudy.recipe.knowledge import GenerateConfig

Scope = Literal["example", "dataset"]
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
class Learned:
    """One text that a step of the data set comes to.

    Attributes:
        text: of it; None where none came, and `reasons` say why.
        id: the example it is about; empty where it is about all.
        reasons: why it is not to be learned from; empty where it is kept.
        details: what else is known of it, JSON-able.
    """

    text: str | None
    id: str = ""
    reasons: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


class Renders(Protocol):
    """Prompts from files."""

    def render(self, name: str, values: Mapping[str, Any], /) -> str:
        """The prompt of a file, filled with values."""
        ...


class DataSet(Protocol):
    """What a step of the data set is given."""

    @property
    def examples(self) -> Sequence[Example]:
        """All that are written about."""
        ...

    @property
    def config(self) -> GenerateConfig:
        """The section of the recipe."""
        ...

    @property
    def prompts(self) -> Renders:
        """Ours, with the user's in their place."""
        ...

    def texts(self, step: str) -> Sequence[Knowledge]:
        """What an earlier step wrote and was kept, of examples or of all of them."""
        ...

    def ask(self, questions: Mapping[str, Question], *, most: int | None = None) -> dict[str, str]:
        """What the teacher answers; a name of a question → its text.

        What was answered before, by a run that was killed, is not asked again. A question without an answer – it never
        came, or `generate.sessions.max_calls` or `max_tokens` is spent – has no entry.

        Args:
            questions: by a name, which is the same each time; each with its own messages.
            most: how many of them to ask at most, the first ones.
        """
        ...

    @property
    def calls_left(self) -> float:
        """How many more questions this step may ask."""
        ...


class Learns(Protocol):
    """What a step of the data set does."""

    def __call__(self, data: DataSet, /) -> Iterable[Learned]:
        """Its texts."""
        ...


@dataclass(frozen=True)
class Step:
    """A registered step.

    Attributes:
        name: of the step, its file and its prompt.
        asks: what to ask about an example; nothing in a step of the data set.
        read: from the teacher's text to the one that is kept.
        needs: steps that must stand before it; one without a kept text leaves nothing to ask.
        after: steps that it waits for where they stand before it.
        rationale: whether its texts argue for the right answer.
        sampled: whether it is asked `generate.samples` times.
        max_tokens: longest text.
        origin: the file that registered it.
        learns: what a step of the data set does; None of one that goes by examples.
        reads: names of further prompts that it asks by.
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
    learns: Learns | None = None
    reads: tuple[str, ...] = ()

    @property
    def scope(self) -> Scope:
        """What it sees at once."""
        return "dataset" if self.learns else "example"


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
    scope: Scope = "example",
    reads: Sequence[str] = (),
) -> Callable[[Any], Any]:
    """Register the function or class below as a step; arguments as in `Step`.

    Raises:
        ConfigError: the name is taken, or is no plain word; no such scope; a step of the data set that is sampled.
    """
    if scope not in ("example", "dataset"):
        raise unknown("scope", scope, ("example", "dataset"))
    if scope == "dataset" and sampled:
        raise ConfigError(f"step {name}: scope dataset is not sampled", hint="let it ask as often as it needs itself")

    def register(questions: Any) -> Any:
        if not name.isidentifier():
            raise ConfigError(f"{name!r} is no name for a step", hint="letters, digits and underscores")
        code = getattr(getattr(questions, "asks", questions), "__code__", None)
        origin = code.co_filename if code else questions.__module__
        claim("step", name, STEPS)
        thing: Any = questions() if inspect.isclass(questions) else questions
        asks, read = getattr(thing, "asks", thing), getattr(thing, "read", str.strip)
        learns = asks if scope == "dataset" else None
        asks = _asks_nothing if learns else asks
        more = {"needs": tuple(needs), "after": tuple(after), "reads": tuple(reads), "learns": learns}
        STEPS[name] = Step(
            name, asks, read, rationale=rationale, sampled=sampled, max_tokens=max_tokens, origin=origin, **more
        )
        return questions

    return register


def _asks_nothing(example: Example, known: PriorTexts, draw: StepRandom) -> Iterable[Question]:
    return ()


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
