"""Whether a judge can be relied on: against itself, against the order of what it sees, against people.

Repeats are judged by the metrics themselves (`MetricModels.judge_repeats`) and summed up by
`judge_session.repeat_variance`; here are pairwise verdicts
with their positions swapped, and agreement with labels that somebody has given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from understudy.errors import DataError
from understudy.metrics.judge_session import Case, JudgeSession, Missing, Verdict, object_schema
from understudy.types import Completer

Outcome = Literal["win", "tie", "loss"]

_SCHEMA = object_schema(reason={"type": "string"}, better={"enum": ["first", "second", "tie"]})
_SEEN_FIRST: dict[str, Outcome] = {"first": "win", "second": "loss", "tie": "tie"}
_SEEN_SECOND: dict[str, Outcome] = {"first": "loss", "second": "win", "tie": "tie"}


@dataclass(frozen=True, slots=True)
class Pairwise:
    """Verdicts on the answers of `a` against those of `b`, each pair judged in both orders.

    Attributes:
        outcomes: win, tie or loss of `a` an item; a tie where the two orders disagree; None where one has no verdict.
        flip_share: share of the pairs judged in both orders whose two verdicts disagree: an order, not an answer,
            decided these. None where no pair was judged.
        first_share: share of the verdicts for one side that went to the answer shown first; 0.5 is fair. None without
            such a verdict.
        equal: pairs of the same text, a tie without a question; in no share.
        asked: questions put to the judge.
        unparseable_share: share of these that came back unusable.
        missing: items without an outcome, by reason.
        signature: judge, prompts, version.
    """

    outcomes: tuple[Outcome | None, ...]
    flip_share: float | None
    first_share: float | None
    equal: int
    asked: int
    unparseable_share: float
    missing: Mapping[str, int]
    signature: str

    @property
    def win_rate(self) -> float:
        """(wins + ties / 2) / outcomes; NaN without outcomes."""
        counts = Counter(outcome for outcome in self.outcomes if outcome)
        total = counts.total()
        return (counts["win"] + counts["tie"] / 2) / total if total else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        rate = self.win_rate
        return {**asdict(self), "win_rate": None if rate != rate else rate, "missing": dict(self.missing)}


def pairwise(
    judge: Completer,
    questions: Sequence[str],
    a: Sequence[str],
    b: Sequence[str],
    *,
    references: Sequence[str] | None = None,
    contexts: Sequence[str | None] | None = None,
) -> Pairwise:
    """Have a judge say which of two answers is better, once in each order.

    Args:
        judge: the language model.
        questions: what was asked.
        a: the answers of one system.
        b: those of the other.
        references: the right answers, shown to the judge where given.
        contexts: what was to be read, likewise.

    Raises:
        DataError: lengths differ, or there is nothing to judge.
    """
    if not questions or len({len(questions), len(a), len(b)}) > 1:
        raise DataError(f"{len(questions)} questions, {len(a)} and {len(b)} answers: one of each an item is needed")
    for name, values in (("references", references), ("contexts", contexts)):
        if values is not None and len(values) != len(questions):
            raise DataError(f"{len(questions)} questions, but {len(values)} {name}")
    session = JudgeSession("pairwise", judge, len(questions), 1, "pairwise")
    differ = [item for item in range(len(questions)) if a[item].strip() != b[item].strip()]

    def case_of(item: int, first: str, second: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        context = contexts[item] if contexts else None
        reference = references[item] if references else None
        variables = {"question": questions[item], "context": context, "reference": reference}
        return {**variables, "first": first, "second": second}, _SCHEMA

    # The last number of a case: whether `a` is shown second.
    cases: dict[Case, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
    for item in differ:
        cases[item, 0, 0] = case_of(item, a[item], b[item])
        cases[item, 0, 1] = case_of(item, b[item], a[item])
    verdicts = session.ask("pairwise", cases)
    return _pairwise_result(session, verdicts, differ)


def _pairwise_result(session: JudgeSession, verdicts: Mapping[Case, Verdict], differ: Sequence[int]) -> Pairwise:
    outcomes: dict[int, Outcome | None] = dict.fromkeys(range(session.items), "tie")
    missing: Counter[str] = Counter()
    flips: list[bool] = []
    for item in differ:
        verdict, swapped = verdicts[item, 0, 0], verdicts[item, 0, 1]
        if isinstance(verdict, Missing) or isinstance(swapped, Missing):
            outcomes[item] = None
            first_missing = next(answer for answer in (verdict, swapped) if isinstance(answer, Missing))
            missing[first_missing.kind] += 1
            continue
        outcome, swapped_outcome = _SEEN_FIRST[verdict["better"]], _SEEN_SECOND[swapped["better"]]
        flips.append(outcome != swapped_outcome)
        outcomes[item] = "tie" if flips[-1] else outcome
    sides = [answer["better"] for answer in verdicts.values() if not isinstance(answer, Missing)]
    firsts = [side == "first" for side in sides if side != "tie"]
    return Pairwise(
        outcomes=tuple(outcomes.values()),
        flip_share=float(np.mean(flips)) if flips else None,
        first_share=float(np.mean(firsts)) if firsts else None,
        equal=session.items - len(differ),
        asked=len(verdicts),
        unparseable_share=session.unparseable_share,
        missing=dict(missing),
        signature=session.signature,
    )


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a judge and people agree.

    Attributes:
        items: how many have both a verdict and a label.
        skipped: how many lack one of them.
        share: of equal verdicts; for ratings None.
        value: Cohen's kappa, or Spearman's rank correlation; None where undefined (one side is constant).
        low: lower end of the 95% interval; None where the items are too few for one.
        high: upper end, likewise.
        statistic: `cohen_kappa` or `spearman`.
    """

    items: int
    skipped: int
    share: float | None
    value: float | None
    low: float | None
    high: float | None
    statistic: str


