"""What whoever runs a study does to it: pause, exclude, delete; and how far it is, cell by cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from understudy.errors import ConfigError
from understudy.study.assignment import PairSeat
from understudy.study.database import note_event
from understudy.study.store import Store, hashed, statuses
from understudy.study.tables import EVENTS, LINKS, META, OF_RATER, PAIRS, RATERS, VISITS


@dataclass(frozen=True)
class Cells:
    """How many ratings there are and how many were planned, by one or two of method, item and position.

    Attributes:
        rows: names of the rows.
        columns: names of the columns.
        cells: row by row, (answered by raters who count, planned).
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[tuple[int, int], ...], ...]


@dataclass(frozen=True)
class Progress:
    """How far a study is.

    Attributes:
        statuses: status -> number of raters.
        excluded: raters that are left out.
        slots: places planned.
        answered: pages with items answered by raters who count.
        planned: pages with items planned.
        positions: method by position.
        items: method by item.
        paused: whether pages are closed.
    """

    statuses: Mapping[str, int]
    excluded: int
    slots: int
    answered: int
    planned: int
    positions: Cells
    items: Cells
    paused: bool


class Administration:
    """The study as whoever runs it sees it.

    Args:
        store: of the study.
    """

    def __init__(self, store: Store) -> None:
        self.store, self.study, self.database = store, store.study, store.database

    def pause(self, paused: bool) -> None:
        """Close the pages, or open them; an answer that is on its way is stored all the same."""
        with self.database.write() as connection:
            connection.execute(update(META).where(META.c.key == "paused").values(value="yes" if paused else ""))
            note_event(connection, self.store.clock(), "paused" if paused else "resumed")

    def exclude(self, rater: int, reason: str) -> None:
        """Leave a rater out of the analysis, and give the place to somebody else; what was answered stays.

        Raises:
            ConfigError: there is no such rater, or no reason.
        """
        if not reason.strip():
            raise ConfigError("an exclusion needs a reason")
        values = {"excluded": True, "reason": reason.strip(), "holds": False}
        self._on(rater, f"excluded {named(rater)}", reason.strip(), lambda row: values)

    def include(self, rater: int) -> None:
        """Take an exclusion back; the place is the rater's again if nobody else has got it.

        Raises:
            ConfigError: there is no such rater.
        """
        self._on(rater, f"included {named(rater)}", "", lambda row: {"excluded": False, "reason": "", "holds": False})
        with self.database.write() as connection:
            slot = connection.execute(select(RATERS.c.slot).where(RATERS.c.id == rater)).scalar()
            taken = connection.execute(select(RATERS.c.id).where(RATERS.c.slot == slot, RATERS.c.holds)).first()
            here = RATERS.c.status.in_(("invited", "active", "finished"))
            if taken is None:
                connection.execute(update(RATERS).where(RATERS.c.id == rater, here).values(holds=True))

    def _on(self, rater: int, what: str, detail: str, values: Callable[[Any], dict[str, Any]]) -> None:
        with self.database.write() as connection:
            row = connection.execute(select(RATERS).where(RATERS.c.id == rater).with_for_update()).first()
            if row is None:
                raise ConfigError(f"there is no rater {named(rater)}", hint="the admin page lists them")
            connection.execute(update(RATERS).where(RATERS.c.id == rater).values(values(row)))
            note_event(connection, self.store.clock(), what, detail)

    def forget(self, rater: int) -> int:
        """Delete all that is stored of one person, also who it was; the place is free again.

        Returns:
            Number of rows that went.

        Raises:
            ConfigError: there is no such rater.
        """
        with self.database.write() as connection:
            gone = [connection.execute(delete(table).where(table.c.rater == rater)).rowcount for table in OF_RATER]
            if not connection.execute(delete(RATERS).where(RATERS.c.id == rater)).rowcount:
                raise ConfigError(f"there is no rater {named(rater)}", hint="the admin page lists them")
            # Notes on a rater name no person, but what was noted of this one goes too.
            connection.execute(delete(EVENTS).where(EVENTS.c.what.like(f"% {named(rater)}")))
            note_event(connection, self.store.clock(), "deleted a rater")
        self._clean()
        return sum(gone) + 1

    def _clean(self) -> None:
        """Have SQLite's log, in which deleted rows would stand on, written into the file and cut to nothing."""
        if self.database.engine.dialect.name == "sqlite":
            with self.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def rater_of(self, who: str) -> int:
        """The number of a rater: by number (`r0007` or 7), by link, by its last part, or by the panel's id.

        Raises:
            ConfigError: nobody is known by that.
        """
        text = who.strip()
        digits = text.removeprefix("r")
        token = text.split("/r/")[-1].split("/")[0]
        with self.database.read() as connection:
            found = connection.execute(select(LINKS.c.rater).where(LINKS.c.hash == hashed(token))).scalar()
            found = found or connection.execute(select(RATERS.c.id).where(RATERS.c.panel_id == text)).scalar()
            if found is None and digits.isascii() and digits.isdigit() and len(digits) < 10:
                found = connection.execute(select(RATERS.c.id).where(RATERS.c.id == int(digits))).scalar()
        if found is None:
            raise ConfigError("nobody is known by that", hint="give a rater's number, link or panel id")
        return found

    def events(self) -> list[tuple[float, str, str]]:
        """What was done to the study, the latest first: when, what, detail."""
        wanted = select(EVENTS.c.at, EVENTS.c.what, EVENTS.c.detail).order_by(EVENTS.c.id.desc()).limit(50)
        with self.database.read() as connection:
            return [(at, what, detail) for at, what, detail in connection.execute(wanted)]

    def raters(self) -> list[dict[str, Any]]:
        """All raters, in the order in which they came, with the number of items that each has answered."""
        table = PAIRS if self.study.config.pairwise else VISITS
        count = select(func.count()).where(table.c.rater == RATERS.c.id).scalar_subquery()
        with self.database.read() as connection:
            rows = connection.execute(select(RATERS, count.label("answered")).order_by(RATERS.c.id)).mappings()
            return [{**row, "name": named(row["id"])} for row in rows]

    def progress(self) -> Progress:
        """How far the study is; a rater counts unless excluded."""
        with self.database.read() as connection:
            seats, known = self._answered(connection), statuses(connection)
            excluded = connection.execute(select(func.count()).select_from(RATERS).where(RATERS.c.excluded)).scalar()
        planned = [_seat_key(seat) for seats in self.study.slots.values() for seat in seats]
        return Progress(
            known,
            excluded or 0,
            len(self.study.slots),
            len(seats),
            len(planned),
            _cells(seats, planned, lambda key: (key[0], str(key[2] + 1))),
            _cells(seats, planned, lambda key: (key[1], key[0])),
            self.store.paused,
        )

    def _answered(self, connection: Connection) -> list[tuple[str, str, int]]:
        """(method or pair of methods, item, position) of each page that was answered by a rater who counts."""
        table = PAIRS if self.study.config.pairwise else VISITS
        wanted = select(table).join(RATERS).where(~RATERS.c.excluded)
        return [_row_key(row) for row in connection.execute(wanted).mappings()]


