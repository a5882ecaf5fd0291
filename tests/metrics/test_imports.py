"""Measuring and reporting work on plain files, so neither may wait for torch to load."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "nltk", "statsmodels", "sacrebleu", "openai"}


@pytest.mark.parametrize("module", ["understudy.metrics", "understudy.evaluation.compare", "understudy.report"])
def test_import_brings_no_torch(module: str) -> None:
    code = f"import sys, {module}; print({HEAVY} & set(sys.modules) or '')"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""
