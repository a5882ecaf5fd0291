from pathlib import Path

import pytest

from understudy.errors import ConfigError, DataError
from understudy.sessions.knowledge import SessionKnowledge, Statement, Thought

PATTERN = Statement("pattern", "Tents and mats go together.", "category", ("mat", "tent"), "outdoor", 0.8, ("s1",))
RULE = Statement("rule", "Two lamps are alternatives, not a bundle.")
THOUGHT = Thought("s1", "The tent (tent) and the mat (mat): a night outside, so both.", "outdoor")


def test_knowledge_comes_back_as_it_was_written(tmp_path: Path) -> None:
    knowledge = SessionKnowledge((PATTERN, RULE), (THOUGHT,))
    knowledge.write(tmp_path)
    assert SessionKnowledge.read(tmp_path) == knowledge


def test_what_stands_in_both_stands_once_when_knowledge_is_added_up() -> None:
    both = SessionKnowledge((PATTERN,), (THOUGHT,)) + SessionKnowledge((RULE, PATTERN))
    assert both == SessionKnowledge((PATTERN, RULE), (THOUGHT,))


def test_a_folder_without_knowledge_and_a_row_of_something_else_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no knowledge of sessions"):
        SessionKnowledge.read(tmp_path)
    (tmp_path / "statements.jsonl").write_text('{"kind": "guess", "text": "x"}\n')
    with pytest.raises(DataError, match=r"statements\.jsonl:1: a statement has"):
        SessionKnowledge.read(tmp_path)
    (tmp_path / "statements.jsonl").write_text('{"kind": "rule", "text": "x", "colour": 1}\n')
    with pytest.raises(DataError, match=r"statements\.jsonl:1: .*colour"):
        SessionKnowledge.read(tmp_path)
