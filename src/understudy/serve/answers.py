"""One model's answer to one question, whole: what `ask` shows, what `/v1/answer` gives, what a cascade decides on."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from understudy.confidence import EARLY_MEASURES, Calibration, Confidence
from understudy.data.benchmark_formats import UNANSWERABLE
from understudy.errors import DataError, TooLong
from understudy.models.sampling import Sampling
from understudy.records.base import Record
from understudy.serve.local_engine import LocalEngine
from understudy.serve.sides import Side
from understudy.serve.work import Piece, Token, Work, confidence_of
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.prompts import messages
from understudy.types import Example


@dataclass(frozen=True)
class Manner:
    """How an answer is wanted; the default is as a run answers.

    Attributes:
        max_tokens: longest answer; None: as long as the run's.
        sampling: how it is drawn.
        num_top: as in `Work`.
        stop: texts that end it.
        streams: whether pieces are wanted as they come.
    """

    max_tokens: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    num_top: int | None = None
    stop: tuple[str, ...] = ()
    streams: bool = False


@dataclass(frozen=True, slots=True)
class Candidate(Record):
    """One of the answers that a model was to choose from.

    Attributes:
        text: of the option, label or span; empty where the context does not say.
        probability: among all options, whose likelihoods are made to sum to 1; of spans among the likeliest.
        logp: of an option its log-likelihood, of a model that writes per token, as a run scores it; None of a span.
    """

    text: str
    probability: float
    logp: float | None = None


@dataclass(frozen=True, slots=True)
class Answer(Record):
    """What one model said to one question.

    Attributes:
        model: name of the side.
        answer: as a run would write it into its predictions; empty of a span where the context does not say.
        confidence: probability that it is right, where the run is calibrated for this model; else the geometric mean
            of its tokens' probabilities, or the probability of the span or option; None where nothing is known.
        calibrated: whether it is the probability of being right.
        finish_reason: `stop`, or `length` where it was cut.
        prompt_tokens: read.
        completion_tokens: written.
        seconds: from asking to the last token.
        cost: in the currency of the endpoint's prices; None without prices.
        start: of a span, its first character in the context; None where the model writes or the context does not say.
        end: the character behind its last.
        candidates: the options in the order of the question, or the likeliest spans; empty where there was nothing to
            choose from, or the engine does not tell.
        choice: the likeliest option, which `choice_accuracy` goes by; None without options.
        measures: what the confidence was made of.
    """

    model: str
    answer: str
    confidence: float | None = None
    calibrated: bool = False
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    cost: float | None = None
    start: int | None = None
    end: int | None = None
    candidates: tuple[Candidate, ...] = ()
    choice: str | None = None
    measures: Confidence | None = None


def work_of(side: Side, example: Example, manner: Manner) -> Work:
    """What the engine of a side that writes is asked.

    Raises:
        TooLong: the question, or it together with the answer, does not fit.
        DataError: the question renders to nothing.
    """
    asked = side.asked(example)
    longest = manner.max_tokens or side.max_answer_tokens
    if side.tokenizer is None:
        prompt, turns = [], messages(asked, side.system)
    else:
        prompt, turns = side.tokenizer.prompt_ids(asked), side.tokenizer.turns(asked)
    check_room(side, len(prompt), longest)
    return Work(
        tuple(prompt),
        tuple(turns),
        max_tokens=longest,
        sampling=manner.sampling,
        num_top=manner.num_top,
        stop=manner.stop,
        streams=manner.streams,
    )


def check_room(side: Side, prompt: int, longest: int) -> None:
    """Refuse what the model has no positions for.

    Raises:
        TooLong: prompt and answer together take more.
    """
    if side.positions is not None and side.engine is not None and prompt + longest > side.positions:
        raise TooLong(
            f"{prompt:,} tokens and an answer of {longest:,} do not fit into the model's {side.positions:,}",
            needed=prompt + longest,
            hint="ask a shorter question, or for fewer tokens",
        )


def probability(confidence: Confidence, calibration: Calibration | None, *, early: bool = False) -> float | None:
    """How sure a model is of an answer, from 0 to 1; None where it does not tell.

    Calibrated it is the probability of being right, by the run's measure, or the next best that this engine gives.
    Uncalibrated it is the geometric mean of the tokens' probabilities, or the span's, or the likeliest option's.

    Args:
        confidence: the measures.
        calibration: of the run.
        early: whether only the first tokens are there.
    """
    if calibration is not None:
        chosen = calibration.early_measure if early else calibration.measure
        ranked = sorted(calibration.maps, key=lambda name: -(calibration.maps[name].auroc or 0))
        names = [name for name in (chosen, *ranked) if name and (not early or name in EARLY_MEASURES)]
        known = [name for name in names if confidence.value(name) is not None]
        return calibration.probability(confidence, known[0]) if known else None
    logp = confidence.early_logp if early else confidence.mean_logp
    logp = confidence.span_logp if logp is None and not early else logp
    if logp is None:
        return None if early else confidence.choice_probability
    return math.exp(logp)


async def written(side: Side, work: Work) -> tuple[str, list[Token], Piece]:
    """All that an engine writes: the text, its tokens, and the last piece with the counts.

    Raises:
        EngineFault: there is no answer.
    """
    assert side.engine is not None
    text, tokens, last = "", [], Piece()
    async for piece in side.engine.write(work):
        text, last = text + piece.text, piece
        tokens += piece.tokens
    return text, tokens, last


async def answer_with(
    side: Side, example: Example, manner: Manner | None = None, *, calibration: Calibration | None = None
) -> Answer:
    """Ask a model.

    Args:
        side: the model.
        example: the question, with context and options where it has any.
        manner: how an answer is wanted.
        calibration: of this model's confidence.

    Raises:
        DataError: the question does not fit, or lacks what this kind of model needs.
        EngineFault: there is no answer.
    """
    begin = time.perf_counter()
    if side.engine is None:
        return await _chosen(side, example, calibration, begin)
    options = _options(side, example)
    text, tokens, last = await written(side, work_of(side, example, manner or Manner()))
    scores = await side.engine.option_scores(options) if options and isinstance(side.engine, LocalEngine) else []
    measures = confidence_of(tokens).with_choices(scores)
    candidates = candidates_of(tuple(zip(example.choices, scores, strict=False)))
    return Answer(
        side.name,
        side.answer_of(text),
        probability(measures, calibration),
        calibration is not None,
        last.finish or "stop",
        last.prompt_tokens,
        last.completion_tokens,
        time.perf_counter() - begin,
        side.cost(last.prompt_tokens, last.completion_tokens),
        candidates=candidates,
        choice=likeliest(candidates),
        measures=measures,
    )


def _options(side: Side, example: Example) -> list[TokenizedExample]:
    """A question with each of its options as the answer; none where no engine here compares them.

    A student that writes a text around its answer is not asked: what its options are worth hangs on that text.

    Raises:
        DataError: an option does not become a token.
    """
    if not example.choices or side.task or side.tokenizer is None or not isinstance(side.engine, LocalEngine):
        return []
    options = [side.tokenizer.encode(example, choice) for choice in example.choices]
    if not all(option.learned_ids for option in options):
        raise DataError("choices: an option has no token", hint="leave it out")
    return options


def candidates_of(options: Sequence[tuple[str, float]]) -> tuple[Candidate, ...]:
    """Options with their log-likelihoods, and the probabilities that these come to."""
    if not options:
        return ()
    best = max(logp for _, logp in options)
    total = math.fsum(math.exp(logp - best) for _, logp in options)
    return tuple(Candidate(text, math.exp(logp - best) / total, logp) for text, logp in options)


def likeliest(candidates: Sequence[Candidate]) -> str | None:
    """The likeliest option, the first of those that tie; None without options."""
    options = [candidate for candidate in candidates if candidate.logp is not None]
    return max(options, key=lambda option: option.probability).text if options else None


async def _chosen(side: Side, example: Example, calibration: Calibration | None, begin: float) -> Answer:
    assert side.pointer is not None
    assert side.tokenizer is not None
    side.tokenizer.check(example, learned=False)
    outcome = await side.pointer.answer(example)
    measures = outcome.confidence or Confidence()
    read, _ = side.pointer.row_size(example)
    spans = side.pointer.spans
    text = "" if spans and outcome.text == UNANSWERABLE else outcome.text
    start = outcome.start if text else None
    # Rounded where they are kept, so that what lies furthest off may be told as 0.
    found = [("" if name == UNANSWERABLE else name, share) for name, share in outcome.candidates] if spans else []
    candidates = candidates_of(outcome.options) or tuple(Candidate(name, share) for name, share in found)
    return Answer(
        side.name,
        text,
        probability(measures, calibration),
        calibration is not None,
        "stop",
        read,
        outcome.tokens,
        time.perf_counter() - begin,
        start=start,
        end=None if start is None else start + len(text),
        candidates=candidates,
        choice=likeliest(candidates),
        measures=measures,
    )


@dataclass(frozen=True, slots=True)
class Parting(Record):
    """Where an answer parts from another, word by word.

    Attributes:
        word: the number of the first word that differs, counted from 0.
        ours: this word; empty where the answer has ended.
        theirs: the other's.
    """

    word: int
    ours: str
    theirs: str


def parting(answer: str, other: str) -> Parting | None:
    """The first word in which two answers differ; None where they have the same words."""
    for place, (ours, theirs) in enumerate(zip_longest(answer.split(), other.split(), fillvalue="")):
        if ours != theirs:
            return Parting(place, ours, theirs)
    return None


def example_of(question: str, context: str | None = None, choices: Sequence[str] = (), **fields: Any) -> Example:
    """A question of a user as a row."""
    return Example("question", question, context=context or None, choices=tuple(choices), **fields)
