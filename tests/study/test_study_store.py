"""What a study stores: once each, whatever comes twice, at once, late, or with a clock that went backwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, insert, inspect, text
from sqlalchemy.exc import IntegrityError

from support.studies import make_study, postgres, postgres_programs
from understudy.errors import ConfigError, RunError
from understudy.study.administration import Administration
from understudy.study.database import Database, open_database
from understudy.study.export import table
from understudy.study.folder import open_study
from understudy.study.store import Store, Visitor
from understudy.study.tables import MIGRATIONS, RATINGS, upgrade

CONSTRUCTS = ("plausibility", "understandability", "completeness", "satisfaction", "contrastiveness")


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    if postgres_programs() is None:
        pytest.skip("no PostgreSQL on this machine")
    with postgres() as url:
        yield url


ON_BOTH = (
    *("beginning_to_end", "counts_once", "same_moment", "one_panel_id", "many_posts"),
    *("second_study", "older_database", "forgotten", "out_of_range", "declines"),
)
"""Tests of what the two databases do differently; the others are run on PostgreSQL in the slow tier."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "new_database" in metafunc.fixturenames:
        both = any(words in metafunc.function.__name__ for words in ON_BOTH)
        postgres = pytest.param("postgres", marks=() if both else pytest.mark.slow)
        metafunc.parametrize("new_database", ["sqlite", postgres], indirect=True)


@pytest.fixture
def new_database(request: pytest.FixtureRequest) -> Iterator[Callable[[], str | None]]:
    """Gives the URL of a database that nobody has used; None is the file beside the study."""
    if request.param == "sqlite":
        yield lambda: None
        return
    url, made = request.getfixturevalue("postgres_url"), []

    def new() -> str:
        name = f"s{abs(hash(request.node.nodeid)) % 10**9}x{len(made)}"
        engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        made.append(name)
        return url.replace("/postgres?", f"/{name}?")

    yield new


@pytest.fixture
def open_store(tmp_path: Path, new_database: Callable[[], str | None]) -> Iterator[Callable[..., Store]]:
    """Makes a study and opens its database."""
    opened: list[Database] = []

    def new(clock: Clock | None = None, **settings: Any) -> Store:
        study = make_study(tmp_path, **{"attention_checks": 1, "demographics": (), "practice": False, **settings})
        opened.append(open_database(study, new_database()))
        return Store(study, opened[-1], clock or Clock())

    yield new
    for database in opened:
        database.close()


def begin(store: Store, token: str) -> Visitor:
    """Through the consent and the questions about the task."""
    visitor = store.visitor(token)
    assert visitor is not None
    return store.check(store.consent(visitor), 1, True, 0)


def rate(store: Store, visitor: Visitor, rating: int, seconds: float | None = 1.0, comment: str = "") -> Visitor:
    """The next page, whatever it is."""
    page = store.pages(visitor.slot)[visitor.page]
    if page.kind == "attention":
        return store.attention(visitor, visitor.page, dict.fromkeys(CONSTRUCTS, page.wanted))
    if page.kind == "final":
        return store.finish(visitor, visitor.page, comment)
    return store.rate(visitor, visitor.page, dict.fromkeys(CONSTRUCTS, rating), comment, seconds)


