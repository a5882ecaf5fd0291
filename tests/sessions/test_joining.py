"""Knowledge of several domains and formats as one, within a budget."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import ConfigError
from understudy.sessions.joining import joined, knowledge_in, words_and_signs
from understudy.sessions.knowledge import SessionKnowledge, Statement, Thought


def domain(name: str, count: int = 4) -> SessionKnowledge:
    statements = [Statement("pattern", f"{name} pattern {n}.", "category", domain=name, weight=n) for n in range(count)]
    statements += [Statement("rule", f"{name} rule {n}.", domain=name, weight=n / 10) for n in range(count)]
    return SessionKnowledge(tuple(statements), tuple(Thought(f"{name}{n}", f"{name} {n}.", name) for n in range(count)))


BOTH = [domain("office"), domain("outdoor")]


def texts(known: SessionKnowledge) -> set[str]:
    return {text.text for text in (*known.statements, *known.thoughts)}


def test_domains_accumulate_and_formats_add_up() -> None:
    assert texts(joined(BOTH)) == texts(BOTH[0]) | texts(BOTH[1])
    rules = joined(BOTH, ["rules"])
    assert {text.kind for text in rules.statements} == {"rule"}
    assert not rules.thoughts
    assert texts(joined(BOTH, ["rules", "thoughts"])) == texts(rules) | texts(joined(BOTH, ["thoughts"]))
    assert joined([*BOTH, BOTH[0]]) == joined(BOTH), "what stands in both stands once"


def test_every_domain_and_format_has_its_turn_the_best_first() -> None:
    # Two thoughts of 3, two patterns and two rules of 4 each are one turn: 22.
    first = joined(BOTH, tokens=22)
    assert texts(first) == {
        *("office pattern 3.", "outdoor pattern 3.", "office rule 3.", "outdoor rule 3.", "office 0.", "outdoor 0.")
    }


@given(st.integers(1, 120), st.integers(1, 120))
def test_a_smaller_budget_is_kept_and_lies_in_a_larger_one(one: int, other: int) -> None:
    smaller, larger = (texts(joined(BOTH, tokens=tokens)) for tokens in sorted((one, other)))
    assert smaller <= larger
    assert sum(map(words_and_signs, smaller)) <= min(one, other)


def test_knowledge_is_looked_for_in_runs_and_folders(tmp_path: Path) -> None:
    for place in ("run/stages/generate/sessions", "texts/sessions", "own"):
        BOTH[0].write(tmp_path / place)
    # What a teacher wrote, row by row, is called the same and is not it.
    (tmp_path / "run/stages/generate/thoughts.jsonl").write_text('{"id": "s1", "step": "thoughts", "text": "x"}\n')
    (tmp_path / "texts/thoughts.jsonl").write_text('{"id": "s1", "step": "thoughts", "text": "x"}\n')
    for name in ("run", "run/stages/generate", "texts", "own"):
        assert knowledge_in(tmp_path / name) == BOTH[0]
    with pytest.raises(ConfigError, match="holds no knowledge"):
        knowledge_in(tmp_path)
    with pytest.raises(ConfigError, match="there is no format 'pattern'"):
        joined(BOTH, ["pattern"])
