"""Raters who did not attend, by rules that were stated before the first rating.

    same rating:  max_v #(ratings that are v) / #ratings ≥ share
    checks:       failed attention checks ≥ number
    speed:        median seconds a page < limit

No rule looks at a method, so leaving raters out by them leaves the tests exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from understudy.metrics.significance.results import Result
from understudy.study.config import ExclusionConfig
from understudy.study.ratings import Ratings

DEFAULT_RULES = ExclusionConfig(attention_failed=1, same_rating_share=0.8, median_seconds=None)
"""What is looked at where nobody stated rules."""
_FEWEST = 5  # ratings below which one value says nothing


@dataclass(frozen=True, slots=True)
class RaterRow:
    """A line of the export's table of raters.

    Attributes:
        rater: name.
        slot: the rater's row of the design; None where not known.
        excluded: whether somebody excluded the rater.
        reason: why.
        attention_failed: checks that were failed.
        finished: when the rater was done; empty where not.
        simulated: whether it is no person.
    """

    rater: str
    slot: int | None = None
    excluded: bool = False
    reason: str = ""
    attention_failed: int = 0
    started: str = ""
    finished: str = ""
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Attention(Result):
    """Who is left out and why.

    Attributes:
        rules: the rules, in words.
        stated: whether the study states them; else they are the defaults and leave nobody out of the main result.
        left_out: rater -> reason.
        raters: how many rated.
        constant: raters with one value in at least 80% of their ratings, whatever the rules say.
    """

    rules: tuple[str, ...]
    stated: bool
    left_out: Mapping[str, str]
    raters: int
    constant: int
    by_reason: Mapping[str, int] = field(default_factory=dict)


def inattentive(
    ratings: Ratings | None, raters: Mapping[str, RaterRow], rules: ExclusionConfig | None, seen: tuple[str, ...]
) -> Attention:
    """Apply the rules.

    Args:
        ratings: what was rated; None for preferences, of which only checks and exclusions can be looked at.
        raters: name -> row of the table of raters; may be empty.
        rules: as the study states them; None: the defaults.
        seen: raters who gave an answer.
    """
    applied = rules or DEFAULT_RULES
    left_out: dict[str, str] = {}
    shares = {} if ratings is None else same_rating_shares(ratings)
    seconds = {} if ratings is None else _median_seconds(ratings)
    for rater in seen:
        row = raters.get(rater, RaterRow(rater))
        if reason := _reason(row, applied, shares.get(rater, 0.0), seconds.get(rater, float("nan"))):
            left_out[rater] = reason
    kinds = [reason.partition(":")[0] for reason in left_out.values()]
    return Attention(
        rules=tuple(in_words(applied)),
        stated=rules is not None,
        left_out=left_out,
        raters=len(seen),
        constant=sum(share >= 0.8 for share in shares.values()),
        by_reason={kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
    )


def _reason(row: RaterRow, rules: ExclusionConfig, share: float, seconds: float) -> str:
    """Why a rater is left out; empty where there is no reason. What stands before the colon is its kind."""
    if row.excluded:
        return f"excluded by hand: {row.reason}" if row.reason else "excluded by hand"
    if rules.attention_failed is not None and row.attention_failed >= rules.attention_failed:
        return f"failed attention checks: {row.attention_failed}"
    if rules.same_rating_share is not None and share >= rules.same_rating_share:
        return f"one rating for nearly everything: {share:.0%}"
    if rules.median_seconds is not None and seconds < rules.median_seconds:
        return f"too fast: median {seconds:.1f} s a page"
    return ""


def in_words(rules: ExclusionConfig) -> list[str]:
    """The rules, one a sentence without its full stop."""
    words = ["whoever the study's staff excluded, with a reason that does not look at methods"]
    if rules.attention_failed is not None:
        checks = "attention check" if rules.attention_failed == 1 else "attention checks"
        words.append(f"whoever failed {rules.attention_failed} {checks} or more")
    if rules.same_rating_share is not None:
        words.append(f"whoever gave one and the same value in {rules.same_rating_share:.0%} of the ratings or more")
    if rules.median_seconds is not None:
        words.append(f"whoever spent less than {rules.median_seconds:g} seconds (median) on a page")
    return words


def same_rating_shares(ratings: Ratings) -> dict[str, float]:
    """Rater -> share of the ratings that are the rater's commonest value; raters with fewer than five are left out."""
    shares = {}
    for rater in dict.fromkeys(ratings.rater.tolist()):
        values = ratings.values[ratings.rater == rater]
        values = values[~np.isnan(values)]
        if len(values) >= _FEWEST:
            shares[rater] = float(np.unique(values, return_counts=True)[1].max() / len(values))
    return shares


def _median_seconds(ratings: Ratings) -> dict[str, float]:
    found = {}
    for rater in dict.fromkeys(ratings.rater.tolist()):
        seconds = ratings.seconds[ratings.rater == rater]
        if (~np.isnan(seconds)).any():
            found[rater] = float(np.nanmedian(seconds))
    return found
