"""What is measured of explanations: figures with their intervals, or why there are none."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

from understudy.metrics import Interval

NO_VALUE = Interval(nan, nan, nan, 0)
"""The mean over no items."""


@dataclass(frozen=True)
class NotMeasured:
    """Why there are no figures.

    Attributes:
        reason: in words.
        left_out: rows that were looked at and could not be used.
    """

    reason: str
    left_out: int = 0


@dataclass(frozen=True)
class ExplanationFigures:
    """What the explanations of prediction rows are like; words and options are counted in the text alone.

    Attributes:
        items: number of rows.
        explained: rows with a text.
        answer_given: share of all rows in which an answer could be read.
        names_no_option: share of multiple-choice rows whose answer names no option.
        words: words of a text.
        distractors: options named that are not the right one.
        names_own_answer: share of texts that name the option that the student chose; of rows in which it chose one.
        unfinished: share of texts cut at the longest length.
    """

    items: int
    explained: int
    answer_given: Interval
    names_no_option: Interval
    words: Interval
    distractors: Interval
    names_own_answer: Interval
    unfinished: Interval


@dataclass(frozen=True)
class Faithfulness:
    """How often an answer goes along with a swapped rationale.

    Attributes:
        task: the task whose prompts the student answered.
        swaps: number of swapped rationales.
        examples: number of items that the swaps belong to.
        follows: share of swaps whose answer is the option that the rationale argues for.
        flips: the same over those swaps where the student had answered otherwise before.
        note: where the student's ordinary answers come from another task, of which this says nothing; else empty.
    """

    task: str
    swaps: int
    examples: int
    follows: Interval
    flips: Interval
    note: str = ""


@dataclass(frozen=True)
class Simulatability:
    """How well an observer foresees answers, with and without the explanations; no value where one is not defined.

    Attributes:
        items: number of rows.
        question_alone: share foreseen from the question.
        both: share foreseen from question and explanation.
        leaking: share foreseen from the explanation alone.
        gain: `both` minus `question_alone`.
        p_value: of the gain, by randomisation.
        gain_leaking: the gain on rows whose explanation leaks the answer.
        gain_not_leaking: the gain on the others.
        las: the mean of these two.
        left_out: rows that could not be used.
    """

    items: int
    question_alone: Interval
    both: Interval
    leaking: Interval
    gain: Interval
    p_value: float
    gain_leaking: Interval
    gain_not_leaking: Interval
    las: Interval
    left_out: int = 0
