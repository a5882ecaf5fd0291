"""Measuring and reporting work on plain files, so neither may wait for torch to load."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["understudy.metrics", "understudy.evaluation.compare", "understudy.report"])
def test_import_brings_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit(bool({{'torch', 'transformers', 'nltk', 'statsmodels', 'sacrebleu', 'openai'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