def named(rater: int) -> str:
    """A rater's name in tables."""
    return f"r{rater:04d}"


def _seat_key(seat: Any) -> tuple[str, str, int]:
    method = _pair(seat.first, seat.second) if isinstance(seat, PairSeat) else seat.method
    return method, seat.item, seat.position


def _row_key(row: Mapping[Any, Any]) -> tuple[str, str, int]:
    method = _pair(row["first"], row["second"]) if "first" in row else row["method"]
    return method, row["item"], row["position"]


def _pair(first: str, second: str) -> str:
    return " – ".join(sorted((first, second)))


def _cells(
    answered: Sequence[tuple[str, str, int]],
    planned: Sequence[tuple[str, str, int]],
    place: Callable[[tuple[str, str, int]], tuple[str, str]],
) -> Cells:
    """Counts by row and column."""
    there, wanted = Counter(map(place, answered)), Counter(map(place, planned))
    rows = tuple(dict.fromkeys(row for row, _ in sorted(wanted, key=_natural)))
    columns = tuple(dict.fromkeys(column for _, column in sorted(wanted, key=lambda key: _natural((key[1], key[0])))))
    cells = tuple(tuple((there[row, column], wanted[row, column]) for column in columns) for row in rows)
    return Cells(rows, columns, cells)


def _natural(key: tuple[str, str]) -> tuple[tuple[int, int, str], ...]:
    """Numbers by their size, before texts."""
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in key)
