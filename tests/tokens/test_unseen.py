"""What the teacher reads and the student does not, as both are then asked."""

from __future__ import annotations

import dataclasses

import pytest

from support.tiny import DATA, tokenizer
from understudy.recipe import HintConfig, StudentConfig, TeacherConfig, parse_recipe
from understudy.tokens.collate import Collator, ExampleTokenizer, encode_rows
from understudy.tokens.template import Template
from understudy.tokens.unseen import sees, with_hint
from understudy.types import Example, Message

ROW = Example("r", "Who?", ("AMF",), context="The AMF does.", rationales=("It says so.",), meta={"note": "look twice"})


def side(config: TeacherConfig | StudentConfig, **data: object) -> ExampleTokenizer:
    return ExampleTokenizer(Template(tokenizer()), DATA.model_copy(update=data), sees=sees(config))


def test_what_a_model_is_told_stands_where_the_field_has_it() -> None:
    hint = HintConfig(system="Be brief.", examples=(("What?", "2152"),), field="note", text="Hint: {}")
    turns = side(TeacherConfig(model="t", hint=hint), system="Telecom.").turns(ROW)
    assert turns == [
        {"role": "system", "content": "Telecom.\n\nBe brief."},
        {"role": "user", "content": "What?"},
        {"role": "assistant", "content": "2152"},
        {"role": "user", "content": "Hint: look twice\n\nThe AMF does.\n\nWho?"},
    ]
    student = side(StudentConfig(model="s", context=False), system="Telecom.").turns(ROW)
    assert student == [{"role": "system", "content": "Telecom."}, {"role": "user", "content": "Who?"}]


def test_a_system_prompt_of_the_row_comes_behind_the_hint_and_solved_questions_before_its_turns() -> None:
    row = dataclasses.replace(
        ROW, history=(Message("system", "Own."), Message("user", "Hi"), Message("assistant", "A"))
    )
    told = with_hint(row, HintConfig(system="Hint.", examples=(("Q", "A"),)))
    assert [(turn.role, turn.content) for turn in told.history] == [
        ("system", "Hint.\n\nOwn."),
        ("user", "Q"),
        ("assistant", "A"),
        ("user", "Hi"),
        ("assistant", "A"),
    ]
    assert told.context == row.context


@pytest.mark.parametrize(
    ("field", "context"),
    [
        ("rationale", "It says so.\n\nThe AMF does."),
        ("note", "look twice\n\nThe AMF does."),
        ("absent", "The AMF does."),
    ],
)
def test_a_field_that_a_row_lacks_is_no_hint(field: str, context: str) -> None:
    assert with_hint(ROW, HintConfig(field=field)).context == context


def test_both_learn_the_same_tokens_and_read_different_ones() -> None:
    teacher = side(TeacherConfig(model="t", hint=HintConfig(field="note")))
    student = side(StudentConfig(model="s", context=False))
    rows = encode_rows([ROW, dataclasses.replace(ROW, id="b", context=None, meta={})], student, teacher)
    assert len(rows[0].student.prompt_ids) < len(rows[0].teacher.prompt_ids)  # pyright: ignore
    assert rows[1].student == rows[1].teacher
    batch = Collator(1, 1)(rows)
    assert batch["student"]["target_ids"].tolist() == batch["teacher"]["target_ids"].tolist()  # pyright: ignore
    assert batch["student"]["inputs"]["input_ids"].shape != batch["teacher"]["inputs"]["input_ids"].shape  # pyright: ignore


def test_a_hint_that_is_too_long_is_cut_as_a_context_is() -> None:
    long = dataclasses.replace(ROW, context=None, meta={"note": "radio. " * 200})
    tokens = side(TeacherConfig(model="t", hint=HintConfig(field="note")))
    assert len(tokens.prompt_ids(long)) <= DATA.max_length - DATA.max_answer_tokens
    assert tokens.notes == {"contexts reduced (window)": 1}


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"teacher": {"model": "t", "hint": {}}}, "give system, examples or field"),
        ({"teacher": {"model": "t", "hint": {"field": "x", "text": "no place"}}}, "write {} once"),
        ({"teacher": {"model": "t", "hint": {"system": "x", "text": "Hint: {}"}}}, "name the field"),
        ({"teacher": {"from_student": True, "sft": {}}}, "whose training is student.sft"),
        ({"teacher": {"from_student": True}, "student": {"from_teacher": {"layers": 1}}}, "a model of its own"),
        (
            {"teacher": {"from_student": True}, "arms": {"other": {"student.model": "m"}}},
            "all arms have the run's student",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(section: dict, words: str) -> None:
    with pytest.raises(Exception, match=words) as caught:
        parse_recipe(section)
    assert "\n" not in str(caught.value)


def test_a_teacher_that_is_its_student_has_its_model_and_template() -> None:
    student = {"model": "m", "chat_template": "{{ messages }}", "revision": "r", "sft": {"steps": 2}}
    student |= {"init": "fresh", "config": {"num_hidden_layers": 2}}
    recipe = parse_recipe({"teacher": {"from_student": True, "hint": {"system": "x"}}, "student": student})
    teacher = recipe.local_teacher
    assert (teacher.model, teacher.chat_template, teacher.revision, teacher.sft) == ("m", "{{ messages }}", "r", None)
    assert (teacher.init, teacher.config) == ("fresh", {"num_hidden_layers": 2})


def test_recipes_of_before_there_were_hints_keep_their_fingerprints() -> None:
    identity = parse_recipe({}).identity()
    assert not {"hint", "from_student"} & identity["teacher"].keys()
    assert "context" not in identity["student"]
