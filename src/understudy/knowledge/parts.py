"""The parts of a plan in their order: steps that go by examples in one stream, each step of the data set by itself.

A step of the data set waits until the part before it is through all examples. Whatever of that was left for another
time does not hold it up; but then it is done again when the rest has come.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from understudy.data.sessions import is_session
from understudy.files import fingerprint
from understudy.knowledge.dataset_run import DataSetRun
from understudy.knowledge.generation import GenerationRun, Part, Progress
from understudy.knowledge.plan import PlannedStep, parts_of
from understudy.knowledge.quality import Filter
from understudy.knowledge.requests import RequestBuilder
from understudy.knowledge.store import KnowledgeStore, questions_of, read_step, step_path
from understudy.recipe.knowledge import GenerateConfig
from understudy.records import WritingNotes
from understudy.types import Completer, Example, Knowledge


@dataclass
class _Outcome:
    """How it went so far."""

    examples: int = 0
    left: int = 0
    stopped: str = ""
    set_aside: Counter[str] = field(default_factory=Counter)
    ran: bool = False


class Parts:
    """The parts of a plan over some examples.

    Attributes:
        names: of the steps.
        files: the steps and, of steps of the data set, their questions, in their order.
    """

    def __init__(self, builder: RequestBuilder, examples: Iterable[Example]) -> None:
        self._builder = builder
        self._parts = parts_of(builder.plan)
        self._whole = [part[0].name for part in self._parts if part[0].step.scope == "dataset"]
        # A step of the data set needs all of them at once; without one they come as there is room.
        self._examples = list(examples) if self._whole else examples
        self.names = [planned.name for planned in builder.plan]
        self.files = [file for name in self.names for file in ([questions_of(name)] * (name in self._whole) + [name])]

    @property
    def domains(self) -> dict[str, str]:
        """Id of a session -> its domain; empty where no step sees the data set."""
        sessions = self._examples if self._whole else ()
        return {example.id: str(example.meta.get("domain", "")) for example in sessions if is_session(example)}

    def open(self, folder: str | os.PathLike[str]) -> KnowledgeStore:
        """The folder, open for writing.

        Raises:
            RunError: it cannot be written.
            DataError: a line in the middle of a file is no JSON.
        """
        identity = dict(self._builder.identity)
        if self._whole:
            seen = ((example.id, example.question, example.answers) for example in self._examples)
            identity["examples"] = fingerprint([[name, question, list(answers)] for name, question, answers in seen])
        parts = {planned.name: _name(number, part) for number, part in enumerate(self._parts) for planned in part}
        parts |= {questions_of(name): questions_of(name) for name in self._whole}
        return KnowledgeStore(folder, self.files, identity, parts=parts, whole=self._whole)

    def written_files(self, folder: str | os.PathLike[str]) -> list[str]:
        """`files` without those of steps that asked nobody."""
        asking = {questions_of(name) for name in self._whole}
        return [file for file in self.files if file not in asking or _has_rows(folder, file)]

    def run(
        self,
        store: KnowledgeStore,
        config: GenerateConfig,
        completer: Completer,
        filter: Filter,
        progress: Progress | None,
    ) -> WritingNotes:
        """All parts, as far as the teacher's budget goes; the notes lack the counts of steps."""
        outcome = _Outcome()
        for number, part in enumerate(self._parts):
            if not outcome.stopped and part[0].step.scope == "dataset":
                self._run_of_all(part[0], store, config, completer, outcome, progress)
            elif not outcome.stopped:
                rows = self._prior(store, self._parts[:number])
                self._run_part(Part(part, _name(number, part), *rows), store, completer, filter, outcome, progress)
        return WritingNotes(
            teacher=completer.name,
            examples=outcome.examples,
            finished=outcome.examples - outcome.left,
            left=outcome.left,
            stopped=outcome.stopped,
            steps={},
            set_aside=dict(outcome.set_aside) or None,
        )

    def _run_part(
        self,
        part: Part,
        store: KnowledgeStore,
        completer: Completer,
        filter: Filter,
        outcome: _Outcome,
        progress: Progress | None,
    ) -> None:
        run = GenerationRun(self._builder, store, filter, self._examples, progress, part)
        run.run(completer)
        outcome.examples, outcome.stopped = run.seen, run.stopped
        outcome.left = max(outcome.left, run.left)
        outcome.set_aside += run.set_aside

    def _run_of_all(
        self,
        planned: PlannedStep,
        store: KnowledgeStore,
        config: GenerateConfig,
        completer: Completer,
        outcome: _Outcome,
        progress: Progress | None,
    ) -> None:
        examples = list(self._examples)
        outcome.examples = len(examples)
        if planned.name in store.finished_in(planned.name):
            return
        run = DataSetRun(self._builder, store, planned, examples, completer, config, progress)
        finished = run.run(finished=not outcome.left)
        outcome.stopped = run.stopped
        outcome.set_aside += run.set_aside
        if not finished:
            # Whatever answers are missing, the step as a whole is what is left: of all examples, where it was stopped.
            outcome.left = max(outcome.left, len(examples) if run.stopped else min(len(examples), 1))

    def _prior(
        self, store: KnowledgeStore, parts: Sequence[Sequence[PlannedStep]]
    ) -> tuple[dict[str, list[Knowledge]], list[Knowledge]]:
        """Rows of earlier parts: by example, and of all examples."""
        of_examples: defaultdict[str, list[Knowledge]] = defaultdict(list)
        of_all: list[Knowledge] = []
        for planned in (planned for part in parts for planned in part):
            for row in read_step(store.folder, planned.name):
                whole = planned.name in self._whole and row.id == planned.name
                (of_all if whole else of_examples[row.id]).append(row)
        return of_examples, of_all


def _name(number: int, part: Sequence[PlannedStep]) -> str:
    """A part's name in the store; the first one has none, unless it is a step of the data set."""
    return "" if number == 0 and part[0].step.scope == "example" else part[0].name


def _has_rows(folder: str | os.PathLike[str], file: str) -> bool:
    path = step_path(folder, file)
    return path.is_file() and path.stat().st_size > 0
