"""The texts that the embedded models for bundles read: sessions of readable shops, asked about in the package's words.

A shop – a real one as far as it is read, or an invented one – gives sessions, patterns mined from them and neighbours.
Each session then becomes one text of a kind that is drawn: its bundles without knowledge or with it, or one of the
requests of `understudy generate`. Prompts are filled by the package itself, so that they are the ones that will come.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import bundle_wordings as wordings

from understudy.bundle_answers import Bundle, write_answer
from understudy.data.embedded.bundles import DOMAINS, Regularity, catalogue, regularities_of
from understudy.data.embedded.bundles.readings import Shop, invented_intent, invented_shop, real_shop
from understudy.data.sessions import Session, question_of
from understudy.knowledge.session_prompts import SessionPrompts
from understudy.sessions.discrepancies import discrepancies, hint
from understudy.sessions.neighbours import Neighbours
from understudy.sessions.patterns import Pattern, mine_patterns
from understudy.types import Message

SESSIONS_PER_SHOP = 160
REAL = 0.5
"""Share of shops that are the real ones, as far as they are read."""
PROMPTS = SessionPrompts()


@dataclass(frozen=True, slots=True)
class Text:
    """A conversation up to an answer, and the answer, which is what is learned."""

    kind: str
    turns: tuple[Message, ...]
    answer: str


@dataclass
class Known:
    """A shop with its sessions, patterns, and who is near to whom."""

    shop: Shop
    sessions: list[Session]
    patterns: tuple[Pattern, ...]
    near: dict[str, Session]

    @property
    def rules(self) -> tuple[Regularity, ...]:
        return self.shop.known + self.shop.invented


Write = Callable[[random.Random, Known, Session], Text | None]


def known_shops(draw: random.Random) -> Iterator[Known]:
    """Shops without end."""
    while True:
        shop = real_shop(draw.choice(DOMAINS)) if draw.random() < REAL else invented_shop(draw)
        sessions = [ordered(session) for session in shop.sessions(draw, SESSIONS_PER_SHOP)]
        nearest = Neighbours(sessions).nearest(sessions)
        near = {session.id: found[0] for session, found in zip(sessions, nearest, strict=True)}
        support = draw.choice((0.01, 0.015, 0.02))
        yield Known(shop, sessions, mine_patterns(sessions, support=support).patterns, near)


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


def told(draw: random.Random, known: Known, session: Session) -> Text:
    lines = [stated(draw, pattern) for pattern in fitting(draw, known.patterns, session)]
    return Text("told", PROMPTS.detect(session, lines), write_answer(session.bundles))


def shown(draw: random.Random, known: Known, session: Session) -> Text:
    near = known.near[session.id]
    before = Message("assistant", write_answer(near.bundles))
    return Text("shown", (*PROMPTS.detect(near), before, *PROMPTS.detect(session)), write_answer(session.bundles))


def fitting(draw: random.Random, patterns: Sequence[Pattern], session: Session) -> list[Pattern]:
    """Those that fit a session, and now and then one that does not."""
    categories = {item.category for item in session.items}
    fit = [pattern for pattern in patterns if categories.issuperset(pattern.members)]
    partly = [p for p in patterns if p not in fit and len(categories & set(p.members)) > 1]
    chosen = fit[:8] + draw.sample(partly, min(len(partly), draw.choice((0, 0, 1, 2))))
    chosen = chosen or draw.sample(list(patterns), min(2, len(patterns)))
    draw.shuffle(chosen)
    return chosen


def stated(draw: random.Random, pattern: Pattern) -> str:
    """A pattern in the words of the miner, or as a rule."""
    if draw.random() < 0.7 or not pattern.intents:
        return pattern.text
    members = draw.sample(pattern.members, len(pattern.members))
    return wordings.together(draw, members, pattern.intents[0])


# What a teacher is asked ----------------------------------------------------------------------------------------------


def named(draw: random.Random, known: Known, session: Session) -> Text:
    return Text("intents", PROMPTS.name_intents(session, session.bundles), write_answer(session.bundles))


def adjusted(draw: random.Random, known: Known, session: Session) -> Text:
    wrong = departed(draw, known, session)
    found = discrepancies(wrong, session.bundles)
    feedback = [hint(one) for one in found] if draw.random() < 0.7 else []
    turns = PROMPTS.adjust(session, write_answer(wrong), feedback)
    return Text("adjusted", turns, write_answer(session.bundles))


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
    return Text("merged", PROMPTS.merge(rules), wordings.merged(list(dict.fromkeys(sum(parts, []))), intents))


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


KINDS: dict[str, Write] = {
    "plain": plain,
    "told": told,
    "shown": shown,
    "intents": named,
    "adjusted": adjusted,
    "explained": explained,
    "rule": ruled,
    "merged": merged,
    "thoughts": thought,
}
"""Kind of text -> what writes one; None where a session gives none."""
TEACHER = {
    "plain": (14, 0),
    "told": (3, 10),
    "shown": (1, 3),
    "intents": (1, 0),
    "adjusted": (1.5, 0),
    "explained": (0.7, 1),
    "rule": (0.7, 1),
    "merged": (0.3, 0.5),
    "thoughts": (0.7, 1),
}
"""Weight of each kind in real and in invented shops. What only knowledge can tell is never asked without it."""
STUDENT = {"plain": (14, 0), "told": (3, 10), "shown": (1, 3), "thoughts": (0.5, 0.5)}


# The vocabulary -------------------------------------------------------------------------------------------------------


def units() -> list[str]:
    """What varies in the texts: categories as in titles and behind them, brand with kind, words of intents."""
    categories = {c: items for domain in DOMAINS for c, items in catalogue(domain).items()}
    names = [item.title.removesuffix(f" {category}") for category, items in categories.items() for item in items]
    draw = random.Random("units")
    intents = [intent for rule in regularities_of() for intent in rule.intents]
    intents += [invented_intent(draw) for _ in range(2000)]
    words = sorted({word for intent in intents for word in intent.split()})
    return [*dict.fromkeys((*(f"({name})" for name in categories), *categories, *sorted(set(names)), *words))]


def some_texts(count: int = 1500) -> Iterator[str]:
    """Texts of all kinds, for the frames of the vocabulary."""
    for _, text in zip(range(count), texts(99, dict.fromkeys(KINDS, (1.0, 1.0))), strict=False):
        yield from (turn.content for turn in text.turns)
        yield text.answer
