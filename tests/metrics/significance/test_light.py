"""The libraries of statistics cost a second to import; whoever only scores texts does not pay it."""

from __future__ import annotations

import subprocess
import sys


def test_import_brings_no_library_of_statistics() -> None:
    code = "import sys, understudy.metrics; sys.exit(bool({'scipy', 'statsmodels', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
