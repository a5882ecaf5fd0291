"""The texts that the embedded models for bundles read: sessions of readable shops, asked about in the package's words.

A shop – a real one as far as it is read, or an invented one – gives sessions, patterns mined from them and neighbours.
Each session then becomes one text of a kind that is drawn: its bundles without knowledge or with it, or one of the
requests of `understudy generate`. Prompts are filled by the package itself, so that they are the ones that will come.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from understudy.bundle_answers import write_answer
from understudy.data.embedded.bundles import DOMAINS, catalogue
from understudy.data.embedded.bundles.readings import Shop, invented_shop, real_shop
from understudy.data.sessions import Session, question_of
from understudy.sessions.neighbours import Neighbours
from understudy.sessions.patterns import Pattern, mine_patterns

SESSIONS_PER_SHOP = 160


@dataclass(frozen=True, slots=True)
class Text:
    """A conversation up to an answer, and the answer, which is what is learned."""

    kind: str
    turns: tuple[dict[str, str], ...]
    answer: str


@dataclass
class Known:
    """A shop with its sessions, patterns, and who is near to whom."""

    shop: Shop
    sessions: list[Session]
    patterns: tuple[Pattern, ...]
    neighbours: Neighbours


def known_shops(draw: random.Random) -> Iterator[Known]:
    """Shops without end, as many real as invented ones."""
    while True:
        shop = real_shop(draw.choice(DOMAINS)) if draw.random() < 0.45 else invented_shop(draw)
        sessions = [ordered(session) for session in shop.sessions(draw, SESSIONS_PER_SHOP)]
        yield Known(shop, sessions, mine_patterns(sessions, support=0.02).patterns, Neighbours(sessions))


def ordered(session: Session) -> Session:
    """The same with its bundles by their first item: of two orders of an answer, the one that can be known."""
    return replace(session, bundles=tuple(sorted(session.bundles, key=lambda bundle: bundle.items)))


def texts(seed: int) -> Iterator[Text]:
    """Texts without end."""
    draw = random.Random(f"bundle texts {seed}")
    for known in known_shops(draw):
        for session in known.sessions:
            yield text_of(draw, known, session)


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def text_of(draw: random.Random, known: Known, session: Session) -> Text:
    answer = write_answer(session.bundles)
    if not known.shop.invented and draw.random() < 0.75:
        return Text("bundles", (user(question_of(session)),), answer)
    if draw.random() < 0.3:
        near = known.neighbours.nearest([session])[0][0]
        turns = (user(question_of(near)), {"role": "assistant", "content": write_answer(near.bundles)})
        return Text("bundles, shown a neighbour", (*turns, user(question_of(session))), answer)
    return Text("bundles, told patterns", (user(f"{told(draw, known.patterns, session)}\n\n{question_of(session)}"),), answer)


def told(draw: random.Random, patterns: Sequence[Pattern], session: Session) -> str:
    """Those that fit a session, and now and then one that does not."""
    categories = {item.category for item in session.items}
    fitting = [p for p in patterns if categories.issuperset(p.members)]
    near = [p for p in patterns if p not in fitting and len(categories & set(p.members)) > 1]
    chosen = fitting + draw.sample(near, min(len(near), draw.randint(0, 2)))
    if not chosen:
        chosen = draw.sample(list(patterns), min(2, len(patterns)))
    draw.shuffle(chosen)
    return "\n".join(("What is known:", *(f"- {p.text}" for p in chosen)))


def vocabulary_texts() -> Iterator[str]:
    """What the vocabulary is made of: texts as they are read, titles and intents word by word."""
    for domain in DOMAINS:
        for category, items in catalogue(domain).items():
            for item in items:
                yield from (f" {category} ({category})\n", f"x {category}\n", f" {category},")
                for word in item.title.removesuffix(category).split():
                    yield f". {word}\n"
                    yield f"x {word}"
    draw = random.Random("vocabulary")
    from understudy.data.embedded.bundles.readings import invented_intent, planted_intents
    for intent in [*planted_intents()] * 3 + [invented_intent(draw) for _ in range(600)]:
        first, *rest = intent.split()
        yield f"\"{first}\n x"
        yield from (f"x {word}\n" for word in (first, *rest))
        yield "; x"
        
    for number in range(1, 101):
        yield from [str(number)] * 3
    from understudy.data.sessions import TASK
    for _ in range(60):
        yield f"Items of a session:\n{TASK}"
        yield '{"bundles": [{"items": [1, 2, 3], "intent": "\n"}, {"items": [1, 2], "intent": "\n"}]}'
        yield "What is known:\n- With\n and\n goes\n, in 90% of cases (20 times, 3.0 times as often as elsewhere). It is bought for:"
