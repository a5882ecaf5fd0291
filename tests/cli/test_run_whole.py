"""A whole run through the command line: all that it makes, and what a second call does."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from support.house import House, answers
from understudy.files import read_json, read_jsonl
from understudy.pipeline.kinds import stage_of
from understudy.pipeline.stages.answers import distilled_rows, seqkd_rows
from understudy.pipeline.stages.context import Context
from understudy.records import AnswersNotes, DataNotes, TrainingNotes
from understudy.run import Run

ARMS = ("sft", "seqkd", "kd_gold", "distilled")


@pytest.fixture
def copy(finished: House, tmp_path: Path) -> House:
    """The same under another output folder, free to be damaged."""
    house = House(tmp_path, finished.models)
    house.recipe = {**finished.recipe, "output": str(tmp_path / "runs")}
    shutil.copytree(finished.folder / "runs", tmp_path / "runs")
    return house


def stamps(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


# -- what there is afterwards ----------------------------------------------------------------------------------------


def context_of(run: Run) -> Context:
    return Context(run, run.recipe, lambda *_: None, stage_of("train", "distilled"), run.recipe)


def test_every_stage_is_there_and_done(finished: House) -> None:
    folder = finished.run_folder()
    stages = {path.parent.name for path in folder.glob("stages/*/done.json")}
    arms = {f"{kind}-{arm}" for kind in ("train", "predict") for arm in ARMS}
    others = {"data", "pair", "teacher_sft", "answers", "predict-teacher", "predict-base_student", "report"}
    assert stages == arms | others | {"speed-teacher", "speed-student"}
    assert not list(folder.rglob("*.part"))
    assert not list(folder.rglob("checkpoint-*"))


def test_every_arm_answers_the_same_held_out_rows(finished: House) -> None:
    folder = finished.run_folder()
    test = [row["id"] for row in read_jsonl(folder / "data" / "test.jsonl")]
    given = answers(folder)
    assert set(given) == {f"predict-{arm}" for arm in ("teacher", "base_student", *ARMS)}
    for rows in given.values():
        assert [row[0] for row in rows] == test
    trained = {row["id"] for role in ("train", "unlabelled") for row in read_jsonl(folder / "data" / f"{role}.jsonl")}
    assert not trained & set(test)


def test_scores_and_report_speak_of_every_arm(finished: House) -> None:
    folder = finished.run_folder()
    table = read_json(folder / "scores.json")["overall"]["table"]
    assert set(table) >= {"teacher", "base_student", *ARMS, "majority"}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "the tokenizer has no chat template" in page
    assert "the tokenizer has no pad token" in page
    assert "Every trained student took 6 optimiser steps of 8 rows." in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_the_student_opens_and_carries_its_card(finished: House) -> None:
    folder = finished.run_folder() / "student"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = AutoModelForCausalLM.from_pretrained(folder)
        tokens = AutoTokenizer.from_pretrained(folder)
    prompt = tokens.apply_chat_template(
        [{"role": "user", "content": "Who selects a slice? (0)"}],
        add_generation_prompt=True,
        return_dict=False,
    )
    out = model.generate(torch.tensor([prompt]), max_new_tokens=4, do_sample=False)
    assert out.shape[1] > len(prompt)
    card = (folder / "README.md").read_text(encoding="utf-8")
    for word in ("forward_kl", finished.recipe["teacher"]["model"], "| distilled |", "library_name: transformers"):
        assert word in card
    trained = AutoModelForCausalLM.from_pretrained(finished.run_folder() / "stages" / "train-distilled" / "model")
    for (name, ours), theirs in zip(model.state_dict().items(), trained.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


def test_arms_take_equal_steps_and_seqkd_reads_the_prompts_of_distilled(finished: House) -> None:
    run = Run(finished.run_folder())
    assert {run.notes(f"train-{arm}", TrainingNotes).plan.steps for arm in ARMS} == {6}
    ours, theirs = seqkd_rows(context_of(run)), distilled_rows(context_of(run))
    assert [(row.id, row.question) for row in ours] == [(row.id, row.question) for row in theirs]
    assert run.notes("train-seqkd", TrainingNotes).rows == run.notes("train-distilled", TrainingNotes).rows == len(ours)
    data = run.notes("data", DataNotes).rows
    assert data["unlabelled"] > 0
    assert run.notes("train-sft", TrainingNotes).rows == run.notes("train-kd_gold", TrainingNotes).rows == data["train"]
    assert run.notes("answers", AnswersNotes).asked == data["unlabelled"]
    assert {row.origin for row in theirs} == {"gold", "teacher"}


# -- a second call ---------------------------------------------------------------------------------------------------


def test_running_again_touches_nothing_and_loads_no_torch(finished: House) -> None:
    before = stamps(finished.run_folder())
    done = finished.call("run", str(finished.write_recipe()))
    assert done.returncode == 0, done.stderr
    assert "✓" not in done.stderr
    assert "distilled" in done.stderr
    assert stamps(finished.run_folder()) == before


def test_a_stage_without_its_marker_is_done_again_and_so_is_what_needs_it(copy: House, command) -> None:
    folder = copy.run_folder()
    before, answers_before = stamps(folder), answers(folder)
    (folder / "stages" / "train-distilled" / "done.json").unlink()
    done = command("run", str(copy.write_recipe()))
    assert done.code == 0, done.err
    after = stamps(folder)
    again = {name.split("/")[1] for name in before if after[name] != before[name] and name.startswith("stages/")}
    assert again == {"train-distilled", "predict-distilled", "speed-teacher", "speed-student", "report"}
    assert answers(folder) == answers_before
    for name in ("data/train.jsonl", "recipe.yaml", "environment.json"):
        assert before[name] == after[name]


def test_half_a_redo_does_not_pass_for_a_whole_one(copy: House, command) -> None:
    """The teacher's answers are new, but the process was killed before the arms that learn from them ran again."""
    folder = copy.run_folder()
    before = stamps(folder)
    marker = folder / "stages" / "answers" / "done.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "made": "another"}))
    stale = folder / "stages" / "train-seqkd" / "training" / "checkpoint-4"
    stale.mkdir(parents=True)
    (stale / "complete.json").write_text("{}")
    assert command("run", str(copy.write_recipe())).code == 0
    after = stamps(folder)
    again = {name.split("/")[1] for name in before if after.get(name) != before[name] and name.startswith("stages/")}
    assert again >= {"train-seqkd", "train-distilled", "predict-seqkd", "predict-distilled", "report"}
    assert not again & {"data", "teacher_sft", "train-sft", "train-kd_gold", "predict-teacher", "predict-sft"}


