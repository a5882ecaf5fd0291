"""Whether an export is the student that was measured: the same tokens read, the same answers written.

An *exact* export computes in 32 bits what the original does: its logits differ from the original's by no more than a
stated tolerance, and greedy answers part only where the two best logits of the original lie closer than that, which is
counted. A *lossy* one (8 bits, 16 bits) is judged by the share of equal answers and by the difference of the run's own
metrics, paired, with intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from understudy.deployment.runners import Runner, Written, write
from understudy.errors import RunError, shortened
from understudy.evaluation.metric_models import metric_models_of
from understudy.evaluation.predict import row_of
from understudy.evaluation.scoring import score_systems
from understudy.evaluation.systems import System
from understudy.metrics.significance import Resampling, paired_bootstrap
from understudy.models.decoding import Generated
from understudy.recipe import EvaluateConfig
from understudy.records.base import Record, mapping_of, parsed_by
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.spans import SpanTokenizer
from understudy.tokens.template import Template
from understudy.types import Example

Encode = Callable[[Example], Sequence[int]]


@dataclass(frozen=True)
class TokenCheck(Record):
    """Whether prompts become the same token ids.

    Attributes:
        rows: prompts that were compared.
        equal: of which the ids are the same.
        spelled: prompts left out by a tokenizer that cannot mask: their texts spell a control token, which the student
            read as text and a plain tokenizer takes for the token.
        by: whose tokenizer was compared.
    """

    rows: int
    equal: int
    spelled: int
    by: str


@dataclass(frozen=True)
class MetricDifference(Record):
    """A metric of the export minus that of the original, in points of 100.

    Attributes:
        original: its figure.
        export: the export's.
        difference: the second minus the first.
        low: lower bound of the difference, paired; None where there is none.
        high: upper bound.
    """

    original: float
    export: float
    difference: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class AnswerCheck(Record):
    """Greedy answers of export and original to the same prompts.

    Attributes:
        rows: answers that were compared.
        equal: token by token the same.
        ties: part where the two best logits of the original lie within the tolerance.
        parted: part elsewhere.
        max_logit_difference: the largest difference of a logit, over all tokens up to where answers part; None of
            models whose answers alone are compared.
        tolerance: that is stated for an exact export; None for a lossy one.
        metrics: metric -> difference.
    """

    rows: int
    equal: int
    ties: int
    parted: int
    max_logit_difference: float | None
    tolerance: float | None
    metrics: Mapping[str, MetricDifference] = field(metadata=parsed_by(mapping_of(MetricDifference)))


@dataclass(frozen=True)
class Speed(Record):
    """Tokens a second, one text at a time, export and original by turns in one process.

    Attributes:
        tokens_per_second: of the export, the prompt's reading included.
        original_tokens_per_second: of the original in `transformers`.
        ratio: the first by the second.
        engine: that ran the export.
    """

    tokens_per_second: float
    original_tokens_per_second: float
    ratio: float
    engine: str


# Tokens ---------------------------------------------------------------------------------------------------------------


def spells_control_token(template: Template, row: Example) -> bool:
    """Whether a text of the row spells a token that steers the model, which the template masks."""
    texts = [row.question, row.context or "", *row.choices, *(turn.content for turn in row.history)]
    return any(template.control_tokens.mask(text) != text for text in texts)


def check_tokens(
    tokenizer: ExampleTokenizer, rows: Sequence[Example], encode: Encode, *, by: str, masks: bool
) -> TokenCheck:
    """Compare prompts' ids on all rows.

    Args:
        tokenizer: the original's.
        rows: the evaluation set.
        encode: an example to the export's ids.
        by: whose tokenizer that is.
        masks: whether `encode` keeps texts from becoming control tokens, as the original does.

    Raises:
        RunError: some differ; the first is named.
    """
    spelled = 0 if masks else sum(spells_control_token(tokenizer.template, row) for row in rows)
    compared = rows if masks else [row for row in rows if not spells_control_token(tokenizer.template, row)]
    differ = [row for row in compared if list(encode(row)) != original_ids(tokenizer, row)]
    if differ:
        row = differ[0]
        raise RunError(
            f"the export failed verification: {len(differ):,} of {len(compared):,} prompts become other tokens by "
            f"{by}, such as {row.id}: {shortened(str(list(encode(row))))} instead of "
            f"{shortened(str(original_ids(tokenizer, row)))}",
            hint="nothing was kept; choose another format",
        )
    return TokenCheck(len(compared), len(compared), spelled, by)


def original_ids(tokenizer: ExampleTokenizer, row: Example) -> list[int]:
    """What the student reads of a row; the windows of one that points, one after the other."""
    if isinstance(tokenizer, SpanTokenizer):
        return [token for window in tokenizer.windows(row) for token in window.prompt_ids]
    return list(tokenizer.prompt_ids(row))


# Answers --------------------------------------------------------------------------------------------------------------


@dataclass
class _Tally:
    """Counts over answers."""

    equal: int = 0
    ties: int = 0
    parted: int = 0
    difference: float = 0.0
    worst: str = ""

    def add(self, row: Example, ours: Written, theirs: Written, tolerance: float | None) -> None:
        """Take in one answer of the original and of the export."""
        length = min(len(ours.ids), len(theirs.ids))
        part = next((place for place in range(length) if ours.ids[place] != theirs.ids[place]), length)
        seen = slice(0, min(part + 1, length))
        self.difference = max(self.difference, float(np.abs(ours.logits[seen] - theirs.logits[seen]).max()))
        if ours.ids == theirs.ids:
            self.equal += 1
        elif tolerance is not None and part < length and ours.margins[part] <= tolerance:
            self.ties += 1
        else:
            self.parted += 1
            self.worst = self.worst or row.id


def compare_answers(
    original: Runner,
    export: Runner,
    tokenizer: ExampleTokenizer,
    rows: Sequence[Example],
    *,
    tolerance: float | None,
    config: EvaluateConfig,
    engine: str,
    progress: Callable[[int, int, str], None],
) -> tuple[AnswerCheck, Speed]:
    """Answer rows with both, by turns, and compare.

    Args:
        original: the student that was measured.
        export: of it.
        tokenizer: the original's.
        rows: to be answered.
        tolerance: of an exact export; None for a lossy one.
        config: metrics and resamples.
        engine: what runs the export.
        progress: called with (done, total, note).

    Raises:
        RunError: an exact export is none; or one of the logits is no number.
    """
    tally, pairs = _Tally(), []
    most, stops = tokenizer.data.max_answer_tokens, tokenizer.template.stop_ids
    for number, row in enumerate(rows, start=1):
        prompt = tokenizer.prompt_ids(row)
        ours, theirs = (write(runner, prompt, stops, most) for runner in (original, export))
        if not np.isfinite(theirs.logits).all():
            raise RunError(f"the export failed verification: logits that are no numbers, on {row.id}")
        tally.add(row, ours, theirs, tolerance)
        pairs.append((replace(ours, logits=ours.logits[:0]), replace(theirs, logits=theirs.logits[:0])))
        progress(number, len(rows), "answers compared")
    differences = metric_differences(rows, *_predictions(tokenizer, rows, pairs), config)
    check = AnswerCheck(len(rows), tally.equal, tally.ties, tally.parted, tally.difference, tolerance, differences)
    _refuse_inexact(check, tally.worst)
    return check, _speed(pairs, engine)


def _refuse_inexact(check: AnswerCheck, worst: str) -> None:
    if check.tolerance is None:
        return
    if check.max_logit_difference is not None and check.max_logit_difference > check.tolerance:
        raise RunError(
            f"the export failed verification: its logits differ from the original's by up to "
            f"{check.max_logit_difference:.2g}, and {check.tolerance:g} is allowed",
            hint="nothing was kept; --tolerance states another difference",
        )
    if check.parted:
        raise RunError(
            f"the export failed verification: {check.parted:,} of {check.rows:,} greedy answers part from the "
            f"original's where no two logits are close, such as {worst}",
            hint="nothing was kept; choose another format",
        )


def _predictions(
    tokenizer: ExampleTokenizer, rows: Sequence[Example], pairs: Sequence[tuple[Written, Written]]
) -> tuple[list[Generated], list[Generated]]:
    template = tokenizer.template

    def answer(written: Written) -> Generated:
        ended = written.ids[-1] in template.stop_ids
        kept = list(written.ids[:-1] if ended else written.ids)
        return Generated(template.decode(kept), len(written.ids), ended, written.seconds)

    return [answer(ours) for ours, _ in pairs], [answer(theirs) for _, theirs in pairs]


def metric_differences(
    rows: Sequence[Example], ours: Sequence[Generated], theirs: Sequence[Generated], config: EvaluateConfig
) -> dict[str, MetricDifference]:
    """The run's metrics of written answers, export minus original, paired over whole groups of rows."""
    labelled = [place for place, row in enumerate(rows) if row.answers]
    if not labelled:
        return {}
    systems = [
        System(name, [row_of(rows[n], answers[n], None) for n in labelled], "verification")
        for name, answers in (("original", ours), ("export", theirs))
    ]
    metrics = config.metrics if isinstance(config.metrics, tuple) else (config.metrics,)
    scored = score_systems(systems, metrics, metric_models_of(config))
    resampling = Resampling(config.resamples, config.confidence)
    table = {}
    for name, original in scored.scores["original"].items():
        export = scored.scores["export"].get(name)
        if export is not None:
            factor = 100 / original.maximum
            difference = paired_bootstrap(export, original, clusters=scored.clusters, resampling=resampling)
            ends = (difference.difference, difference.low, difference.high)
            points = [factor * end if np.isfinite(end) else None for end in ends]
            table[name] = MetricDifference(
                factor * difference.mean_b, factor * difference.mean_a, points[0] or 0.0, points[1], points[2]
            )
    return table


