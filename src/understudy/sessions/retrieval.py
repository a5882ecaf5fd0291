"""What of the knowledge of training sessions fits the session at hand, within a budget of tokens.

In front of the question stand statements that fit the session, and before both the nearest training sessions as earlier
turns of the conversation, each with its answer:

```text
user       Items of a session: …                          a training session
assistant  {"bundles": …}
user       What is known of such sessions:
           - Tent and sleeping mat are bought together …   a statement
           - The tent is for sleeping outside …            the thought on the session above

           Items of a session: …                          the session at hand
```

A statement fits where the session holds all its members: categories (as a multiset), items, or words of intents, which
are looked for in titles, categories and intents of the nearest training sessions. What is found comes from the training
sessions alone; a training session finds neither itself nor what was learned of it alone.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from understudy.bundle_answers import write_answer
from understudy.data.sessions import Session, question_of, session_of
from understudy.data.tasks import with_answer
from understudy.errors import DataError
from understudy.sessions.knowledge import SessionKnowledge, Statement
from understudy.sessions.neighbours import Neighbours
from understudy.sessions.patterns import multiset
from understudy.sessions.vectors import words_of
from understudy.types import Example, Message

FORMATS = {"pattern": "patterns", "rule": "rules"}
"""Kind of a statement -> the format that it belongs to."""
HEAD = "What is known of such sessions:"
MOST_STATEMENTS = 24
"""Statements that are tried in one prompt, at most."""

Fits = Callable[[Example], bool]
Categorise = Callable[[Session], Session]


@dataclass(frozen=True, slots=True)
class Shown:
    """A session as it is put with knowledge, and where that comes from.

    Attributes:
        example: the row, knowledge in its context, neighbours in its history.
        lines: statements and thoughts, as they stand there.
        neighbours: ids of the training sessions that are shown.
        left_out: statements, thoughts and neighbours that would fit the session but not the budget.
    """

    example: Example
    lines: tuple[str, ...] = ()
    neighbours: tuple[str, ...] = ()
    left_out: int = 0


class Retriever:
    """Looks up what fits a session. What is passed in is all that is ever found: pass sessions of training.

    Attributes:
        statements: those of the formats that are used, in the order in which they are tried.
        thoughts: session -> what a teacher thought of it; empty where thoughts are not used.
    """

    def __init__(
        self,
        knowledge: SessionKnowledge,
        train: Sequence[Session],
        *,
        formats: Iterable[str] = ("patterns", "rules", "thoughts"),
        neighbours: int = 1,
        thoughts_before: bool = False,
        how: str = "words",
        model: str = "auto",
        categorise: Categorise | None = None,
    ) -> None:
        """Prepare to look up.

        Args:
            knowledge: what is known of the training sessions.
            train: these, with their bundles.
            formats: which of `patterns`, `rules`, `thoughts` are used.
            neighbours: how many nearest sessions are shown.
            thoughts_before: thoughts stand before the answers of neighbours, not among the statements.
            how: vectors of sessions, as `encoder_of`.
            model: the sentence model.
            categorise: gives items without a category that of their titles' cluster, as the patterns were mined.
        """
        used = set(formats)
        self.statements = _in_turn(s for s in knowledge.statements if FORMATS[s.kind] in used)
        ids = {session.id for session in train}
        thoughts = {t.session: t.text for t in knowledge.thoughts if t.session in ids}
        self.thoughts: Mapping[str, str] = thoughts if "thoughts" in used else {}
        self._before, self._count, self._categorise = thoughts_before, neighbours, categorise
        told = [session for session in train if session.id in self.thoughts]
        pool = (told or train) if neighbours else []
        self._neighbours = Neighbours(pool, how=how, model=model) if pool else None

    def shown(self, examples: Sequence[Example], fits: Fits) -> list[Shown]:
        """Each session with what is known; greedily, what does not fit left out: neighbours first, then statements.

        Args:
            examples: sessions of any split.
            fits: whether a row is short enough: within the budget, and within what the model reads.
        """
        sessions = [session_of(example) for example in examples]
        nearest = self._neighbours.nearest(sessions, self._count) if self._neighbours else [[] for _ in sessions]
        rows = zip(examples, sessions, nearest, strict=True)
        return [self._shown(example, session, near, fits) for example, session, near in rows]

    def _shown(self, example: Example, session: Session, near: Sequence[Session], fits: Fits) -> Shown:
        shown = Shown(example)
        for neighbour in near:
            shown = _extended(shown, self._with_neighbour(example, shown, neighbour), fits)
        thoughts = [self.thoughts[key] for key in shown.neighbours if key in self.thoughts and not self._before]
        statements = itertools.islice(self._fitting(session, near), MOST_STATEMENTS)
        for line in (*thoughts, *(statement.text for statement in statements)):
            lines = (*shown.lines, " ".join(line.split()))
            shown = _extended(shown, replace(shown, example=_told(shown.example, lines), lines=lines), fits)
        return shown

    def _with_neighbour(self, example: Example, shown: Shown, neighbour: Session) -> Shown:
        """The nearest one stands last, next to the question."""
        answer, thought = write_answer(neighbour.bundles), self.thoughts.get(neighbour.id, "")
        answer = with_answer(thought, answer) if self._before and thought else answer
        turns = (Message("user", question_of(neighbour)), Message("assistant", answer))
        own = len(example.history)
        history = (*example.history, *turns, *shown.example.history[own:])
        return replace(
            shown,
            example=replace(shown.example, history=history),
            neighbours=(*shown.neighbours, neighbour.id),
        )

    def _fitting(self, session: Session, near: Sequence[Session]) -> Iterator[Statement]:
        """Statements whose members the session holds, those of its own domain first."""
        known = self._categorise(session) if self._categorise else session
        titles = [text for item in known.items for text in (item.title, item.category)]
        intents = [bundle.intent for other in near for bundle in other.bundles]
        holds = {
            "category": set(multiset(item.category for item in known.items if item.category)),
            "item": {item.id for item in session.items},
            "intent": {word for text in (*titles, *intents) for word in words_of(text)},
        }
        fitting = [s for s in self.statements if _fits(s, holds) and set(s.sessions) != {session.id}]
        yield from sorted(fitting, key=lambda statement: statement.domain not in ("", session.domain))


def _fits(statement: Statement, holds: Mapping[str, set[str]]) -> bool:
    return not statement.members or holds.get(statement.about, set()).issuperset(statement.members)


def _in_turn(statements: Iterable[Statement]) -> tuple[Statement, ...]:
    """By weight, kinds in turn: weights of patterns and of rules are of two scales."""
    kinds: defaultdict[str, list[Statement]] = defaultdict(list)
    for statement in sorted(statements, key=lambda s: (-s.weight, s.text)):
        kinds[statement.kind].append(statement)
    rows = itertools.zip_longest(*(kinds[kind] for kind in sorted(kinds)))
    return tuple(statement for row in rows for statement in row if statement is not None)


def _extended(shown: Shown, longer: Shown, fits: Fits) -> Shown:
    return longer if fits(longer.example) else replace(shown, left_out=shown.left_out + 1)


def _told(example: Example, lines: Sequence[str]) -> Example:
    return replace(example, context="\n".join((HEAD, *(f"- {line}" for line in lines))))


def refuse_held_out(
    knowledge: SessionKnowledge, held_out: Iterable[Session], train: Iterable[Session], where: str
) -> None:
    """Refuse knowledge that rests on sessions that are to be answered.

    Args:
        knowledge: what was written down.
        held_out: sessions of the test split.
        train: those of training.
        where: whence the knowledge comes, for the message.

    Raises:
        DataError: a statement or a thought names such a session, and no training session of that name.
    """
    trained = {session.id for session in train}
    held = {session.id: session.domain for session in held_out if session.id not in trained}
    named = [(key, s.domain) for s in knowledge.statements for key in s.sessions]
    named += [(thought.session, thought.domain) for thought in knowledge.thoughts]
    for key, domain in named:
        if key in held and (not domain or not held[key] or domain == held[key]):
            raise DataError(
                f"{where}: what is known rests on session {key}, which is one of the test split",
                hint="write it from training sessions alone, or give it a `domain` if it is of another shop",
            )
