"""Students that read their teacher's states, weaned off them or not, by the real command line."""

from __future__ import annotations

from collections.abc import Callable

from support.house import House, Outcome, answers
from understudy.files import read_jsonl
from understudy.run import Run

Command = Callable[..., Outcome]


def test_one_is_weaned_and_stands_alone_and_one_is_measured_with_its_teacher(house: House, command: Command) -> None:
    house.recipe["features"] = {"hidden": 0.0, "input": {"until": 0.5}}
    house.recipe["distil"] |= {"steps": 12, "learning_rate": 0.02}
    house.recipe["arms"] = {"lasting": {"features.input.end": 1.0}}
    house.recipe["evaluate"] |= {"arms": ["distilled", "lasting"], "speed": True}
    outcome = command("run", str(house.write_recipe()))
    assert outcome.code == 0, outcome.err
    run = Run.open(house.run_folder())
    lines = read_jsonl(run.folder / "stages" / "train-distilled" / "training" / "metrics.jsonl")
    shares = [line["features_input_share"] for line in lines if "features_input_share" in line]
    assert shares[-1] == 0
    kept = [path.parent.name for path in run.folder.glob("stages/*/features_input.safetensors")]
    assert kept == ["train-lasting"]
    assert {"predict-distilled", "predict-lasting"} <= answers(run.folder).keys()
    card = (run.folder / "student" / "README.md").read_text(encoding="utf-8")
    assert "hidden states as an input, which it was weaned off" in card
    asked = command("ask", str(run.folder), "Who selects a slice?", "--models", "lasting")
    assert asked.code == 1
    assert "lasting reads its teacher's states" in asked.err
