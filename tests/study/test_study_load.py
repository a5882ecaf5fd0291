"""Many raters at once, and a server that is killed under them: no answer is lost, none is there twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.studies import postgres, postgres_programs

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def benchmarks_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def test_a_killed_server_loses_and_doubles_nothing(tmp_path: Path) -> None:
    from study_load import measure

    load = measure(tmp_path, raters=10, pause=(0.0, 0.3), kills=2, per_rater=4)
    assert (load.raters, load.answers, load.lost, load.doubled) == (10, 10 * 4 * 5, 0, 0)
    assert load.kills == 2
    assert load.failed > 0  # somebody was in the middle of it


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_hundred_raters_at_once_wait_for_less_than_a_fifth_of_a_second(database: str, tmp_path: Path) -> None:
    _load(tmp_path, database, kills=0, slowest=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_hundred_raters_and_ten_kills(database: str, tmp_path: Path) -> None:
    _load(tmp_path, database, kills=10, slowest=None)


def _load(folder: Path, database: str, *, kills: int, slowest: float | None) -> None:
    from study_load import measure

    if database == "postgres" and postgres_programs() is None:
        pytest.skip("no PostgreSQL on this machine")
    wanted = {"raters": 100, "pause": (2.0, 5.0), "kills": kills}
    if database == "postgres":
        with postgres(durable=True) as url:
            load = measure(folder, database=url, **wanted)
    else:
        load = measure(folder, **wanted)
    assert (load.raters, load.answers, load.lost, load.doubled) == (100, 100 * 12 * 5, 0, 0)
    assert load.kills == kills
    assert slowest is None or load.p95 < slowest
