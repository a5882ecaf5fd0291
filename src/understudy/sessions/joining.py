"""Knowledge of several folders as one: domains accumulated, formats aggregated, within a budget of tokens.

Within a budget every domain and format has its turn: the best text of each, then the second of each, until one does not
fit. So a smaller budget holds a part of what a larger one holds, and no domain pushes another one out.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from itertools import zip_longest
from operator import add
from pathlib import Path

from understudy.errors import unknown
from understudy.sessions.knowledge import STATEMENTS, THOUGHTS, SessionKnowledge, Statement, Thought

FORMATS = ("patterns", "rules", "thoughts")
PLACES = ("stages/generate/sessions", "sessions", "")
"""Where the knowledge of a run, of a folder of a teacher's texts, and of a folder of its own lies."""

_PIECE = re.compile(r"\w+|[^\w\s]")
CountTokens = Callable[[str], int]


def knowledge_in(folder: str | Path) -> SessionKnowledge:
    """The knowledge of a run, of a teacher's texts, or of a folder.

    Raises:
        ConfigError: there is none.
        DataError: a row is none of ours.
    """
    return SessionKnowledge.read(place_of(folder))


def place_of(folder: str | Path) -> Path:
    """Where the knowledge of a run or of a teacher's texts lies; where there is none, the folder itself."""
    places = [Path(folder).expanduser() / place for place in PLACES]
    holding = (place for place in places if any((place / name).is_file() for name in (STATEMENTS, THOUGHTS)))
    return next(holding, Path(folder).expanduser())


def words_and_signs(text: str) -> int:
    """How many words and signs a text has: a count of tokens for whoever names no tokenizer, mostly a low one."""
    return len(_PIECE.findall(text))


def joined(
    parts: Iterable[SessionKnowledge],
    formats: Sequence[str] = FORMATS,
    tokens: int | None = None,
    count: CountTokens = words_and_signs,
) -> SessionKnowledge:
    """All of it, of these formats, as far as the budget goes; what stands in several stands once.

    Args:
        parts: of several domains, or of several teachers.
        formats: `patterns`, `rules`, `thoughts`.
        tokens: at most, over all texts; None: all of it.
        count: tokens of a text.

    Raises:
        ConfigError: no such format.
    """
    if wrong := next((name for name in formats if name not in FORMATS), None):
        raise unknown("format", wrong, FORMATS)
    known = reduce(add, parts, SessionKnowledge())
    statements = (statement for statement in known.statements if f"{statement.kind}s" in formats)
    thoughts = known.thoughts if "thoughts" in formats else ()
    kept = list(_within([*statements, *thoughts], tokens, count))
    return SessionKnowledge(
        tuple(text for text in kept if isinstance(text, Statement)),
        tuple(text for text in kept if isinstance(text, Thought)),
    )


def _within(
    texts: Sequence[Statement | Thought], tokens: int | None, count: CountTokens
) -> Iterator[Statement | Thought]:
    spent = 0
    for text in _in_turn(texts):
        spent += 0 if tokens is None else count(text.text)
        if tokens is not None and spent > tokens:
            return
        yield text


def _in_turn(texts: Sequence[Statement | Thought]) -> Iterator[Statement | Thought]:
    """One of each domain and format, then the next of each; statements by weight, thoughts as they stand."""
    groups: defaultdict[tuple[str, ...], list[Statement | Thought]] = defaultdict(list)
    for text in sorted(texts, key=lambda text: -text.weight if isinstance(text, Statement) else 0):
        kind = (text.kind, text.about) if isinstance(text, Statement) and text.kind == "pattern" else (_format(text),)
        groups[text.domain, *kind].append(text)
    for turn in zip_longest(*(groups[key] for key in sorted(groups))):
        yield from filter(None, turn)


def _format(text: Statement | Thought) -> str:
    return text.kind if isinstance(text, Statement) else "thought"
