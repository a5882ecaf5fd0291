"""Bundles of a session by a teacher in context, step by step, with feedback: no training.

```text
detect      bundles with intents, behind the nearest training session and its true bundles
feedback    what is wrong with them, by type, up to `rounds` times: adjust
intents     of 3 to 5 words, of the bundles as they are now
adjust      the bundles by these intents
intents     again, where bundles changed
```

Where the true bundles of a session are known, feedback names the types of the differences to them (`discrepancies`),
not the truth itself. Where they are not, feedback is only what can be told without truth: an answer that cannot be
read, unknown items, single items, a bundle twice (`faults`). So a session that is to be judged never hears anything of
its truth; what it has of feedback by type is the demonstration: how the nearest training session was corrected.

After Sun et al., Adaptive In-Context Learning with Large Language Models for Bundle Generation (SIGIR 2024), whose
demonstration is one long conversation; here each question is one turn behind one demonstrated turn, so that a small
context holds it. The prompts are ours. Sampling is the completer's; at temperature 0 an answer repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from understudy.bundle_answers import Bundle, read_answer, write_answer
from understudy.data.sessions import Session
from understudy.knowledge.session_prompts import SessionPrompts
from understudy.sessions.discrepancies import discrepancies, faults, hint
from understudy.sessions.neighbours import Neighbours
from understudy.types import Message

Messages = tuple[Message, ...]
Ask = Callable[[Mapping[str, Messages], str], Mapping[str, str]]
"""Puts questions, each by a session's id, all by one prompt, whose name comes second; gives the answers that came."""
Feedback = Callable[[Session, Sequence[Bundle] | None], tuple[str, ...]]
"""What is wrong with the bundles of a session; None stands for an answer that cannot be read."""


def feedback_by_truth(session: Session, bundles: Sequence[Bundle] | None) -> tuple[str, ...]:
    """The types of all differences to the session's own bundles, and what is wrong whatever these are."""
    differences = discrepancies(bundles or (), session.bundles)
    return tuple(dict.fromkeys((*faults(bundles, session), *map(hint, differences))))


@dataclass(frozen=True, slots=True)
class Lesson:
    """A training session as a demonstration.

    Attributes:
        session: with its true bundles.
        first: a wrong answer that was given of it; empty where none is known, or the first one was right.
        feedback: what is wrong with that.
    """

    session: Session
    first: str = ""
    feedback: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Adapted:
    """What became of a session.

    Attributes:
        first: the first answer as it was written; None where none came.
        answer: the last one, as a student learns to write it; None where none came or none can be read.
        rounds: of feedback.
        feedback: what was wrong with the first answer.
        left: what is wrong with the last one still.
    """

    first: str | None
    answer: str | None
    rounds: int = 0
    feedback: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass
class _State:
    """A session on its way."""

    session: Session
    lesson: Lesson | None
    first: str | None = None
    bundles: tuple[Bundle, ...] | None = None
    feedback: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    rounds: int = 0
    stuck: bool = False

    @property
    def shown(self) -> str:
        """Its bundles as they are shown to whoever is to correct them: an answer that cannot be read, as it is."""
        return (self.first or "") if self.bundles is None else write_answer(self.bundles)

    @property
    def outcome(self) -> Adapted:
        """What became of it."""
        answer = None if self.bundles is None else write_answer(self.bundles)
        return Adapted(self.first, answer, self.rounds, self.feedback, self.left)