def test_a_changed_source_is_refused(copy: House, command) -> None:
    copy.recipe["data"] = {**copy.recipe["data"]}
    source = Path(copy.recipe["data"]["source"])
    text = source.read_text(encoding="utf-8")
    try:
        source.write_text(text + json.dumps({"question": "New?", "answer": "yes"}) + "\n", encoding="utf-8")
        done = command("run", str(copy.write_recipe()))
    finally:
        source.write_text(text, encoding="utf-8")
    assert done.code == 1
    assert f"error: {source} changed since this run was begun\n" in done.err
    assert "give the run another name" in done.err
    assert command("run", str(copy.write_recipe())).code == 0


def test_a_changed_model_folder_is_refused(copy: House, command) -> None:
    config = copy.models / "teacher" / "config.json"
    text = config.read_text(encoding="utf-8")
    try:
        config.write_text(text + "\n", encoding="utf-8")
        done = command("run", str(copy.write_recipe()))
    finally:
        config.write_text(text, encoding="utf-8")
    assert done.code == 1
    assert "teacher changed since this run was begun" in done.err


# -- other shapes of a run -------------------------------------------------------------------------------------------


def test_without_unlabelled_questions_kd_gold_and_seqkd_are_left_out(house: House, command) -> None:
    house.recipe["data"] = {key: value for key, value in house.recipe["data"].items() if key != "gold_share"}
    house.recipe["teacher"]["sft"] = None
    house.recipe["distil"] = {"epochs": 0.5, "batch_size": 16, "learning_rate": 0.01}
    done = command("run", str(house.write_recipe()))
    assert done.code == 0, done.err
    run = Run(house.run_folder())
    for absent in ("answers", "teacher_sft", "train-kd_gold", "train-seqkd", "predict-seqkd"):
        assert not run.stage(absent).exists(), absent
    assert len({run.notes(f"train-{arm}", TrainingNotes).plan.steps for arm in ("sft", "distilled")}) == 1
    assert {row.origin for row in distilled_rows(context_of(run))} == {"gold"}
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "There were no unlabelled questions" in page
    for sentence in ("SeqKD is left out: with a gold answer", "KD on gold only is left out: with a gold answer"):
        assert sentence in done.err
        assert sentence in page


