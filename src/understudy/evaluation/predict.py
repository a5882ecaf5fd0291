"""Answers of one arm to the held-out items, and how fast and how large its model is."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence

from torch import nn

from understudy.data.sessions import session_of
from understudy.data.split import question_key
from understudy.files import fingerprint
from understudy.metrics import score
from understudy.models.decoding import Generated
from understudy.models.generate import answer_examples, choice_scores
from understudy.models.head import base_model
from understudy.models.kept_by import kept_by
from understudy.records import DEV_METRICS, ModelSpeed, Prediction
from understudy.sessions.answer_forms import answer_grammar
from understudy.tokens.collate import ExampleTokenizer
from understudy.tokens.thoughts import without_thought
from understudy.types import Example


def predict(
    model: nn.Module,
    tokenizer: ExampleTokenizer,
    examples: Sequence[Example],
    *,
    batch_size: int,
    constrained: bool = False,
    progress: Callable[[int], None] | None = None,
) -> list[Prediction]:
    """Answer every example greedily; score the choices of multiple-choice ones by likelihood.

    Args:
        model: of any kind.
        tokenizer: its template and the lengths.
        examples: held-out rows with references.
        batch_size: rows at once.
        constrained: nothing but JSON of bundles of a session's own items can be written; all rows are sessions.
        progress: called with the number of rows just answered.

    Returns:
        One an example, in order.
    """
    grammars = [answer_grammar(len(session_of(example).items)) for example in examples] if constrained else None
    answers = answer_examples(model, tokenizer, examples, batch_size=batch_size, grammars=grammars, progress=progress)
    writes = tokenizer.template.candidates == "vocabulary"
    if writes:
        answers = answers_alone(answers, tokenizer)
    choices = _choices(model, tokenizer, [e for e in examples if e.choices and writes], batch_size)
    own = {e.id: list(a.choice_scores) for e, a in zip(examples, answers, strict=True) if a.choice_scores is not None}
    scores = choices | own
    return [row_of(example, answer, scores.get(example.id)) for example, answer in zip(examples, answers, strict=True)]


def answers_alone(answers: Sequence[Generated], tokenizer: ExampleTokenizer) -> list[Generated]:
    """Answers without the thoughts before them, counted in the tokenizer's notes; a thought without end is none."""
    alone = []
    for answer in answers:
        text = without_thought(answer.text)
        if text is None:
            tokenizer.add_note("answers that are a thought without end: empty")
        elif text != answer.text:
            tokenizer.add_note("thoughts before an answer: left out")
        alone.append(dataclasses.replace(answer, text=text or ""))
    return alone


def references_of(example: Example) -> tuple[str, ...]:
    """What an answer is compared with: the right answers, without the thoughts that they may begin with."""
    return tuple(without_thought(answer) or answer for answer in example.answers)


def row_of(example: Example, answer: Generated, scores: list[float] | None) -> Prediction:
    """An example with an answer and the likelihoods of its choices."""
    return Prediction(
        id=example.id,
        kind=example.meta.get("kind"),
        gold_fact=example.meta.get("gold_fact"),
        group=group_of(example),
        question=example.question,
        context=example.context,
        choices=example.choices,
        references=references_of(example),
        prediction=answer.text,
        choice_scores=None if scores is None else tuple(scores),
        tokens=answer.tokens,
        finished=answer.finished,
        seconds=round(answer.seconds, 6),
        candidates=answer.candidates,
    )


def group_of(example: Example) -> str:
    """What an item shares with others, so that they are resampled together.

    Its group by `data.group_by`, else its facts, its context, or its question.
    """
    if example.group is not None:
        return example.group
    fact = example.meta.get("fact")
    if fact:
        return " + ".join(fact) if isinstance(fact, list | tuple) else str(fact)
    return fingerprint(example.context or question_key(example))


def _choices(
    model: nn.Module, tokenizer: ExampleTokenizer, examples: list[Example], batch_size: int
) -> dict[str, list[float]]:
    rows = [[tokenizer.encode(example, choice) for choice in example.choices] for example in examples]
    pad = tokenizer.template.tokenizer.pad_token_id
    scores = choice_scores(model, rows, pad_id=pad, batch_size=batch_size) if rows else []  # pyright: ignore
    return {example.id: values for example, values in zip(examples, scores, strict=True)}


def dev_scores(
    tokenizer: ExampleTokenizer, examples: Sequence[Example], *, batch_size: int
) -> Callable[[nn.Module], dict[str, float]]:
    """A function that scores a model on the development rows.

    It gives ROUGE-L and exact match of generated answers, in 0..1, and `loss`: −log q(first gold answer), a mean over
    its tokens, in nats; and the metric by which weights are kept, where it is another one.
    """
    questions = [example.question for example in examples]
    references = [list(references_of(example)) for example in examples]
    # A tokenizer of its own: what is cut here was counted when the rows were learned or answered.
    uncounted = dataclasses.replace(tokenizer, notes={})
    gold = [[uncounted.encode(example)] for example in examples]
    lengths = [len(row[0].learned_ids) for row in gold]
    pad = tokenizer.template.tokenizer.pad_token_id

    def measure(model: nn.Module) -> dict[str, float]:
        metrics = tuple(dict.fromkeys((*DEV_METRICS, kept_by(model, examples))))
        answers = answers_alone(answer_examples(model, uncounted, examples, batch_size=batch_size), uncounted)
        rankings = [[text for text, _ in answer.candidates] for answer in answers]
        scores = score([a.text for a in answers], references, questions=questions, metrics=metrics, rankings=rankings)
        values = {name: value.value for name, value in scores.items()}
        means = choice_scores(model, gold, pad_id=pad, batch_size=batch_size)  # pyright: ignore
        total = sum(mean[0] * length for mean, length in zip(means, lengths, strict=True))
        return {**values, "loss": -total / sum(lengths)}

    return measure


def speed(model: nn.Module, tokenizer: ExampleTokenizer, examples: Sequence[Example], *, batch_size: int) -> ModelSpeed:
    """Size and speed of a model on real prompts: one at a time for latency, in batches for throughput.

    Args:
        model: of any kind.
        tokenizer: its template.
        examples: prompts to answer; the first 20 give the latency.
        batch_size: rows at once for throughput.

    Returns:
        All but the peak of memory.
    """
    answer_examples(model, tokenizer, examples[:2], batch_size=2)
    singles = []
    for example in examples[:20]:
        begin = time.perf_counter()
        answer_examples(model, tokenizer, [example], batch_size=1)
        singles.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    answers = answer_examples(model, tokenizer, examples, batch_size=batch_size)
    seconds = time.perf_counter() - begin
    parameters = {id(p): p for p in base_model(model).parameters()}.values()
    return ModelSpeed(
        parameters=sum(p.numel() for p in parameters),
        bytes=sum(p.numel() * p.element_size() for p in parameters),
        latency_ms=1000 * statistics.median(singles),
        tokens_per_second=sum(a.tokens for a in answers) / seconds,
    )
