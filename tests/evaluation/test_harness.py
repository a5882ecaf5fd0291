"""lm-eval on a student folder: its figures gathered; the harness itself where it is installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.tiny import llama, tokenizer
from understudy.errors import ConfigError
from understudy.evaluation.harness import TaskFigure, run_tasks, task_figures


def test_figures_are_gathered_with_their_errors() -> None:
    results = {
        "arc": {"alias": "arc", "acc,none": 0.25, "acc_stderr,none": 0.1, "acc_norm,none": 0.5},
        "gsm8k": {"exact_match,strict-match": 0.75, "exact_match_stderr,strict-match": "N/A"},
    }
    assert task_figures(results) == {
        "arc": {"acc": TaskFigure(0.25, 0.1), "acc_norm": TaskFigure(0.5, None)},
        "gsm8k": {"exact_match (strict-match)": TaskFigure(0.75, None)},
    }


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("student")
    tokens = tokenizer(300)
    tokens.save_pretrained(folder)
    llama(len(tokens)).save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("default")
def test_a_task_of_ones_own_runs_on_a_student(student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra `lm-eval`)")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = [{"question": "Which port does GTP-U use?", "choices": ["2152", "80"]}] * 3
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    task = {
        "task": "ports",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": 0,
        "metric_list": [{"metric": "acc"}],
    }
    (tmp_path / "ports.yaml").write_text(json.dumps(task), encoding="utf-8")
    results = run_tasks(student, [str(tmp_path / "ports.yaml")], device="cpu")
    assert results.tasks["ports"]["acc"].value in (0.0, 1.0)
    with pytest.raises(ConfigError, match="no_such_task"):
        run_tasks(student, ["no_such_task"], device="cpu")
