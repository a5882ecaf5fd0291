"""Students cut from their teacher, by the real command line."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from transformers import AutoModelForCausalLM

from support.house import House, Outcome
from understudy.records import CutNotes
from understudy.run import Run

Command = Callable[..., Outcome]


def weights(folder: object) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()


def test_a_student_is_cut_from_the_trained_teacher_and_every_arm_starts_there(house: House, command: Command) -> None:
    house.recipe["student"] = {"from_teacher": {"layers": 1, "mlp": 32, "by": "loss", "rows": 8}}
    house.recipe["evaluate"] |= {"arms": ["sft", "distilled"], "rows": 6, "speed": False}
    outcome = command("run", str(house.write_recipe()))
    assert outcome.code == 0, outcome.err
    run = Run.open(house.run_folder())
    teacher = weights(run.folder / "stages" / "teacher_sft" / "model")
    student = weights(run.folder / "stages" / "student_cut" / "model")
    notes = run.notes("student_cut", CutNotes)
    [block] = notes.blocks["model.layers"]
    assert notes.shape == {"mlp": 32}
    assert notes.num_parameters < notes.teacher_parameters
    # The fine-tuned teacher's own weights, not those it came with.
    expected = teacher[f"model.layers.{block}.self_attn.q_proj.weight"]
    torch.testing.assert_close(student["model.layers.0.self_attn.q_proj.weight"], expected, rtol=0, atol=0)
    torch.testing.assert_close(student["model.norm.weight"], teacher["model.norm.weight"], rtol=0, atol=0)
    assert weights(run.folder / "student")["model.layers.0.mlp.down_proj.weight"].shape[1] == 32
    report = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "was cut from the teacher" in report
    card = (run.folder / "student" / "README.md").read_text(encoding="utf-8")
    assert "cut from the teacher" in card
    # The student before training is the cut one: its answers were made by a model of one block.
    assert run.record("predict-base_student").input_versions is not None
    assert "student_cut" in (run.record("predict-base_student").input_versions or {})


def test_a_fresh_student_has_the_shape_and_nothing_else_of_its_teacher(house: House, command: Command) -> None:
    house.recipe["student"] = {"from_teacher": {"layers": 1}, "init": "fresh"}
    house.recipe["evaluate"] |= {"arms": ["sft"], "rows": 4, "speed": False}
    outcome = command("run", str(house.write_recipe()))
    assert outcome.code == 0, outcome.err
    run = Run.open(house.run_folder())
    assert not (run.folder / "stages" / "student_cut").exists()
    student = AutoModelForCausalLM.from_pretrained(run.folder / "stages" / "train-sft" / "model")
    assert student.config.num_hidden_layers == 1


def test_more_than_there_is_is_refused_before_a_weight_is_read(house: House, command: Command) -> None:
    house.recipe["student"] = {"from_teacher": {"layers": 5}}
    outcome = command("run", str(house.write_recipe()))
    assert outcome.code == 1
    assert "the teacher's num_hidden_layers is 2, less than 5" in outcome.err
    assert not list(house.folder.glob("runs/*/stages/teacher_sft"))


def test_the_command_keeps_what_starts_best_and_says_so(house: House, command: Command) -> None:
    teacher, out = str(house.models / "teacher"), house.folder / "cut"
    data = [f"data.source={house.folder / 'qa.jsonl'}", "data.max_length=96", "data.max_answer_tokens=12"]
    ways = ["--layers", "1", "--or", "layers=2 mlp=8", "--or", "layers=2", "--rows", "8"]
    outcome = command("init-student", teacher, *data, *ways, "--out", str(out))
    assert outcome.code == 0, outcome.err
    record = json.loads((out / "cut.json").read_text(encoding="utf-8"))
    # The whole teacher is among the candidates, and nothing agrees with the teacher as it does.
    assert "100.0%" in outcome.out
    lines = [line for line in outcome.out.splitlines() if "blocks" in line]
    perplexities = [float(line.split()[-2]) for line in lines]
    assert len(lines) == 3
    assert perplexities == sorted(perplexities)
    assert record["start"]["perplexity"] == pytest.approx(perplexities[0], rel=1e-3)
    kept = AutoModelForCausalLM.from_pretrained(out)
    assert kept.num_parameters() == record["num_parameters"]
    again = command("init-student", teacher, *data, "--layers", "1", "--out", str(out))
    assert (again.code, "is there already" in again.err) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--layers", "3"], "the teacher has 2 blocks"),
        (["--layers", "1,0"], "ascending"),
        (["--layers", "few"], "layers"),
        ([], "say what stays"),
        (["--layers", "1", "--or", "depth"], "no list of field=value"),
        (["--layers", "1", "--or", "depth=2"], "depth"),
        (["--layers", "1", "--by", "chance"], "position"),
    ],
)
def test_a_wrong_wish_is_one_line(house: House, command: Command, arguments: list[str], words: str) -> None:
    outcome = command("init-student", str(house.models / "teacher"), *arguments, "--out", str(house.folder / "cut"))
    assert outcome.code == 1
    assert words in outcome.err
    assert "Traceback" not in outcome.err
    assert not (house.folder / "cut").exists()
