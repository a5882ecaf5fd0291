"""Several answers to a question, as a teacher weighs them: what a student learns of them, as token ids.

With s_k the teacher's score of answer k of K, p = softmax(s / τ) and g the share of the gold answer:

```text
share of answer k in what is written     t_k = g · [k is gold] + (1 − g) · p_k,   p_k where no answer is gold
```

As texts, each answer is a row of its question with weight K̄ · t_k, where K̄ is how many answers a question has on
average. So all questions weigh the same, the mean weight of a text is 1, and one answer a question is sequence-level
distillation. An answer without a share is no text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from understudy.recipe import CandidatesConfig
from understudy.tokens.collate import EncodedRow, ExampleRows, encode_row
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.options import ScoredOptions
from understudy.types import Example


@dataclass(frozen=True, slots=True)
class WeighedAnswer:
    """One answer.

    Attributes:
        text: what it says.
        logp: mean natural log-probability of its tokens by the teacher, stop token included.
        tokens: how many the teacher reads it in.
        gold: whether it is the right one.
        finished: whether whoever wrote it stopped there.
    """

    text: str
    logp: float
    tokens: int
    gold: bool = False
    finished: bool = True


@dataclass(frozen=True, slots=True)
class WeighedQuestion:
    """A question and its answers, at least one."""

    example: Example
    answers: tuple[WeighedAnswer, ...]

    def scores(self, config: CandidatesConfig) -> tuple[float, ...]:
        """The teacher's s_k."""
        return tuple(a.logp * (a.tokens if config.score == "sum" else 1) for a in self.answers)

    def shares(self, config: CandidatesConfig) -> tuple[float, ...]:
        """t_k, which add up to 1."""
        scaled = [score / config.temperature for score in self.scores(config)]
        largest = max(scaled)
        exponentials = [math.exp(score - largest) for score in scaled]
        likely = [value / sum(exponentials) for value in exponentials]
        if not any(answer.gold for answer in self.answers):
            return tuple(likely)
        g = config.gold_weight
        return tuple(g * a.gold + (1 - g) * p for a, p in zip(self.answers, likely, strict=True))

    def answered(self, answer: WeighedAnswer) -> Example:
        """The example with one of its answers."""
        example, meta = self.example, {key: v for key, v in self.example.meta.items() if key != "answer_start"}
        if answer.gold:
            return replace(example, answers=(answer.text,))
        meta |= {} if answer.finished else {"unfinished": True}
        return replace(example, answers=(answer.text,), origin="teacher", rationales=(), meta=meta)

    def encode(self, tokenizer: ExampleTokenizer) -> tuple[TokenizedExample, ...]:
        """Each answer behind the question."""
        return tuple(tokenizer.encode(self.answered(answer)) for answer in self.answers)


def encode_distributions(
    questions: Sequence[WeighedQuestion], student: ExampleTokenizer, config: CandidatesConfig
) -> list[EncodedRow]:
    """A row a question, which holds all its answers with the teacher's scores."""
    rows = []
    for question in questions:
        answers = question.encode(student)
        place = next((n for n, answer in enumerate(question.answers) if answer.gold), 0)
        ids = [token for answer in answers for token in answer.ids]
        own = ScoredOptions(ids, [place], answers=answers)
        row = EncodedRow(question.example.id, own, None, gold=question.answers[place].gold)
        rows.append(replace(row, scores=question.scores(config), shares=question.shares(config)))
    return rows


def encode_sequences(
    questions: Sequence[WeighedQuestion], student: ExampleTokenizer, config: CandidatesConfig
) -> list[ExampleRows]:
    """A group of rows a question, one an answer, which stays in one optimiser step."""
    written = [
        [(answer, share) for answer, share in zip(q.answers, q.shares(config), strict=True) if share > 0]
        for q in questions
    ]
    mean = sum(map(len, written)) / len(questions)
    groups = []
    for question, answers in zip(questions, written, strict=True):
        rows = ((encode_row(question.answered(answer), student), share) for answer, share in answers)
        groups.append(ExampleRows(tuple(replace(row, weight=mean * share) for row, share in rows)))
    return groups
