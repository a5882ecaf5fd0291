"""All steps over all examples in one stream of questions.

A step of an example is asked as soon as the steps it waits for are there, so that the teacher always has as many
questions under way as it takes; no step waits for other examples. Examples are drawn as there is room and written in
their order as they are finished, so memory does not grow with their number. An example for which an answer did not
come for a reason that may pass is set aside with its rows: it holds up no other, and is asked about again next time.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from understudy.knowledge.plan import PlannedStep
from understudy.knowledge.quality import Filter
from understudy.knowledge.requests import RequestBuilder
from understudy.knowledge.step import Question, Skip
from understudy.knowledge.store import KnowledgeStore
from understudy.types import Completer, Completion, Example, Knowledge, Request, is_passing

MAX_OPEN_EXAMPLES = 2_048
"""So many examples may wait for an earlier one before no further is begun: one answer may be long in coming."""

Progress = Callable[[int, int, str], None]


@dataclass
class _OpenExample:
    """An example that is begun: the steps ahead of it, its rows so far, and how many answers each step waits for.

    `prior` are rows of earlier parts: of the example, and of the data set.
    """

    example: Example
    ahead: list[PlannedStep]
    prior: Sequence[Knowledge] = ()
    rows: list[Knowledge] = field(default_factory=list)
    under_way: dict[str, int] = field(default_factory=dict)
    unfinished: str = ""

    @property
    def done(self) -> bool:
        return not self.ahead and not self.under_way


@dataclass(frozen=True)
class _PendingQuestion:
    open: _OpenExample
    planned: PlannedStep
    question: Question
    request: Request
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Part:
    """Steps that go by examples and stand together, no step of the data set between them.

    Attributes:
        steps: in their order.
        name: as the store has it; empty of the first.
        of_examples: rows of earlier parts, by example.
        of_all: rows of earlier steps of the data set that are of no example.
    """

    steps: Sequence[PlannedStep]
    name: str = ""
    of_examples: Mapping[str, Sequence[Knowledge]] = field(default_factory=dict)
    of_all: Sequence[Knowledge] = ()

    def prior_of(self, name: str) -> Sequence[Knowledge]:
        """What its steps may know of an example, beside their own rows."""
        return (*self.of_all, *self.of_examples.get(name, ()))


class GenerationRun:
    """The steps of one part over all examples: which examples are open, which questions are ready or under way.

    Attributes:
        seen: examples drawn so far.
        finished: examples with all their rows in the store.
        left: examples left for another run: the budget was spent, or a reason that may pass kept an answer away.
        stopped: why no further question is asked; empty while there is no such reason.
    """

    def __init__(
        self,
        builder: RequestBuilder,
        store: KnowledgeStore,
        filter: Filter,
        examples: Iterable[Example],
        progress: Progress | None,
        part: Part | None = None,
    ) -> None:
        self._builder = builder
        self._part = part or Part(builder.plan)
        self._earlier = store.finished_in(self._part.name)
        self._filter = filter
        self._store = store
        self._examples = iter(examples)
        self._total = len(examples) if isinstance(examples, Sequence) else 0
        self._progress = progress
        self._order: deque[_OpenExample] = deque()
        self._ready: deque[_PendingQuestion] = deque()
        self._pending: dict[str, _PendingQuestion] = {}
        self._num_requests = 0
        self._more = True
        self.seen = 0
        self.finished = 0
        self.left = 0
        self.set_aside: Counter[str] = Counter()
        self.stopped = ""

    def run(self, completer: Completer) -> None:
        """Ask until nothing is open; each round of the completer ends where all that is open waits for an answer."""
        try:
            while not self.stopped and (self._more or self._ready or self._order):
                for completion in completer.complete(self._requests()):
                    self._receive(completion)
                self._write_finished()
        finally:
            # After a stop or an error the first example may never be done; finished ones behind it are still written.
            self._order = deque(sorted(self._order, key=lambda opened: not opened.done))
            self._write_finished()
        self._count_left()

    def _requests(self) -> Iterator[Request]:
        while not self.stopped:
            if self._ready:
                pending = self._ready.popleft()
                self._pending[pending.request.id] = pending
                yield pending.request
            elif len(self._order) >= MAX_OPEN_EXAMPLES or not self._begin():
                return

    def _begin(self) -> bool:
        """Open the next example; False where there is none."""
        example = next(self._examples, None)
        if example is None:
            self._more = False
            return False
        self.seen += 1
        if example.id in self._earlier:
            self._count_finished()
        else:
            opened = _OpenExample(example, list(self._part.steps), self._part.prior_of(example.id))
            self._order.append(opened)
            self._advance(opened)
        return True

    def _advance(self, opened: _OpenExample) -> None:
        """Enqueue the questions of each step that waits for no other; a step without one leaves its reason in a row."""
        skipped = True
        while skipped:
            skipped = False
            outstanding = {planned.name for planned in opened.ahead} | opened.under_way.keys()
            for planned in [planned for planned in opened.ahead if outstanding.isdisjoint(planned.direct)]:
                opened.ahead.remove(planned)
                try:
                    questions = self._builder.questions(planned, opened.example, [*opened.prior, *opened.rows])
                except Skip as skip:
                    opened.rows.append(Knowledge(opened.example.id, planned.name, None, reasons=(str(skip),)))
                    skipped = True  # Steps that waited for it can be asked now.
                    continue
                self._enqueue(opened, planned, questions)
        if opened.done:
            self._write_finished()

    def _enqueue(self, opened: _OpenExample, planned: PlannedStep, questions: Sequence[Question]) -> None:
        opened.under_way[planned.name] = len(questions) * planned.samples
        for question in questions:
            for number in range(planned.samples):
                self._num_requests += 1
                request, parameters = self._builder.request(
                    str(self._num_requests),
                    planned,
                    opened.example,
                    question,
                    question.sample * planned.samples + number,
                )
                self._ready.append(_PendingQuestion(opened, planned, question, request, parameters))

    def _receive(self, completion: Completion) -> None:
        pending = self._pending.pop(completion.id)
        opened, planned = pending.open, pending.planned
        kind = completion.reason.partition(":")[0]
        if kind == "budget":
            self.stopped = self.stopped or completion.reason
            opened.unfinished = kind
        elif is_passing(completion.reason):
            opened.unfinished = opened.unfinished or kind
        opened.rows.append(
            self._builder.row(
                planned, opened.example, pending.question, pending.request, pending.parameters, completion
            )
        )
        opened.under_way[planned.name] -= 1
        if not opened.under_way[planned.name]:
            del opened.under_way[planned.name]
            if not self.stopped:
                self._advance(opened)

    def _write_finished(self) -> None:
        """Write what is finished, in the order of the examples."""
        while self._order and self._order[0].done:
            opened = self._order.popleft()
            if opened.unfinished == "budget":
                self.left += 1
                continue
            step_order = {planned.name: number for number, planned in enumerate(self._part.steps)}
            opened.rows.sort(
                key=lambda row: (step_order[row.step], -1 if row.choice is None else row.choice, row.sample)
            )
            evidence = [*opened.prior, *opened.rows]
            rows = [self._filter.judged(row, opened.example, evidence) for row in opened.rows]
            self._store.write(opened.example.id, rows, finished=not opened.unfinished, part=self._part.name)
            if opened.unfinished:
                self.left += 1
                self.set_aside[opened.unfinished] += 1
            else:
                self._count_finished()

    def _count_finished(self) -> None:
        self.finished += 1
        if self._progress:
            self._progress(self.finished, self._total, f"{self.left:,} left over" if self.left else "")

    def _count_left(self) -> None:
        """After a stop, whatever is open or was never begun is left for another time."""
        self.left += len(self._order)
        for example in self._examples:
            self.seen += 1
            if example.id in self._earlier:
                self.finished += 1
            else:
                self.left += 1
