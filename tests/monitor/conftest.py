"""What tests of the monitor share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.studies import postgres, postgres_programs


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(tmp_path / "monitor.db")
        return
    if postgres_programs() is None:
        pytest.skip("no PostgreSQL on this machine")
    with postgres() as url:
        yield url
