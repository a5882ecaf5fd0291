"""Votes of sampled answers, counted by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.knowledge.votes import stated_answer, votes
from understudy.types import Example, Knowledge

POND = Example("e", "Where do goldfish live?", ("pond",), choices=("aquarium", "pond", "sea"))


def answers(*texts, step="answer"):
    return [Knowledge("e", step, text, sample=number) for number, text in enumerate(texts)]


def test_a_majority():
    counted = votes(answers("pond", "(a)", "It swims. So the answer is: pond", "b"), POND)
    assert counted.counts == {"pond": 3, "aquarium": 1}
    assert (counted.majority, counted.agreement, counted.right_share) == ("pond", 0.75, 0.75)
    assert counted.entropy == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))


def test_among_equals_the_first_sample_decides_in_whatever_order_rows_come():
    rows = answers("sea", "pond", "pond", "sea")
    assert votes(rows, POND).majority == votes(rows[::-1], POND).majority == "sea"


def test_undecided_votes_count_against_all_and_missing_ones_not_at_all():
    rows = answers("pond", "aquarium or pond", None, "the moon") + answers("sea", step="explain_blind")
    counted = votes(rows, POND)
    assert (counted.num, counted.undecided, counted.right) == (3, 2, 1)
    assert counted.agreement == pytest.approx(1 / 3)
    assert counted.entropy == pytest.approx(math.log(3))


def test_no_votes():
    counted = votes(answers(None), POND)
    assert counted.majority is None
    assert all(map(math.isnan, (counted.agreement, counted.entropy, counted.right_share)))
    assert votes(answers("the moon"), POND).majority is None


def test_free_answers_vote_by_their_words():
    open_question = Example("e", "Which function?", ("AMF",))
    counted = votes(answers("amf", "AMF.", "SMF"), open_question)
    assert counted.counts == {"amf": 2, "smf": 1}
    assert counted.right == 2


def test_what_a_row_states():
    assert stated_answer(Knowledge("e", "explain_blind", "It swims. So the answer is: pond")) == "pond"
    assert stated_answer(Knowledge("e", "explain_blind", "It swims.")) is None
    assert stated_answer(Knowledge("e", "answer", "pond")) == "pond"
    assert stated_answer(Knowledge("e", "answer", "Hm. So the answer is:")) == "Hm."
    assert stated_answer(Knowledge("e", "answer", None)) is None


@given(st.lists(st.none() | st.sampled_from(["pond", "sea", "?", "aquarium", ""]) | st.text(max_size=8), max_size=8))
def test_shares_are_shares(texts):
    counted = votes(answers(*texts), POND)
    assert counted.num == sum(text is not None for text in texts)
    if counted.num:
        assert 0 <= counted.right_share <= 1
        assert 0 <= counted.agreement <= 1
        assert 0 <= counted.entropy <= math.log(counted.num) + 1e-9


def test_votes_tell_numbers_by_sign_and_point_and_not_by_their_spelling():
    open_question = Example("e", "Which level?", ("-85",))
    counted = votes(answers("−85", "-85", "85", "8.5", "1,000", "1000"), open_question)
    assert counted.counts == {"-85": 2, "85": 1, "8.5": 1, "1000": 2}
    assert counted.right == 2
