"""A divergence, a metric and a data layout of a user's own, through the real command line to a report."""

from __future__ import annotations

import json

import pytest

from support.extension import EXTENSION, WIDER
from support.house import House
from understudy.files import read_json, read_jsonl


def test_an_extension_runs_to_a_report_with_two_workers(house: House) -> None:
    (house.folder / "mine.py").write_text(EXTENSION, encoding="utf-8")
    rows = [{"ask": row["question"], "tell": row["answer"]} for row in read_jsonl(house.folder / "qa.jsonl")]
    (house.folder / "qa.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    house.recipe |= {"extensions": ["mine.py"], "workers": 2}
    house.recipe["distil"] |= {"divergence": "squared", "divergence_parameters": {"power": 1.0}}
    house.recipe["evaluate"] |= {"arms": ["distilled"], "metrics": ["brevity", "token_f1"], "speed": False}
    house.recipe["teacher"].pop("sft")
    folder = house.run()
    assert read_json(folder / "data" / "notes.json")["sources"][0]["format"] == "ask_tell"
    answers = [row["prediction"] for row in read_jsonl(folder / "stages/predict-distilled/predictions.jsonl")]
    short = sum(len(text.split()) <= 3 for text in answers) / len(answers)
    assert read_json(folder / "scores.json")["overall"]["table"]["distilled"]["brevity"]["value"] == short
    assert "brevity" in (folder / "report.html").read_text(encoding="utf-8")
    assert (folder / "extensions" / "mine.py").read_text(encoding="utf-8") == EXTENSION
    # The run can be looked at without the file.
    (house.folder / "mine.py").unlink()
    done = house.call("evaluate", str(folder), "--metrics", "brevity")
    assert done.returncode == 0, done.stderr
    assert "brevity" in done.stdout


# Processes of a launcher, each of which loads torch anew, have to know it too.
@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_cells_of_a_grid_know_it_too(house: House, processes: int) -> None:
    (house.folder / "mine.py").write_text(EXTENSION, encoding="utf-8")
    house.recipe |= {"name": "grid", "extensions": ["mine.py"], "axes": {"distil.divergence": ["squared", "js"]}}
    house.recipe["grid"] = {"processes": processes}
    house.recipe["teacher"].pop("sft")
    house.recipe["evaluate"] |= {"arms": ["distilled"], "metrics": ["brevity"], "speed": False}
    house.write_recipe("grid.yaml")
    done = house.call("run", "grid.yaml")
    assert done.returncode == 0, done.stderr
    [header, *cells] = (house.folder / "runs" / "grid" / "table.csv").read_text(encoding="utf-8").splitlines()
    assert "brevity" in header
    assert {line.split(",")[0] for line in cells} == {"squared", "js"}
    (house.folder / "mine.py").write_text(EXTENSION.replace("<= 3", "<= 4"), encoding="utf-8")
    changed = house.call("run", "grid.yaml")
    assert "error: mine.py changed since this grid was begun\n" in changed.stderr


def test_a_method_an_arm_and_a_stage_of_ones_own_run_to_a_report(house: House) -> None:
    (house.folder / "wider.py").write_text(WIDER, encoding="utf-8")
    house.recipe |= {"extensions": ["wider.py"], "workers": 2}
    house.recipe["distil"] |= {"method": "halved", "share": 0.25}
    house.recipe["evaluate"] |= {"arms": ["sft", "parrot", "distilled"], "speed": False}
    house.recipe["teacher"].pop("sft")
    folder = house.run()
    scores = read_json(folder / "scores.json")
    assert {"parrot", "distilled", "sft"} <= scores["overall"]["table"].keys()
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "parrot" in page
    answers = read_jsonl(folder / "stages/predict-parrot/predictions.jsonl")
    words = sum(len(row["prediction"].split()) for row in answers)
    assert read_json(folder / "stages/count/words.json") == words
    assert "count: words" in page
    # The arm learned the teacher's own answers, so it is not SFT-only by another name.
    sft = read_jsonl(folder / "stages/predict-sft/predictions.jsonl")
    weights = [(folder / f"stages/train-{arm}/model/model.safetensors").read_bytes() for arm in ("sft", "parrot")]
    assert weights[0] != weights[1]
    assert [row["id"] for row in answers] == [row["id"] for row in sft]


def test_arms_of_a_recipe_are_one_run_with_one_report(house: House, command) -> None:
    house.recipe |= {
        "arms": {"reverse": {"distil.divergence": "reverse_kl"}, "brief": {"like": "seqkd", "distil.steps": 3}}
    }
    house.recipe["evaluate"] |= {"arms": ["sft", "seqkd", "distilled", "reverse", "brief"], "speed": False}
    done = command("run", str(house.write_recipe()))
    assert done.code == 0, done.err
    folder = house.run_folder()
    weights = {
        arm: (folder / f"stages/train-{arm}/model/model.safetensors").read_bytes()
        for arm in ("sft", "distilled", "reverse")
    }
    assert len(set(weights.values())) == 3
    scores = read_json(folder / "scores.json")
    assert {"reverse", "brief"} < scores["overall"]["table"].keys()
    # Each is compared with the arm it is like.
    pairs = {(test["a"], test["b"]) for test in scores["comparison"]["tests"]}
    assert {("reverse", "distilled"), ("brief", "seqkd")} < pairs
    assert ("brief", "distilled") not in pairs
    assert "reverse" in (folder / "report.html").read_text(encoding="utf-8")
    # Trained by itself as the main arm of another recipe, it is the same student.
    house.recipe["name"] = "alone"
    house.recipe["arms"] = {}
    house.recipe["distil"] |= {"divergence": "reverse_kl"}
    house.recipe["evaluate"] |= {"arms": ["distilled"]}
    done = command("run", str(house.write_recipe()))
    assert done.code == 0, done.err
    [alone] = (house.folder / "runs").glob("alone-*")
    assert (alone / "stages/train-distilled/model/model.safetensors").read_bytes() == weights["reverse"]
