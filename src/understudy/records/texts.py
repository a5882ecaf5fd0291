"""What is counted and measured of the texts that a teacher wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from understudy.records.base import Record, list_of, mapping_of, parsed_by
from understudy.records.stages import Source


@dataclass(frozen=True)
class StepCounts(Record):
    """The rows of one step, counted; tokens, cost and seconds are those of the texts, paid for now or earlier.

    Attributes:
        asked: questions put.
        written: rows with a text.
        kept: of these, not rejected.
        input_tokens: read by the teacher.
        output_tokens: written by it.
        cached: answers that were on disk.
        rejected: reason → rows; a row may be counted under several.
        missing: reason → rows for which there is no text.
        cost: in the currency of the recipe's prices; None without prices.
        seconds: that the answers took.
    """

    asked: int = 0
    written: int = 0
    kept: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, int] = field(default_factory=dict)
    cost: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class TextFigures(Record):
    """What the texts of one step are like, rejected ones included; None where there is nothing to count.

    Attributes:
        rows: number of rows.
        written: with a text; all that follows is over these.
        kept: not rejected.
        reasons: reason, a word → rows rejected or missing for it.
        words_mean: words of a text.
        words_median: the same, median.
        restates_mean: share of words that are the question's or the answer's.
        names_answer: share that names the answer argued for.
        distractors_mean: other choices mentioned.
        states_answer: share with an answer of its own.
        leads_to_gold: share, of those with an answer of their own, whose answer is the gold one.
    """

    rows: int
    written: int
    kept: int
    reasons: Mapping[str, int] = field(default_factory=dict)
    words_mean: float | None = None
    words_median: float | None = None
    restates_mean: float | None = None
    names_answer: float | None = None
    distractors_mean: float | None = None
    states_answer: float | None = None
    leads_to_gold: float | None = None


@dataclass(frozen=True)
class RevisedFigure(Record):
    """A figure before and after revising, paired.

    Attributes:
        before: mean over the texts that were revised.
        after: mean over the revisions.
        difference: after minus before.
        low: lower bound of its bootstrap interval; None with one pair alone.
        high: upper bound.
        p_value: of the difference, by randomisation.
    """

    before: float
    after: float
    difference: float
    low: float | None = None
    high: float | None = None
    p_value: float | None = None


_FIGURE = parsed_by(RevisedFigure.from_json, omit=True)


@dataclass(frozen=True)
class Revision(Record):
    """What revising changed, on the examples that have both texts; without any, `pairs` alone.

    Attributes:
        pairs: number of these examples.
        words: words of a text.
        distractors: other choices mentioned.
        restates: share of words that are the question's or the answer's.
        names_answer: share that names the answer.
    """

    pairs: int
    words: RevisedFigure | None = field(default=None, metadata=_FIGURE)
    distractors: RevisedFigure | None = field(default=None, metadata=_FIGURE)
    restates: RevisedFigure | None = field(default=None, metadata=_FIGURE)
    names_answer: RevisedFigure | None = field(default=None, metadata=_FIGURE)


@dataclass(frozen=True)
class WritingNotes(Record):
    """What a stage in which a teacher writes leaves in its record.

    Attributes:
        teacher: who wrote.
        examples: seen.
        finished: with all that was to be written about them.
        left: without an answer that another time may bring.
        stopped: why not all was asked; empty where it was.
        steps: step → its rows, counted.
        set_aside: kind of the reason that may pass → number of examples set aside for it; None where none was, and
            absent from the file.
    """

    teacher: str
    examples: int
    finished: int
    left: int
    stopped: str
    steps: Mapping[str, StepCounts] = field(metadata=parsed_by(mapping_of(StepCounts)))
    set_aside: Mapping[str, int] | None = field(default=None, metadata=parsed_by(dict, omit=True))


@dataclass(frozen=True)
class GenerationNotes(WritingNotes):
    """What the stage that asks a teacher for texts leaves in its record, figures of the texts included.

    Attributes:
        quality: step → what its texts are like.
        sources: files and folders behind the texts.
        revision: what revising changed; None where nothing was revised, and absent from the file.
    """

    quality: Mapping[str, TextFigures] = field(default_factory=dict, metadata=parsed_by(mapping_of(TextFigures)))
    sources: tuple[Source, ...] = field(default=(), metadata=parsed_by(list_of(Source)))
    revision: Revision | None = field(default=None, metadata=parsed_by(Revision.from_json, omit=True))
