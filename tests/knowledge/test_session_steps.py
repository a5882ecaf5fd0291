"""Patterns, rules, thoughts and the adaptive loop against a real server whose answers follow from the prompt."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from support.asking import completer
from support.bundle_teacher import HARMFUL, RULES, USELESS, answer, prompt_of, session
from support.servers import Server
from understudy.completers.nobody import Nobody
from understudy.data.sessions import example_of
from understudy.errors import DataError
from understudy.knowledge.pipeline import generate
from understudy.knowledge.session_rules import split_validation
from understudy.knowledge.store import read_step
from understudy.knowledge.text_statistics import figures
from understudy.recipe.knowledge import GenerateConfig, SessionsConfig
from understudy.sessions.knowledge import SessionKnowledge
from understudy.types import Example, Knowledge

KINDS = ("stove gas tent mat lamp", "tent mat pen ink", "stove gas lamp tent mat", "pen ink")


def examples(count: int = 24) -> list[Example]:
    return [example_of(session(number, KINDS[number % len(KINDS)])) for number in range(count)]


def config(*steps: str, **settings: object) -> GenerateConfig:
    return GenerateConfig(steps=steps, sessions=SessionsConfig(**settings))  # pyright: ignore


def rows(folder: Path, step: str) -> list[Knowledge]:
    return list(read_step(folder, step))


# Rules ----------------------------------------------------------------------------------------------------------------


def test_rules_that_help_are_kept_and_planted_useless_ones_are_pruned(tmp_path: Path) -> None:
    with Server(answer) as server:
        notes = generate(examples(), config("rules", validation_share=0.4), completer(server), tmp_path)
    assert (notes.finished, notes.left, notes.stopped) == (24, 0, "")
    stated = {row.text: row for row in rows(tmp_path, "rules")}
    kept = {text for text, row in stated.items() if row.kept}
    assert kept <= set(RULES.values())
    assert kept == {RULES["tent", "mat"], RULES["pen", "ink"]}, "those that a missed bundle led to"
    for text in (USELESS, HARMFUL):
        assert stated[text].reasons[0].startswith("useless: bundle_f1 ")
    assert "+0.0000" in stated[USELESS].reasons[0]
    assert " -0." in stated[HARMFUL].reasons[0], "where all in one bundle is right, it makes the teacher give none"
    statements = SessionKnowledge.read(tmp_path / "sessions").statements
    assert {statement.text for statement in statements} == kept
    tent = next(statement for statement in statements if "tent" in statement.text)
    assert (tent.kind, tent.about, tent.members) == ("rule", "category", ("mat", "tent"))
    assert tent.weight > 0
    writing, _ = split_validation([session(n) for n in range(24)], 0.4, 0)
    assert set(tent.sessions) <= {s.id for s in writing}


def test_the_gain_of_a_rule_is_the_mean_difference_on_validation_sessions(tmp_path: Path) -> None:
    """By hand: all in one bundle hits nothing; with its rule the pair is hit, and the rest is not."""
    with Server(answer) as server:
        generate(examples(), config("rules", validation_share=0.4), completer(server), tmp_path)
    _, validation = split_validation([session(n, KINDS[n % 4]) for n in range(24)], 0.4, 0)
    row = next(row for row in rows(tmp_path, "rules") if row.text == RULES["pen", "ink"])
    fitting = [s for s in validation if {"pen", "ink"} <= {item.category for item in s.items}]
    # tent mat | pen ink: F1 from 0 to 1. pen ink alone: 1 before and after.
    helped = [s for s in fitting if len(s.items) == 4]
    assert 0 < len(helped) < len(fitting)
    assert row.details["statement"]["weight"] == pytest.approx(len(helped) / len(validation), abs=1e-6)
    assert (row.details["measured"], row.details["better"], row.details["worse"]) == (len(fitting), len(helped), 0)


def test_validation_sessions_write_no_rule_and_samples_of_them_are_nested() -> None:
    sessions = [session(number) for number in range(200)]
    writing, validation = split_validation(sessions, 0.25, 3)
    assert {s.id for s in writing} | {s.id for s in validation} == {s.id for s in sessions}
    assert not {s.id for s in writing} & {s.id for s in validation}
    assert 30 < len(validation) < 70
    fewer = split_validation(sessions[:50], 0.25, 3)
    assert {s.id for s in fewer[1]} <= {s.id for s in validation}


def test_a_budget_of_calls_is_kept_and_what_was_not_measured_is_not_kept(tmp_path: Path) -> None:
    with Server(answer) as server:
        generate(examples(), config("rules", max_calls=30, validation_share=0.4), completer(server), tmp_path)
        assert len(server.calls) <= 30
    asked = Counter(row.provenance.parameters["prompt"] for row in rows(tmp_path, "rules.questions") if row.provenance)
    assert asked["detect_bundles"] > 4
    assert asked["state_rule"]
    unmeasured = [row for row in rows(tmp_path, "rules") if row.reasons and row.reasons[0].startswith("unmeasured")]
    assert unmeasured
    assert all(not row.kept for row in unmeasured)


def test_a_budget_of_tokens_ends_the_questions(tmp_path: Path) -> None:
    with Server(answer) as server:
        asked = completer(server, concurrency=1)
        generate(examples(), config("rules", max_tokens=1_000, validation_share=0.4), asked, tmp_path)
        spent = [row.provenance for row in rows(tmp_path, "rules.questions") if row.provenance]
        total = sum(source.input_tokens + source.output_tokens for source in spent)
        # One is on its way, and one at hand.
        assert 1_000 <= total < 1_000 + 2 * max(source.input_tokens + source.output_tokens for source in spent)
        assert len(spent) == len(server.calls)


def test_one_session_writes_no_rules(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="sessions to write rules"):
        generate(examples(1), config("rules"), Nobody(), tmp_path)


# Thoughts -------------------------------------------------------------------------------------------------------------


def test_thoughts_that_pass_over_a_bundle_are_rejected_with_the_reason(tmp_path: Path) -> None:
    with Server(answer) as server:
        generate(examples(), config("thoughts"), completer(server), tmp_path)
    written = {row.id: row for row in rows(tmp_path, "thoughts")}
    assert set(written) == {f"s{number}" for number in range(24)}
    rejected = {name for name, row in written.items() if not row.kept}
    assert rejected == {f"s{number}" for number in range(24) if number % 4 in (0, 2)}, "of a session with a lamp"
    assert written["s0"].reasons == ("unnamed: 0 items of bundle [3, 4]",)
    thoughts = SessionKnowledge.read(tmp_path / "sessions").thoughts
    assert {thought.session for thought in thoughts} == set(written) - rejected
    asked = rows(tmp_path, "thoughts.questions")
    assert all(row.provenance and row.provenance.parameters["prompt"] == "thoughts" for row in asked)


# Adaptive -------------------------------------------------------------------------------------------------------------


def test_feedback_by_type_leads_to_the_truth_in_rounds(tmp_path: Path) -> None:
    with Server(answer) as server:
        generate(examples(8), config("adaptive", rounds=4), completer(server), tmp_path)
        calls = list(server.calls)
    finals = {row.id: row for row in rows(tmp_path, "adaptive")}
    for number in range(8):
        truth, final = session(number, KINDS[number % 4]), finals[f"s{number}"]
        assert final.kept, final.reasons
        assert {bundle.items for bundle in truth.bundles} == {
            tuple(row["items"]) for row in json.loads(final.text or "")["bundles"]
        }
        assert 1 <= final.details["rounds"] <= 4
    detected = [call for call in calls if prompt_of(call) == "detect_bundles"]
    for call in detected:
        demonstration, shown, question = call.body["messages"]
        assert demonstration["role"] == question["role"] == "user"
        assert shown["role"] == "assistant"
        assert demonstration["content"] != question["content"], "a session never demonstrates itself"
    corrected = [call for call in calls if prompt_of(call) == "adjust_bundles" and len(call.body["messages"]) == 3]
    assert any("does not belong" in call.body["messages"][0]["content"] for call in corrected), (
        "a demonstrated correction"
    )
    assert all(call.body["temperature"] == 0 for call in calls)


# Patterns -------------------------------------------------------------------------------------------------------------


def test_patterns_ask_nobody_and_are_statements(tmp_path: Path) -> None:
    notes = generate(examples(), config("patterns", support=0.05), Nobody(), tmp_path)
    assert notes.steps["patterns"].kept
    assert set(notes.steps) == {"patterns"}
    statements = SessionKnowledge.read(tmp_path / "sessions").statements
    assert ("category", ("gas", "stove")) in {(statement.about, statement.members) for statement in statements}
    assert {statement.kind for statement in statements} == {"pattern"}


def test_steps_of_both_scopes_stand_in_one_plan(tmp_path: Path) -> None:
    with Server(answer) as server:
        notes = generate(examples(), config("patterns", "rules", "thoughts"), completer(server), tmp_path)
        first = len(server.calls)
        again = generate(examples(), config("patterns", "rules", "thoughts"), completer(server), tmp_path)
        assert len(server.calls) == first
    assert again.steps == notes.steps
    assert list(notes.steps) == ["patterns", "rules.questions", "rules", "thoughts.questions", "thoughts"]
    knowledge = SessionKnowledge.read(tmp_path / "sessions")
    assert {statement.kind for statement in knowledge.statements} == {"pattern", "rule"}
    assert knowledge.thoughts


def test_texts_of_all_sessions_are_counted_for_the_report(tmp_path: Path) -> None:
    with Server(answer) as server:
        generate(examples(), config("patterns", "rules", "thoughts"), completer(server), tmp_path)
    written = {step: rows(tmp_path, step) for step in ("patterns", "rules", "thoughts")}
    counted = figures([row for texts in written.values() for row in texts], examples())
    for step, texts in written.items():
        assert (counted[step].rows, counted[step].kept) == (len(texts), sum(row.kept for row in texts))
        assert counted[step].words_mean
    assert counted["rules"].reasons["useless"] == 2
    assert counted["rules"].names_answer is None, "a rule is about no example"
    assert counted["thoughts"].restates_mean is not None
