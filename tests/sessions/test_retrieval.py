"""Retrieval: nothing of the test split, nothing of oneself, what fits, and never a token above the budget."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from understudy.bundle_answers import Bundle, write_answer
from understudy.data.embedded.bundles import generate
from understudy.data.sessions import Item, Session, example_of, question_of, session_of
from understudy.errors import DataError
from understudy.models.load import load_example_tokenizer
from understudy.pipeline.stages.informed import shown_rows
from understudy.recipe import DataConfig, KnowledgeConfig, ModelConfig
from understudy.sessions.knowledge import SessionKnowledge, Statement, Thought
from understudy.sessions.lessons import asked, lessons
from understudy.sessions.patterns import mine_patterns
from understudy.sessions.retrieval import HEAD, Retriever, refuse_held_out
from understudy.tokens.prompts import messages

SPLITS = generate()
TRAIN, TEST = list(SPLITS.train[:120]), list(SPLITS.test[:20])
SESSIONS = [session_of(row) for row in TRAIN]
PATTERNS = tuple(
    Statement("pattern", p.text, "category", p.members, weight=p.confidence)
    for p in mine_patterns(SESSIONS, support=0.02).patterns
)
THOUGHTS = tuple(Thought(session.id, f"thought of {session.id}") for session in SESSIONS[::2])
KNOWN = SessionKnowledge(PATTERNS, THOUGHTS)
TENT = Session("tent", (Item("t1", "Tarn tent", "tent"), Item("m1", "Norv mat", "mat")), (Bundle((1, 2), "camping"),))


def always(_: object) -> bool:
    return True


def statement(text: str, *members: str, about: str = "category", **fields: object) -> Statement:
    return Statement("pattern", text, about, members, **fields)  # pyright: ignore[reportArgumentType]


def lines(session: Session, *statements: Statement, **options: object) -> tuple[str, ...]:
    retriever = Retriever(SessionKnowledge(statements), [], **options)  # pyright: ignore[reportArgumentType]
    return retriever.shown([example_of(session)], always)[0].lines


def test_neighbours_are_training_sessions_and_never_the_session_itself() -> None:
    train = {row.id for row in TRAIN}
    shown = Retriever(KNOWN, SESSIONS, neighbours=3).shown([*TRAIN, *TEST], always)
    assert all(len(one.neighbours) == 3 and train.issuperset(one.neighbours) for one in shown)
    assert all(one.example.id not in one.neighbours for one in shown)


def test_the_truth_of_the_session_at_hand_changes_nothing_that_is_shown() -> None:
    blind = [example_of(replace(session_of(row), bundles=())) for row in TEST]
    retriever = Retriever(KNOWN, SESSIONS)
    seen, unseen = retriever.shown(TEST, always), retriever.shown(blind, always)
    assert [(one.lines, one.neighbours) for one in seen] == [(one.lines, one.neighbours) for one in unseen]


def test_a_training_session_is_not_told_what_was_learned_of_it_alone() -> None:
    own, shared = (statement(text, sessions=ids) for text, ids in (("own", ("tent",)), ("shared", ("tent", "b"))))
    assert lines(TENT, own, shared) == ("shared",)
    assert set(lines(replace(TENT, id="other"), own, shared)) == {"own", "shared"}


def test_knowledge_that_rests_on_a_test_session_is_refused() -> None:
    for knowledge in (
        SessionKnowledge((statement("x", sessions=(TEST[0].id,)),)),
        SessionKnowledge(thoughts=(Thought(TEST[0].id, "x"),)),
    ):
        with pytest.raises(DataError, match=f"session {TEST[0].id}"):
            refuse_held_out(knowledge, map(session_of, TEST), SESSIONS, "here")
    refuse_held_out(KNOWN, map(session_of, TEST), SESSIONS, "here")


def test_a_session_of_another_shop_may_have_a_test_sessions_name() -> None:
    of_shop = replace(session_of(TEST[0]), domain="office")
    knowledge = SessionKnowledge((statement("x", sessions=(of_shop.id,), domain="kitchen"),))
    refuse_held_out(knowledge, [of_shop], [], "here")


def test_a_statement_fits_where_the_session_holds_all_its_members() -> None:
    twice = Session("two", (Item("1", "a", "cable"), Item("2", "b", "cable"), Item("3", "c", "tent")))
    fit = statement("two cables", "cable", "cable ×2"), statement("one item", "3", about="item")
    unfit = (
        statement("a mat", "mat"),
        statement("two tents", "tent", "tent ×2"),
        statement("another", "9", about="item"),
    )
    assert set(lines(twice, *fit, *unfit)) == {"two cables", "one item"}


def test_words_of_intents_are_looked_for_in_titles_and_in_intents_of_neighbours() -> None:
    near = Session("near", (Item("x", "Tarn tent"), Item("y", "Norv mat")), (Bundle((1, 2), "sleeping outside"),))
    known = SessionKnowledge(
        (statement("by title", "tent", about="intent"), statement("by neighbour", "outside", about="intent"),
         statement("by truth", "camping", about="intent"))
    )  # fmt: skip
    shown = Retriever(known, [near], neighbours=1).shown([example_of(TENT)], always)[0]
    assert set(shown.lines) == {"by title", "by neighbour"}


def test_heavier_statements_come_first_kinds_in_turn_own_domain_before_others() -> None:
    patterns = [statement("p1", weight=0.9), statement("p2", weight=0.8)]
    rules = [replace(statement("r1", weight=0.02), kind="rule"), replace(statement("r2", weight=0.01), kind="rule")]
    assert lines(TENT, *patterns, *rules) == ("p1", "r1", "p2", "r2")
    other = statement("other", weight=1.0, domain="office")
    assert lines(replace(TENT, domain="outdoor"), other, *patterns) == ("p1", "p2", "other")


def test_formats_choose() -> None:
    rule = replace(statement("rule"), kind="rule")
    assert lines(TENT, statement("pattern"), rule, formats=["rules"]) == ("rule",)
    assert lines(TENT, statement("pattern"), rule, formats=[]) == ()


def test_with_thoughts_the_neighbours_are_those_that_have_one() -> None:
    told = {thought.session for thought in THOUGHTS}
    for one in Retriever(KNOWN, SESSIONS).shown(TEST, always):
        assert told.issuperset(one.neighbours)
        assert f"thought of {one.neighbours[0]}" in one.lines


def test_the_prompt_reads_as_the_module_says() -> None:
    near = replace(TENT, id="near")
    known = SessionKnowledge((statement("tents and mats", "tent", "mat"),), (Thought("near", "because"),))
    shown = Retriever(known, [near]).shown([example_of(TENT)], always)[0]
    assert [turn["content"] for turn in messages(shown.example)] == [
        question_of(near),
        write_answer(near.bundles),
        f"{HEAD}\n- because\n- tents and mats\n\n{question_of(TENT)}",
    ]
    before = Retriever(known, [near], thoughts_before=True).shown([example_of(TENT)], always)[0]
    assert messages(before.example)[1]["content"] == f"because So the answer is: {write_answer(near.bundles)}"
    assert before.lines == ("tents and mats",)


@pytest.fixture(scope="module")
def tokenizer():
    model = ModelConfig(model="embedded:telecom-student")
    return load_example_tokenizer(model, DataConfig(max_length=640, max_answer_tokens=64))


@settings(max_examples=5, phases=[Phase.generate])
@given(budget=st.integers(0, 400), neighbours=st.integers(0, 2))
def test_no_prompt_is_a_token_above_the_budget_nor_longer_than_the_model_reads(tokenizer, budget, neighbours) -> None:
    config = KnowledgeConfig(tokens=budget, neighbours=neighbours)
    retriever = Retriever(KNOWN, SESSIONS, neighbours=neighbours)
    rows = TEST[:4]
    for row, shown in zip(rows, shown_rows(retriever, config, tokenizer, rows), strict=True):
        bare, whole = len(tokenizer.prompt_ids(row)), len(tokenizer.prompt_ids(shown.example))
        assert whole - bare <= budget
        assert whole <= 640 - 64
        assert shown.left_out or len(shown.neighbours) == neighbours


def test_a_budget_that_just_holds_a_statement_holds_it_and_one_less_does_not(tokenizer) -> None:
    known = SessionKnowledge((statement("Tents and mats go together."),))
    retriever, row = Retriever(known, []), example_of(TENT)
    whole = shown_rows(retriever, KnowledgeConfig(tokens=512, neighbours=0), tokenizer, [row])[0]
    cost = len(tokenizer.prompt_ids(whole.example)) - len(tokenizer.prompt_ids(row))
    assert len(whole.lines) == 1
    exact = shown_rows(retriever, KnowledgeConfig(tokens=cost, neighbours=0), tokenizer, [row])[0]
    short = shown_rows(retriever, KnowledgeConfig(tokens=cost - 1, neighbours=0), tokenizer, [row])[0]
    assert (exact.lines, exact.left_out) == (whole.lines, 0)
    assert (short.example, short.left_out) == (row, 1)


# What is learned ------------------------------------------------------------------------------------------------------


def test_lessons_weigh_one_together_and_statements_stand_by_themselves() -> None:
    rows = [example_of(TENT), example_of(replace(TENT, id="b"))]
    stated = [statement("tents and mats", "tent", "mat", domain="shop")]
    groups = lessons(rows, stated, {"tent": "why"}, weight=0.2)
    assert [[(row.task, round(row.weight, 6)) for row in group] for group in groups] == [
        [("answer", 0.8), ("explain", 0.1)],
        [("answer", 0.8)],
        [("statement", 0.1)],
    ]
    assert groups[2][0].example.question == asked(stated[0]) == "What is known of sessions of shop with tent, mat?"
    assert groups[2][0].example.answers == ("tents and mats",)


def test_without_knowledge_the_answers_are_all_there_is_to_learn() -> None:
    row = example_of(TENT)
    ((lesson,),) = lessons([row], [], {}, weight=0.2)
    assert (lesson.example, lesson.task, lesson.weight) == (row, "answer", 1.0)


def test_thoughts_before_are_one_text_with_the_answer() -> None:
    row = example_of(TENT)
    ((lesson,),) = lessons([row], [], {"tent": "why"}, weight=0.2, before=True)
    assert lesson.example.answers == (f"why So the answer is: {row.answers[0]}",)
    assert lesson.weight == 1.0
