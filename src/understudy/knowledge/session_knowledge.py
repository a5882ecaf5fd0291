"""From the rows of a folder to what was learned of sessions, where whoever uses it looks for it.

```text
FOLDER/                     rows of all steps, with provenance and reasons (`store.py`)
  sessions/                 `SessionKnowledge`: what was kept of them
    statements.jsonl        patterns and rules
    thoughts.jsonl
```
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from understudy.knowledge.step import STEPS
from understudy.knowledge.store import read_step
from understudy.sessions.knowledge import SessionKnowledge, Statement, Thought

SESSIONS = "sessions"
"""The folder inside a folder of knowledge."""
STATEMENT, THOUGHT = "statement", "thought"
"""In a row's details: the fields of the statement that it makes, beside its text; that it is a thought."""


def statement_details(statement: Statement) -> dict[str, object]:
    """The details of a row whose text is a statement's."""
    fields = {name: getattr(statement, name) for name in ("kind", "about", "domain", "weight")}
    return {STATEMENT: fields | {"members": list(statement.members), "sessions": list(statement.sessions)}}


def write_session_knowledge(
    folder: str | os.PathLike[str], steps: Sequence[str], domains: Mapping[str, str]
) -> SessionKnowledge | None:
    """Write what was kept of the steps of the data set; what lies there of other steps goes.

    Args:
        folder: of the rows.
        steps: the steps of the recipe.
        domains: id of a session -> its domain.

    Returns:
        It; None where no step is of the data set, and then nothing is written.
    """
    steps = [name for name in steps if name in STEPS and STEPS[name].scope == "dataset"]
    if not steps:
        return None
    knowledge = SessionKnowledge(tuple(_statements(folder, steps)), tuple(_thoughts(folder, steps, domains)))
    knowledge.write(Path(folder) / SESSIONS)
    return knowledge


def _statements(folder: str | os.PathLike[str], steps: Sequence[str]) -> Iterator[Statement]:
    for row in (row for name in steps for row in read_step(folder, name) if row.kept):
        fields = row.details.get(STATEMENT)
        if fields and row.text is not None:
            lists = {name: tuple(fields.get(name, ())) for name in ("members", "sessions")}
            yield Statement(text=row.text, **{**fields, **lists})


def _thoughts(folder: str | os.PathLike[str], steps: Sequence[str], domains: Mapping[str, str]) -> Iterator[Thought]:
    for row in (row for name in steps for row in read_step(folder, name) if row.kept):
        if row.details.get(THOUGHT) and row.text is not None:
            yield Thought(row.id, row.text, domains.get(row.id, ""))
