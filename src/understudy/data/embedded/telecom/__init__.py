"""Telecom question answering: facts that the project wrote down from the specifications, and questions made of them.

```text
facts/*.csv, relations/*.yaml     what is true, and how it is said and asked
knowledge.py                      Fact, Relation: read, checked, fingerprinted
questions.py                      facts -> Splits of questions (phrasing, two_step, context, choice)
choices.py                        facts -> Splits of multiple choice
spans.py, passages.py             facts -> Splits of extractive questions; of retrieval, with its corpus
explanations.py                   rows of multiple choice -> explanation, critique, revision, counterfactuals
statements.py                     facts -> declarative text, and reading exercises with invented subjects
```

The base weights of `understudy.models.embedded` have read the statements; no question of the held-out kinds is
among them. Everything here is deterministic and pure Python.
"""

from understudy.data.embedded.telecom.choices import choice_facts, generate_choices
from understudy.data.embedded.telecom.explanations import demonstrated_facts, demonstrations
from understudy.data.embedded.telecom.knowledge import Fact, Relation, facts_fingerprint, load_facts, load_relations
from understudy.data.embedded.telecom.passages import generate_passages, passages
from understudy.data.embedded.telecom.questions import KINDS, core_facts, generate, gold_facts
from understudy.data.embedded.telecom.spans import generate_spans
from understudy.data.embedded.telecom.statements import (
    invented_readings,
    known_questions,
    seed_facts,
    seed_questions,
    statements,
    text_fingerprint,
)

__all__ = [
    "KINDS",
    "Fact",
    "Relation",
    "choice_facts",
    "core_facts",
    "demonstrated_facts",
    "demonstrations",
    "facts_fingerprint",
    "generate",
    "generate_choices",
    "generate_passages",
    "generate_spans",
    "gold_facts",
    "invented_readings",
    "known_questions",
    "load_facts",
    "load_relations",
    "passages",
    "seed_facts",
    "seed_questions",
    "statements",
    "text_fingerprint",
]
