"""Whether a judge can be relied on: order, repeats, people."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from support import scripted_judge
from support.asking import completer
from support.servers import Call, Reply, Server
from understudy.errors import DataError
from understudy.metrics.judge_reliability import Pairwise, label_agreement, pairwise, rating_agreement

A = ["a long answer", "short", "equal", "of the same length 1", "a BROKEN one"]
B = ["short", "a long answer", " equal ", "of the same length 2", "short"]


def judged(script: Callable[[Call], Reply], **others: list[str]) -> tuple[Pairwise, list[Call]]:
    with Server(script) as server:
        verdicts = pairwise(completer(server), [f"q{n}" for n in range(5)], A, B, **others)  # pyright: ignore
    return verdicts, server.calls


def test_a_judge_that_looks_at_the_answers() -> None:
    result, calls = judged(scripted_judge.judge)
    assert result.outcomes == ("win", "loss", "tie", "tie", None)
    assert result.flip_share == 0.0
    assert result.first_share == 0.5
    assert result.equal == 1
    assert result.asked == 8
    assert result.missing == {"unparseable": 1}
    assert result.unparseable_share == 2 / 8
    assert result.win_rate == (1 + 2 / 2) / 4
    assert len(calls) == 8 + 2 * 2, "each broken verdict is asked for twice more"
    assert json.loads(json.dumps(result.to_dict()))["win_rate"] == 0.5


def test_a_judge_that_looks_at_the_order_is_found_out() -> None:
    result, _ = judged(lambda _: Reply('{"reason": "r", "better": "first"}'))
    assert result.outcomes == ("tie",) * 5
    assert result.flip_share == 1.0
    assert result.first_share == 1.0


def test_a_judge_that_sees_no_difference() -> None:
    result, _ = judged(lambda _: Reply('{"reason": "r", "better": "tie"}'))
    assert result.flip_share == 0.0
    assert result.first_share is None
    assert result.win_rate == 0.5


def test_both_orders_are_shown_with_what_helps() -> None:
    others = {"references": ["the right one"] * 5, "contexts": ["the context"] * 5}
    _, calls = judged(scripted_judge.judge, **others)
    first = [
        scripted_judge.material(call.prompt) for call in calls if call.attempt == 0 and len(call.body["messages"]) == 2
    ]
    orders = {(material["FIRST ANSWER"], material["SECOND ANSWER"]) for material in first}
    pairs = {(A[n], B[n]) for n in (0, 1, 3, 4)}
    assert orders == pairs | {pair[::-1] for pair in pairs}
    assert all(material["RIGHT ANSWER"] == "the right one" for material in first)
    assert all(material["CONTEXT"] == "the context" for material in first)


def test_nothing_judged_is_no_number() -> None:
    result, _ = judged(lambda _: Reply("what?"))
    assert result.outcomes == (None, None, "tie", None, None)
    assert result.flip_share is None
    assert result.unparseable_share == 1.0


def test_lengths_must_agree() -> None:
    with Server() as server:
        judge = completer(server)
        with pytest.raises(DataError, match="one of each an item"):
            pairwise(judge, ["q"], ["a"], [])
        with pytest.raises(DataError, match="2 contexts"):
            pairwise(judge, ["q"], ["a"], ["b"], contexts=["c", "d"])
        with pytest.raises(DataError):
            pairwise(judge, [], [], [])


def test_kappa_by_hand() -> None:
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: p_o = 0.7, p_e = 0.5 · 0.6 + 0.5 · 0.4 = 0.5.
    judged_so = ["yes"] * 25 + ["no"] * 25 + [None, "yes"]
    labels = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15 + ["yes", None]
    agreement = label_agreement(judged_so, labels)
    assert agreement.value == pytest.approx(0.4)
    assert agreement.share == pytest.approx(0.7)
    assert (agreement.items, agreement.skipped) == (50, 2)
    assert agreement.low is not None
    assert agreement.high is not None
    assert -1 <= agreement.low < 0.4 < agreement.high <= 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=40))
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    verdicts, labels = zip(*pairs, strict=True)
    agreement = label_agreement(verdicts, labels)
    if agreement.value is None:
        assert len({*verdicts, *labels}) == 1
    else:
        assert agreement.value == pytest.approx(cohen_kappa_score(verdicts, labels), abs=1e-12)
        assert agreement.low is None or -1 <= agreement.low <= agreement.value
    assert label_agreement(labels, verdicts).value == agreement.value or agreement.value == pytest.approx(
        label_agreement(labels, verdicts).value
    )


def test_ratings_correlate_by_rank() -> None:
    random = np.random.default_rng(0)
    ratings = random.normal(size=200)
    agreement = rating_agreement(np.exp(ratings).tolist(), ratings.tolist())
    assert agreement.value == pytest.approx(1.0)
    noisy = ratings + random.normal(size=200)
    noisy[0] = math.nan
    agreement = rating_agreement(noisy.tolist(), ratings.tolist())
    ranks = [np.argsort(np.argsort(side[1:])) for side in (noisy, ratings)]
    assert agreement.value == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert agreement.items == 199
    assert agreement.skipped == 1
    assert agreement.low < agreement.value < agreement.high  # pyright: ignore


def test_the_interval_of_a_rank_correlation_covers() -> None:
    """Of 1,000 samples of 40 pairs with correlation 0.6, about 95% of the intervals hold the true rank correlation."""
    random = np.random.default_rng(1)
    true = 6 / math.pi * math.asin(0.6 / 2)
    held = 0
    for _ in range(1_000):
        one = random.normal(size=40)
        other = 0.6 * one + 0.8 * random.normal(size=40)
        agreement = rating_agreement(one.tolist(), other.tolist())
        assert agreement.low is not None
        assert agreement.high is not None
        held += agreement.low <= true <= agreement.high
    assert 930 <= held <= 970


def test_agreement_of_too_little() -> None:
    assert rating_agreement([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]).value is None
    assert rating_agreement([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]).low is None
    with pytest.raises(DataError, match="both"):
        rating_agreement([None, 1.0], [1.0, math.nan])
    with pytest.raises(DataError, match="2 verdicts"):
        label_agreement(["a", "b"], ["a"])
