"""Rules by self-reflection: a teacher bundles training sessions, is told its errors, says why, and states rules.

```text
writing sessions     detect → differences to the truth, by type → why → rule → near-duplicates merged
validation sessions  gain(rule) = mean over them of F1(with the rule in context) − F1(without); 0 where it does not fit
```

In place of F1 another figure may be asked for: a part of a true bundle is a hit, so F1 does not see a missed item.

Kept are rules of a gain above 0, the largest first. Both figures are of the same session, asked at the same settings.
The validation sessions wrote no rule; but the rules are chosen by them, so what the kept ones gain together is to be
measured elsewhere. A rule fits a session that holds all categories it names.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from understudy.bundle_answers import read_answer, write_answer
from understudy.data.sessions import Session
from understudy.knowledge.session_knowledge import statement_details
from understudy.knowledge.session_prompts import SessionPrompts, ask_all
from understudy.knowledge.step import DataSet, Learned
from understudy.metrics import score
from understudy.recipe.knowledge import SessionsConfig
from understudy.sessions.discrepancies import Discrepancy, discrepancies
from understudy.sessions.knowledge import Statement
from understudy.sessions.vectors import words_of

WRITING_SHARE, DETECTING_SHARE = 0.5, 1 / 6
"""Of a budget of calls: what goes into writing rules, and of it all what goes into the first answers."""
ALIKE = 0.6
"""Rules that name the same categories and share so many of their words (Jaccard) are merged."""
_BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,3}[.)])\s+|^\s*rule\s*\d*\s*[:.]\s*", re.IGNORECASE)
_LEAST_WORDS = 3


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule on its way.

    Attributes:
        text: of it.
        members: categories that it names, sorted.
        domain: of the sessions that wrote it; empty where there are several.
        sessions: that wrote it.
        stated: how many differences it comes from.
    """

    text: str
    members: tuple[str, ...] = ()
    domain: str = ""
    sessions: tuple[str, ...] = ()
    stated: int = 1


@dataclass(frozen=True, slots=True)
class Gain:
    """What a rule is worth on the validation sessions.

    Attributes:
        gain: mean difference of the figure over all of them; 0 on those that it does not fit.
        measured: sessions on which both answers were there.
        better: of these, those it helped.
        worse: those it harmed.
    """

    gain: float
    measured: int
    better: int
    worse: int


def split_validation(sessions: Sequence[Session], share: float, seed: int) -> tuple[list[Session], list[Session]]:
    """Sessions that write, and those that validate: by id and seed alone, so samples that are nested stay so."""
    parts: tuple[list[Session], list[Session]] = ([], [])
    for session in sessions:
        digest = hashlib.sha256(f"{seed}/validation/{session.id}".encode()).digest()
        parts[int.from_bytes(digest[:8]) / 2**64 < share].append(session)
    return parts


def named_categories(text: str, categories: Iterable[str]) -> tuple[str, ...]:
    """The categories that a text names, in singular or plural, sorted; of `gas stove` and `stove` the longer one."""
    left, named = text.casefold(), []
    for category in sorted(set(categories), key=lambda name: (-len(name), name)):
        pattern = rf"(?<!\w){re.escape(category.casefold())}(?:e?s)?(?!\w)"
        if category and re.search(pattern, left):
            left = re.sub(pattern, "\0", left)
            named.append(category)
    return tuple(sorted(named))


def rule_of(text: str) -> str:
    """The first line of an answer that says something, without its bullet; empty where none has three words."""
    lines = (_BULLET.sub("", line).strip() for line in text.splitlines())
    return next((line for line in lines if len(line.split()) >= _LEAST_WORDS), "")


