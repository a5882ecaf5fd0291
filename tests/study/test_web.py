"""What comes in over the wire and should not: forged, reused and expired, out of range, from elsewhere, too much."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.studies import ADMIN_TOKEN, METHODS, Answer, Client, in_thread, make_study
from understudy.study.database import open_database
from understudy.study.export import as_csv, table
from understudy.study.folder import open_study
from understudy.study.store import Store
from understudy.study.web.forms import BadForm, Seal, free_text
from understudy.web.protection import HEADERS, LONGEST_BODY, Limit, RateLimiter

RATES = {f"rate-{name}": "4" for name in ("plausibility", "understandability", "completeness", "satisfaction")}
RATES["rate-contrastiveness"] = "4"


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    study = make_study(tmp_path, attention_checks=0, demographics=(), practice=False, open_recruitment=True)
    database = open_database(study)
    yield Store(study, database, Clock())
    database.close()


@pytest.fixture
def client(store: Store) -> Iterator[Client]:
    with in_thread(store) as url:
        yield Client(url)


def to_item(client: Client, path: str) -> tuple[str, Answer]:
    """Through consent and questions to the first item."""
    client.post(f"{path}/0", {"seal": client.get(f"{path}/0").seal(), "agree": "yes"})
    seal = client.get(f"{path}/1").seal()
    after = client.post(f"{path}/1", {"seal": seal, "attempt": "0", "ask-judged": "1", "ask-scale": "2"})
    assert after.headers["location"] == f"{path}/2"
    return f"{path}/2", client.get(f"{path}/2")


def rater(store: Store) -> str:
    return f"/r/{store.invite(1)[0].token}"


def test_forged_and_expired_links_lead_nowhere_and_guessing_is_slow(client: Client, store: Store) -> None:
    path = rater(store)
    assert client.get(f"{path}/0").status == 200
    for forged in (path[:-1], path + "x", path.upper(), "/r/../admin", "/r/%00", "/r/" + "a" * 300):
        assert client.get(f"{forged}/0").status in (400, 404), forged
    Clock.now += 91 * 86_400
    try:
        expired = client.get(f"{path}/0")
        assert (expired.status, "leads nowhere" in expired.text) == (404, True)
    finally:
        Clock.now -= 91 * 86_400
    statuses = [client.get(f"/r/guess{number}").status for number in range(50)]
    assert set(statuses) == {404, 429}
    assert client.get(f"{path}/0").status == 200  # whoever has a link is not held up by those who guess


def test_forms_of_another_page_rater_or_moment_are_refused(client: Client, store: Store) -> None:
    one, other = rater(store), rater(store)
    page, answer = to_item(client, one)
    foreign, _ = to_item(client, other)
    seal = answer.seal()
    assert client.post(foreign, {"seal": seal, **RATES}).status == 400
    assert client.post(page, RATES).status == 400
    assert client.post(page, {"seal": "", **RATES}).status == 400
    shown, digest = seal.rsplit(".", 1)
    assert client.post(page, {"seal": f"{float(shown) - 60:.3f}.{digest}", **RATES}).status == 400
    assert client.post(f"{one}/3", {"seal": seal, **RATES}).status == 400
    assert client.post(f"{one}/999", {"seal": seal, **RATES}).status == 400
    assert table(store, "ratings")[1] == []
    assert client.post(page, {"seal": seal, **RATES}).status == 303
    assert len(table(store, "ratings")[1]) == 5


@pytest.mark.parametrize("value", ["0", "6", "-1", "3.5", "", "4 OR 1=1", "٣", "1e0", "9" * 400])
def test_a_rating_out_of_range_is_asked_for_again_and_nothing_is_stored(value, client: Client, store: Store) -> None:
    page, answer = to_item(client, rater(store))
    again = client.post(page, {"seal": answer.seal(), **RATES, "rate-satisfaction": value, "comment": "kept <here>"})
    assert again.status == 422
    assert again.text.count('<fieldset class="scale missing">') == 1
    assert again.text.count(" checked") == 4
    assert "kept &lt;here&gt;" in again.text
    assert table(store, "ratings")[1] == []
    assert client.post(page, {"seal": again.seal(), **RATES}).status == 303


def test_free_text_is_stored_as_it_is_and_never_run(client: Client, store: Store) -> None:
    words = "'); DROP TABLE ratings; -- <script>alert(1)</script> {{ 7*7 }} \x00\x1b[31m 你好\n=1+1"
    page, answer = to_item(client, rater(store))
    assert client.post(page, {"seal": answer.seal(), **RATES, "comment": words}).status == 303
    assert len(table(store, "ratings")[1]) == 5
    stored = table(store, "comments")[1][0]["comment"]
    assert stored == "'); DROP TABLE ratings; -- <script>alert(1)</script> {{ 7*7 }} [31m 你好\n=1+1"
    shown = client.get(page).text
    assert "<script>alert" not in shown
    assert html.escape(stored, quote=False).replace("'", "&#39;") in shown


def test_a_cell_that_a_spreadsheet_would_compute_is_a_text() -> None:
    rows = [{"comment": value} for value in ("=cmd|' /C calc'!A0", "+1", "-1", "@x", "plain")]
    assert as_csv(["comment"], [*rows, {"comment": -1}]).splitlines()[1:] == [
        *("'=cmd|' /C calc'!A0", "'+1", "'-1", "'@x", "plain", "-1")
    ]


def test_bodies_that_are_too_long_or_no_form_are_refused(client: Client, store: Store) -> None:
    page, answer = to_item(client, rater(store))
    form = {"seal": answer.seal(), **RATES}
    assert client.post(page, {**form, "comment": "x" * 4001}).status == 400
    assert client.post(page, {**form, "comment": "x" * LONGEST_BODY}).status == 413
    assert client.post(page, b"x=1&" * 200).status == 400
    assert client.post(page, b'{"seal": 1}', Content_Type="application/json").status == 400
    assert client.post(page, b"\xff\xfe%ZZ&&&=").status == 400
    assert client.get(f"{page}?{'x' * 5000}").status == 414
    assert table(store, "ratings")[1] == []
    assert client.post(page, {**form, "comment": "x" * 4000}).status == 303


def test_forms_from_other_sites_and_other_names_of_the_server_are_refused(client: Client, store: Store) -> None:
    page, answer = to_item(client, rater(store))
    form = {"seal": answer.seal(), **RATES}
    for origin in ("https://elsewhere.example", "null", "http://127.0.0.1:1"):
        assert client.post(page, form, Origin=origin).status == 403
    assert client.get("/admin", Host="rebound.example").status == 400
    assert client.post(page, form).status == 303


def test_every_answer_has_the_headers(client: Client, store: Store) -> None:
    for path in (
        "/join",
        "/admin",
        "/nowhere",
        "/r/forged",
        f"{rater(store)}/0",
        "/favicon.ico",
        "/admin/export/x.csv",
    ):
        answer = client.get(path)
        for name, value in HEADERS.items():
            assert answer.headers[name.lower()] == value, path
        assert "server" not in answer.headers
    policy = client.get("/static/style.css").headers
    assert policy["content-security-policy"].startswith("default-src 'none'")
    assert client.get("/static/../app.py").status == 404


def test_nothing_is_open_that_was_not_opened(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    database = open_database(study)
    with in_thread(Store(study, database)) as url:
        client = Client(url)
        assert client.get("/join").status == 404
        assert client.post("/join", {}).status == 404
        for path in ("/docs", "/openapi.json", "/redoc", "/admin/progress", "/admin/export/ratings.csv"):
            assert client.get(path).status in (403, 404), path
    database.close()


def test_pages_ahead_lead_back_to_the_first_that_is_not_done(client: Client, store: Store) -> None:
    path = rater(store)
    for number in (1, 2, 5, 99999, 10**9):
        assert client.get(f"{path}/{number}").headers["location"] == f"{path}/0"
    page, _ = to_item(client, path)
    assert client.get(path).headers["location"] == page


def test_opening_the_open_address_takes_no_place(client: Client, store: Store) -> None:
    for _ in range(20):
        assert client.get("/join").status == 200
    assert table(store, "raters")[1] == []
    first = client.post("/join", {}).headers["location"]
    assert client.post("/join", {}).headers["location"] == first  # the browser's cookie
    client.cookies.clear()
    for _ in range(5):
        assert client.post("/join", {}).status == 303
        client.cookies.clear()
    full = client.post("/join", {})
    assert (full.status, "The study is full" in full.text) == (200, True)
    assert len(table(store, "raters")[1]) == 6


def log_in(client: Client) -> str:
    """Begin a session; gives the token of its forms."""
    assert client.post("/admin/login", {"token": ADMIN_TOKEN}).headers["location"] == "/admin"
    return client.get("/admin").text.split('name="form_token" value="')[1].split('"')[0]


def test_the_admin_page_needs_its_token_and_guessing_it_is_slow(client: Client) -> None:
    assert 'type="password"' in client.get("/admin").text
    for token in ("", "wrong", ADMIN_TOKEN[:-1], "é" * 40):
        assert client.post("/admin/login", {"token": token}).status == 403
    assert client.get("/admin/progress").status == 403
    statuses = [client.post("/admin/login", {"token": str(number)}).status for number in range(20)]
    assert statuses[-1] == 429
    for cookie in ("x", "1.2.3", "99999999999.a." + "0" * 64):
        client.cookies = {"admin": cookie}
        assert client.get("/admin/progress").status == 403


def test_what_is_done_in_the_admin_page_comes_from_its_own_forms(client: Client, store: Store) -> None:
    store.invite(1)
    token = log_in(client)
    exclude = {"rater": "r0001", "reason": "test"}
    assert client.post("/admin/exclude", exclude).status == 403
    assert client.post("/admin/exclude", {**exclude, "form_token": "0" * 64}).status == 403
    assert (
        client.post("/admin/exclude", {**exclude, "form_token": token}, Origin="https://elsewhere.example").status
        == 403
    )
    assert client.post("/admin/exclude", {**exclude, "form_token": token}, Origin="").status == 403
    other = Client(client.url)
    assert other.post("/admin/exclude", {**exclude, "form_token": token}).status == 403
    assert log_in(other) != token
    assert other.post("/admin/exclude", {**exclude, "form_token": token}).status == 403
    assert table(store, "raters")[1][0]["excluded"] is False
    assert client.post("/admin/exclude", {**exclude, "form_token": token}).status == 303
    assert table(store, "raters")[1][0]["excluded"] is True
    unknown = client.post("/admin/forget", {"rater": "nobody", "sure": "yes", "form_token": token})
    assert (unknown.status, "nobody is known by that" in unknown.text) == (400, True)
    unsure = client.post("/admin/forget", {"rater": "r0001", "form_token": token})
    assert (unsure.status, "cannot be undone" in unsure.text) == (400, True)
    assert client.post("/admin/nothing", {"form_token": token}).status == 404


def test_a_rater_without_a_session_sees_no_method_and_nobody_elses_answer(client: Client, store: Store) -> None:
    paths = [rater(store) for _ in range(2)]
    for path in paths:
        page, answer = to_item(client, path)
        client.post(page, {"seal": answer.seal(), **RATES, "comment": f"secret of {path[3:9]}"})
    for path, other in (paths, paths[::-1]):
        for number in range(4):
            text = client.get(f"{path}/{number}").text
            assert f"secret of {other[3:9]}" not in text
            assert not any(f"{name}<" in text for name in METHODS)
    assert f"secret of {paths[0][3:9]}" in client.get(f"{paths[0]}/2").text


def test_a_hostile_panel_id_is_a_text(tmp_path: Path) -> None:
    study = make_study(tmp_path, open_recruitment=True, panel={})
    database = open_database(study)
    store = Store(study, database)
    hostile = "%3Cscript%3Ealert(1)%3C/script%3E'%3B--"
    with in_thread(store) as url:
        client = Client(url)
        door = client.get(f"/join?PROLIFIC_PID={hostile}")
        assert "<script>" not in door.text
        assert client.post(f"/join?PROLIFIC_PID={hostile}", {}).status == 303
        for absent in ("", "%00", "x" * 201):
            assert client.post(f"/join?PROLIFIC_PID={absent}", {}).status == 400
        log_in(client)
        assert "<script>alert" not in client.get("/admin").text
    assert [row["PROLIFIC_PID"] for row in table(store, "raters")[1]] == ["<script>alert(1)</script>';--"]
    database.close()


def test_the_way_back_to_the_panel_has_the_code_in_its_address(tmp_path: Path) -> None:
    settings = {"completion_code": "A&B C", "completion_url": "https://panel.example/done?cc={code}"}
    study = make_study(tmp_path, per_rater=1, attention_checks=0, demographics=(), practice=False, **settings)
    database = open_database(study)
    store = Store(study, database)
    with in_thread(store) as url:
        client, path = Client(url), rater(store)
        page, answer = to_item(client, path)
        client.post(page, {"seal": answer.seal(), **RATES})
        assert "panel.example" not in client.get(f"{path}/3").text
        client.post(f"{path}/3", {"seal": client.get(f"{path}/3").seal()})
        end = client.get(path + "/3").text
        assert 'href="https://panel.example/done?cc=A%26B%20C"' in end
        assert ">A&amp;B C<" in end
        # The same link again, and a form that comes late: the end stays the end.
        late = client.post(page, {"seal": answer.seal(), **RATES, "rate-satisfaction": "1"})
        assert client.get(late.headers["location"]).text == end
    assert {row["rating"] for row in table(store, "ratings")[1]} == {4}
    database.close()


def test_a_language_that_was_taken_out_gives_way_to_the_first(store: Store, client: Client, tmp_path: Path) -> None:
    path = rater(store)
    assert client.get(f"{path}/0?language=zh").status == 303
    assert '<html lang="zh">' in client.get(f"{path}/0").text
    config = store.study.folder / "study.yaml"
    config.write_text(config.read_text().replace("languages:\n- en\n- zh\n", "languages:\n- en\n"), encoding="utf-8")
    changed = open_study(store.study.folder)
    assert changed.config.languages == ("en",)
    database = open_database(changed)
    with in_thread(Store(changed, database, Clock())) as url:
        assert '<html lang="en">' in Client(url).get(f"{path}/0").text
    database.close()


def test_buckets_are_bounded_and_fill_up_again() -> None:
    now = [0.0]
    limiter = RateLimiter(Limit(per_second=2, burst=3), most=100, clock=lambda: now[0])
    assert [limiter.allows("a") for _ in range(5)] == [True, True, True, False, False]
    now[0] = 1.0
    assert [limiter.allows("a") for _ in range(3)] == [True, True, False]
    for number in range(1000):
        limiter.allows(str(number))
    assert len(limiter) == 100


def test_a_seal_is_bound_to_study_rater_page_and_moment() -> None:
    seal = Seal("secret")
    token = seal.of(3, 7, 12.5)
    assert seal.shown(token, 3, 7) == 12.5
    changed: list[tuple[Any, ...]] = [(Seal("other"), token, 3, 7), (seal, token, 4, 7), (seal, token, 3, 8)]
    changed += [
        (seal, token.replace("12.5", "99.5"), 3, 7),
        (seal, "nan." + token.split(".")[-1], 3, 7),
        (seal, "é", 3, 7),
    ]
    for which, text, number, page in changed:
        with pytest.raises(BadForm):
            which.shown(text, number, page)


def test_text_without_control_characters() -> None:
    assert free_text({"comment": " a\r\nb\x07\x1b[0m\u202e\ud800 c "}, "comment") == "a\nb[0m c"
