"""The one rendering that every model gets."""

import pytest

from understudy.data.choices import choice_label
from understudy.tokens.prompts import answer_text, messages, render_question
from understudy.types import Example, Message

ROW = Example(
    "x",
    "Which function terminates N2?",
    ("AMF", "the AMF"),
    context="The AMF terminates N2.",
    choices=("SMF", "AMF"),
    history=(Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello")),
)


def test_context_question_and_lettered_options() -> None:
    assert render_question(ROW) == "The AMF terminates N2.\n\nWhich function terminates N2?\nA. SMF\nB. AMF"
    assert render_question(ROW, context="N2: AMF").startswith("N2: AMF\n\nWhich")
    assert render_question(ROW, context="").startswith("Which")
    assert render_question(Example("y", "Why?")) == "Why?"


def test_messages_end_with_the_user_and_share_one_system_turn() -> None:
    turns = messages(ROW, "You know telecom.")
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "user"]
    assert turns[0]["content"] == "You know telecom.\n\nBe brief."
    assert turns[-1]["content"] == render_question(ROW)
    assert messages(Example("y", "Why?")) == [{"role": "user", "content": "Why?"}]
    assert messages(Example("y", "Why?"), "s")[0] == {"role": "system", "content": "s"}


def test_the_answer_to_learn_is_the_first() -> None:
    assert answer_text(ROW) == "AMF"
    with pytest.raises(ValueError, match="x has no answer"):
        answer_text(Example("x", "q"))


def test_labels_go_on_after_z() -> None:
    assert [choice_label(place) for place in (0, 25, 26, 27, 52, 701, 702)] == ["A", "Z", "AA", "AB", "BA", "ZZ", "AAA"]