def in_threads(work: list[Callable[[], Any]]) -> list[Any]:
    """Results of all, begun as nearly at once as threads can."""
    results: list[Any] = [None] * len(work)
    gate = threading.Barrier(len(work))

    def run(place: int) -> None:
        gate.wait()
        try:
            results[place] = work[place]()
        except Exception as error:
            results[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_a_rater_from_beginning_to_end(open_store) -> None:
    store = open_store(completion_code="DONE1")
    link = store.invite(1)[0]
    visitor = begin(store, link.token)
    while visitor.status == "active":
        assert visitor.code == ""
        visitor = rate(store, visitor, 4)
    assert (visitor.status, visitor.code) == ("finished", "DONE1")
    columns, rows = table(store, "ratings")
    assert columns == ("rater", "item", "method", "construct", "rating", "position", "seconds", "length")
    seats = store.study.slots[link.slot]
    assert [(row["item"], row["method"], row["position"]) for row in rows] == [
        (seat.item, seat.method, seat.position) for seat in seats for _ in CONSTRUCTS
    ]
    assert all(row["length"] == len(store.study.items[row["item"]].methods[row["method"]].text) for row in rows)


def test_what_comes_twice_counts_once_and_the_later_value_counts(open_store) -> None:
    store = open_store()
    visitor = begin(store, store.invite(1)[0].token)
    after = rate(store, visitor, 2, seconds=10.0)
    assert rate(store, visitor, 2, seconds=99.0).page == after.page
    assert store.rate(visitor, visitor.page, dict.fromkeys(CONSTRUCTS, 5), "", 99.0).page == after.page
    rows = table(store, "ratings")[1]
    assert [(row["rating"], row["seconds"]) for row in rows] == [(5, 10.0)] * 5


def test_pages_ahead_and_pages_of_the_finished_take_no_answer(open_store) -> None:
    store = open_store()
    visitor = begin(store, store.invite(1)[0].token)
    items = [index for index, page in enumerate(store.pages(visitor.slot)) if page.kind == "item"]
    assert store.rate(visitor, items[-1], dict.fromkeys(CONSTRUCTS, 1), "", 1.0).page == visitor.page
    assert table(store, "ratings")[1] == []
    last = visitor
    while last.status == "active":
        last = rate(store, last, 3)
    assert store.rate(visitor, items[0], dict.fromkeys(CONSTRUCTS, 1), "", 1.0).status == "finished"
    assert store.finish(visitor, len(store.pages(visitor.slot)) - 1, "").code == last.code
    assert {row["rating"] for row in table(store, "ratings")[1]} == {3}


def test_a_wrong_try_that_was_sent_twice_counts_once_and_two_are_the_end(open_store) -> None:
    store = open_store(raters=1)
    visitor = store.consent(store.visitor(store.invite(1)[0].token))
    first = store.check(visitor, 1, False, 0)
    assert store.check(visitor, 1, False, 0).tries == first.tries == 1
    failed = store.check(first, 1, False, 1)
    assert (failed.status, failed.tries) == ("failed", 2)
    assert store.check(failed, 1, True, 2).status == "failed"
    assert [link.slot for link in store.invite(5)] == [visitor.slot]


def test_raters_who_come_at_the_same_moment_get_places_of_their_own(open_store) -> None:
    store = open_store(raters=8, open_recruitment=True)
    links = in_threads([lambda: store.join(None, {}) for _ in range(10)])
    slots = sorted(link.slot for link in links if link is not None)
    assert slots == list(range(8))
    assert links.count(None) == 2


def test_one_panel_id_is_one_rater_however_often_and_fast_it_comes(open_store) -> None:
    store = open_store(raters=8, open_recruitment=True, panel={})
    links = in_threads([lambda: store.join("p1", {"STUDY_ID": "s"}) for _ in range(8)])
    assert len({(link.rater, link.slot) for link in links}) == 1
    assert len({link.token for link in links}) == 8
    assert len(table(store, "raters")[1]) == 1
    row = table(store, "raters")[1][0]
    assert (row["PROLIFIC_PID"], row["STUDY_ID"], row["SESSION_ID"]) == ("p1", "s", "")


def test_many_posts_of_one_page_at_once_leave_one_row(open_store) -> None:
    store = open_store()
    visitor = begin(store, store.invite(1)[0].token)
    results = in_threads([lambda r=r: rate(store, visitor, r % 5 + 1) for r in range(8)])
    assert {result.page for result in results} == {visitor.page + 1}
    rows = table(store, "ratings")[1]
    assert len(rows) == 5
    assert len({row["rating"] for row in rows}) == 1


def test_a_place_that_was_abandoned_goes_to_somebody_else_and_answers_stay(open_store) -> None:
    clock = Clock()
    store = open_store(clock, raters=1, open_recruitment=True, abandoned_minutes=60)
    gone = store.join(None, {})
    visitor = rate(store, begin(store, gone.token), 4)
    clock.now += 59 * 60
    assert store.join(None, {}) is None
    clock.now += 2 * 60
    new = store.join(None, {})
    assert (new.slot, new.rater != gone.rater) == (gone.slot, True)
    assert store.visitor(gone.token).status == "dropped"
    assert rate(store, visitor, 5).status == "dropped"
    assert [row["rating"] for row in table(store, "ratings")[1]] == [4] * 5


def test_who_declines_leaves_no_panel_id_and_may_come_again(open_store) -> None:
    store = open_store(raters=1, open_recruitment=True, panel={})
    first = store.join("p1", {})
    assert store.decline(store.visitor(first.token)).status == "declined"
    assert table(store, "raters")[1][0]["PROLIFIC_PID"] == ""
    again = store.join("p1", {})
    assert again.rater != first.rater
    assert store.visitor(again.token).status == "invited"


def test_a_clock_that_goes_backwards_loses_nobody(open_store) -> None:
    from understudy.study.web.forms import seconds_between

    clock = Clock()
    store = open_store(clock, raters=2, open_recruitment=True)
    link = store.join(None, {})
    visitor = begin(store, link.token)
    shown, clock.now = clock.now, clock.now - 30 * 86_400
    visitor = rate(store, visitor, 3, seconds=seconds_between(shown, clock.now))
    assert [row["seconds"] for row in table(store, "ratings")[1]] == [None] * 5
    assert store.visitor(link.token).status == "active"
    assert store.join(None, {}).slot != link.slot
    assert store.join(None, {}) is None  # nobody counts as gone
    while visitor.status == "active":
        visitor = rate(store, visitor, 3)
    row = table(store, "raters")[1][0]
    assert row["finished"] < row["started"]


def test_a_link_ends_with_its_days_and_only_its_hash_is_stored(open_store) -> None:
    clock = Clock()
    store = open_store(clock, link_days=10)
    link = store.invite(1)[0]
    assert store.visitor(link.token).rater == link.rater
    assert store.visitor(link.token[:-1]) is None
    clock.now += 10 * 86_400 + 1
    assert store.visitor(link.token) is None
    with store.database.read() as connection:
        stored = str(connection.execute(text("SELECT * FROM links")).all())
    assert link.token not in stored


def test_the_database_itself_refuses_what_is_out_of_range_or_doubled(open_store) -> None:
    store = open_store()
    visitor = rate(store, begin(store, store.invite(1)[0].token), 4)
    item = store.study.slots[visitor.slot][0].item
    for row in ({"construct": "new", "rating": 6}, {"construct": "plausibility", "rating": 4}):
        with pytest.raises(IntegrityError), store.database.write() as connection:
            connection.execute(insert(RATINGS).values(rater=visitor.rater, item=item, **row))


def test_a_second_study_and_a_changed_one_are_refused(tmp_path: Path, new_database) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    study, other = make_study(tmp_path / "a"), make_study(tmp_path / "b")
    url = new_database() or f"sqlite:///{tmp_path / 'one.db'}"
    database = open_database(study, url)
    with pytest.raises(RunError, match="belongs to another study"):
        open_database(other, url)
    path = study.folder / "study.yaml"
    path.write_text(path.read_text().replace("name: completeness", "name: complete"), encoding="utf-8")
    changed = open_study(study.folder)
    open_database(changed, url).close()  # nobody has come yet
    store = Store(changed, database)
    store.consent(store.visitor(store.invite(1)[0].token))
    path.write_text(path.read_text().replace("What makes", "What else makes"), encoding="utf-8")
    open_database(open_study(study.folder), url).close()  # a title may change
    path.write_text(path.read_text().replace("name: complete", "name: completeness"), encoding="utf-8")
    with pytest.raises(RunError, match="changed after the first rater came"):
        open_database(open_study(study.folder), url)
    database.close()


def test_an_older_database_is_brought_up_with_all_that_is_in_it(open_store) -> None:
    store = open_store()
    rate(store, begin(store, store.invite(1)[0].token), 4)
    before = table(store, "ratings")

    def further(connection: Any) -> None:
        connection.execute(text("ALTER TABLE visits ADD COLUMN device TEXT"))

    def broken(connection: Any) -> None:
        connection.execute(text("ALTER TABLE visits ADD COLUMN half TEXT"))
        raise OSError("killed here")

    for _ in range(2):  # the second time there is nothing to do
        with store.database.write() as connection:
            upgrade(connection, (*MIGRATIONS, further))
    with pytest.raises(OSError, match="killed here"), store.database.write() as connection:
        upgrade(connection, (*MIGRATIONS, further, broken))
    with store.database.read() as connection:
        columns = {column["name"] for column in inspect(connection).get_columns("visits")}
    assert ("device" in columns, "half" in columns) == (True, False)
    assert table(store, "ratings") == before
    with pytest.raises(RunError, match="has version 2, and this release knows 1"), store.database.write() as connection:
        upgrade(connection)


def test_tables_of_something_else_are_left_alone(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    engine = create_engine(study.database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE ratings (x INTEGER)"))
    engine.dispose()
    with pytest.raises(RunError, match="has a table ratings of something else"):
        open_database(study)


def test_a_forgotten_rater_is_nowhere_and_a_reason_is_needed_to_exclude(open_store, tmp_path: Path) -> None:
    store = open_store(raters=2, open_recruitment=True, panel={})
    admin = Administration(store)
    link = store.join("panel-id-to-forget", {})
    rate(store, begin(store, link.token), 4, comment="words to forget")
    with pytest.raises(ConfigError, match="needs a reason"):
        admin.exclude(link.rater, " ")
    admin.exclude(link.rater, "a reason to forget")
    assert table(store, "raters")[1][0]["reason"] == "a reason to forget"
    assert {store.join(None, {}).slot for _ in range(2)} == {0, 1}
    assert admin.rater_of(f"https://x.org/r/{link.token}/3") == admin.rater_of("panel-id-to-forget") == link.rater
    admin.forget(link.rater)
    assert [table(store, name)[1] for name in ("ratings", "comments")] == [[], []]
    assert link.rater not in [row["id"] for row in admin.raters()]
    assert store.visitor(link.token) is None
    assert [what for _, what, _ in admin.events()] == ["deleted a rater"]
    if store.database.engine.dialect.name == "sqlite":
        content = b"".join(path.read_bytes() for path in store.study.folder.glob("study.db*"))
        assert b"to forget" not in content
        assert b"panel-id" not in content


def test_progress_counts_cells_and_leaves_the_excluded_out(open_store) -> None:
    store = open_store(raters=4)
    admin = Administration(store)
    visitors = [begin(store, link.token) for link in store.invite(2)]
    for visitor in visitors:
        rate(store, rate(store, visitor, 4), 4)
    progress = admin.progress()
    answered = progress.answered
    assert (answered, progress.planned, progress.slots) == (len(table(store, "ratings")[1]) // 5, 16, 4)
    assert progress.positions.columns == ("1", "2", "3", "4")
    for cells in (progress.positions, progress.items):
        assert sum(there for row in cells.cells for there, _ in row) == answered
        assert sum(planned for row in cells.cells for _, planned in row) == 16
    admin.exclude(visitors[0].rater, "test")
    assert admin.progress().answered == answered - sum(
        row["rater"] == "r0001" and row["construct"] == "satisfaction" for row in table(store, "ratings")[1]
    )
    admin.include(visitors[0].rater)
    assert admin.progress().answered == answered


def test_pairs_and_foreseen_answers(open_store, tmp_path: Path) -> None:
    store = open_store(pairwise=True)
    visitor = begin(store, store.invite(1)[0].token)
    seat = store.study.slots[visitor.slot][0]
    store.prefer(visitor, visitor.page, seat.first, "", 2.0)
    store.prefer(visitor, visitor.page, seat.second, "closer", 9.0)
    assert table(store, "pairs") == (
        ("rater", "item", "first", "second", "preferred", "position", "seconds"),
        [
            {
                "rater": "r0001",
                "item": seat.item,
                "first": seat.first,
                "second": seat.second,
                "preferred": seat.second,
                "position": 0,
                "seconds": 2.0,
            }
        ],
    )
    (tmp_path / "other").mkdir()
    study = make_study(tmp_path / "other", simulation=True, demographics=(), practice=False)
    foreseeing = Store(study, open_database(study))
    visitor = begin(foreseeing, foreseeing.invite(1)[0].token)
    seat = study.slots[visitor.slot][0]
    after = foreseeing.foresee(visitor, visitor.page, "sea", False, 3.0)
    foreseeing.foresee(visitor, visitor.page, "pond", True, 3.0)  # the answer has been seen by now
    assert after.page == visitor.page + 1
    columns, rows = table(foreseeing, "simulation")
    assert columns == ("rater", "item", "method", "predicted", "model_answer", "correct", "position")
    answer = study.items[seat.item].methods[seat.method].answer
    assert rows == [
        {
            "rater": "r0001",
            "item": seat.item,
            "method": seat.method,
            "predicted": "sea",
            "model_answer": answer,
            "correct": False,
            "position": 0,
        }
    ]
    foreseeing.database.close()
