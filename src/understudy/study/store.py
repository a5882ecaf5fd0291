"""What raters do, each step one transaction that may come twice and counts once.

A rater holds a *slot*, a place of the assignment, and works through its pages in order: page n is open while n is at
most the number of pages done. An answer to an earlier page takes the place of the one before, and no answer is taken
from whoever has finished, left or failed. Of links only their hash is stored.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from understudy.study.assignment import PairSeat
from understudy.study.config import Language
from understudy.study.database import Database, upsert
from understudy.study.folder import Study
from understudy.study.pages import Page, pages_of
from understudy.study.tables import ATTENTION, LINKS, META, PAIRS, RATERS, RATINGS, SIMULATIONS, VISITS

OPEN = ("invited", "active")
"""Statuses in which answers are taken."""
_DAY, _MINUTE = 86_400, 60
_TOKEN_BYTES = 24


@dataclass(frozen=True)
class Visitor:
    """A rater as a link leads in.

    Attributes:
        rater: number of the rater.
        slot: place of the assignment.
        status: invited, active, finished, failed, declined or dropped.
        page: pages done.
        first_page: the earliest page that this link shows.
        language: of the pages.
        tries: of the questions about the task, so far.
        code: completion code; empty before the end.
    """

    rater: int
    slot: int
    status: str
    page: int
    first_page: int
    language: Language
    tries: int
    code: str


@dataclass(frozen=True)
class Link:
    """A link that leads a rater in; the token is nowhere else.

    Attributes:
        rater: number of the rater.
        slot: place of the assignment.
        token: last part of the address.
    """

    rater: int
    slot: int
    token: str


def hashed(token: str) -> str:
    """What is stored of a link. A token has 192 random bits, so a plain hash cannot be tried through."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


