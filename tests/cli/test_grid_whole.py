"""A whole grid through the command line: what it makes, what it shares, and what becomes of a cell that fails."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_run_killed import close, until

from support.grids import at_work, copy_of, done, folder_of, make_grid, tables
from support.house import House, environment, training
from understudy.files import read_json, read_jsonl
from understudy.grid import CellStatus, grid_status, grid_table
from understudy.records import TrainingNotes
from understudy.run import Run


def stamps(folder: Path) -> dict[str, int]:
    times = {}
    for top, _, names in os.walk(folder):
        for name in names:
            path = Path(top) / name
            times[str(path.relative_to(folder))] = path.lstat().st_mtime_ns
    return times


def again(before: dict[str, int], after: dict[str, int]) -> set[str]:
    """Kinds of stages whose files are new."""
    new = {name for name in after if before.get(name) != after[name]}
    return {name.split("/")[1].rsplit("-", 1)[0] for name in new if name.startswith("stages/")}


# -- what there is afterwards ----------------------------------------------------------------------------------------


def test_stages_that_cells_share_are_run_once(finished_grid: House) -> None:
    folder = folder_of(finished_grid)
    kinds = [path.name.rsplit("-", 1)[0] for path in (folder / "stages").iterdir()]
    once = ["data", "teacher_sft", "train-sft", "predict-sft", "predict-base_student"]
    twice = ["answers", "predict-teacher"]
    # Whether a pair fits depends on the method, and on whether the teacher has to learn the rows too.
    each = ["pair", "train-distilled", "predict-distilled"]
    assert {kind: kinds.count(kind) for kind in once} == dict.fromkeys(once, 1)
    assert {kind: kinds.count(kind) for kind in twice} == dict.fromkeys(twice, 2)
    assert {kind: kinds.count(kind) for kind in each} == dict.fromkeys(each, 4)
    printed = (finished_grid.folder / "stderr.txt").read_text(encoding="utf-8")
    assert printed.count("✓") == len(kinds) + 4
    assert printed.count("fine-tune the teacher · for 2 cells") == 1
    assert len(list((folder / "cells").iterdir())) == 4


def test_every_cell_is_a_run_folder_that_speaks_for_itself(finished_grid: House, tmp_path: Path) -> None:
    folder = folder_of(finished_grid)
    for cell in (folder / "cells").iterdir():
        run = Run.open(cell)
        assert cell.name == f"grid-{run.recipe.fingerprint()}"
        assert run.is_current("train-distilled", run.record("train-distilled").input_versions or ())
        assert (cell / "stages" / "train-distilled").is_symlink()
        assert not os.path.isabs(os.readlink(cell / "stages" / "train-distilled"))
        table = read_json(cell / "scores.json")["overall"]["table"]
        assert set(table) >= {"teacher", "base_student", "sft", "distilled"}
        assert (cell / "student" / "model.safetensors").is_file()
        whole = tmp_path / cell.name
        shutil.copytree(cell, whole)
        assert not any(path.is_symlink() for path in whole.rglob("*"))
        assert read_jsonl(whole / "data" / "test.jsonl")


def test_a_cell_gives_what_a_run_of_its_own_gives(finished_grid: House, tmp_path: Path, command) -> None:
    folder = folder_of(finished_grid)
    cell = next(path for path in (folder / "cells").iterdir() if "dskd" in (path / "recipe.yaml").read_text())
    alone = command("run", str(cell / "recipe.yaml"), f"output={tmp_path}", "workers=1")
    assert alone.code == 0, alone.err
    [run] = tmp_path.iterdir()
    assert run.name == cell.name
    for arm in ("teacher", "sft", "distilled"):
        ours, theirs = (read_jsonl(at / f"stages/predict-{arm}/predictions.jsonl") for at in (cell, run))
        assert [row["prediction"] for row in ours] == [row["prediction"] for row in theirs]
    ours, theirs = (read_json(at / "scores.json")["overall"]["table"] for at in (cell, run))
    assert ours == theirs


def test_the_table_has_a_row_for_each_arm_of_each_cell(finished_grid: House) -> None:
    folder = folder_of(finished_grid)
    rows = grid_table(folder)
    assert len(rows) == 8 * 5
    assert [row.arm for row in rows[:5]] == ["teacher", "base_student", "sft", "distilled", "majority"]
    cells = [tuple(row.levels.values()) for row in rows[::5]]
    # The order in which the recipe's file has them, which was written with its keys sorted.
    assert list(rows[0].levels) == ["distil.method", "teacher.sft", "twice"]
    assert cells == [(m, sft, name) for m in ("kd", "dskd") for sft in ("false", "true") for name in ("one", "same")]
    for row in rows:
        scores = read_json(row.run / "scores.json")["overall"]["table"][row.arm]
        assert dict(row.metrics) == {name: interval["value"] for name, interval in scores.items()}
        assert row.predictions is None or read_jsonl(row.predictions)
    # What the axes change is learned; students that learned so little may still score alike.
    runs = {row.run for row in rows}
    assert len({(run / "stages/train-distilled/model/model.safetensors").read_bytes() for run in runs}) == 4
    with open(folder / "table.csv", newline="", encoding="utf-8") as handle:
        written = list(csv.DictReader(handle))
    assert [float(row["chrf"]) for row in written] == [row.metrics["chrf"] for row in rows]
    assert written[0].keys() >= {"teacher.sft", "distil.method", "twice", "seed", "arm", "run"}
    assert "seconds" not in (folder / "table.json").read_text()
    assert grid_table(folder, ["distilled"]) == [row for row in rows if row.arm == "distilled"]


def test_status_and_table_are_shown_for_the_recipe_and_for_the_folder(finished_grid: House, tmp_path, command) -> None:
    folder = folder_of(finished_grid)
    for name in (str(folder), str(finished_grid.folder / "grid.yaml")):
        outcome = command("grid", "status", name)
        assert outcome.code == 0, outcome.err
        assert "8 cells: 8 done" in outcome.out
    outcome = command("grid", "table", str(folder), "--arm", "distilled", "--out", str(tmp_path))
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("Distilled") == 8
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 9
    assert tables(folder) != tables(tmp_path)
    for part in ("status", "table"):
        refused = command("grid", part, str(tmp_path))
        assert refused.code == 1
        assert refused.err.startswith(f"error: {tmp_path} is no grid's folder\n")


def test_the_plan_tells_what_is_shared_and_what_is_there_and_runs_nothing(finished_grid: House, tmp_path, command):
    recipe = str(finished_grid.folder / "grid.yaml")
    outcome = command("run", recipe, "--plan")
    assert outcome.code == 0, outcome.err
    assert "8 cells, 4 runs under" in outcome.out
    assert outcome.out.rstrip().endswith("; 0 have to be run")
    # Another seed: what does not depend on it is there already.
    outcome = command(
        "run", recipe, "--plan", "axes.seed=[0, 1]", "axes.distil.method=[kd]", "axes.teacher.sft=[false]"
    )
    lines = {
        line.split(":")[0].strip().rsplit("-", 1)[0]: line for line in outcome.out.splitlines() if " runs, " in line
    }
    assert lines.keys() == {"data", "pair", "answers", "predict-teacher", "predict-base_student"}
    assert all(line.endswith("2 runs, there") for line in lines.values())
    fresh = command("run", recipe, "--plan", f"output={tmp_path / 'runs'}")
    assert fresh.code == 0
    assert not (tmp_path / "runs").exists()
    plain = command("run", "telecom_qa", "--plan")
    assert plain.err.startswith("error: --plan is for a recipe with axes\n")


def test_the_report_of_a_grid_agrees_with_its_table(finished_grid: House, tmp_path: Path, command) -> None:
    folder = folder_of(finished_grid)
    before = stamps(folder)
    outcome = command("grid", "report", str(folder), "--out", str(tmp_path / "page.html"), "--resamples", "200")
    assert outcome.code == 0, outcome.err
    assert "8 cells, 4 runs." in outcome.out
    result = read_json(tmp_path / "page.json")
    rows = {tuple(row.levels.values()): row for row in grid_table(folder, ["distilled"])}
    assert len(result["cells"]) == len(rows) == 8
    for cell in result["cells"]:
        row = rows[tuple(cell["levels"].values())]
        means = {metric: figures["mean"] for metric, figures in cell["metrics"].items()}
        assert means == {metric: value for metric, value in row.metrics.items() if value is not None}
        assert all(figures["low"] is None for figures in cell["metrics"].values())
    # Twelve pairs of cells differ in one axis; two names of one run differ in nothing.
    assert len(result["tests"]) == 12 * len({test["metric"] for test in result["tests"]})
    assert all(test["difference"] == 0 and not test["better"] for test in result["tests"] if test["axis"] == "twice")
    assert any("one and the same run" in note for note in result["notes"])
    for test in result["tests"]:
        levels = [{**test["others"], test["axis"]: test[name]} for name in ("level_a", "level_b")]
        a, b = (rows[tuple(one[axis] for axis in result["axes"])].metrics[test["metric"]] for one in levels)
        assert test["difference"] == pytest.approx(a - b, abs=1e-9)
    assert {*result["not_measured"]} >= {"faithfulness", "bertscore_f1"}
    assert result["findings"] == []
    assert "<h1>grid</h1>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert stamps(folder) == before
    refused = command("grid", "report", str(folder), "--arm", "seqkd")
    assert refused.code == 1
    assert "no finished cell with an arm 'seqkd'" in refused.err


def test_the_report_of_a_grid_has_teacher_and_majority_beside_its_cells(
    finished_grid: House, tmp_path, command
) -> None:
    folder = folder_of(finished_grid)
    outcome = command("grid", "report", str(folder), "--out", str(tmp_path / "page.html"), "--resamples", "200")
    assert outcome.code == 0, outcome.err
    references = read_json(tmp_path / "page.json")["references"]
    assert [(one["arm"], one["levels"]) for one in references] == [
        ("teacher", {"teacher.sft": "false"}),
        ("teacher", {"teacher.sft": "true"}),
        ("base_student", {}),
        ("majority", {}),
    ]
    for one in references:
        for row in grid_table(folder, [one["arm"]]):
            if one["levels"].items() <= row.levels.items():
                assert {name: mean["values"] for name, mean in one["metrics"].items()} == {
                    name: [value] for name, value in row.metrics.items() if value is not None
                }
    with open(tmp_path / "page.csv", newline="", encoding="utf-8") as handle:
        lines = list(csv.DictReader(handle))
    arms = [line["arm"] for line in lines if line["metric"] == "chrf"]
    assert arms == ["distilled"] * 8 + ["teacher"] * 2 + ["base_student", "majority"]
    [majority] = [line for line in lines if (line["arm"], line["metric"]) == ("majority", "chrf")]
    assert float(majority["mean"]) == references[-1]["metrics"]["chrf"]["mean"]
    assert (majority["teacher.sft"], majority["low"]) == ("", "")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Teacher (teacher.sft true)" in page
    again = command("report", str(tmp_path / "page.json"), "--out", str(tmp_path / "again.html"))
    assert again.code == 0, again.err
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page


# -- a second call ---------------------------------------------------------------------------------------------------


def test_running_again_touches_nothing_and_loads_no_torch(finished_grid: House) -> None:
    before = stamps(folder_of(finished_grid))
    text = (
        "import sys\nfrom understudy.cli import main\ntry:\n    main()\nfinally:\n    assert 'torch' not in sys.modules"
    )
    process = subprocess.run(
        [sys.executable, "-c", text, "run", "grid.yaml"],
        cwd=finished_grid.folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert "✓" not in process.stderr
    assert stamps(folder_of(finished_grid)) == before


def test_a_stage_that_is_removed_is_run_again_once_with_all_that_needs_it(finished_grid: House, tmp_path, command):
    house = copy_of(finished_grid, tmp_path)
    folder = folder_of(house)
    before, table = stamps(folder), tables(folder)
    [tuned] = folder.glob("stages/teacher_sft-*")
    shutil.rmtree(tuned)
    outcome = command("run", str(house.folder / "grid.yaml"))
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("fine-tune the teacher") == 1
    redone = again(before, stamps(folder))
    assert redone == {"teacher_sft", "answers", "predict-teacher", "train-distilled", "predict-distilled"}
    # Two of four cells had the teacher tuned.
    assert outcome.err.count("write the report") == outcome.err.count("✓") - outcome.err.count("· for") - 4 == 2
    assert tables(folder) == table
    # A cell's folder holds links: with it goes no stage of the others.
    shutil.rmtree(next((folder / "cells").iterdir()))
    assert command("run", str(house.folder / "grid.yaml")).err.count("✓") == 1
    assert tables(folder) == table


def test_a_changed_source_is_refused(finished_grid: House, tmp_path: Path, command) -> None:
    house = copy_of(finished_grid, tmp_path)
    source = Path(house.recipe["data"]["source"])
    text = source.read_text(encoding="utf-8")
    try:
        source.write_text(text + json.dumps({"question": "New?", "answer": "yes"}) + "\n", encoding="utf-8")
        outcome = command("run", str(house.folder / "grid.yaml"))
    finally:
        source.write_text(text, encoding="utf-8")
    assert outcome.code == 1
    assert f"error: {source} changed since this grid was begun\n" in outcome.err


WILD = {"distil.learning_rate": 100.0, "distil.weight_decay": 1e6}
"""The largest that a recipe may ask for: each step multiplies the weights by some -1e8, so they overflow."""


# -- failures, and a grid at work ------------------------------------------------------------------------------------


def test_a_cell_that_fails_is_written_down_and_the_rest_goes_on(house: House, command) -> None:
    late = house.models / "late"
    vocabularies = {"same": {}, "other": {"student.model": str(house.models / "other")}}
    vocabularies["late"] = {"student.model": str(late)}
    house.recipe |= {"name": "grid", "workers": 2}
    house.recipe["axes"] = {"rate": {"sane": {"distil.learning_rate": 0.01}, "wild": WILD}, "student": vocabularies}
    house.recipe["exclude"] = [{"rate": "wild", "student": ["other", "late"]}]
    house.recipe["teacher"]["sft"] = None
    house.recipe["evaluate"] |= {"arms": ["distilled"], "speed": False, "rows": 4}
    recipe = str(house.write_recipe("grid.yaml"))
    outcome = command("run", recipe)
    assert outcome.code == 1
    assert outcome.err.splitlines()[-2] == "error: 3 of 4 cells failed"
    cells = by_levels(house)
    assert {levels: cell.state for levels, cell in cells.items()} == {
        "sane same": "done",
        "sane other": "failed",
        "sane late": "failed",
        "wild same": "failed",
    }
    assert cells["sane other"].error.startswith("pair: distil.method kd needs one vocabulary")
    assert cells["sane late"].error.startswith("pair: no such model folder")
    assert cells["wild same"].error.startswith("train-distilled: the ")
    assert cells["sane same"].score is not None
    result = command("grid", "status", str(folder_of(house)))
    assert "4 cells: 1 done, 3 failed" in result.out
    assert "student late: pair: no such model folder" in result.out
    assert len(read_json(folder_of(house) / "table.json")["unfinished"]) == 3

    shutil.copytree(house.models / "student", late)
    try:
        outcome = command("run", recipe)
    finally:
        shutil.rmtree(late)
    assert outcome.code == 1
    assert outcome.err.splitlines()[-2] == "error: 2 of 4 cells failed"
    states = {levels: cell.state for levels, cell in by_levels(house).items()}
    assert [levels for levels, state in states.items() if state == "failed"] == ["sane other", "wild same"]
    assert outcome.err.count("read and split the data") == 0


def by_levels(house: House) -> dict[str, CellStatus]:
    return {" ".join(cell.levels.values()): cell for cell in grid_status(folder_of(house))}


def totals(folder: Path) -> list[int]:
    return [how.total for cell in at_work(folder) for how in cell.stages.values()]


def test_a_grid_at_work_is_seen_from_outside_and_ctrl_c_ends_it(house: House, command) -> None:
    make_grid(house)
    house.recipe["axes"] = {"distil.method": ["kd", "dskd"]}
    house.recipe["distil"] = {**training(100_000), "eval_every": 99_999}
    house.write_recipe("grid.yaml")
    folder = folder_of(house)
    process = house.start("run", "grid.yaml")
    try:
        assert until(
            lambda: 100_000 in [how.total for cell in at_work(folder) for how in cell.stages.values()], process
        )
        outcome = command("grid", "status", str(folder))
        assert "running" in outcome.out
        assert "/100000" in outcome.out
        second = command("run", str(house.folder / "grid.yaml"))
        assert f"error: another process is working on {folder}\n" in second.err
    finally:
        os.killpg(process.pid, signal.SIGINT)
        err = close(process)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert at_work(folder) == []
    assert "data" in {name.split("/")[1].rsplit("-", 1)[0] for name in done(folder)}


@pytest.mark.slow
def test_several_processes_of_a_launcher_train_one_stage(house: House, command) -> None:
    make_grid(house)
    house.recipe["axes"] = {"distil.method": ["kd", "dskd"]}
    house.recipe["grid"] = {"processes": 2}
    house.recipe["distil"] |= {"batch_size": 4}
    outcome = command("run", str(house.write_recipe("grid.yaml")))
    assert outcome.code == 0, outcome.err
    rows = grid_table(folder_of(house), ["distilled"])
    assert len(rows) == 2
    # Half of the rows each: an epoch is that of one process with twice the batch.
    assert {Run(row.run).notes("train-distilled", TrainingNotes).plan.steps for row in rows} == {6}
    plain = command("run", str(house.folder / "grid.yaml"), "--plan", "grid.processes=1")
    assert "teacher_sft" in plain.out
    assert next(line for line in plain.out.splitlines() if "teacher_sft" in line).endswith("to be run")
    house.recipe["distil"] |= {name.removeprefix("distil."): value for name, value in WILD.items()}
    failed = command("run", str(house.write_recipe("grid.yaml")))
    assert failed.code == 1
    assert "the loss became" in failed.err or "the gradient became" in failed.err