def _speed(pairs: Sequence[tuple[Written, Written]], engine: str) -> Speed:
    # The first answer of each warms it up.
    timed = pairs[1:] or pairs
    ours, theirs = (
        sum(len(pair[side].ids) for pair in timed) / max(sum(pair[side].seconds for pair in timed), 1e-9)
        for side in (0, 1)
    )
    return Speed(theirs, ours, theirs / ours, engine)


def compare_spans(
    ours: Sequence[Generated],
    theirs: Sequence[Generated],
    rows: Sequence[Example],
    logit_difference: float,
    *,
    tolerance: float | None,
    config: EvaluateConfig,
    engine: str,
) -> tuple[AnswerCheck, Speed]:
    """As `compare_answers`, of models that point: their logits on the same windows were compared already.

    Raises:
        RunError: an exact export is none.
    """
    equal = [a.text == b.text for a, b in zip(ours, theirs, strict=True)]
    parted = len(equal) - sum(equal)
    differences = metric_differences(rows, ours, theirs, config)
    # Logits within the tolerance can only turn spans round that lie as close.
    ties = parted if tolerance is not None and logit_difference <= tolerance else 0
    check = AnswerCheck(len(equal), sum(equal), ties, parted - ties, logit_difference, tolerance, differences)
    _refuse_inexact(check, next((row.id for row, same in zip(rows, equal, strict=True) if not same), ""))
    seconds = [max(sum(answer.seconds for answer in answers), 1e-9) for answers in (theirs, ours)]
    rates = [len(equal) / second for second in seconds]
    return check, Speed(rates[0], rates[1], rates[0] / rates[1], f"{engine}; answers a second")


def refuse_loss(check: AnswerCheck, max_drop: float) -> None:
    """Refuse a lossy export that is shown to be worse by more than so many points on a metric.

    Raises:
        RunError: the whole interval of a difference lies below.
    """
    worse: list[Any] = [(n, d) for n, d in check.metrics.items() if d.high is not None and d.high < -max_drop]
    if worse:
        name, difference = worse[0]
        raise RunError(
            f"the export failed verification: {name} falls by {-difference.difference:.1f} points "
            f"({-difference.high:.1f} to {-difference.low:.1f}), and {max_drop:g} are allowed",
            hint="nothing was kept; take a format of more bits, or allow more with --max-drop",
        )
