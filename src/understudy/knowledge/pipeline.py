"""All steps over all examples in one stream of questions.

A step of an example is asked as soon as the steps it waits for are there, so that the teacher always has as many
questions under way as it takes; no step waits for other examples. Examples are drawn as there is room and written in
their order as they are finished, so memory does not grow with their number.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from understudy.errors import ConfigError, UnderstudyError
from understudy.files import fingerprint, fingerprint_file
from understudy.knowledge import steps as _steps  # noqa: F401  (registers them)
from understudy.knowledge.counts import summary
from understudy.knowledge.demonstrations import Demonstration, Shots, lessons_of, read_demonstrations
from understudy.knowledge.plan import Planned, plan_steps, settings_of
from understudy.knowledge.prompting import Prompts
from understudy.knowledge.quality import Filter, is_judged
from understudy.knowledge.quality import reasons as reasons_of
from understudy.knowledge.step import Ask, Draw, Skip, load_own
from understudy.knowledge.store import Store, read
from understudy.recipe import EndpointConfig
from understudy.recipe.knowledge import GenerateConfig
from understudy.teachers.completers import completer as made
from understudy.types import Completer, Completion, Example, Knowledge, Message, Provenance, Request

MOST_OPEN = 2_048
"""So many examples may wait for an earlier one before no further is begun: one answer may be long in coming."""

PASSING = ("rate limit", "server", "connection", "timeout")
"""Kinds of reason for which no answer came that another time may not hold; such examples are asked about again."""

Progress = Callable[[int, int, str], None]


def generate(
    examples: Iterable[Example],
    config: GenerateConfig,
    completer: Completer,
    folder: str | os.PathLike[str],
    *,
    demonstrations: Sequence[Demonstration] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Have a teacher write about examples; what is in the folder already is not asked for again.

    Args:
        examples: with unique ids; drawn as there is room.
        config: steps, prompts, settings.
        completer: who writes; its cache is what makes every call once when the process is killed.
        folder: of the rows (`knowledge/store.py`).
        demonstrations: shown before each question.
        progress: called with (finished, of how many or 0, note).

    Returns:
        A record, JSON-able: `steps` (see `counts.summary`), `examples` seen, `finished`, `left`, and `stopped`: why
        not all was asked, empty where it was. The same call later goes on with what is left.

    Raises:
        ConfigError: the section is wrong, or a prompt or a step of your own fails.
        TeacherError: the teacher will answer nothing at all; what was written stays.
        RunError: the folder cannot be written.
    """
    writer = Writer(config, completer, demonstrations)
    with Store(folder, config.steps, writer.identity) as store:
        stream = _Stream(writer, store, _filter(config, folder), examples, progress)
        stream.run(completer)
    return {
        "teacher": completer.name,
        "examples": stream.seen,
        "finished": stream.finished,
        "left": stream.left,
        "stopped": stream.stopped,
        "steps": summary(folder, config.steps),
    }


def check(config: GenerateConfig) -> None:
    """Refuse what can be refused before anything is asked or loaded: steps, prompts, settings, demonstrations, teacher.

    Raises:
        ConfigError: something of it is wrong.
        DataError: the file of demonstrations is.
    """
    load_own(config.own_steps)
    plan_steps(config, config.teacher)
    prompts = Prompts(config.prompts, config.steps)
    assert prompts.pairs
    prompts.check()
    if config.demonstrations is not None:
        read_demonstrations(config.demonstrations)
    if config.teacher is not None:
        made(config.teacher)


def _filter(config: GenerateConfig, folder: str | os.PathLike[str]) -> Filter:
    """The filter, with what was kept earlier in mind."""
    found = Filter(config.filter)
    if config.filter.near_duplicate is not None:
        for name in config.steps:
            for row in read(folder, name):
                found.remember(row)
    return found


def lessons(config: GenerateConfig, demonstrations: Sequence[Demonstration]) -> list[Example]:
    """The demonstrations as rows to fine-tune a teacher on: each step's question, without shots, and what people wrote.

    Raises:
        ConfigError: as in `generate`.
    """
    load_own(config.own_steps)
    prompts = Prompts(config.prompts, config.steps)
    found = []
    for planned in plan_steps(config.model_copy(update={"samples": 1})):
        for shown in demonstrations:
            for place, (asked, text) in enumerate(lessons_of(shown, planned, prompts, config.seed)):
                *earlier, last = (*prompts.system, *asked)
                name = f"{shown.example.id}/{planned.name}/{place}"
                found.append(Example(name, last.content, (text,), history=tuple(earlier)))
    return found


