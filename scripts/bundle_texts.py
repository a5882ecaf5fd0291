"""The texts that the embedded models for bundles read: sessions of readable shops, asked about in the package's words.

A shop – a real one as far as it is read, or an invented one – gives sessions, patterns mined from them and neighbours.
Each session then becomes one text of a kind that is drawn: its bundles without knowledge or with it, or one of the
requests of `understudy generate`. Prompts are filled by the package itself, so that they are the ones that will come.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import bundle_wordings as wordings

from understudy.bundle_answers import Bundle, write_answer
from understudy.data.embedded.bundles import DOMAINS, Regularity, catalogue, regularities_of
from understudy.data.embedded.bundles.readings import Shop, invented_intent, invented_shop, real_shop
from understudy.data.embedded.bundles.regularities import categories_of
from understudy.data.sessions import Session, example_of, listing_of
from understudy.knowledge.session_prompts import SessionPrompts
from understudy.sessions.discrepancies import discrepancies, hint
from understudy.sessions.knowledge import SessionKnowledge, Statement, Thought
from understudy.sessions.lessons import asked
from understudy.sessions.neighbours import Neighbours
from understudy.sessions.patterns import mine_patterns
from understudy.sessions.retrieval import Retriever
from understudy.tokens.prompts import messages
from understudy.types import Example, Message

SESSIONS_PER_SHOP = 160
REAL = 0.5
"""Share of shops that are the real ones, as far as they are read."""
PROMPTS = SessionPrompts()
Turns = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """A conversation up to an answer, and the answer, which is what is learned."""

    kind: str
    turns: Turns
    answer: str


@dataclass
class Known:
    """A shop with its sessions, patterns, and who is near to whom."""

    shop: Shop
    sessions: list[Session]
    retrievers: list[Retriever]
    near: dict[str, Session]

    @property
    def rules(self) -> tuple[Regularity, ...]:
        """All that goes together there, as far as it may be read."""
        return self.shop.known + self.shop.invented


Write = Callable[[random.Random, Known, Session], Text | None]


def known_shops(draw: random.Random) -> Iterator[Known]:
    """Shops without end."""
    while True:
        shop = real_shop(draw.choice(DOMAINS)) if draw.random() < REAL else invented_shop(draw)
        sessions = [ordered(session) for session in shop.sessions(draw, SESSIONS_PER_SHOP)]
        nearest = Neighbours(sessions).nearest(sessions)
        near = {session.id: found[0] for session, found in zip(sessions, nearest, strict=True)}
        knowledge = learned(draw, shop, sessions)
        ways = draw.sample(WAYS, 3)
        yield Known(shop, sessions, [Retriever(knowledge, sessions, formats=f, neighbours=n) for f, n in ways], near)


WAYS: tuple[tuple[tuple[str, ...], int], ...] = (
    (("patterns",), 0),
    (("rules",), 0),
    (("patterns", "rules"), 0),
    (("patterns",), 1),
    (("rules",), 1),
    (("patterns", "rules"), 1),
    (("patterns", "rules", "thoughts"), 1),
    ((), 1),
    (("thoughts",), 1),
)
"""Formats of knowledge and neighbours that stand in a prompt."""


def learned(draw: random.Random, shop: Shop, sessions: Sequence[Session]) -> SessionKnowledge:
    """What might be known of a shop: patterns as they are mined, rules and thoughts as they might be written."""
    support = draw.choice((0.01, 0.015, 0.02))
    patterns = [
        Statement("pattern", pattern.text, pattern.kind, pattern.members, shop.domain, pattern.confidence)
        for kind in draw.choice((("category",), ("category",), ("category", "item", "intent")))
        for pattern in mine_patterns(sessions, kind, support=support).patterns[:60]
    ]
    rules = [
        _rule(wordings.together(draw, names, draw.choice(rule.intents)), names, shop, draw)
        for rule in shop.known + shop.invented
        if draw.random() < 0.9
        for names in [draw.sample(rule.categories, len(rule.categories))]
    ]
    for _ in range(6):
        names = draw.sample(categories_of(shop.domain), 2)
        if not _planted(names) and not any(set(names) <= set(rule.categories) for rule in shop.invented):
            rules.append(_rule(wordings.apart(names), names, shop, draw))
    thoughts = [Thought(session.id, wordings.thoughts(session), shop.domain) for session in sessions]
    return SessionKnowledge((*patterns, *rules), tuple(thoughts))


def _rule(text: str, categories: Sequence[str], shop: Shop, draw: random.Random) -> Statement:
    return Statement("rule", text, "category", tuple(sorted(categories)), shop.domain, draw.random())


def ordered(session: Session) -> Session:
    """The same with its bundles by their first item: of two orders of an answer, the one that can be known."""
    return replace(session, bundles=tuple(sorted(session.bundles, key=lambda bundle: bundle.items)))


def texts(seed: int, kinds: Mapping[str, tuple[float, float]]) -> Iterator[Text]:
    """Texts without end.

    Args:
        seed: of everything.
        kinds: of `KINDS`, its weight in real shops and in invented ones.
    """
    draw = random.Random(f"bundle texts {seed}")
    for known in known_shops(draw):
        weights = [weight[bool(known.shop.invented)] for weight in kinds.values()]
        for session in known.sessions:
            text = KINDS[draw.choices(list(kinds), weights)[0]](draw, known, session)
            if text is not None:
                yield text


# Bundles --------------------------------------------------------------------------------------------------------------


def plain(draw: random.Random, known: Known, session: Session) -> Text:
    return Text("plain", PROMPTS.detect(session), write_answer(session.bundles))


def informed(draw: random.Random, known: Known, session: Session) -> Text:
    """Behind whatever retrieval finds for it: statements, thoughts, the nearest session."""
    retriever = draw.choice(known.retrievers)
    budget = draw.randint(200, 900)
    example = retriever.shown([example_of(session)], lambda row: _characters(row) <= budget)[0].example
    turns = tuple(Message(turn["role"], turn["content"]) for turn in messages(example))
    return Text("informed", turns, write_answer(session.bundles))


def _characters(row: Example) -> int:
    return len(row.context or "") + sum(len(turn.content) for turn in row.history)


def instructed(draw: random.Random, known: Known, session: Session) -> Text | None:
    """Told of this session alone what goes together in it, beside rules that do not fit it."""
    places = {item.category: number for number, item in enumerate(session.items, start=1)}
    bundles, lines, free = [], [], sorted(places)
    for _ in range(draw.choice((1, 1, 2))):
        size = min(draw.choice((2, 2, 3, 3, 4)), len(free))
        categories = draw.sample(free, size)
        if size > 1 and not _planted(categories):
            free = [category for category in free if category not in categories]
            intent = invented_intent(draw)
            lines.append(wordings.together(draw, categories, intent))
            bundles.append(Bundle.of((places[category] for category in categories), intent))
    if not bundles:
        return None
    everything = categories_of(known.shop.domain)
    for _ in range(draw.choice((0, 1, 2))):
        categories = draw.sample(everything, draw.choice((2, 3)))
        if not _planted(categories) and not places.keys() >= set(categories):
            lines.append(wordings.together(draw, categories, invented_intent(draw)))
    draw.shuffle(lines)
    bundles.sort(key=lambda bundle: bundle.items)
    return Text("instructed", PROMPTS.detect(session, lines), write_answer(bundles))


def _planted(categories: Sequence[str]) -> bool:
    """Whether two of these go together in a real shop."""
    return any(len(set(categories) & set(rule.categories)) > 1 for rule in regularities_of())


def numbered(draw: random.Random, known: Known, session: Session) -> Text:
    """The items once more in another order, each with its number right behind: only the numbers are learned."""
    items = draw.sample(list(enumerate(session.items, start=1)), len(session.items))
    answer = "".join(f" {item.category}{number}" for number, item in items)
    return Text("numbered", (Message("user", f"{listing_of(session)}\nNumbers of all?"),), answer)


def looked_up(draw: random.Random, known: Known, session: Session) -> Text:
    """Where things stand: no bundles, but what every answer with numbers needs."""
    items = draw.sample(list(enumerate(session.items, start=1)), min(len(session.items), draw.randint(2, 6)))
    if draw.random() < 0.4:
        items.sort()
    kinds = ", ".join(item.category for _, item in items)
    numbers = ", ".join(str(number) for number, _ in items)
    question, answer = (f"Which numbers have {kinds}?", f"[{numbers}]")
    if draw.random() < 0.3:
        question, answer = (f"What are the items [{numbers}]?", kinds)
    return Text("looked up", (Message("user", f"{listing_of(session)}\n{question}"),), answer)


# What a teacher is asked ----------------------------------------------------------------------------------------------


def demonstrated(draw: random.Random, known: Known, session: Session, ask: Callable[[Session], Turns]) -> Turns:
    """A question, now and then behind the same about the nearest session with its true bundles as the answer."""
    if draw.random() < 0.5:
        return ask(session)
    near = known.near[session.id]
    return (*ask(near), Message("assistant", write_answer(near.bundles)), *ask(session))


def named(draw: random.Random, known: Known, session: Session) -> Text:
    turns = demonstrated(draw, known, session, lambda one: PROMPTS.name_intents(one, one.bundles))
    return Text("intents", turns, write_answer(session.bundles))


def adjusted(draw: random.Random, known: Known, session: Session) -> Text:
    told = draw.random() < 0.7

    def ask(one: Session) -> Turns:
        wrong = departed(draw, known, one) if told else one.bundles
        feedback = [hint(difference) for difference in discrepancies(wrong, one.bundles)] if told else []
        return PROMPTS.adjust(one, write_answer(wrong), feedback)

    return Text("adjusted", demonstrated(draw, known, session, ask), write_answer(session.bundles))


def explained(draw: random.Random, known: Known, session: Session) -> Text | None:
    found = discrepancies(departed(draw, known, session), session.bundles)
    if not found:
        return None
    one = draw.choice(found)
    return Text("explained", PROMPTS.explain(session, one), wordings.explanation(draw, one, session))


def ruled(draw: random.Random, known: Known, session: Session) -> Text | None:
    found = discrepancies(departed(draw, known, session), session.bundles)
    if not found:
        return None
    one = draw.choice(found)
    why = wordings.explanation(draw, one, session)
    return Text("rule", PROMPTS.state_rule(session, one, why), wordings.rule(draw, one, session))


def merged(draw: random.Random, known: Known, session: Session) -> Text:
    regularity = draw.choice(known.rules)
    parts = [draw.sample(regularity.categories, draw.randint(2, len(regularity.categories))) for _ in range(2)]
    intents = [draw.choice(regularity.intents) for _ in parts]
    rules = [wordings.together(draw, part, intent) for part, intent in zip(parts, intents, strict=True)]
    return Text("merged", PROMPTS.merge(rules), wordings.merged(list(dict.fromkeys(chain(*parts))), intents))


def thought(draw: random.Random, known: Known, session: Session) -> Text:
    return Text("thoughts", PROMPTS.thoughts(session), wordings.thoughts(session))


def departed(draw: random.Random, known: Known, session: Session) -> tuple[Bundle, ...]:
    """The bundles as one might get them wrong."""
    bundles = list(session.bundles)
    numbers = range(1, len(session.items) + 1)
    place = draw.randrange(len(bundles))
    one = bundles[place]
    spare = [number for number in numbers if all(number not in bundle.items for bundle in bundles)]
    fault = draw.random()
    if fault < 0.25 and len(one.items) > 2:
        bundles[place] = Bundle(tuple(sorted(draw.sample(one.items, len(one.items) - 1))), one.intent)
    elif fault < 0.45 and spare:
        bundles[place] = Bundle.of((*one.items, draw.choice(spare)), one.intent)
    elif fault < 0.6 and len(spare) > 1:
        bundles.append(Bundle.of(draw.sample(spare, 2), draw.choice(draw.choice(known.rules).intents)))
    elif fault < 0.75:
        bundles[place] = Bundle(one.items, draw.choice(draw.choice(known.rules).intents))
    else:
        del bundles[place]
    return tuple(bundles)


def statement(draw: random.Random, known: Known, session: Session) -> Text:
    """A statement as the answer to a question, as a student learns it."""
    rule = draw.choice(known.shop.known)
    told = Statement(
        "rule",
        wordings.together(draw, rule.categories, draw.choice(rule.intents)),
        "category",
        tuple(sorted(rule.categories)),
        known.shop.domain,
    )
    return Text("statement", (Message("user", asked(told)),), told.text)


KINDS: dict[str, Write] = {
    "plain": plain,
    "informed": informed,
    "instructed": instructed,
    "numbered": numbered,
    "looked up": looked_up,
    "intents": named,
    "adjusted": adjusted,
    "explained": explained,
    "rule": ruled,
    "merged": merged,
    "thoughts": thought,
    "statement": statement,
}
"""Kind of text -> what writes one; None where a session gives none."""
FIRST = {"numbered": (1, 1)}
"""Weight of each kind in real and in invented shops, while a model learns what numbers stand for."""
POINTING = {"numbered": (10, 10), "instructed": (5, 5), "plain": (10, 0), "informed": (0, 5)}
"""The same, while it learns to point at what it was not just told."""
TEACHER = {
    "plain": (14, 0),
    "informed": (5, 10),
    "instructed": (2, 2),
    "numbered": (0.5, 0.5),
    "looked up": (0.5, 0.5),
    "intents": (0.7, 0),
    "adjusted": (1, 0),
    "explained": (0.7, 0.7),
    "rule": (0.7, 0.7),
    "merged": (0.3, 0.3),
    "thoughts": (0.7, 0.7),
    "statement": (0.2, 0),
}
"""The same afterwards. What only knowledge can tell is never asked without it."""
STUDENT = {
    "plain": (14, 0),
    "informed": (5, 10),
    "instructed": (2, 2),
    "numbered": (0.5, 0.5),
    "looked up": (0.5, 0.5),
    "thoughts": (0.5, 0.5),
    "statement": (0.2, 0),
}


# The vocabulary -------------------------------------------------------------------------------------------------------


def units() -> list[str]:
    """What varies in the texts: categories as in titles and behind them, brand with kind, words of intents."""
    categories = {c: items for domain in DOMAINS for c, items in catalogue(domain).items()}
    names = [item.title.removesuffix(f" {category}") for category, items in categories.items() for item in items]
    draw = random.Random("units")
    intents = [intent for rule in regularities_of() for intent in rule.intents]
    intents += [invented_intent(draw) for _ in range(2000)]
    words = sorted({word for intent in intents for word in intent.split()})
    kinds = dict.fromkeys((*(f"({name})\n" for name in categories), *(f"({name})" for name in categories), *categories))
    return [*kinds, *(f". {name}" for name in sorted(set(names))), *sorted(set(names)), *words]


def some_texts(count: int = 1500) -> Iterator[str]:
    """Texts of all kinds, for the frames of the vocabulary."""
    for _, text in zip(range(count), texts(99, dict.fromkeys(KINDS, (1.0, 1.0))), strict=False):
        yield from (turn.content for turn in text.turns)
        yield text.answer