class Store:
    """The raters of a study.

    Args:
        study: whose raters they are.
        database: of that study.
        clock: seconds since 1970; it may stand still or go backwards.
    """

    def __init__(self, study: Study, database: Database, clock: Callable[[], float] = time.time) -> None:
        self.study = study
        self.database = database
        self.clock = clock
        self._pages = {slot: pages_of(study.config, seats, slot) for slot, seats in study.slots.items()}

    def pages(self, slot: int) -> tuple[Page, ...]:
        """The pages of a slot."""
        return self._pages[slot]

    @property
    def paused(self) -> bool:
        """Whether pages are closed for the time being."""
        return bool(self.database.meta("paused"))

    # Coming in -------------------------------------------------------------------------------------------------------

    def visitor(self, token: str) -> Visitor | None:
        """Who a link leads in; None where it was never given or has expired."""
        columns = (*(RATERS.c[name] for name in _VISITOR), LINKS.c.first_page)
        wanted = select(*columns).join(LINKS).where(LINKS.c.hash == hashed(token), LINKS.c.expires > self.clock())
        with self.database.read() as connection:
            row = connection.execute(wanted).mappings().first()
        return _visitor(row) if row else None

    def invite(self, number: int) -> list[Link]:
        """Links for so many free slots, fewer where there are fewer."""
        with self.database.write() as connection:
            _serialise(connection)
            slots = self._free(connection)[:number]
            return [self._enter(connection, slot, None, {}, seen=None) for slot in slots]

    def new_link(self, rater: int, *, first_page: int = 0) -> Link | None:
        """A further link for a rater; None where there is no such rater."""
        with self.database.write() as connection:
            slot = connection.execute(select(RATERS.c.slot).where(RATERS.c.id == rater)).scalar()
            return None if slot is None else self._link(connection, rater, slot, first_page)

    def join(self, panel_id: str | None, parameters: Mapping[str, str], *, own: str = "") -> Link | None:
        """A link for somebody who comes by the open address; None where the study is full.

        Whoever comes with a panel's id that is known goes on with that slot, behind what was answered: an id is no
        secret, so it alone shows no answers. A browser that brings the link it was given earlier gets that one.

        Args:
            panel_id: tells raters apart; None: nobody is known.
            parameters: further ones of the panel.
            own: token that the browser was given earlier.
        """
        with self.database.write() as connection:
            _serialise(connection)
            known = self._known(connection, panel_id, own)
            if known is not None:
                if own and self._leads_to(connection, own, known.id):
                    return Link(known.id, known.slot, own)
                return self._link(connection, known.id, known.slot, known.page)
            slots = self._free(connection) or self._abandoned(connection)
            return self._enter(connection, slots[0], panel_id, parameters, seen=self.clock()) if slots else None

    def _known(self, connection: Connection, panel_id: str | None, own: str) -> Row | None:
        if panel_id is not None:
            return connection.execute(select(RATERS).where(RATERS.c.panel_id == panel_id)).first()
        return (
            connection.execute(select(RATERS).join(LINKS).where(LINKS.c.hash == hashed(own))).first() if own else None
        )

    def _leads_to(self, connection: Connection, token: str, rater: int) -> bool:
        wanted = select(LINKS.c.rater).where(LINKS.c.hash == hashed(token), LINKS.c.expires > self.clock())
        return connection.execute(wanted).scalar() == rater

    def _enter(
        self, connection: Connection, slot: int, panel_id: str | None, panel: Mapping[str, str], seen: float | None
    ) -> Link:
        row = {"slot": slot, "created": self.clock(), "seen": seen, "language": self.study.config.languages[0]}
        row |= {"panel_id": panel_id, "panel": dict(panel), "about": {}}
        result = connection.execute(RATERS.insert().values(row))
        return self._link(connection, _key_of(result), slot, 0)

    def _link(self, connection: Connection, rater: int, slot: int, first_page: int) -> Link:
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        expires = self.clock() + self.study.config.link_days * _DAY
        row = {"hash": hashed(token), "rater": rater, "expires": expires, "first_page": first_page}
        connection.execute(LINKS.insert().values(row))
        return Link(rater, slot, token)

    def _free(self, connection: Connection) -> list[int]:
        """Slots that nobody holds, those that nobody ever held first."""
        held = set(connection.execute(select(RATERS.c.slot).where(RATERS.c.holds)).scalars())
        used = set(connection.execute(select(RATERS.c.slot).distinct()).scalars())
        return sorted(set(self.study.slots) - held, key=lambda slot: (slot in used, slot))

    def _abandoned(self, connection: Connection) -> list[int]:
        """The slot whose holder has been away for longest, taken from the holder; empty where nobody was for long."""
        away = self.clock() - self.study.config.abandoned_minutes * _MINUTE
        wanted = select(RATERS.c.id, RATERS.c.slot).where(
            RATERS.c.holds, RATERS.c.status.in_(OPEN), RATERS.c.seen < away
        )
        row = connection.execute(wanted.order_by(RATERS.c.seen).limit(1)).first()
        if row is None:
            return []
        connection.execute(update(RATERS).where(RATERS.c.id == row.id).values(holds=False, status="dropped"))
        return [row.slot]

    # Answering -------------------------------------------------------------------------------------------------------

    def speak(self, visitor: Visitor, language: Language) -> None:
        """Show this rater's pages in another language from now on."""
        with self.database.write() as connection:
            _set(connection, visitor.rater, language=language)

    def consent(self, visitor: Visitor) -> Visitor:
        """The rater agrees to the text as it stands."""
        values = {"consent": self.study.config.consent.version, "status": "active", "started": self.clock()}
        return self._done(visitor, 0, lambda connection: _set(connection, visitor.rater, **values))

    def decline(self, visitor: Visitor) -> Visitor:
        """The rater does not take part; what a panel said goes, and the slot is free again."""
        with self.database.write() as connection:
            row = _locked(connection, visitor.rater)
            if row.status in OPEN and row.page == 0:
                gone = {"status": "declined", "holds": False, "panel_id": None, "panel": {}}
                _set(connection, visitor.rater, **gone)
            return self._now(connection, visitor)

    def about(self, visitor: Visitor, index: int, answers: Mapping[str, int]) -> Visitor:
        """Place of the option that the rater chose, by question; questions left open are absent."""
        return self._done(visitor, index, lambda connection: _set(connection, visitor.rater, about=dict(answers)))

    def pass_by(self, visitor: Visitor, index: int) -> Visitor:
        """A page that stores nothing was done."""
        return self._done(visitor, index, lambda connection: None)

    def check(self, visitor: Visitor, index: int, right: bool, attempt: int) -> Visitor:
        """The questions about the task were answered.

        Args:
            visitor: the rater.
            index: of the page.
            right: whether all answers were.
            attempt: tries before this one, as the form said; a form that was sent twice counts once.
        """
        if right:
            return self.pass_by(visitor, index)
        with self.database.write() as connection:
            row = _locked(connection, visitor.rater)
            if row.status in OPEN and row.page == index and row.tries == attempt:
                failed = attempt + 1 >= self.study.config.comprehension_tries
                end = {"status": "failed", "holds": False} if failed else {}
                _set(connection, visitor.rater, tries=attempt + 1, seen=self.clock(), **end)
            return self._now(connection, visitor)

    def rate(
        self, visitor: Visitor, index: int, ratings: Mapping[str, int], comment: str, seconds: float | None
    ) -> Visitor:
        """Ratings of the explanation on a page, by construct."""
        seat: Any = self.pages(visitor.slot)[index].seat

        def write(connection: Connection) -> None:
            row = self._visit(visitor, seat, comment, seconds) | {"method": seat.method}
            upsert(connection, VISITS, row, keep=("seconds", "answered"))
            for construct, rating in ratings.items():
                value = {"rater": visitor.rater, "item": seat.item, "construct": construct, "rating": rating}
                upsert(connection, RATINGS, value)

        return self._done(visitor, index, write)

    def prefer(self, visitor: Visitor, index: int, preferred: str, comment: str, seconds: float | None) -> Visitor:
        """The method whose explanation of a pair is the better one."""
        seat = self.pages(visitor.slot)[index].seat
        assert isinstance(seat, PairSeat)
        row = self._visit(visitor, seat, comment, seconds)
        row |= {"first": seat.first, "second": seat.second, "preferred": preferred}
        return self._done(visitor, index, lambda c: upsert(c, PAIRS, row, keep=("seconds", "answered")))

    def foresee(
        self, visitor: Visitor, index: int, predicted: str, correct: bool | None, seconds: float | None
    ) -> Visitor:
        """What the rater takes to be the method's answer. The first word counts: the next page shows the answer."""
        seat: Any = self.pages(visitor.slot)[index].seat
        row = self._visit(visitor, seat, "", seconds) | {"method": seat.method}
        row |= {"predicted": predicted, "correct": correct}
        return self._done(visitor, index, lambda c: upsert(c, SIMULATIONS, row), once=True)

    def attention(self, visitor: Visitor, index: int, given: Mapping[str, int]) -> Visitor:
        """Ratings on a page that asks for a certain one."""
        page = self.pages(visitor.slot)[index]
        row = {"rater": visitor.rater, "number": page.number, "wanted": page.wanted, "given": dict(given)}
        row["passed"] = set(given.values()) == {page.wanted}
        return self._done(visitor, index, lambda connection: upsert(connection, ATTENTION, row))

    def finish(self, visitor: Visitor, index: int, comment: str) -> Visitor:
        """The last page: from here on the rater has a code, and all that was answered is on the disk."""
        code = self.study.config.completion_code or secrets.token_hex(5).upper()
        values = {"comment": comment, "status": "finished", "finished": self.clock(), "code": code}
        return self._done(visitor, index, lambda connection: _set(connection, visitor.rater, **values), once=True)

    def given(self, visitor: Visitor, page: Page) -> dict[str, Any]:
        """What was answered on a page earlier; empty where nothing was."""
        with self.database.read() as connection:
            return _GIVEN[page.kind](connection, visitor.rater, page) if page.kind in _GIVEN else {}

    def _visit(self, visitor: Visitor, seat: Any, comment: str, seconds: float | None) -> dict[str, Any]:
        at = {"rater": visitor.rater, "item": seat.item, "position": seat.position}
        return at | {"seconds": seconds, "comment": comment, "answered": self.clock()}

    def _done(
        self, visitor: Visitor, index: int, write: Callable[[Connection], None], *, once: bool = False
    ) -> Visitor:
        """Store a page's answers, unless the rater may not answer it, and open the next page where it was the newest.

        Args:
            visitor: as the link led in; the rater is read again under a lock.
            index: of the page.
            write: stores the answers.
            once: an answer that is there stays.
        """
        with self.database.write() as connection:
            row = _locked(connection, visitor.rater)
            open_pages = range(visitor.first_page, row.page + 1)
            if row.status in OPEN and index in open_pages and not ((once or index == 0) and index < row.page):
                write(connection)
                _set(connection, visitor.rater, seen=self.clock(), page=max(row.page, index + 1))
            return self._now(connection, visitor)

    def _now(self, connection: Connection, visitor: Visitor) -> Visitor:
        columns = [RATERS.c[name] for name in _VISITOR]
        row = connection.execute(select(*columns).where(RATERS.c.id == visitor.rater)).mappings().one()
        return _visitor({**row, "first_page": visitor.first_page})