class RuleWriter:
    """The writing of rules, and their choice, for one data set."""

    def __init__(self, data: DataSet, config: SessionsConfig) -> None:
        self._data, self._config = data, config
        self._prompts = SessionPrompts(data.prompts)

    def write(self, sessions: Sequence[Session]) -> list[Rule]:
        """Rules of these sessions, those that most differences led to first."""
        budget = self._data.calls_left
        answers = self._detect(sessions, most=_share(budget, DETECTING_SHARE))
        left = (_share(budget, WRITING_SHARE) or len(sessions)) - len(answers)
        differences = self._differences(sessions, answers)
        if budget != float("inf"):
            differences = differences[: max(0, left // 2)]
        return self._merged(list(self._stated(differences)))

    def _detect(self, sessions: Sequence[Session], rule: str = "", most: int | None = None) -> dict[str, str]:
        knowledge = [rule] if rule else []
        turns = {session.id: self._prompts.detect(session, knowledge) for session in sessions}
        return ask_all(self._data, turns, "detect_bundles", most=most)

    def _differences(
        self, sessions: Sequence[Session], answers: Mapping[str, str]
    ) -> list[tuple[str, Session, Discrepancy]]:
        """All of them, each by a name, one of each kind in turn: a budget that ends leaves no kind out."""
        rows, seen = [], Counter[str]()
        for session in (session for session in sessions if session.id in answers):
            predicted = read_answer(answers[session.id]) or ()
            for place, difference in enumerate(discrepancies(predicted, session.bundles)):
                rows.append((seen[difference.kind], f"{session.id}/{place}", session, difference))
                seen[difference.kind] += 1
        rows.sort(key=lambda row: row[0])
        return [(name, session, difference) for _, name, session, difference in rows]

    def _stated(self, differences: Sequence[tuple[str, Session, Discrepancy]]) -> Iterator[Rule]:
        turns = {name: self._prompts.explain(session, difference) for name, session, difference in differences}
        reasons = ask_all(self._data, turns, "explain_difference")
        turns = {
            name: self._prompts.state_rule(session, difference, reasons[name].strip())
            for name, session, difference in differences
            if reasons.get(name, "").strip()
        }
        texts = ask_all(self._data, turns, "state_rule")
        for name, session, _ in differences:
            if text := rule_of(texts.get(name, "")):
                members = named_categories(text, (item.category for item in session.items))
                yield Rule(text, members, session.domain, (session.id,))

    def _merged(self, rules: Sequence[Rule]) -> list[Rule]:
        """Near-duplicates as one rule, in the teacher's words where they were several."""
        groups = alike(rules)
        turns = {
            f"merge {number}": self._prompts.merge(texts)
            for number, group in enumerate(groups)
            if len(texts := list(dict.fromkeys(rule.text for rule in group))) > 1
        }
        texts = ask_all(self._data, turns, "merge_rules")
        merged = [_joined(group, rule_of(texts.get(f"merge {number}", ""))) for number, group in enumerate(groups)]
        return sorted(merged, key=lambda rule: -rule.stated)

    # Choosing ---------------------------------------------------------------------------------------------------------

    def gains(self, rules: Sequence[Rule], sessions: Sequence[Session]) -> dict[str, Gain | None]:
        """What each rule is worth, by its text; None of one that was not measured: nothing fits, or no call is left."""
        fitting = {rule.text: [session for session in sessions if fits(rule, session)] for rule in rules}
        needed = {session.id for fitted in fitting.values() for session in fitted}
        most = _share(self._data.calls_left, WRITING_SHARE)
        without = self._figures(sessions, self._detect([s for s in sessions if s.id in needed], most=most))
        gains: dict[str, Gain | None] = {}
        for rule in rules:
            asked = [session for session in fitting[rule.text] if session.id in without]
            enough = asked and len(asked) <= self._data.calls_left
            answers = self._detect(asked, rule.text) if enough else {}
            gains[rule.text] = _gain(self._figures(asked, answers), without, len(sessions))
        return gains

    def _figures(self, sessions: Sequence[Session], answers: Mapping[str, str]) -> dict[str, float]:
        asked = [session for session in sessions if session.id in answers]
        if not asked:
            return {}
        truths = [[write_answer(session.bundles)] for session in asked]
        scores = score([answers[session.id] for session in asked], truths, metrics=[self._config.metric])[
            self._config.metric
        ]
        return dict(zip((session.id for session in asked), scores.per_example, strict=True))

    def chosen(self, rules: Sequence[Rule], gains: Mapping[str, Gain | None]) -> Iterator[Learned]:
        """All rules, those that are kept first, the others with the reason why they are not."""

        def worth(rule: Rule) -> float:
            gain = gains[rule.text]
            return float("-inf") if gain is None else gain.gain

        for place, rule in enumerate(sorted(rules, key=worth, reverse=True)):
            gain = gains[rule.text]
            statement = Statement(
                "rule",
                rule.text,
                *("category" if rule.members else "", rule.members, rule.domain),
                weight=round(gain.gain, 6) if gain else 0.0,
                sessions=rule.sessions,
            )
            figures = {name: getattr(gain, name) for name in ("measured", "better", "worse")} if gain else {}
            details = {**statement_details(statement), **figures, "stated": rule.stated}
            yield Learned(rule.text, reasons=self._reasons(gain, place), details=details)

    def _reasons(self, gain: Gain | None, place: int) -> tuple[str, ...]:
        if gain is None:
            return ("unmeasured: no validation session holds its categories, or no call was left",)
        if gain.gain <= 0:
            asked = f"{gain.measured} of the validation sessions asked"
            return (f"useless: {self._config.metric} {gain.gain:+.4f}, {asked}",)
        if place >= self._config.max_rules:
            return (f"surplus: {self._config.max_rules} rules gain more",)
        return ()


def fits(rule: Rule, session: Session) -> bool:
    """Whether a session holds all that a rule names."""
    return set(rule.members) <= {item.category for item in session.items} and rule.domain in ("", session.domain)


def alike(rules: Sequence[Rule]) -> list[list[Rule]]:
    """Groups of rules of one domain and the same categories whose words agree with those of the group's first."""
    groups: defaultdict[tuple[str, tuple[str, ...]], list[list[Rule]]] = defaultdict(list)
    words: dict[str, frozenset[str]] = {rule.text: frozenset(words_of(rule.text)) for rule in rules}
    for rule in rules:
        same = groups[rule.domain, rule.members]
        group = next((g for g in same if _jaccard(words[g[0].text], words[rule.text]) >= ALIKE), None)
        if group is None:
            same.append([rule])
        else:
            group.append(rule)
    return [group for same in groups.values() for group in same]


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one | other else 1.0


def _joined(group: Sequence[Rule], text: str) -> Rule:
    """One rule for a group: in the given words, or in those that were written most often."""
    commonest = Counter(rule.text for rule in group).most_common(1)[0][0]
    sessions = tuple(dict.fromkeys(session for rule in group for session in rule.sessions))
    return Rule(text or commonest, group[0].members, group[0].domain, sessions, len(group))


def _gain(with_rule: Mapping[str, float], without: Mapping[str, float], validation: int) -> Gain | None:
    differences = np.array([value - without[name] for name, value in with_rule.items()])
    if not len(differences):
        return None
    gain = float(differences.sum()) / validation
    return Gain(gain, len(differences), int((differences > 0).sum()), int((differences < 0).sum()))


def _share(calls: float, share: float) -> int | None:
    """A share of the calls that are left, one at least; None where there is no limit."""
    return None if calls == float("inf") else max(1, int(calls * share))
