"""`understudy ask` and `understudy serve keys` through the command line, on a run that needs no server."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.house import Outcome
from support.serving import causal_run, span_run
from understudy.cli import main
from understudy.files import read_jsonl
from understudy.run import Run

NAMES = ["student", "teacher", "undistilled"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return causal_run(tmp_path_factory.mktemp("asked"))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["understudy", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        output = capsys.readouterr()
        return Outcome(int(end.value.code or 0), output.out, output.err)

    return call


def test_three_models_side_by_side_and_where_they_part(command: Callable[..., Outcome], run: Run) -> None:
    rows = {arm: run.predictions(arm)[0] for arm in ("distilled", "teacher", "base_student")}
    question = rows["distilled"].question or ""
    outcome = command("ask", str(run.folder), question, "--json")
    assert outcome.code == 0, outcome.err
    shown = json.loads(outcome.out)
    assert [answer["model"] for answer in shown["answers"]] == NAMES
    assert [answer["answer"] for answer in shown["answers"]] == [row.prediction for row in rows.values()]
    place = shown["partings"]["teacher"]
    ours, theirs = ((rows[arm].prediction or "").split() for arm in ("teacher", "distilled"))
    assert ours[: place["word"]] == theirs[: place["word"]]
    assert ours[place["word"]] == place["ours"] != place["theirs"]
    assert all(0 < answer["confidence"] <= 1 and answer["seconds"] > 0 for answer in shown["answers"])
    table = command("ask", str(run.folder), question, "--models", "student,distilled")
    assert table.code == 0, table.err
    assert "parts from" not in table.out
    weighed = command("ask", str(run.folder), question, "--choice", "the AMF", "--choice", "the SMF")
    shares = [re.search(rf"{name} weighs: the AMF (0\.\d+)  the SMF (0\.\d+)", weighed.out) for name in NAMES]
    assert all(share and 0.98 < float(share[1]) + float(share[2]) < 1.02 for share in shares), weighed.out


def test_thumbs_of_the_command_line_and_of_the_prompt(
    command: Callable[..., Outcome], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "thumbs.jsonl"
    base = ("ask", str(run.folder), "--models", "student", "--feedback", str(path))
    assert command(*base, "Who charges?", "--up", "student").code == 0
    assert command(*base, "Who charges?", "--down", "student", "--right", "CHF").code == 0
    lines = iter(["Who charges now?", "-", "- student = the CHF", ""])
    monkeypatch.setattr("builtins.input", lambda prompt="": next(lines))
    assert command(*base).code == 0
    rows = read_jsonl(path)
    assert [row["answers"] for row in rows] == [[rows[1]["rejected"]], ["CHF"], ["the CHF"]]
    assert [row["question"] for row in read_jsonl(tmp_path / "thumbs.unlabelled.jsonl")] == ["Who charges now?"]


def test_what_cannot_be_asked_is_said_in_a_line(command: Callable[..., Outcome], run: Run, tmp_path: Path) -> None:
    for arguments, words in (
        (("--models", "studnet"), "studnet"),
        (("--up", "teacher", "--models", "student"), "teacher"),
        (("--right", "x"), "--down"),
    ):
        outcome = command("ask", str(run.folder), "Who charges?", *arguments)
        assert outcome.code == 1
        assert words in outcome.err
    assert command("ask", str(tmp_path), "?").code == 1
    long = command("ask", str(run.folder), "word " * 500)
    assert long.code == 1
    assert "tokens" in long.err


def test_a_model_that_points_is_asked_with_a_context(command: Callable[..., Outcome], tmp_path: Path) -> None:
    run = span_run(tmp_path)
    row = next(row for row in run.predictions("distilled") if row.prediction != "unanswerable")
    outcome = command("ask", str(run.folder), row.question or "", "--context", row.context or "", "--json")
    assert outcome.code == 0, outcome.err
    answer = json.loads(outcome.out)["answers"][0]
    assert answer["answer"] == row.prediction
    assert (row.context or "")[answer["start"] : answer["end"]] == row.prediction


def test_a_calibration_of_these_weights_makes_confidence_a_probability(tmp_path: Path) -> None:
    from understudy.confidence import Calibration, ProbabilityMap
    from understudy.errors import RunError
    from understudy.files import fingerprint_folder
    from understudy.serve.asking import Panel

    run = causal_run(tmp_path)
    weights = run.stage("train-distilled") / "model"
    flat = {"mean_logp": ProbabilityMap("isotonic", (-9.0, 0.0), (0.25, 0.25), auroc=0.5)}
    facts = {"run": run.recipe.fingerprint(), "student": fingerprint_folder(weights), "arm": "distilled"}
    calibration = Calibration(**facts, right="", measure="mean_logp", early_measure=None, maps=flat)
    calibration.write(run.folder / "calibration")
    with Panel.open(run, ["student", "teacher"]) as panel:
        student, teacher = panel.ask("Who charges?").answers
    assert (student.confidence, student.calibrated, teacher.calibrated) == (0.25, True, False)
    (weights / "generation_config.json").write_text("{}")
    with pytest.raises(RunError, match="another student"), Panel.open(run, ["student"]):
        pass


def test_keys_are_made_listed_and_revoked(command: Callable[..., Outcome], run: Run, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    made = command("serve", "keys", "add", str(run.folder), "alice", "--rpm", "60", "--keys", str(keys))
    secret = made.out.strip()
    assert made.code == 0
    assert secret.startswith("us-")
    assert secret not in keys.read_text()
    listed = command("serve", "keys", "list", str(run.folder), "--keys", str(keys)).out
    assert "alice" in listed
    assert "rpm 60" in listed
    assert command("serve", "keys", "revoke", str(run.folder), "alice", "--keys", str(keys)).code == 0
    assert "revoked" in command("serve", "keys", "list", str(run.folder), "--keys", str(keys)).out
    # All keys are revoked, and somebody wants to serve the world; or to show it what the monitor knows.
    monitor = ("--monitor", str(tmp_path / "monitor.db"), "--monitor-host", "0.0.0.0")
    for host, words in (
        (("--host", "0.0.0.0"), "keys add"),
        (("--keys", str(keys)), "keys add"),
        (monitor, "UNDERSTUDY_MONITOR_TOKEN"),
    ):
        outcome = command("serve", str(run.folder), *host)
        assert outcome.code == 1
        assert words in outcome.err