def test_seqkd_replaces_gold_only_where_the_recipe_says_so(house: House, command) -> None:
    house.recipe["data"] = {key: value for key, value in house.recipe["data"].items() if key != "gold_share"}
    house.recipe["teacher"]["sft"] = None
    house.recipe["evaluate"] |= {"arms": ["seqkd"], "speed": False}
    house.recipe["distil"] = {"steps": 1, "batch_size": 4}
    for keep_gold, origin in ((True, "gold"), (False, "teacher")):
        house.recipe["seqkd"] = {"keep_gold": keep_gold, "keep_unfinished": True}
        house.recipe["output"] = str(house.folder / origin)
        done = command("run", str(house.write_recipe()))
        assert done.code == 0, done.err
        [folder] = (house.folder / origin).iterdir()
        run = Run(folder)
        assert run.stage("answers").exists() == (origin == "teacher")
        assert origin in {row.origin for row in seqkd_rows(context_of(run))}
        if keep_gold:
            gold = [row["answers"] for row in read_jsonl(run.folder / "data" / "train.jsonl")]
            assert [list(row.answers) for row in seqkd_rows(context_of(run))] == gold


def test_one_arm_alone_and_across_vocabularies(house: House, command) -> None:
    house.recipe["student"]["model"] = str(house.models / "other")
    house.recipe["teacher"]["sft"] = None
    house.recipe["evaluate"] |= {"arms": ["distilled"], "rows": 3}
    house.recipe["distil"] |= {"method": "dskd_cma", "steps": 2}
    done = command("run", str(house.write_recipe()))
    assert done.code == 0, done.err
    run = Run(house.run_folder())
    assert {path.name for path in run.folder.glob("stages/train-*")} == {"train-distilled"}
    assert len(read_jsonl(run.stage("predict-distilled") / "predictions.jsonl")) == 3


def test_no_distilled_arm_gives_a_report_and_no_student(house: House, command) -> None:
    house.recipe["teacher"]["sft"] = None
    house.recipe["evaluate"] |= {"arms": ["sft"], "rows": 3}
    done = command("run", str(house.write_recipe()), "distil.steps=1")
    assert done.code == 0, done.err
    run = Run(house.run_folder())
    assert not run.stage("answers").exists()
    assert not (run.folder / "student").exists()
    assert "There were no unlabelled questions" not in (run.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_two_processes_of_a_launcher_make_one_run(house: House) -> None:
    house.recipe["evaluate"] |= {"arms": ["distilled"], "rows": 4}
    done = house.launch("-m", "understudy", "run", str(house.write_recipe()))
    assert done.returncode == 0, done.stderr
    # Each stage was begun and told of once, by the first process.
    assert done.stderr.count("✓ distil ") == 1
    assert Run(house.run_folder()).is_done("report")