class Writer:
    """What to ask about an example, and how to keep what comes back.

    Attributes:
        plan: the steps in their order.
        identity: whatever can change the texts, JSON-able.
    """

    def __init__(self, config: GenerateConfig, completer: Completer, demonstrations: Sequence[Demonstration]) -> None:
        load_own(config.own_steps)
        self._endpoint = config.teacher or getattr(completer, "config", None)
        self._config = config
        self._teacher = completer.name
        self.plan = plan_steps(config, self._endpoint)
        self._prompts = Prompts(config.prompts, config.steps)
        self._shots = Shots(demonstrations, self._prompts, num=config.shots, seed=config.seed)
        self.identity = {
            "teacher": self._teacher,
            "temperature": self._temperature(None),
            "steps": [settings_of(each, self._prompts.fingerprint(each.name)) for each in self.plan],
            "pairs": fingerprint([[pair.critique, pair.revision] for pair in self._prompts.pairs]),
            "own_steps": [fingerprint_file(Path(path).expanduser()) for path in config.own_steps],
            "shots": [config.shots, fingerprint([repr(each) for each in demonstrations])],
            "seed": config.seed,
            "filter": config.filter.model_dump(),
        }

    def asks(self, planned: Planned, example: Example, rows: Sequence[Knowledge]) -> list[Ask]:
        """The questions of a step.

        Raises:
            Skip: there is none.
            ConfigError: a step of the user's own fails.
        """
        known = planned.sees(rows)
        if lacking := planned.lacks(known):
            raise Skip(lacking)
        draw = Draw(self._config.seed, example.id, self._prompts.pairs)
        with _own_faults(planned, example):
            found = list(planned.step.asks(example, known, draw))
        if not found:
            raise Skip("nothing to ask")
        return found

    def request(self, name: str, planned: Planned, example: Example, ask: Ask, sample: int) -> tuple[Request, dict]:
        """The request for a question, and the parameters of its provenance."""
        shots = self._shots.before(planned, example)
        asked = self._prompts.turn(planned.name, example, ask)
        # A conversation of the step's own may begin with a system turn of its own.
        system = () if asked[0].role == "system" else self._prompts.system
        first = asked[:1] if asked[0].role == "system" else ()
        messages = (*system, *first, *shots, *asked[len(first) :])
        request = Request(name, messages, ask.schema, sample, planned.temperature, planned.max_tokens)
        parameters = {
            "prompt": planned.name,
            "prompt_fingerprint": self._prompts.fingerprint(planned.name),
            "temperature": self._temperature(planned.temperature),
            "max_tokens": planned.max_tokens,
            "shots": len(shots) // 2,
            **ask.parameters,
        }
        return request, parameters

    def row(
        self, planned: Planned, example: Example, ask: Ask, request: Request, parameters: Mapping, answer: Completion
    ) -> Knowledge:
        """What became of a question."""
        text, reasons = None, (answer.reason,) if answer.text is None else ()
        if answer.text is not None:
            try:
                with _own_faults(planned, example):
                    text = planned.step.read(answer.text)
                reasons = () if text else ("empty: nothing was left of the answer",)
            except Skip as skip:
                reasons = (f"unusable: {skip}",)
        made = Knowledge(
            example.id,
            planned.name,
            text or None,
            ask.choice,
            request.sample,
            reasons,
            Provenance(
                self._teacher,
                messages_fingerprint(request.messages),
                parameters,
                answer.input_tokens,
                answer.output_tokens,
                cost_of(self._endpoint, answer.input_tokens, answer.output_tokens),
                round(answer.seconds, 4),
                answer.cached,
            ),
        )
        # What later steps are to build on is judged now, by itself; the rest when all of the example is there.
        if made.kept and is_judged(made):
            return replace(made, reasons=reasons_of(made, example, self._config.filter))
        return made

    def _temperature(self, own: float | None) -> float | None:
        return own if own is not None else getattr(self._endpoint, "temperature", None)


def messages_fingerprint(messages: Iterable[Message]) -> str:
    """What `Provenance.prompt` holds."""
    return fingerprint([[turn.role, turn.content] for turn in messages])


def cost_of(endpoint: EndpointConfig | None, read: int, written: int) -> float | None:
    """What a text cost: tokens · price / 10⁶, read and written; None without prices."""
    if endpoint is None or (endpoint.input_price is None and endpoint.output_price is None):
        return None
    return round((read * (endpoint.input_price or 0.0) + written * (endpoint.output_price or 0.0)) / 1e6, 12)


@contextmanager
def _own_faults(planned: Planned, example: Example) -> Iterator[None]:
    """Whatever a step raises, in one line that names step and example."""
    try:
        yield
    except (Skip, UnderstudyError):
        raise
    except Exception as error:
        raise ConfigError(
            f"step {planned.name} fails on example {example.id!r}: {type(error).__name__}: {error}",
            hint=f"it stands in {planned.step.origin}",
        ) from error


@dataclass
class _Open:
    """An example on its way."""

    example: Example
    ahead: list[Planned]
    rows: list[Knowledge] = field(default_factory=list)
    under_way: dict[str, int] = field(default_factory=dict)
    unfinished: str = ""

    @property
    def done(self) -> bool:
        return not self.ahead and not self.under_way


