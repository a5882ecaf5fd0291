"""What was learned from training sessions, in words: statements on the data set, thoughts on single sessions.

Whoever writes it (patterns by mining, rules and thoughts by a teacher) and whoever uses it (retrieval into a prompt,
rows to fine-tune on) meet here. On disk it is two files in one folder, `statements.jsonl` and `thoughts.jsonl`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from understudy.errors import ConfigError, DataError
from understudy.files import read_jsonl, write_jsonl

StatementKind = Literal["pattern", "rule"]
T = TypeVar("T")
STATEMENTS, THOUGHTS = "statements.jsonl", "thoughts.jsonl"


@dataclass(frozen=True, slots=True)
class Statement:
    """One sentence that holds of the sessions of a domain.

    Attributes:
        kind: `pattern`, which was counted, or `rule`, which a teacher stated.
        text: the sentence.
        about: what its members are: `category`, `item`, `intent`; empty where it names none.
        members: what a session must hold for the statement to fit it; a statement without members fits all.
        domain: whose sessions it came from; empty where there is one.
        weight: the larger the better: confidence of a pattern, gain of F1 by a rule on the sessions that chose it.
        sessions: ids of the training sessions it rests on, as far as they are known.
    """

    kind: StatementKind
    text: str
    about: str = ""
    members: tuple[str, ...] = ()
    domain: str = ""
    weight: float = 0.0
    sessions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Thought:
    """Why the bundles of one training session are what they are, bundle by bundle.

    Attributes:
        session: its id.
        text: metadata, intent, composition of each bundle.
        domain: of the session; empty where there is one.
    """

    session: str
    text: str
    domain: str = ""


@dataclass(frozen=True, slots=True)
class SessionKnowledge:
    """All that is known in words of one or several domains' training sessions."""

    statements: tuple[Statement, ...] = ()
    thoughts: tuple[Thought, ...] = ()

    def __add__(self, other: SessionKnowledge) -> SessionKnowledge:
        """Both: accumulation over domains, aggregation over formats. What stands in both stands once."""
        return SessionKnowledge(
            tuple(dict.fromkeys(self.statements + other.statements)),
            tuple(dict.fromkeys(self.thoughts + other.thoughts)),
        )

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Both files, each whole or not at all."""
        write_jsonl(Path(folder) / STATEMENTS, map(asdict, self.statements))
        write_jsonl(Path(folder) / THOUGHTS, map(asdict, self.thoughts))

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> SessionKnowledge:
        """What was written there; a file that is absent is empty.

        Raises:
            ConfigError: the folder has neither file.
            DataError: a row is none of ours; file and row are named.
        """
        if not any((Path(folder) / name).is_file() for name in (STATEMENTS, THOUGHTS)):
            raise ConfigError(
                f"{folder} holds no knowledge of sessions: neither {STATEMENTS} nor {THOUGHTS}",
                hint="`understudy generate` writes them from training sessions (see `understudy docs bundles`)",
            )
        return cls(tuple(_statements(Path(folder))), tuple(_thoughts(Path(folder))))


def _statements(folder: Path) -> Iterator[Statement]:
    for where, row in _rows(folder / STATEMENTS):
        if row.get("kind") not in get_args(StatementKind) or not isinstance(row.get("text"), str):
            raise DataError(f"{where}: a statement has `kind` ({', '.join(get_args(StatementKind))}) and `text`")
        lists = {name: tuple(map(str, row.pop(name, ()) or ())) for name in ("members", "sessions")}
        yield _made(Statement, where, {**row, **lists})


def _thoughts(folder: Path) -> Iterator[Thought]:
    for where, row in _rows(folder / THOUGHTS):
        if not isinstance(row.get("session"), str) or not isinstance(row.get("text"), str):
            raise DataError(f"{where}: a thought has `session` and `text`")
        yield _made(Thought, where, row)


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.is_file():
        for number, row in enumerate(read_jsonl(path), start=1):
            yield f"{path}:{number}", row


def _made(kind: type[T], where: str, row: dict[str, Any]) -> T:
    try:
        return kind(**row)
    except TypeError as error:
        raise DataError(f"{where}: {error}") from error
