"""`understudy calibrate` on the quickstart's pair: what it writes, against the answers' own texts scored anew."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from understudy.api import perform
from understudy.cli import app
from understudy.confidence import read_calibration
from understudy.data.load import load_splits
from understudy.deployment.answers import Answered, Answerer
from understudy.deployment.calibrate import CalibrateOptions, CalibrationReport, calibrate
from understudy.errors import ConfigError, DataError
from understudy.files import fingerprint_folder, read_json, read_jsonl
from understudy.metrics import score
from understudy.models.load import resolve
from understudy.recipe import DataConfig, parse_recipe
from understudy.report.calibration_page import render_calibration, summary
from understudy.run import Run

METRICS = ("exact_match", "token_f1")
OPTIONS = CalibrateOptions(metric="token_f1", right_at=0.3, batch_size=32)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """The embedded teacher and student as they came, on some of the telecom rows; nothing is trained."""
    folder = tmp_path_factory.mktemp("calibrate")
    rows = load_splits(DataConfig(source="embedded:telecom", max_length=256, max_answer_tokens=24)).train[:150]
    lines = [json.dumps({"id": row.id, "question": row.question, "answer": row.answers[0]}) for row in rows]
    (folder / "qa.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    recipe = parse_recipe(
        {
            "name": "pair",
            "data": {
                "source": str(folder / "qa.jsonl"),
                "dev": 0.4,
                "test": 0.4,
                "max_length": 256,
                "max_answer_tokens": 12,
            },
            "teacher": {"model": "embedded:telecom-teacher"},
            "student": {"model": "embedded:telecom-student"},
            "evaluate": {"metrics": list(METRICS), "arms": ["distilled"], "resamples": 200},
            "output": str(folder / "runs"),
            "device": "cpu",
        }
    )
    return perform(recipe, until="pair", quiet=True)


@pytest.fixture(scope="module")
def report(run: Run) -> CalibrationReport:
    return calibrate(run, OPTIONS)


def answers(run: Run, who: str, split: str) -> list[Answered]:
    folder = run.folder / "calibration" / "answers" / f"{who}-{split}"
    return [Answered.from_json(row) for path in sorted(folder.glob("*.jsonl")) for row in read_jsonl(path)]


def test_the_curve_is_that_of_brute_force(run: Run, report: CalibrationReport) -> None:
    calibration = read_calibration(
        run.folder / "calibration",
        run=run.recipe.fingerprint(),
        student=fingerprint_folder(resolve("embedded:telecom-student")),
    )
    ours, theirs = answers(run, "base_student", "test"), answers(run, "teacher", "test")
    assert len(report.points) > 3
    for point in report.points:
        asked = [calibration.probability(row.confidence) < point.threshold for row in ours]
        texts = [(b if ask else a).prediction for a, b, ask in zip(ours, theirs, asked, strict=True)]
        mixed = score([row.prediction or "" for row in texts], [list(row.references) for row in texts], metrics=METRICS)
        assert point.asked == pytest.approx(sum(asked) / len(asked))
        for name in METRICS:
            assert point.quality[name].value == pytest.approx(mixed[name].value)
    assert report.chosen in report.points
    assert report.chosen.threshold == calibration.threshold


def test_what_is_right_is_what_the_metric_says(run: Run, report: CalibrationReport) -> None:
    rows = [row.prediction for row in answers(run, "base_student", "test")]
    values = score([row.prediction or "" for row in rows], [list(row.references) for row in rows], metrics=METRICS)
    right = [value >= 0.3 for value in values["token_f1"].per_example]
    assert report.reliability.right == pytest.approx(sum(right) / len(right))
    assert report.reliability.n == len(rows)
    ece = report.reliability.ece["mass"]
    assert 0 <= ece.low <= ece.value <= ece.high


def test_the_threshold_was_chosen_on_the_development_rows(run: Run, report: CalibrationReport) -> None:
    """Within a point of the teacher there, and no smaller threshold is."""
    ours, theirs = answers(run, "base_student", "dev"), answers(run, "teacher", "dev")
    calibration = report.calibration
    p = [calibration.probability(row.confidence) for row in ours]

    def points(threshold: float) -> float:
        texts = [(b if q < threshold else a).prediction for a, b, q in zip(ours, theirs, p, strict=True)]
        result = score([t.prediction or "" for t in texts], [list(t.references) for t in texts], metrics=METRICS)
        return 100 * result["token_f1"].value

    assert points(calibration.threshold) >= points(2.0) - 1 - 1e-6
    assert all(points(step) < points(2.0) - 1 for step in {0.0, *p} if step < calibration.threshold)


def test_a_second_call_answers_nothing_again_and_says_the_same(run: Run, report: CalibrationReport) -> None:
    pieces = sorted((run.folder / "calibration" / "answers").rglob("*.jsonl"))
    before = [path.stat().st_mtime_ns for path in pieces]
    again = calibrate(run, OPTIONS)
    assert [path.stat().st_mtime_ns for path in pieces] == before
    assert again == report
    assert (
        CalibrationReport.from_json(read_json(run.folder / "calibration" / "report.json")).to_json() == report.to_json()
    )


def test_a_piece_that_is_missing_is_answered_alone(run: Run, report: CalibrationReport) -> None:
    folder = run.folder / "calibration" / "answers" / "base_student-dev"
    lost = sorted(folder.glob("*.jsonl"))[-1]
    lost.unlink()
    said: list[tuple[int, int]] = []
    Answerer(run, run.recipe, "base_student", 32, lambda done, total, note: said.append((done, total))).answers("dev")
    assert lost.is_file()
    assert len(said) == 1
    assert said[0][0] == said[0][1]


def test_the_page_escapes_names_and_shows_every_threshold(run: Run, report: CalibrationReport, tmp_path: Path) -> None:
    document = replace(report, name="<script>x</script>").to_json()
    render_calibration(document, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert page.count("<tr") >= len(report.points)
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert summary(document)[-1].startswith("The threshold is the one of least cost")


def test_what_cannot_be_calibrated_is_one_line(run: Run) -> None:
    with pytest.raises(ConfigError, match="no student 'distilled'"):
        calibrate(run, replace(OPTIONS, arm="distilled"))
    with pytest.raises(DataError, match="nothing can be calibrated"):
        calibrate(run, replace(OPTIONS, right_at=0.0))
    for arguments, words in (
        (["--map", "linear"], "no map 'linear'"),
        (["--teacher-prices", "cheap"], "no pair of prices"),
        (["--within", "2", "--max-asked", "0.5"], "one rule"),
    ):
        outcome = CliRunner().invoke(app, ["calibrate", str(run.folder), *arguments])
        assert isinstance(outcome.exception, ConfigError)
        assert words in outcome.exception.message