class AdaptiveLoop:
    """The loop over many sessions at once: each of its questions is put for all of them together."""

    def __init__(self, ask: Ask, prompts: SessionPrompts, *, rounds: int = 4, feedback: Feedback | None = None) -> None:
        """Ask nothing yet.

        Args:
            ask: who answers.
            prompts: the words of the questions.
            rounds: of feedback at most.
            feedback: `feedback_by_truth` for sessions whose bundles are known; default: what can be told without them.
        """
        self._ask, self._prompts, self._rounds = ask, prompts, rounds
        self._feedback = feedback or (lambda session, bundles: faults(bundles, session))

    def detect(self, sessions: Sequence[Session], lessons: Mapping[str, Lesson]) -> Mapping[str, str]:
        """First answers as they are written, by session: one question each.

        Args:
            sessions: with different ids.
            lessons: id of a session -> the demonstration before it.
        """
        return self._put(
            [_State(session, lessons.get(session.id)) for session in sessions],
            "detect_bundles",
            lambda state: self._prompts.detect(state.session),
            lambda lesson: self._prompts.detect(lesson.session),
        )

    def run(
        self, sessions: Sequence[Session], lessons: Mapping[str, Lesson], first: Mapping[str, str] | None = None
    ) -> dict[str, Adapted]:
        """The whole loop, by session.

        Args:
            sessions: with different ids.
            lessons: id of a session -> the demonstration before its questions.
            first: first answers, where they are known already.
        """
        first = self.detect(sessions, lessons) if first is None else first
        states = [_State(session, lessons.get(session.id), first.get(session.id)) for session in sessions]
        answered = [state for state in states if state.first is not None]
        for state in answered:
            state.bundles = read_answer(state.first or "")
            state.feedback = state.left = self._feedback(state.session, state.bundles)
        for _ in range(self._rounds):
            self._correct([state for state in answered if state.left and not state.stuck])
        self._name_intents(answered)
        self._name_intents(self._fit_intents(answered))
        return {state.session.id: state.outcome for state in states}

    def _correct(self, states: Sequence[_State]) -> None:
        """One round of feedback."""
        replies = self._put(
            states,
            "adjust_bundles",
            lambda state: self._prompts.adjust(state.session, state.shown, state.left),
            self._correction,
        )
        for state in states:
            state.rounds += 1
            # The same question has the same answer: there is no use in asking once more.
            state.stuck = not self._take(state, replies.get(state.session.id))

    def _correction(self, lesson: Lesson) -> Messages:
        """How a lesson was corrected; nothing where it was right at once."""
        return self._prompts.adjust(lesson.session, lesson.first, lesson.feedback) if lesson.feedback else ()

    def _take(self, state: _State, reply: str | None) -> bool:
        """Bundles in place of those there are, unless there is more wrong with them; whether anything changed."""
        bundles = None if reply is None else read_answer(reply)
        left = self._feedback(state.session, bundles)
        if not bundles or bundles == state.bundles or (state.bundles and len(left) > len(state.left)):
            return False
        state.bundles, state.left = bundles, left
        return True

    def _name_intents(self, states: Sequence[_State]) -> None:
        """Intents of the bundles as they are; one that does not come leaves the bundle's own."""
        states = [state for state in states if state.bundles]
        replies = self._put(
            states,
            "name_intents",
            lambda state: self._prompts.name_intents(state.session, state.bundles or ()),
            lambda lesson: self._prompts.name_intents(lesson.session, lesson.session.bundles),
        )
        for state in states:
            named = {bundle.items: bundle.intent for bundle in read_answer(replies.get(state.session.id, "")) or ()}
            state.bundles = tuple(Bundle(b.items, named.get(b.items) or b.intent) for b in state.bundles or ())
            state.left = self._feedback(state.session, state.bundles)

    def _fit_intents(self, states: Sequence[_State]) -> list[_State]:
        """Bundles corrected by their intents; those that changed."""
        states = [state for state in states if state.bundles]
        replies = self._put(
            states,
            "adjust_bundles",
            lambda state: self._prompts.adjust(state.session, state.shown),
            lambda lesson: self._prompts.adjust(lesson.session, write_answer(lesson.session.bundles)),
        )
        return [state for state in states if self._take(state, replies.get(state.session.id))]

    def _put(
        self,
        states: Sequence[_State],
        prompt: str,
        asked: Callable[[_State], Messages],
        demonstrated: Callable[[Lesson], Messages],
    ) -> Mapping[str, str]:
        """A question about each session, behind the same of its lesson with the true bundles as the answer."""
        questions = {}
        for state in states:
            shown = demonstrated(state.lesson) if state.lesson else ()
            if state.lesson and shown:
                shown = (*shown, Message("assistant", write_answer(state.lesson.session.bundles)))
            questions[state.session.id] = (*shown, *asked(state))
        return self._ask(questions, prompt) if questions else {}


def lessons_of(
    sessions: Sequence[Session], neighbours: Neighbours, wrong: Mapping[str, str] | None = None
) -> dict[str, Lesson]:
    """Of each session its nearest training session as a demonstration; none where there is no other one.

    Args:
        sessions: those to be answered.
        neighbours: the training sessions, with their bundles; nothing else is ever shown.
        wrong: first answers of training sessions, as they are written; those that were right teach no correction.
    """
    nearest = neighbours.nearest(sessions)
    return {
        session.id: _lesson(near[0], (wrong or {}).get(near[0].id))
        for session, near in zip(sessions, nearest, strict=True)
        if near
    }


def _lesson(session: Session, first: str | None) -> Lesson:
    feedback = () if first is None else feedback_by_truth(session, read_answer(first))
    return Lesson(session, first or "", feedback) if feedback else Lesson(session)
