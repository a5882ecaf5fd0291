"""What the embedded pair for bundles answers and writes before any training, on sessions that it has never read.

    python scripts/bundle_pair.py --keep docs/results/bundle_pair.json

Test sessions of `embedded:bundles`, seed 0: the pair without knowledge, with patterns of the training sessions in the
prompt, and behind the nearest training session; beside them four baselines and one who knows all that is planted. Then
what the teacher writes about training sessions, checked against what is planted.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bundle_baselines import columns, figures, measured

from understudy.bundle_answers import Bundle, read_answer, write_answer
from understudy.completers.local_completer import LocalCompleter
from understudy.data.embedded.bundles import DOMAINS, catalogue, generate, regularities_of
from understudy.data.embedded.bundles.readings import HELD_BACK
from understudy.data.sessions import Session, session_of
from understudy.knowledge.session_prompts import SessionPrompts
from understudy.metrics import Score
from understudy.recipe import EndpointConfig
from understudy.sessions.baselines import BASELINES, baseline
from understudy.sessions.discrepancies import Discrepancy, discrepancies
from understudy.sessions.neighbours import Neighbours
from understudy.sessions.patterns import mine_patterns
from understudy.types import Message, Request

SOUND = ("precision", "recall", "f1", "coverage", "exact", "intent_f1")
PROMPTS = SessionPrompts()
MOST_PATTERNS, SUPPORT = 8, 0.002
Turns = tuple[Message, ...]


def asked(model: LocalCompleter, questions: Sequence[Turns], max_tokens: int = 96) -> list[str]:
    """One answer a question, at temperature 0."""
    # Of like length side by side: less padding.
    order = sorted(range(len(questions)), key=lambda place: sum(len(turn.content) for turn in questions[place]))
    requests = [Request(str(place), questions[place], temperature=0.0, max_tokens=max_tokens) for place in order]
    answers = {answer.id: answer.text or "" for answer in model.complete(requests)}
    return [answers[str(place)] for place in range(len(questions))]


# Bundles --------------------------------------------------------------------------------------------------------------


def prompts_of(train: Sequence[Session], test: Sequence[Session]) -> dict[str, list[Turns]]:
    """Way of asking -> the prompt of each test session."""
    patterns = {
        domain: mine_patterns([s for s in train if s.domain == domain], support=SUPPORT).patterns for domain in DOMAINS
    }
    near = Neighbours(train).nearest(test)
    fitting = [
        [p.text for p in patterns[s.domain] if {item.category for item in s.items}.issuperset(p.members)] for s in test
    ]
    return {
        "": [PROMPTS.detect(session) for session in test],
        ", patterns in the prompt": [
            PROMPTS.detect(session, lines[:MOST_PATTERNS]) for session, lines in zip(test, fitting, strict=True)
        ],
        ", behind the nearest session": [
            (*PROMPTS.detect(one), Message("assistant", write_answer(one.bundles)), *PROMPTS.detect(session))
            for session, (one,) in zip(test, near, strict=True)
        ],
    }


def knowing(session: Session) -> tuple[Bundle, ...]:
    """The bundles of whoever knows all regularities: every one whose categories are there."""
    places = {item.category: number for number, item in enumerate(session.items, start=1)}
    return tuple(
        Bundle.of((places[c] for c in rule.categories), rule.intents[0])
        for rule in regularities_of(session.domain)
        if places.keys() >= set(rule.categories)
    )


def regularity_of(session: Session, bundle: Bundle) -> tuple[str, ...]:
    """Categories of the planted regularity that a true bundle came from: the one it has most of."""
    there = {item.category for item in session.items_of(bundle)}
    rules = [rule.categories for rule in regularities_of(session.domain)]
    return max(rules, key=lambda rule: len(there & set(rule)) / len(there | set(rule)))


def has_held_back(session: Session) -> bool:
    return any(regularity_of(session, bundle) in HELD_BACK for bundle in session.bundles)


# What a teacher writes ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """A rule that a teacher stated of a difference."""

    session: Session
    difference: Discrepancy
    text: str

    @property
    def categories(self) -> set[str]:
        """Categories that it names."""
        return set(_CATEGORY.findall(self.text.lower()))

    @property
    def own(self) -> set[str]:
        """Categories that the difference speaks of."""
        truth = self.difference.truth.items if self.difference.truth else ()
        numbers = {*self.difference.items, *truth}
        return {self.session.items[n - 1].category for n in numbers if 0 < n <= len(self.session.items)}

    @property
    def denies(self) -> bool:
        """Whether it says that things do not go together."""
        return " not " in self.text

    @property
    def is_read(self) -> bool:
        """Whether a sentence on two categories or more that it was asked about came out."""
        return len(self.categories) > 1 and self.categories <= self.own

    @property
    def holds(self) -> bool:
        """Whether what is planted says the same: a part of one regularity goes together, or is denied of none."""
        planted = any(self.categories <= set(rule.categories) for rule in regularities_of(self.session.domain))
        return self.is_read and planted != self.denies


_CATEGORY = re.compile(rf"\b({'|'.join(sorted({c for d in DOMAINS for c in catalogue(d)}, key=len, reverse=True))})\b")


def rules_of(teacher: LocalCompleter, sessions: Sequence[Session]) -> list[Rule]:
    """Answer, compare with the truth, explain each difference, state a rule."""
    answers = asked(teacher, [PROMPTS.detect(session) for session in sessions])
    cases = [
        (session, one)
        for session, answer in zip(sessions, answers, strict=True)
        for one in discrepancies(read_answer(answer) or (), session.bundles)
    ]
    whys = asked(teacher, [PROMPTS.explain(*case) for case in cases])
    texts = asked(teacher, [PROMPTS.state_rule(*case, why) for case, why in zip(cases, whys, strict=True)])
    return [Rule(*case, text) for case, text in zip(cases, texts, strict=True)]


def thoughts_of(teacher: LocalCompleter, sessions: Sequence[Session]) -> dict[str, float]:
    """Shares of bundles of which a line names all items and no other, the intent; of sessions where every line does."""
    texts = asked(teacher, [PROMPTS.thoughts(session) for session in sessions], 256)
    items = intents = bundles = whole = 0
    for session, text in zip(sessions, texts, strict=True):
        lines = text.strip().split("\n")
        right = list(_right(session, lines))
        items += sum(named for named, _ in right)
        intents += sum(intent for _, intent in right)
        bundles += len(right)
        whole += len(lines) == len(right) and all(named and intent for named, intent in right)
    return {"items": items / bundles, "intents": intents / bundles, "whole": whole / len(sessions), "bundles": bundles}


def _right(session: Session, lines: Sequence[str]) -> Iterator[tuple[bool, bool]]:
    for place, bundle in enumerate(session.bundles):
        line = lines[place] if place < len(lines) else ""
        titles = {item.title for item in session.items if item.title in line}
        yield titles == {item.title for item in session.items_of(bundle)}, bundle.intent in line


# The tables -----------------------------------------------------------------------------------------------------------


def part(score: Score, places: Sequence[int]) -> float:
    return sum(score.per_example[place] for place in places) / len(places)


def table_of_rules(rules: Sequence[Rule]) -> dict[str, Any]:
    groups = {
        kind: [rule for rule in rules if rule.difference.kind == kind]
        for kind in dict.fromkeys(rule.difference.kind for rule in rules)
    }
    groups |= {"all": list(rules)}
    rows = [
        {
            "name": name.replace("_", " "),
            "count": len(group),
            "read": sum(rule.is_read for rule in group) / len(group),
            "holds": sum(rule.holds for rule in group) / len(group),
        }
        for name, group in groups.items()
    ]
    titles = {"name": "difference", "count": "rules", "read": "on its categories", "holds": "true of what is planted"}
    cells = {"name": "{name}", "count": "{count:,}", "read": "{read:.2f}", "holds": "{holds:.2f}"}
    return {"columns": [{"title": titles[key], "cell": [cells[key]]} for key in titles], "rows": rows}


def main() -> None:
    """Ask, measure, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", required=True)
    parser.add_argument("--teacher", default="embedded:bundles-teacher")
    parser.add_argument("--student", default="embedded:bundles-student")
    parser.add_argument("--test", type=int, default=None, help="the first so many test sessions alone")
    parser.add_argument("--train", type=int, default=300, help="training sessions that the teacher writes about")
    parser.add_argument("--only", default="", help="the one or the other alone: teacher, student")
    arguments = parser.parse_args()
    splits = generate(seed=0)
    rows = splits.test[: arguments.test]
    train, test = list(map(session_of, splits.train)), list(map(session_of, rows))
    models = {
        name: LocalCompleter(EndpointConfig(model=model, concurrency=48), device="cpu")
        for name, model in (("teacher", arguments.teacher), ("student", arguments.student))
        if arguments.only in ("", name)
    }
    ways = prompts_of(train, test)
    answers = {f"{name}{way}": asked(model, ways[way]) for name, model in models.items() for way in ways}
    draws = {name: [[write_answer(b) for b in baseline(name, train, test)]] for name in BASELINES}
    draws |= {name: [texts] for name, texts in answers.items()}
    draws["knows what is planted"] = [[write_answer(knowing(session)) for session in test]]
    scores = {name.replace("_", " "): measured(texts, rows) for name, texts in draws.items()}
    held = [place for place, session in enumerate(test) if has_held_back(session)]
    known = [place for place in range(len(test)) if place not in set(held)]
    table = [
        {"name": name, "readable": sum(read_answer(text) is not None for text in draws_of(draws, name)) / len(test)}
        | {key: value for key, value in figures(found, SOUND).items() if not key.startswith("intent_f1_")}
        | {"f1_read": part(found["bundle_f1"], known), "f1_held": part(found["bundle_f1"], held)}
        for name, found in scores.items()
    ]
    titles = {
        "precision": "precision",
        "recall": "recall",
        "f1": "F1",
        "coverage": "coverage",
        "exact": "exact bundles",
    }
    shown = [
        *columns(titles, "asked"),
        {"title": "intents", "cell": ["{intent_f1:.3f}"]},
        {"title": f"F1, {len(known)} sessions of what was read", "cell": ["{f1_read:.3f}"]},
        {"title": f"F1, {len(held)} with what was held back", "cell": ["{f1_held:.3f}"]},
        {"title": "readable", "cell": ["{readable:.3f}"]},
    ]
    kept: dict[str, Any] = {
        "made_by": f"python scripts/bundle_pair.py --test {len(test)} --train {arguments.train} --keep FILE",
        "sessions": {"train": len(train), "test": len(test), "written about": arguments.train},
        "signatures": {name: next(iter(scores.values()))[f"bundle_{name}"].signature for name in SOUND},
        "tables": {"sessions": {"columns": shown, "rows": table}},
    }
    if "teacher" in models:
        rules = rules_of(models["teacher"], train[: arguments.train])
        kept["tables"]["rules"] = table_of_rules(rules)
        kept["thoughts"] = thoughts_of(models["teacher"], train[: arguments.train])
        kept["rules"] = [[rule.difference.kind, rule.text, rule.holds] for rule in rules[:20]]
    with open(arguments.keep, "w", encoding="utf-8") as handle:
        json.dump(kept, handle, ensure_ascii=False, indent=1)
        handle.write("\n")


def draws_of(draws: Mapping[str, Sequence[Sequence[str]]], name: str) -> Sequence[str]:
    return next(texts[0] for known, texts in draws.items() if known.replace("_", " ") == name)


if __name__ == "__main__":
    main()
