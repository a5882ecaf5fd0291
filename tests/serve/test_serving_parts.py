"""Pieces of serving by themselves: text as it comes, limits by a clock of their own, nuclei, the rule of a cascade."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from understudy.confidence import Calibration, Confidence, ProbabilityMap
from understudy.errors import ConfigError, RunError
from understudy.models.sampling import GumbelNoise, Sampling
from understudy.serve.answers import parting, probability
from understudy.serve.cascade import Cascade
from understudy.serve.keys import Key, KeyLimits
from understudy.serve.limits import Admission, KeyMeter, Refused
from understudy.serve.opening import Plan, cascade_of
from understudy.serve.sides import Side
from understudy.serve.text_stream import TextStream
from understudy.tokens.thoughts import without_thought


@given(st.text("ab <>/think\n", max_size=40), st.lists(st.text("ab ", min_size=1, max_size=3), max_size=2))
def test_what_is_streamed_is_the_text_up_to_the_first_stop(text: str, stops: list[str]) -> None:
    stream = TextStream(stops)
    pieces = [stream.advance(text[:end]) for end in range(1, len(text) + 1)]
    if not stream.stopped:
        pieces.append(stream.advance(text, last=True))
    whole = "".join(pieces)
    assert whole == stream.sent
    assert not any(stop in whole for stop in stops)
    if "<" not in text:
        places = [place for stop in stops if (place := text.strip().find(stop)) >= 0]
        # A stop text that stands in blanks at the end is seen before they are taken away, or not at all.
        expected = text.strip()[: min(places)] if places else text.strip()
        assert whole.startswith(expected) or expected.startswith(whole)


def test_half_a_character_is_held_back_and_a_thought_is_never_shown() -> None:
    stream = TextStream()
    assert stream.advance("naï\ufffd") == "naï"
    assert stream.advance("naïve") == "ve"
    text = "<think>let me see</think> the AMF"
    stream = TextStream()
    shown = "".join(stream.advance(text[:end]) for end in range(len(text))) + stream.advance(text, last=True)
    assert shown == without_thought(text) == "the AMF"
    assert TextStream(plain=True).advance(" a ") == " a "


def test_a_nucleus_holds_the_least_tokens_that_reach_the_mass() -> None:
    scores = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    counts = torch.zeros(4)
    for seed in range(400):
        noisy = GumbelNoise([Sampling(1.0, seed, top_p=0.7)])(torch.zeros(1, 1), scores)
        counts[noisy.argmax()] += 1
    assert counts[2:].tolist() == [0, 0]
    assert counts[0] / 400 == pytest.approx(0.5 / 0.8, abs=0.08)


def test_a_key_has_as_many_requests_and_tokens_as_its_minute_gives() -> None:
    now = [0.0]
    meter = KeyMeter(clock=lambda: now[0])
    key = Key("k", "alice", "hash", 0.0, requests_per_minute=2, tokens_per_minute=100, concurrent=1)
    with meter.metered(key) as spend:
        with pytest.raises(Refused, match="under way"), meter.metered(key):
            pass
        spend(160)
    with pytest.raises(Refused, match="tokens") as refusal, meter.metered(key):
        pass
    assert refusal.value.wait == math.ceil(61 * 60 / 100)
    now[0] = 37.0
    with meter.metered(key):
        pass
    with meter.metered(key):
        pass
    with pytest.raises(Refused, match="2 times"), meter.metered(key):
        pass


def test_no_more_is_let_in_than_there_is_room_for() -> None:
    admission = Admission(3, 2)
    with admission.admitted(2):
        with pytest.raises(Refused, match="2 answers") as refusal, admission.admitted(2):
            pass
        assert refusal.value.wait >= 1
        with admission.admitted():
            assert admission.under_way == 3
    assert admission.under_way == 0


def test_an_answer_costs_what_its_tokens_cost() -> None:
    side = Side("teacher", "teacher", "", None, input_price=2.0, output_price=10.0)
    assert side.cost(1000, 200) == pytest.approx(0.004)
    assert Side("student", "distilled", "", None).cost(1000, 200) is None


def test_a_student_that_chooses_is_as_sure_as_of_its_likeliest_option() -> None:
    chosen = Confidence().with_choices([math.log(0.7), math.log(0.3)])
    assert probability(chosen, None) == pytest.approx(0.7)
    assert probability(chosen, None, early=True) is None
    # One that writes is as sure as of its words, whatever the options say.
    assert probability(Confidence.of_tokens([-0.5]).with_choices([0.0, 0.0]), None) == pytest.approx(math.exp(-0.5))


def calibration(**fields: object) -> Calibration:
    maps = {
        "min_logp": ProbabilityMap("isotonic", (-2.0, 0.0), (0.0, 1.0), auroc=0.9),
        "first_logp": ProbabilityMap("isotonic", (-4.0, 0.0), (0.0, 1.0), auroc=0.8),
    }
    values: dict = {"run": "r", "student": "s", "arm": "distilled", "right": "", "measure": "min_logp"}
    return Calibration(**(values | {"early_measure": "first_logp", "maps": maps, "threshold": 0.6} | fields))


def test_a_cascade_goes_by_the_calibrated_probability_and_by_the_early_one() -> None:
    confidence = Confidence.of_tokens([-0.4, -1.0])
    assert probability(confidence, None) == pytest.approx(math.exp(-0.7))
    assert probability(confidence, calibration()) == pytest.approx(0.5)
    assert probability(confidence, calibration(), early=True) == pytest.approx(0.9)
    # An engine that does not give the chosen measure is judged by the next best.
    assert probability(Confidence(first_logp=-1.0), calibration()) == pytest.approx(0.75)
    assert probability(Confidence(), calibration()) is None
    rule = Cascade(0.6, 0.95, calibration=calibration())
    assert rule.asks(confidence, early=False) == (True, pytest.approx(0.5))
    assert rule.asks(confidence, early=True) == (True, pytest.approx(0.9))
    assert rule.asks(Confidence(), early=False) == (True, None)


def test_the_threshold_is_the_calibrations_or_a_probability() -> None:
    rule = cascade_of(Plan(cascade="auto", mode="first"), calibration(early_threshold=0.4))
    assert rule is not None
    assert (rule.threshold, rule.early_threshold) == (0.6, 0.4)
    with pytest.raises(RunError, match="calibrat"):
        cascade_of(Plan(cascade="auto"), None)
    for bad in ("1.2", "much", "nan"):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            cascade_of(Plan(cascade=bad), None)


def test_answers_part_at_their_first_different_word() -> None:
    assert parting("the AMF and", "the AMF") is not None
    place = parting("the AMF and", "the SMF")
    assert place is not None
    assert (place.word, place.ours, place.theirs) == (1, "AMF", "SMF")
    assert parting("the  AMF", "the AMF") is None
    assert KeyLimits().to_json() == {"requests_per_minute": None, "tokens_per_minute": None, "concurrent": None}