_VISITOR = ("id", "slot", "status", "page", "language", "tries", "code")


def _visitor(row: Mapping[Any, Any]) -> Visitor:
    return Visitor(
        row["id"],
        row["slot"],
        row["status"],
        row["page"],
        row["first_page"],
        row["language"],
        row["tries"],
        row["code"],
    )


def _key_of(result: Any) -> int:
    return result.inserted_primary_key[0]


def _serialise(connection: Connection) -> None:
    """Let nobody else give out a slot until this transaction ends; SQLite has one writer anyhow."""
    connection.execute(select(META.c.value).where(META.c.key == "version").with_for_update())


def _locked(connection: Connection, rater: int) -> Row:
    """A rater's row, which no other transaction changes until this one ends.

    Raises:
        LookupError: the rater was forgotten in the meantime.
    """
    row = connection.execute(select(RATERS).where(RATERS.c.id == rater).with_for_update()).first()
    if row is None:
        raise LookupError("there is no such rater any more")
    return row


def _set(connection: Connection, rater: int, **values: Any) -> None:
    connection.execute(update(RATERS).where(RATERS.c.id == rater).values(**values))


def _given_ratings(connection: Connection, rater: int, page: Page) -> dict[str, Any]:
    item = page.seat.item if page.seat else ""
    wanted = select(RATINGS.c.construct, RATINGS.c.rating).where(RATINGS.c.rater == rater, RATINGS.c.item == item)
    given: dict[str, Any] = dict(connection.execute(wanted).all())
    comment = select(VISITS.c.comment).where(VISITS.c.rater == rater, VISITS.c.item == item)
    return given | {"comment": connection.execute(comment).scalar() or ""} if given else {}


