"""The steps that write about sessions of items; all of them see the data set.

| step | asks | and writes |
|---|---|---|
| `patterns` | nobody | categories, items and words of intents that are found together, as sentences |
| `rules` | why answers to some sessions are wrong | rules that help on other sessions (`session_rules.py`) |
| `thoughts` | why the true bundles of each session are what they are | that, where it names their items |
| `adaptive` | for the bundles of each session, with feedback by type | the last answer (`adaptive.py`) |

They are the three formats of knowledge of arXiv 2504.17220, extracted one after the other, and the loop of its
predecessor. Sessions whose bundles are not known are of use to `patterns` alone.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice

from understudy.data.sessions import Item, Session, is_session, session_of
from understudy.errors import DataError
from understudy.knowledge.adaptive import Adapted, AdaptiveLoop, feedback_by_truth, lessons_of
from understudy.knowledge.session_knowledge import THOUGHT, statement_details
from understudy.knowledge.session_prompts import SessionPrompts, ask_all
from understudy.knowledge.session_rules import RuleWriter, split_validation
from understudy.knowledge.step import DataSet, Learned, step
from understudy.recipe.knowledge import SessionsConfig
from understudy.sessions.knowledge import Statement
from understudy.sessions.neighbours import Neighbours
from understudy.sessions.patterns import KINDS, Pattern, mine_patterns
from understudy.sessions.title_clusters import with_categories
from understudy.sessions.vectors import words_of

UNASKED = "unasked: generate.sessions.max_calls or max_tokens is spent, or no answer came"
NAMED = 2
"""So many items of each bundle a thought has to name."""


def _settings(data: DataSet) -> SessionsConfig:
    return data.config.sessions or SessionsConfig()


def _sessions(data: DataSet, *, bundled: bool = True) -> list[Session]:
    """The sessions among the examples.

    Raises:
        DataError: there is none.
    """
    sessions = [session_of(example) for example in data.examples if is_session(example)]
    sessions = [session for session in sessions if session.bundles or not bundled]
    if not sessions:
        wanted = "sessions with bundles" if bundled else "sessions of items"
        raise DataError(f"none of the rows are {wanted}", hint="`understudy docs bundles` says which layouts are")
    return sessions


# Patterns -------------------------------------------------------------------------------------------------------------


@step("patterns", scope="dataset")
def patterns(data: DataSet) -> Iterator[Learned]:
    """What is found together, of each domain by itself; clusters of titles stand in where no item has a category."""
    config, by_domain = _settings(data), defaultdict(list)
    for session in with_categories(_sessions(data, bundled=False), how=config.vectors)[0]:
        by_domain[session.domain].append(session)
    for domain, sessions in by_domain.items():
        for kind in KINDS:
            mined = mine_patterns(sessions, kind, support=config.support, confidence=config.confidence)
            for pattern in mined.patterns[: config.max_patterns]:
                yield Learned(pattern.text, details=_pattern_details(pattern, domain))


def _pattern_details(pattern: Pattern, domain: str) -> dict[str, object]:
    statement = Statement("pattern", pattern.text, pattern.kind, pattern.members, domain, round(pattern.confidence, 6))
    figures = {name: round(getattr(pattern, name), 6) for name in ("count", "support", "confidence", "lift")}
    return {**statement_details(statement), **figures}


# Rules ----------------------------------------------------------------------------------------------------------------


@step(
    "rules",
    scope="dataset",
    max_tokens=300,
    reads=("detect_bundles", "explain_difference", "state_rule", "merge_rules"),
)
def rules(data: DataSet) -> Iterator[Learned]:
    """Rules that the teacher states of its own errors, kept as far as they help it on other sessions."""
    config = _settings(data)
    writing, validation = split_validation(_sessions(data), config.validation_share, data.config.seed)
    if not writing or not validation:
        raise DataError(
            f"step rules: {len(writing)} sessions to write rules and {len(validation)} to measure them on",
            hint="give more sessions: raise generate.sessions.ratio, or change validation_share",
        )
    writer = RuleWriter(data, config)
    stated = writer.write(writing)
    yield from writer.chosen(stated, writer.gains(stated, validation))


# Thoughts -------------------------------------------------------------------------------------------------------------


@step("thoughts", scope="dataset", max_tokens=400, reads=("thoughts",))
def thoughts(data: DataSet) -> Iterator[Learned]:
    """Why the bundles of a session are what they are, bundle by bundle."""
    sessions, prompts = _sessions(data), SessionPrompts(data.prompts)
    turns = {session.id: prompts.thoughts(session) for session in sessions}
    texts = ask_all(data, turns, "thoughts")
    for session in sessions:
        text = texts.get(session.id)
        reasons = (UNASKED,) if text is None else tuple(unnamed(text, session))
        yield Learned(text, session.id, reasons, {THOUGHT: True})


def unnamed(text: str, session: Session) -> Iterator[str]:
    """Why a text is no thought on a session: a true bundle of which it names fewer than two items."""
    words, numbers = set(words_of(text)), _numbers(text)
    for bundle in session.bundles:
        items = [(number, session.items[number - 1]) for number in bundle.items]
        named = sum(number in numbers or _names(words, item) for number, item in items)
        if named < NAMED:
            yield f"unnamed: {named} items of bundle {list(bundle.items)}"


def _names(words: set[str], item: Item) -> bool:
    """Whether half of a title's words are there, or the whole category."""
    title, category = set(words_of(item.title)), set(words_of(item.category))
    return (bool(title) and len(title & words) >= len(title) / 2) or (bool(category) and category <= words)


_MENTION = re.compile(r"(?:\bitems?|#|[\[(])\s*(\d+(?:\s*(?:,|and|&)\s*(?:and\s*)?\d+)*)", re.IGNORECASE)


def _numbers(text: str) -> set[int]:
    """The items that a text calls by their number: `item 3`, `items 1, 2 and 5`, `[1, 2]`."""
    return {int(number) for match in _MENTION.finditer(text) for number in re.findall(r"\d{1,9}", match[1])}


# Adaptive -------------------------------------------------------------------------------------------------------------


@step("adaptive", scope="dataset", max_tokens=300, reads=("detect_bundles", "name_intents", "adjust_bundles"))
def adaptive(data: DataSet) -> Iterator[Learned]:
    """The teacher's answers to training sessions after feedback by the types of its errors."""
    config, sessions = _settings(data), _sessions(data)
    loop = AdaptiveLoop(
        lambda turns, prompt: ask_all(data, turns, prompt),
        SessionPrompts(data.prompts),
        rounds=config.rounds,
        feedback=feedback_by_truth,
    )
    # One for the bundles, one a round, three for intents; whoever is not asked all of it is not begun.
    asked = sessions
    if data.calls_left != float("inf"):
        asked = list(islice(sessions, max(1, int(data.calls_left) // (config.rounds + 4))))
    neighbours = Neighbours(sessions, how=config.vectors)
    first = loop.detect(asked, lessons_of(asked, neighbours))
    adapted = loop.run(asked, lessons_of(asked, neighbours, wrong=first), first)
    for session in sessions:
        yield _learned(session, adapted.get(session.id))


def _learned(session: Session, adapted: Adapted | None) -> Learned:
    """The last answer; rejected with what is wrong with it still."""
    if adapted is None or adapted.first is None:
        return Learned(None, session.id, (UNASKED,))
    details = {"first": adapted.first, "rounds": adapted.rounds, "feedback": list(adapted.feedback)}
    reasons = tuple(f"wrong: {line}" for line in adapted.left)
    return Learned(adapted.answer or adapted.first, session.id, reasons, details)
