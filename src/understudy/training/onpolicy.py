"""Rows that the student writes while it is trained: drawn in batches into a buffer that knows how old each row is.

```text
step            0    1    2    3    4    5        share 0.5, buffer 2
learns        given  o0 given  o1 given  o2       every second step learns the student's answers
draws                o0,o1               o2,o3    the answers of two such steps at once, by the weights of that moment
age of rows          0         2         0        in optimiser steps
```

Which questions a step reads follows from its number and the seed, and so do the random numbers of each answer. What
a checkpoint has to hold is the buffer alone; every process has its own, of the rows that are its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.utils.data import IterableDataset

from understudy.models.rollout import Drawing, Mixture, Rollout, roll_out
from understudy.recipe.on_policy import OnPolicyConfig
from understudy.tokens.align import CrossTokenizer
from understudy.tokens.collate import (
    DrawnRow,
    EncodedRow,
    ExampleTokenizer,
    TeacherSide,
    encode_row,
)
from understudy.tokens.encoded import TokenizedExample
from understudy.types import Example

Drawn = tuple[list[Rollout], int]
"""Answers, and how many optimiser steps were done when the weights stood that drew them."""
Draw = Callable[[Sequence[Example], Sequence[tuple[int, ...]], int], Drawn]
"""Asks the student some questions, with a seed each, at an optimiser step."""


@dataclass(frozen=True)
class Shape:
    """How rows become steps.

    Attributes:
        batch_size: rows of a step and process.
        micro_batch_size: rows of a forward.
        seed: of the order of the rows and of the answers.
        process: number of this process.
        processes: that train together.
    """

    batch_size: int
    micro_batch_size: int
    seed: int
    process: int = 0
    processes: int = 1


class RolloutEncoder:
    """Turns an answer that was drawn into a row, for every model that reads it.

    The student learns the very tokens that were drawn: no padding, nothing behind the stop token, and no stop token
    where it wrote none. With one vocabulary a teacher reads the same tokens behind its own prompt. With two it reads
    the answer's *text* in its own tokens, and the two are aligned as on given answers; where the student's tokens are
    not those into which its tokenizer cuts that text, the student reads it cut anew too, and this is counted.

    Args:
        student: the student's tokenizer.
        teacher: the teacher's.
        cross_tokenizer: what lies between, where the method aligns.
        others: further teachers.
        same_ids: whether the teacher reads the student's ids.
        credited: whether to say at which of the student's tokens each of the teacher's counts.
        mixed: whether a teacher is drawn from too.
    """

    def __init__(
        self,
        student: ExampleTokenizer,
        teacher: ExampleTokenizer,
        cross_tokenizer: CrossTokenizer | None = None,
        others: Mapping[str, TeacherSide] | None = None,
        *,
        same_ids: bool,
        credited: bool = False,
        mixed: bool = False,
    ) -> None:
        self.student, self.teacher, self.cross_tokenizer = student, teacher, cross_tokenizer
        self.others = others or {}
        self.same_ids, self.credited, self.mixed = same_ids and not self.others, credited, mixed

    def __call__(self, example: Example, rollout: Rollout, age: int) -> EncodedRow:
        """The row of an answer whose weights are `age` steps old."""
        drawn = DrawnRow(rollout.logp, age, rollout.finished, repetition(rollout.ids), self.mixed)
        if self.same_ids:
            sides = [self._exact(side, example, rollout) for side in (self.student, self.teacher)]
            return EncodedRow(example.id, sides[0], sides[1], gold=False, drawn=drawn)
        return self._by_text(example, rollout, drawn)

    def _exact(self, side: ExampleTokenizer, example: Example, rollout: Rollout) -> TokenizedExample:
        start = side.template.start_ids
        return TokenizedExample(side.prompt_ids(example), list(rollout.ids), start=tuple(start))

    def _by_text(self, example: Example, rollout: Rollout, drawn: DrawnRow) -> EncodedRow:
        answered = self.answered(example, rollout)
        row = encode_row(answered, self.student, self.teacher, self.cross_tokenizer, self.others)
        if row.student.answer_ids != list(rollout.ids):
            self.student.add_note("answers of the student learned as their text is cut, not as they were drawn")
            drawn = dataclasses.replace(drawn, logp=())
        if self.credited:
            drawn = dataclasses.replace(drawn, credit=self._credit(answered))
        return dataclasses.replace(row, drawn=drawn)

    def answered(self, example: Example, rollout: Rollout) -> Example:
        """The example with what the student wrote as its answer."""
        stop = rollout.finished and rollout.ids[-1] in self.student.template.stop_ids
        text = self.student.template.decode(list(rollout.ids[: -1 if stop else None]))
        meta = {key: value for key, value in example.meta.items() if key != "answer_start"}
        meta |= {} if rollout.finished else {"unfinished": True}
        return dataclasses.replace(example, answers=(text,), origin="student", rationales=(), meta=meta)

    def _credit(self, answered: Example) -> tuple[int, ...]:
        silent = [dataclasses.replace(side, notes={}) for side in (self.student, self.teacher)]
        rows = [side.encode(answered, token_ends=True) for side in silent]
        if all(row.token_ends for row in rows):
            return credited(*(row.token_ends[1:] for row in rows))
        return credited(*(range(1, len(row.answer_ids) + 1) for row in rows))


def credited(student_ends: Sequence[int], teacher_ends: Sequence[int]) -> tuple[int, ...]:
    """The student's token at which each of the teacher's counts: the first that ends where it ends, or behind it.

    Sums over all tokens up to a common cut are then those of both sides. Behind the student's last end stands its last.
    """
    places, place = [], 0
    for end in teacher_ends:
        while place < len(student_ends) - 1 and student_ends[place] < end:
            place += 1
        places.append(place)
    return tuple(places)


def repetition(ids: Sequence[int], size: int = 3) -> float:
    """The share of an answer's runs of `size` tokens that it had before; 0 where it has none."""
    runs = [tuple(ids[n : n + size]) for n in range(len(ids) - size + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


class RowStream:
    """The numbers of rows in the order of endless epochs, each shuffled by seed and number.

    Args:
        count: rows of an epoch.
        seed: of the shuffles.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self._epochs: dict[int, list[int]] = {}

    def __call__(self, start: int, stop: int) -> list[int]:
        """The rows at some places of the stream."""
        return [self._epoch(place // self.count)[place % self.count] for place in range(start, stop)]

    def _epoch(self, epoch: int) -> list[int]:
        if epoch not in self._epochs:
            generator = torch.Generator().manual_seed((self.seed + 1_000_003 * epoch) % 2**63)
            self._epochs = {key: order for key, order in self._epochs.items() if key >= epoch - 1}
            self._epochs[epoch] = torch.randperm(self.count, generator=generator).tolist()
        return self._epochs[epoch]


@dataclass(frozen=True)
class Held:
    """The answers of one step, in a buffer.

    Attributes:
        step: optimiser steps done when they were drawn.
        rollouts: by place in the step, those of this process.
    """

    step: int
    rollouts: Sequence[Rollout]


class RowsOfStep(Protocol):
    """A source that makes the rows of a step when the step begins (`training.rows.RowSource` besides)."""

    def step_rows(self, step: int) -> list[list[EncodedRow]]:
        """The rows of an optimiser step, counted from 0, by micro-batch."""
        ...


class OnPolicyRows(IterableDataset):
    """Given rows and answers of the student, step by step.

    Args:
        config: the section `distil.on_policy`.
        given: encoded rows with the answer that they have; may be empty at share 1.
        prompts: what the student is asked.
        encode: makes rows of its answers.
        draw: asks it, with the weights that it has at the moment.
        shape: how rows become steps.
    """

    lengths = None
    tasks: tuple[str, ...] = ()

    def __init__(
        self,
        config: OnPolicyConfig,
        given: Sequence[EncodedRow],
        prompts: Sequence[Example],
        encode: RolloutEncoder,
        draw: Draw,
        shape: Shape,
    ) -> None:
        self.config, self.encode, self.draw, self.shape = config, encode, draw, shape
        self.pairs = config.loss == "contrastive"
        by_id = {example.id: example for example in prompts}
        self.given = [row for row in given if row.id in by_id] if self.pairs else list(given)
        self.prompts = [by_id[row.id] for row in self.given] if self.pairs else list(prompts)
        self.expired = 0
        self._given_order = RowStream(len(self.given), shape.seed)
        self._prompt_order = RowStream(len(self.prompts), shape.seed + 1)
        self._held: dict[int, Held] = {}

    def __iter__(self) -> Iterator[int]:
        # The trainer's loader counts steps; it fetches ahead, so the rows themselves are made when a step begins.
        while True:
            yield 0

    def drawn_before(self, step: int) -> int:
        """How many of the steps before this one learned answers of the student: λ · step, rounded down."""
        return int(step * self.config.share + 1e-9)

    def is_drawn(self, step: int) -> bool:
        """Whether a step learns answers of the student."""
        return self.drawn_before(step + 1) > self.drawn_before(step)

    def step_rows(self, step: int) -> list[list[EncodedRow]]:
        """See `RowsOfStep`."""
        number = self.drawn_before(step)
        if not self.is_drawn(step):
            return self._cut([self.given[n] for n in self._places(self._given_order, step - number)])
        rows = self._rollouts(step, number)
        if not self.pairs:
            return self._cut(rows)
        given = [self.given[n] for n in self._places(self._prompt_order, number)]
        return [*self._cut(given), *self._cut(rows)]

    @property
    def _step_rows(self) -> int:
        """Questions of a step and process: of pairs, half as many as texts."""
        return self.shape.batch_size // 2 if self.pairs else self.shape.batch_size

    def _places(self, order: RowStream, number: int) -> list[int]:
        """The rows of this process in the n-th step of a stream."""
        size = self._step_rows if order is self._prompt_order else self.shape.batch_size
        whole = size * self.shape.processes
        return order(number * whole, (number + 1) * whole)[self.shape.process :: self.shape.processes]

    def _cut(self, rows: list[EncodedRow]) -> list[list[EncodedRow]]:
        """Micro-batches, rows of like length together."""
        ordered, size = sorted(rows, key=lambda row: row.length), self.shape.micro_batch_size
        return [ordered[start : start + size] for start in range(0, len(ordered), size)]

    def _rollouts(self, step: int, number: int) -> list[EncodedRow]:
        held, most = self._held.pop(number, None), self.config.max_age
        if held is not None and most is not None and step - held.step > most:
            self.expired += len(held.rollouts)
            held = None
        if held is None:
            self._refill(step, number)
            held = self._held.pop(number)
        examples = [self.prompts[n] for n in self._places(self._prompt_order, number)]
        age = step - held.step
        return [self.encode(example, one, age) for example, one in zip(examples, held.rollouts, strict=True)]

    def _refill(self, step: int, number: int) -> None:
        """Draw the answers of the next steps at once."""
        numbers = range(number, number + self.config.buffer)
        asked = [self._places(self._prompt_order, n) for n in numbers]
        seeds = [self._seed(n, place) for n, rows in zip(numbers, asked, strict=True) for place in range(len(rows))]
        rollouts, weights = self.draw([self.prompts[n] for rows in asked for n in rows], seeds, step)
        drawn = iter(rollouts)
        self._held = {n: Held(weights, [next(drawn) for _ in rows]) for n, rows in zip(numbers, asked, strict=True)}

    def _seed(self, number: int, place: int) -> tuple[int, ...]:
        """Of an answer: the same however many processes there are."""
        place = place * self.shape.processes + self.shape.process
        return (self.shape.seed, number * self._step_rows * self.shape.processes + place)

    def state(self) -> dict[str, Any]:
        """The buffer, JSON-able; numbers come back as they were."""
        held = {
            str(number): {"step": held.step, "rollouts": [dataclasses.astuple(one) for one in held.rollouts]}
            for number, held in self._held.items()
        }
        return {"held": held, "expired": self.expired}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on with a buffer."""
        self.expired = state["expired"]
        self._held = {
            int(number): Held(
                held["step"], [Rollout(tuple(ids), tuple(logp), end) for ids, logp, end in held["rollouts"]]
            )
            for number, held in state["held"].items()
        }


def _held(value: Mapping[str, Any]) -> Held:
    """What a checkpoint holds of one step."""
    return Held(value["step"], [Rollout(tuple(ids), tuple(logp), end) for ids, logp, end in value["rollouts"]])


def drawing_by(
    student: Any,
    tokenizer: ExampleTokenizer,
    drawing: Drawing,
    teacher: tuple[Any, ExampleTokenizer, float] | None = None,
) -> Draw:
    """Asks a model of this process, with the weights that it has when it is asked.

    Args:
        student: the model.
        tokenizer: its own.
        drawing: how answers are drawn.
        teacher: a model that is drawn from too, its tokenizer and its share.
    """

    def draw(examples: Sequence[Example], seeds: Sequence[tuple[int, ...]], step: int) -> Drawn:
        prompts, mixture = [tokenizer.prompt_ids(example) for example in examples], None
        if teacher:
            model, own, share = teacher
            mixture = Mixture(model, own.template, [own.prompt_ids(example) for example in examples], share)
        return roll_out(student, tokenizer.template, prompts, seeds, drawing, mixture), step

    return draw