def _given_preference(connection: Connection, rater: int, page: Page) -> dict[str, Any]:
    item = page.seat.item if page.seat else ""
    wanted = select(PAIRS.c.preferred, PAIRS.c.comment).where(PAIRS.c.rater == rater, PAIRS.c.item == item)
    row = connection.execute(wanted).mappings().first()
    return dict(row) if row else {}


def _given_attention(connection: Connection, rater: int, page: Page) -> dict[str, Any]:
    wanted = select(ATTENTION.c.given).where(ATTENTION.c.rater == rater, ATTENTION.c.number == page.number)
    return connection.execute(wanted).scalar() or {}


def _given_about(connection: Connection, rater: int, page: Page) -> dict[str, Any]:
    return connection.execute(select(RATERS.c.about).where(RATERS.c.id == rater)).scalar() or {}


def _given_foreseen(connection: Connection, rater: int, page: Page) -> dict[str, Any]:
    item = page.seat.item if page.seat else ""
    wanted = select(SIMULATIONS.c.predicted).where(SIMULATIONS.c.rater == rater, SIMULATIONS.c.item == item)
    predicted = connection.execute(wanted).scalar()
    return {} if predicted is None else {"predicted": predicted}


_GIVEN: Mapping[str, Callable[[Connection, int, Page], dict[str, Any]]] = {
    "item": _given_ratings,
    "pair": _given_preference,
    "attention": _given_attention,
    "about": _given_about,
    "foresee": _given_foreseen,
}


def statuses(connection: Connection) -> dict[str, int]:
    """Status -> number of raters."""
    wanted = select(RATERS.c.status, func.count()).group_by(RATERS.c.status)
    return dict(connection.execute(wanted).all())
