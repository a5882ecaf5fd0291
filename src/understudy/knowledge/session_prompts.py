"""What a teacher is asked about sessions: the prompts `detect_bundles` … `thoughts`, each one turn that needs no other.

| prompt | is given | is to write |
|---|---|---|
| `detect_bundles` | items; lines of knowledge, if any: without them, a session's own question | bundles with intents |
| `name_intents` | items, bundles | the bundles with intents of 3 to 5 words |
| `adjust_bundles` | items, bundles with intents, what is wrong with them | better bundles with intents |
| `explain_difference` | items, a difference between answer and truth | why, in a sentence |
| `state_rule` | the difference, why | a rule, in a sentence |
| `merge_rules` | rules that say nearly the same | one of them all |
| `thoughts` | items, the true bundles | of each bundle: metadata, intent, composition |

The files in `generate.prompts` of these names take their place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from understudy.bundle_answers import Bundle, write_answer
from understudy.data.sessions import FORM, TASK, Session, listing_of
from understudy.knowledge.prompting import Prompts
from understudy.knowledge.step import DataSet, Question, Renders
from understudy.sessions.discrepancies import Discrepancy, describe
from understudy.types import Message

PROMPTS = (
    *("detect_bundles", "name_intents", "adjust_bundles", "explain_difference", "state_rule", "merge_rules"),
    "thoughts",
)


class SessionPrompts:
    """The prompts filled with sessions. Each gives the messages of one question: a user's turn, no system turn."""

    def __init__(self, prompts: Renders | None = None) -> None:
        self._prompts = prompts or Prompts()

    def detect(self, session: Session, knowledge: Sequence[str] = ()) -> tuple[Message, ...]:
        """Which bundles are there?"""
        return self._turn("detect_bundles", items=listing_of(session), task=TASK, knowledge=list(knowledge))

    def name_intents(self, session: Session, bundles: Sequence[Bundle]) -> tuple[Message, ...]:
        """What is each of these bundles for? Intents that they have are not shown."""
        shown = json.dumps([list(bundle.items) for bundle in bundles])
        return self._turn("name_intents", items=listing_of(session), bundles=shown, form=FORM)

    def adjust(self, session: Session, answer: str, feedback: Sequence[str] = ()) -> tuple[Message, ...]:
        """Correct an answer: by what is wrong with it, or, where nothing is said to be, by its intents."""
        values = {"bundles": answer, "feedback": list(feedback), "form": FORM}
        return self._turn("adjust_bundles", items=listing_of(session), **values)

    def explain(self, session: Session, discrepancy: Discrepancy) -> tuple[Message, ...]:
        """Why is the truth another?"""
        values = {"difference": describe(discrepancy, session), "kind": discrepancy.kind}
        return self._turn("explain_difference", items=listing_of(session), **values)

    def state_rule(self, session: Session, discrepancy: Discrepancy, why: str) -> tuple[Message, ...]:
        """What rule follows?"""
        return self._turn("state_rule", difference=describe(discrepancy, session), why=why)

    def merge(self, rules: Sequence[str]) -> tuple[Message, ...]:
        """One rule for several."""
        return self._turn("merge_rules", rules=list(rules))

    def thoughts(self, session: Session) -> tuple[Message, ...]:
        """Why are its true bundles what they are?"""
        return self._turn("thoughts", items=listing_of(session), bundles=write_answer(session.bundles))

    def _turn(self, name: str, **values: object) -> tuple[Message, ...]:
        return (Message("user", self._prompts.render(f"{name}.jinja", values)),)


def ask_all(
    data: DataSet, turns: Mapping[str, tuple[Message, ...]], prompt: str, *, most: int | None = None
) -> dict[str, str]:
    """What the teacher of a step answers to questions by one prompt; their names -> the answers that came."""
    questions = {
        f"{prompt}/{name}": Question(messages=messages, parameters={"prompt": prompt})
        for name, messages in turns.items()
    }
    answers = data.ask(questions, most=most)
    return {name.removeprefix(f"{prompt}/"): text for name, text in answers.items()}
