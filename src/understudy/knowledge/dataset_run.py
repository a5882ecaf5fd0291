"""One step of the data set at work: its questions, each on disk as soon as it is answered, and what it comes to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

from understudy.errors import ConfigError, UnderstudyError
from understudy.knowledge.generation import Progress
from understudy.knowledge.plan import PlannedStep
from understudy.knowledge.prompting import Prompts
from understudy.knowledge.requests import RequestBuilder, messages_fingerprint
from understudy.knowledge.step import Learned, Question
from understudy.knowledge.store import KnowledgeStore, questions_of, read_step
from understudy.recipe.knowledge import GenerateConfig, SessionsConfig
from understudy.types import Completer, Completion, Example, Knowledge, Request, is_passing


class BudgetSpent(Exception):
    """The teacher's own budget ended; the text says which."""


class DataSetRun:
    """What a step is given (`step.DataSet`), and the running of it.

    Attributes:
        set_aside: kinds of passing reasons for which answers did not come.
        stopped: why the teacher answers no more; empty while it does.
    """

    def __init__(
        self,
        builder: RequestBuilder,
        store: KnowledgeStore,
        planned: PlannedStep,
        examples: Sequence[Example],
        completer: Completer,
        config: GenerateConfig,
        progress: Progress | None = None,
    ) -> None:
        self.examples, self.config = examples, config
        self.set_aside: Counter[str] = Counter()
        self.stopped = ""
        self._builder, self._store, self._planned = builder, store, planned
        self._completer, self._progress = completer, progress
        self._limits = config.sessions or SessionsConfig()
        self._file = questions_of(planned.name)
        self._rows: dict[str, Knowledge] = {}
        self._earlier = {row.id: row for row in read_step(store.folder, self._file)}
        self._tokens = 0

    @property
    def prompts(self) -> Prompts:
        """Ours, with the user's in their place."""
        return self._builder.prompts

    @property
    def calls_left(self) -> float:
        """How many more questions may be asked."""
        most = self._limits.max_calls
        return float("inf") if most is None else most - len(self._rows)

    def texts(self, step: str) -> list[Knowledge]:
        """What an earlier step wrote and was kept.

        Raises:
            ConfigError: the step stands not among what this one needs or comes after.
        """
        if step not in self._planned.step.needs + self._planned.step.after:
            raise ConfigError(
                f"step {self._planned.name} reads the texts of {step} and does not wait for it",
                hint=f"register it with after=({step!r},)",
            )
        return [row for row in read_step(self._store.folder, step) if row.kept]

    def run(self, *, finished: bool) -> bool:
        """Do the step, and write what it comes to.

        Args:
            finished: whether all that it builds on is there for good; else it is done again the next time.

        Returns:
            Whether it is finished.
        """
        step = self._planned.step
        assert step.learns is not None
        try:
            with self._faults():
                texts = list(step.learns(self))
        except BudgetSpent as spent:
            self.stopped = str(spent)
            return False
        whole = finished and not self.set_aside
        self._store.write(step.name, list(self._as_rows(texts)), finished=whole, part=step.name)
        return whole

    def _as_rows(self, texts: Sequence[Learned]) -> Iterator[Knowledge]:
        numbers: Counter[str] = Counter()
        for text in texts:
            name = text.id or self._planned.name
            yield Knowledge(
                name, self._planned.name, text.text, None, numbers[name], tuple(text.reasons), details=text.details
            )
            numbers[name] += 1

    def ask(self, questions: Mapping[str, Question], *, most: int | None = None) -> dict[str, str]:
        """What the teacher answers, as `step.DataSet.ask` says.

        Raises:
            BudgetSpent: the teacher's own budget ended.
            ConfigError: a question has no messages.
        """
        if empty := next((name for name, question in questions.items() if not question.messages), None):
            raise ConfigError(
                f"step {self._planned.name}: question {empty!r} has no messages",
                hint="use Question.of(text), or data.prompts.render(file, values)",
            )
        ids = {f"{name}/{messages_fingerprint(question.messages)[:8]}": name for name, question in questions.items()}
        limit = self.calls_left if most is None else min(self.calls_left, most)
        asked = dict(islice(ids.items(), None if limit == float("inf") else max(0, int(limit))))
        pending = {}
        for row_id, name in asked.items():
            if row_id in self._rows or row_id in self._earlier:
                self._take(self._rows.get(row_id) or self._earlier[row_id])
            else:
                pending[row_id] = questions[name]
        self._complete(pending)
        rows = {name: self._rows[row_id] for row_id, name in asked.items() if row_id in self._rows}
        return {name: row.text for name, row in rows.items() if row.text is not None}

    def _take(self, row: Knowledge) -> None:
        if row.id not in self._rows and row.provenance is not None:
            self._tokens += row.provenance.input_tokens + row.provenance.output_tokens
        self._rows[row.id] = row

    def _complete(self, pending: Mapping[str, Question]) -> None:
        sent: dict[str, tuple[Request, dict]] = {}

        def requests() -> Iterator[Request]:
            for row_id, question in pending.items():
                if self.stopped or self._tokens >= (self._limits.max_tokens or float("inf")):
                    return
                sent[row_id] = self._builder.request_of_all(row_id, self._planned, question)
                yield sent[row_id][0]

        for completion in self._completer.complete(requests()):
            self._receive(completion, pending[completion.id], *sent[completion.id])
        if self.stopped:
            raise BudgetSpent(self.stopped)

    def _receive(self, completion: Completion, question: Question, request: Request, parameters: dict) -> None:
        kind = completion.reason.partition(":")[0]
        if kind == "budget":
            self.stopped = self.stopped or completion.reason
            return
        about = Example(completion.id, self._planned.name)
        row = self._builder.row(self._planned, about, question, request, parameters, completion)
        row = replace(row, step=self._file)
        passing = is_passing(completion.reason)
        self.set_aside.update([kind] * passing)
        self._store.write(row.id, [row], finished=not passing, part=self._file)
        self._take(row)
        if self._progress:
            self._progress(len(self._rows), 0, f"questions of step {self._planned.name}")

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Whatever a step raises, in one line that names it."""
        try:
            yield
        except (BudgetSpent, UnderstudyError):
            raise
        except Exception as error:
            name, origin = self._planned.name, self._planned.step.origin
            raise ConfigError(
                f"step {name} fails on the data set: {type(error).__name__}: {error}", hint=f"it stands in {origin}"
            ) from error