def label_agreement(judged: Sequence[str | bool | None], labels: Sequence[str | bool | None]) -> Agreement:
    """Cohen's kappa of a judge's verdicts with people's labels (Cohen, 1960), by statsmodels.

    ```text
    κ = (p_o − p_e) / (1 − p_e);  p_o share of equal verdicts, p_e the share that the two margins give by chance
    ```

    Args:
        judged: verdicts; None is missing.
        labels: labels of the same items in the same words; None is missing.

    Raises:
        DataError: lengths differ, or no item has both.
    """
    pairs = _labelled_pairs(judged, labels)
    kinds = sorted({value for pair in pairs for value in pair}, key=str)
    table = np.zeros((len(kinds), len(kinds)))
    for verdict, label in pairs:
        table[kinds.index(verdict), kinds.index(label)] += 1
    share = float(np.trace(table) / table.sum())
    by_chance = float(table.sum(axis=0) @ table.sum(axis=1) / table.sum() ** 2)
    skipped = len(judged) - len(pairs)
    if by_chance == 1.0:
        return Agreement(len(pairs), skipped, share, None, None, None, "cohen_kappa")
    from statsmodels.stats.inter_rater import cohens_kappa

    # Few items leave no variance to divide by; then there is a kappa, but no interval.
    with np.errstate(all="ignore"):
        result: Any = cohens_kappa(table)
        low, high = max(-1.0, float(result.kappa_low)), min(1.0, float(result.kappa_upp))
    has_interval = bool(np.isfinite([result.kappa_low, result.kappa_upp]).all() and result.std_kappa > 0)
    kappa = float(result.kappa)
    return Agreement(
        len(pairs), skipped, share, kappa, low if has_interval else None, high if has_interval else None, "cohen_kappa"
    )


def rating_agreement(judged: Sequence[float | None], ratings: Sequence[float | None]) -> Agreement:
    """Spearman's rank correlation of a judge's values with people's ratings, with the interval of Bonett and Wright.

    ```text
    tanh(artanh r ± 1.96 · √((1 + r²/2) / (n − 3)))
    ```

    Args:
        judged: values, such as `Score.per_example`; None or NaN is missing.
        ratings: ratings of the same items, on any scale.

    Raises:
        DataError: lengths differ, or no item has both.
    """
    pairs = _labelled_pairs(judged, ratings)
    verdicts, scores = np.array(pairs, dtype=np.float64).T
    skipped = len(judged) - len(pairs)
    if len(pairs) < 2 or np.ptp(verdicts) == 0 or np.ptp(scores) == 0:
        return Agreement(len(pairs), skipped, None, None, None, None, "spearman")
    from scipy.stats import spearmanr

    value = float(np.clip(spearmanr(verdicts, scores)[0], -1.0, 1.0))  # pyright: ignore
    if len(pairs) < 4 or abs(value) == 1.0:
        # The formula knows no interval here: it would be infinitely wide, or have no width.
        return Agreement(len(pairs), skipped, None, value, None, None, "spearman")
    half = 1.959964 * np.sqrt((1 + value**2 / 2) / (len(pairs) - 3))
    low, high = np.tanh(np.arctanh(value) + np.array([-half, half])).tolist()
    return Agreement(len(pairs), skipped, None, value, low, high, "spearman")


def _labelled_pairs(judged: Sequence[Any], labels: Sequence[Any]) -> list[tuple[Any, Any]]:
    if len(judged) != len(labels):
        raise DataError(f"{len(judged)} verdicts, but {len(labels)} labels")
    pairs = [pair for pair in zip(judged, labels, strict=True) if all(v is not None and v == v for v in pair)]
    if not pairs:
        raise DataError("no item has both a verdict and a label")
    return pairs
