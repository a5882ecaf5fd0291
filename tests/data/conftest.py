"""Where the real data lies, and a skip with a plain reason where it does not."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the folder of real data (../shared/data) is not here")
    return SHARED
