"""Bundles of test sessions by a teacher in context, in a file that every comparison reads.

| method | in front of the question | questions of a session |
|---|---|---|
| `plain` | nothing | 1 |
| `nearest` | the nearest training session with its bundles | 1 |
| `adaptive` | the same, and how it was corrected; then feedback without truth, intents, adjusting | 3 to 4 + rounds |

`adaptive` asks first about the training sessions that serve as demonstrations, once each, for an error to show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from understudy.data.sessions import Session
from understudy.errors import RunError, unknown
from understudy.knowledge.adaptive import AdaptiveLoop, Messages, lessons_of
from understudy.knowledge.session_prompts import SessionPrompts
from understudy.sessions.neighbours import Neighbours
from understudy.tokens.thoughts import without_thought
from understudy.types import Completer, Completion, Request, is_passing

METHODS = ("plain", "nearest", "adaptive")


@dataclass
class Asking:
    """Puts the questions of the loop to a completer, at temperature 0, and keeps count.

    Attributes:
        completer: who answers.
        max_tokens: of an answer.
        tell: called after each answer with the number of answers.
        answered: how many came.
        tokens: read and written.
        missing: kind of reason -> answers that did not come, for a reason that another time may not hold.
        refused: the same for a reason that will hold.
        reasons: kind of reason -> the first of that kind, whole.
    """

    completer: Completer
    max_tokens: int = 300
    tell: Callable[[int], None] | None = None
    answered: int = 0
    tokens: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)

    def __call__(self, turns: Mapping[str, Messages], prompt: str) -> dict[str, str]:
        """The answers that came, by name."""
        requests = (
            Request(name, messages, temperature=0.0, max_tokens=self.max_tokens) for name, messages in turns.items()
        )
        return dict(self._read(completion) for completion in self._complete(requests))

    def _complete(self, requests: Iterator[Request]) -> Iterator[Completion]:
        for completion in self.completer.complete(requests):
            self.tokens += completion.input_tokens + completion.output_tokens
            if completion.text is not None:
                self.answered += 1
                yield completion
            else:
                kind = completion.reason.partition(":")[0]
                self.reasons.setdefault(kind, completion.reason)
                passing = is_passing(completion.reason) or kind.startswith("budget")
                (self.missing if passing else self.refused)[kind] += 1
            if self.tell:
                self.tell(self.answered)

    def _read(self, completion: Completion) -> tuple[str, str]:
        return completion.id, without_thought(completion.text or "") or ""


def session_answers(
    method: str,
    train: Sequence[Session],
    sessions: Sequence[Session],
    ask: Asking,
    *,
    prompts: SessionPrompts | None = None,
    rounds: int = 4,
    vectors: str = "words",
) -> list[str]:
    """The answer to each session, as it is written; empty where the teacher refused to give one.

    Args:
        method: one of `METHODS`.
        train: training sessions with their bundles, the only ones that are shown.
        sessions: those to be answered; of their bundles nothing is used.
        ask: who answers.
        prompts: the words of the questions.
        rounds: of feedback at most.
        vectors: `words` or `embedding`, for the nearest session.

    Raises:
        ConfigError: no such method.
        RunError: answers did not come for a reason that may pass, or none came at all.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    unjudged = [Session(s.id, s.items, domain=s.domain) for s in sessions]
    loop = AdaptiveLoop(ask, prompts or SessionPrompts(), rounds=rounds)
    neighbours = Neighbours(train, how=vectors) if method != "plain" and train else None
    lessons = lessons_of(unjudged, neighbours) if neighbours else {}
    if method != "adaptive" or not neighbours:
        answers = dict(loop.detect(unjudged, lessons))
    else:
        shown = list({lesson.session.id: lesson.session for lesson in lessons.values()}.values())
        wrong = loop.detect(shown, lessons_of(shown, neighbours))
        outcomes = loop.run(unjudged, lessons_of(unjudged, neighbours, wrong=wrong))
        answers = {name: outcome.answer or outcome.first or "" for name, outcome in outcomes.items()}
    if ask.missing:
        counts = ", ".join(f"{kind} {count:,}" for kind, count in ask.missing.items())
        first = ask.reasons[next(iter(ask.missing))]
        raise RunError(
            f"{ask.missing.total():,} answers did not come ({counts}), which may pass; the first: {first}",
            hint="run the same command again, with a larger budget if that ended: nothing is paid for twice",
        )
    if ask.refused and not ask.answered:
        raise RunError(
            f"{ask.completer.name} answered none of {ask.refused.total():,} questions: "
            f"{ask.reasons[next(iter(ask.refused))]}",
            hint="name another teacher, or a method with a shorter prompt (--method plain)",
        )
    return [answers.get(session.id, "") for session in sessions]
