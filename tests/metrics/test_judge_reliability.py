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
        found = pairwise(completer(server), [f"q{n}" for n in range(5)], A, B, **others)  # pyright: ignore
    return found, server.calls


def test_a_judge_that_looks_at_the_answers() -> None:
    found, calls = judged(scripted_judge.judge)
    assert found.outcomes == ("win", "loss", "tie", "tie", None)
    assert found.flip_share == 0.0
    assert found.first_share == 0.5
    assert found.equal == 1
    assert found.asked == 8
    assert found.missing == {"unparseable": 1}
    assert found.unparseable_share == 2 / 8
    assert found.win_rate == (1 + 2 / 2) / 4
    assert len(calls) == 8 + 2 * 2, "each broken verdict is asked for twice more"
    assert json.loads(json.dumps(found.to_dict()))["win_rate"] == 0.5


def test_a_judge_that_looks_at_the_order_is_found_out() -> None:
    found, _ = judged(lambda _: Reply('{"reason": "r", "better": "first"}'))
    assert found.outcomes == ("tie",) * 5
    assert found.flip_share == 1.0
    assert found.first_share == 1.0


def test_a_judge_that_sees_no_difference() -> None:
    found, _ = judged(lambda _: Reply('{"reason": "r", "better": "tie"}'))
    assert found.flip_share == 0.0
    assert found.first_share is None
    assert found.win_rate == 0.5


def test_both_orders_are_shown_with_what_helps() -> None:
    others = {"references": ["the right one"] * 5, "contexts": ["the context"] * 5}
    _, calls = judged(scripted_judge.judge, **others)
    first = [
        scripted_judge.material(call.prompt) for call in calls if call.attempt == 0 and len(call.body["messages"]) == 2
    ]
    shown = {(found["FIRST ANSWER"], found["SECOND ANSWER"]) for found in first}
    pairs = {(A[n], B[n]) for n in (0, 1, 3, 4)}
    assert shown == pairs | {pair[::-1] for pair in pairs}
    assert all(found["RIGHT ANSWER"] == "the right one" for found in first)
    assert all(found["CONTEXT"] == "the context" for found in first)


def test_nothing_judged_is_no_number() -> None:
    found, _ = judged(lambda _: Reply("what?"))
    assert found.outcomes == (None, None, "tie", None, None)
    assert found.flip_share is None
    assert found.unparseable_share == 1.0


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
    found = label_agreement(judged_so, labels)
    assert found.value == pytest.approx(0.4)
    assert found.share == pytest.approx(0.7)
    assert (found.items, found.skipped) == (50, 2)
    assert found.low is not None
    assert found.high is not None
    assert -1 <= found.low < 0.4 < found.high <= 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=40))
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    one, other = zip(*pairs, strict=True)
    found = label_agreement(one, other)
    if found.value is None:
        assert len({*one, *other}) == 1
    else:
        assert found.value == pytest.approx(cohen_kappa_score(one, other), abs=1e-12)
        assert found.low is None or -1 <= found.low <= found.value
    assert label_agreement(other, one).value == found.value or found.value == pytest.approx(
        label_agreement(other, one).value
    )


def test_ratings_correlate_by_rank() -> None:
    random = np.random.default_rng(0)
    ratings = random.normal(size=200)
    found = rating_agreement(np.exp(ratings).tolist(), ratings.tolist())
    assert found.value == pytest.approx(1.0)
    noisy = ratings + random.normal(size=200)
    noisy[0] = math.nan
    found = rating_agreement(noisy.tolist(), ratings.tolist())
    ranks = [np.argsort(np.argsort(side[1:])) for side in (noisy, ratings)]
    assert found.value == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert found.items == 199
    assert found.skipped == 1
    assert found.low < found.value < found.high  # pyright: ignore


def test_the_interval_of_a_rank_correlation_covers() -> None:
    """Of 1,000 samples of 40 pairs with correlation 0.6, about 95% of the intervals hold the true rank correlation."""
    random = np.random.default_rng(1)
    true = 6 / math.pi * math.asin(0.6 / 2)
    held = 0
    for _ in range(1_000):
        one = random.normal(size=40)
        other = 0.6 * one + 0.8 * random.normal(size=40)
        found = rating_agreement(one.tolist(), other.tolist())
        assert found.low is not None
        assert found.high is not None
        held += found.low <= true <= found.high
    assert 930 <= held <= 970


def test_agreement_of_too_little() -> None:
    assert rating_agreement([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]).value is None
    assert rating_agreement([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]).low is None
    with pytest.raises(DataError, match="both"):
        rating_agreement([None, 1.0], [1.0, math.nan])
    with pytest.raises(DataError, match="2 verdicts"):
        label_agreement(["a", "b"], ["a"])