@dataclass(frozen=True)
class _Question:
    open: _Open
    planned: Planned
    ask: Ask
    request: Request
    parameters: dict[str, Any]


class _Stream:
    """The run of one `generate`."""

    def __init__(
        self, writer: Writer, store: Store, judge: Filter, examples: Iterable[Example], progress: Progress | None
    ) -> None:
        self._writer = writer
        self._filter = judge
        self._store = store
        self._examples = iter(examples)
        self._total = len(examples) if isinstance(examples, Sequence) else 0
        self._progress = progress
        self._order: deque[_Open] = deque()
        self._ready: deque[_Question] = deque()
        self._asked: dict[str, _Question] = {}
        self._num_asked = 0
        self._more = True
        self.seen = 0
        self.finished = 0
        self.left = 0
        self.stopped = ""

    def run(self, completer: Completer) -> None:
        """Ask until nothing is open; each round of the completer ends where all that is open waits for an answer."""
        try:
            while not self.stopped and (self._more or self._ready or self._order):
                for completion in completer.complete(self._requests()):
                    self._take(completion)
                self._write()
        finally:
            # After a stop or a fault the first of the line may never be done; those behind it are not lost for it.
            self._order = deque(sorted(self._order, key=lambda opened: not opened.done))
            self._write()
        self._count_left()

    def _requests(self) -> Iterator[Request]:
        while not self.stopped:
            if self._ready:
                question = self._ready.popleft()
                self._asked[question.request.id] = question
                yield question.request
            elif len(self._order) >= MOST_OPEN or not self._begin():
                return

    def _begin(self) -> bool:
        """Open the next example; False where there is none."""
        example = next(self._examples, None)
        if example is None:
            self._more = False
            return False
        self.seen += 1
        if example.id in self._store.finished:
            self._finish()
        else:
            opened = _Open(example, list(self._writer.plan))
            self._order.append(opened)
            self._advance(opened)
        return True

    def _advance(self, opened: _Open) -> None:
        """Ask what waits for nothing any more; a step with nothing to ask says so in a row."""
        moved = True
        while moved:
            moved = False
            outstanding = {each.name for each in opened.ahead} | opened.under_way.keys()
            for planned in [each for each in opened.ahead if outstanding.isdisjoint(each.direct)]:
                opened.ahead.remove(planned)
                try:
                    asks = self._writer.asks(planned, opened.example, opened.rows)
                except Skip as skip:
                    opened.rows.append(Knowledge(opened.example.id, planned.name, None, reasons=(str(skip),)))
                    moved = True
                    continue
                self._put(opened, planned, asks)
        if opened.done:
            self._write()

    def _put(self, opened: _Open, planned: Planned, asks: Sequence[Ask]) -> None:
        opened.under_way[planned.name] = len(asks) * planned.samples
        for ask in asks:
            for number in range(planned.samples):
                self._num_asked += 1
                request, parameters = self._writer.request(
                    str(self._num_asked), planned, opened.example, ask, ask.sample * planned.samples + number
                )
                self._ready.append(_Question(opened, planned, ask, request, parameters))

    def _take(self, completion: Completion) -> None:
        question = self._asked.pop(completion.id)
        opened, planned = question.open, question.planned
        kind = completion.reason.partition(":")[0]
        if kind == "budget":
            self.stopped = self.stopped or completion.reason
            opened.unfinished = kind
        elif kind in PASSING:
            opened.unfinished = kind
        opened.rows.append(
            self._writer.row(planned, opened.example, question.ask, question.request, question.parameters, completion)
        )
        opened.under_way[planned.name] -= 1
        if not opened.under_way[planned.name]:
            del opened.under_way[planned.name]
            if not self.stopped:
                self._advance(opened)

    def _write(self) -> None:
        """Write what is finished, in the order of the examples."""
        while self._order and self._order[0].done:
            opened = self._order.popleft()
            if opened.unfinished == "budget":
                self.left += 1
                continue
            place = {each.name: number for number, each in enumerate(self._writer.plan)}
            opened.rows.sort(key=lambda row: (place[row.step], -1 if row.choice is None else row.choice, row.sample))
            rows = self._filter.apply(opened.example, opened.rows)
            self._store.write(opened.example.id, rows, finished=not opened.unfinished)
            if opened.unfinished:
                self.left += 1
            else:
                self._finish()

    def _finish(self) -> None:
        self.finished += 1
        if self._progress:
            self._progress(self.finished, self._total, f"{self.left:,} left over" if self.left else "")

    def _count_left(self) -> None:
        """After a stop, whatever is open or was never begun is left for another time."""
        self.left += len(self._order)
        for example in self._examples:
            self.seen += 1
            if example.id in self._store.finished:
                self.finished += 1
            else:
                self.left += 1
