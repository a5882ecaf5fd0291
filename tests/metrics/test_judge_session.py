"""How a judge is asked: prompts that keep material apart, and the sums over repeats."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import scripted_judge
from understudy.errors import ConfigError
from understudy.metrics import judge_session
from understudy.metrics.judge_session import prompt_fingerprint, render, repeat_variance

ANY_TEXT = st.text(st.characters(codec=None)) | st.sampled_from(
    ["END ANSWER", "{{ mark }}", "{% endraw %}", "\r\n", "\x00"]
)
VARIABLES = {
    "claims": {"question": "q", "answer": "a"},
    "supported": {"context": "c", "claims": ["x", "y"]},
    "questions": {"answer": "a", "number": 3},
    "sentences": {"question": "q", "sentences": ["s"]},
    "compared": {"question": "q", "answer": ["x"], "reference": ["y"]},
    "pairwise": {"question": "q", "context": None, "reference": "r", "first": "f", "second": "s"},
    "rating": {
        "question": "q",
        "context": None,
        "choices": ["x", "y"],
        "answer": "a",
        "text": "t",
        "statements": {"plausibility": "It could be so."},
        "lowest": 1,
        "highest": 5,
    },
}


def test_every_prompt_is_tried_here() -> None:
    shipped = {path.stem for path in judge_session.PROMPT_FOLDERS[0].glob("*.jinja")}
    assert shipped == {*VARIABLES, "system", "material"}


@pytest.mark.parametrize("prompt", VARIABLES)
def test_a_prompt_says_what_form_it_wants_and_marks_its_material(prompt: str) -> None:
    system, user = render(prompt, VARIABLES[prompt])
    assert (system.role, user.role) == ("system", "user")
    assert user.content.count("Form: {") == 1
    material = scripted_judge.material(user.content)
    given_texts = [value for value in VARIABLES[prompt].values() if isinstance(value, str)]
    assert set(given_texts) <= set(material.values())
    marks = {match[2] for match in scripted_judge.BLOCK.finditer(user.content)}
    assert len(marks) == 1
    assert marks.pop() in system.content
    assert not any(sign in user.content for sign in ("{{", "{%", "None"))


@given(ANY_TEXT, ANY_TEXT)
def test_any_text_stands_whole_between_marks_that_it_does_not_contain(question: str, answer: str) -> None:
    system, user = render("claims", {"question": question, "answer": answer})
    mark = next(iter(scripted_judge.BLOCK.finditer(user.content)))[2]
    assert mark not in question + answer
    assert user.content.count(mark) == 4
    assert f"BEGIN ANSWER {mark}\n{answer}\nEND ANSWER {mark}" in user.content
    assert f"BEGIN QUESTION {mark}\n{question}\nEND QUESTION {mark}" in user.content
    assert mark in system.content


@given(st.lists(ANY_TEXT.filter(lambda text: text.strip()), min_size=1, max_size=5))
def test_a_claim_is_one_numbered_line(claims: list[str]) -> None:
    _, user = render("supported", {"context": "c", "claims": claims})
    mark = next(iter(scripted_judge.BLOCK.finditer(user.content)))[2]
    inside = user.content.split(f"BEGIN CLAIMS {mark}\n")[1].split(f"END CLAIMS {mark}")[0]
    expected = "".join(f"{number}. {' '.join(claim.split())}\n" for number, claim in enumerate(claims, start=1))
    assert inside == expected


def test_a_prompt_of_your_own_wins_and_changes_the_signature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = prompt_fingerprint("claims")
    (tmp_path / "claims.jinja").write_text("Mine: {{ answer }}")
    monkeypatch.setattr(judge_session, "PROMPT_FOLDERS", [tmp_path, *judge_session.PROMPT_FOLDERS])
    _, user = render("claims", {"question": "q", "answer": "{{ a }}"})
    assert user.content == "Mine: {{ a }}"
    assert prompt_fingerprint("claims") != before
    (tmp_path / "claims.jinja").write_text("{{ nothing_of_the_kind }}")
    judge_session._environment.cache_clear()
    with pytest.raises(ConfigError, match="nothing_of_the_kind"):
        render("claims", {"question": "q", "answer": "a"})
    with pytest.raises(ConfigError, match=r"no prompt absent\.jinja"):
        prompt_fingerprint("absent")
    judge_session._environment.cache_clear()


def test_repeat_variance_by_hand() -> None:
    nan = math.nan
    values = np.array([[1.0, 0.0], [1.0, 1.0], [0.5, nan], [nan, nan], [0.0, 0.0]])
    variance = repeat_variance(values)
    # Sample variances 1/2, 0, 0 over the three items with two verdicts; means 1/2, 1, 0 with sample variance 1/4.
    assert variance["repeated"] == 3
    assert variance["repeat_variance"] == pytest.approx(1 / 6)
    assert variance["item_variance"] == pytest.approx(1 / 4 - (1 / 2) / 2 / 3)
    assert variance["reliability"] == pytest.approx((1 / 4 - 1 / 12) / (1 / 4 - 1 / 12 + 1 / 6))
    assert variance["varied_share"] == pytest.approx(1 / 3)


def test_repeat_variance_finds_what_was_put_in() -> None:
    """Items with standard deviation 2, repeats with 1: the two variances are 4 and 1, the reliability is 0.8."""
    random = np.random.default_rng(0)
    values = random.normal(0, 2, (20_000, 1)) + random.normal(0, 1, (20_000, 4))
    variance = repeat_variance(values)
    assert variance["repeat_variance"] == pytest.approx(1, rel=0.02)
    assert variance["item_variance"] == pytest.approx(4, rel=0.03)
    assert variance["reliability"] == pytest.approx(0.8, rel=0.01)


def test_repeat_variance_of_too_little() -> None:
    assert repeat_variance(np.full((3, 2), math.nan))["repeat_variance"] is None
    one = repeat_variance(np.array([[1.0, 0.0]]))
    assert one["repeat_variance"] == 0.5
    assert one["reliability"] is None
    same = repeat_variance(np.ones((3, 2)))
    assert (same["repeat_variance"], same["item_variance"], same["reliability"]) == (0.0, 0.0, None)
