"""Runs whose teacher stands on a server, by the real command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from support.house import House, Outcome
from support.teacher_server import TeacherServer
from support.tiny import FACTS
from understudy.completers import openai_completer
from understudy.files import read_json, read_jsonl
from understudy.models.generate import answer_examples
from understudy.models.load import load_template
from understudy.pipeline.stages.context import rows_of
from understudy.recipe import ModelConfig, parse_recipe
from understudy.run import Run
from understudy.tokens.example_tokenizer import ExampleTokenizer

Command = Callable[..., Outcome]


@pytest.fixture(scope="module")
def served(models: Path) -> tuple[Any, Any]:
    """The teacher of the house, with its template."""
    model = AutoModelForCausalLM.from_pretrained(models / "teacher").eval()
    return model, load_template(ModelConfig(model=str(models / "teacher")))


@pytest.fixture
def server(served: tuple[Any, Any]) -> Iterator[TeacherServer]:
    with TeacherServer(*served) as running:
        yield running


@pytest.fixture
def remote(house: House, server: TeacherServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(openai_completer, "_LONGEST_BACKOFF", 0.01)
    house.recipe["evaluate"] |= {"speed": False, "resamples": 100, "metrics": ["exact_match", "rougeL"]}
    house.recipe["distil"] |= {"eval_every": 6}
    house.recipe["teacher"] = {
        "base_url": server.base_url,
        "model": "served",
        "tokenizer": str(house.models / "teacher"),
        "k": 16,
        "timeout": 20,
        "max_retries": 2,
        "api_key_env": "",
    }
    return house


def test_a_run_trains_answers_and_reports_from_a_server(
    remote: House, served: tuple[Any, Any], server: TeacherServer, command: Command
) -> None:
    remote.recipe["evaluate"] |= {"arms": ["distilled"], "rows": 6}
    outcome = command("run", str(remote.write_recipe()))
    assert outcome.code == 0, outcome.err
    run = Run.open(remote.run_folder())
    assert "teacher" in read_json(run.folder / "scores.json")["overall"]["table"]
    learned = "distilled learned its 16 likeliest tokens at temperature 1 and the mass of all others"
    assert learned in run.report.read_text(encoding="utf-8")
    assert "teacher: `served` on a server" in (run.folder / "student" / "README.md").read_text(encoding="utf-8")
    assert not run.stage("speed-teacher").exists()
    # The same answers as the model gives here.
    questions = rows_of(run, "unlabelled")
    tokenizer = ExampleTokenizer(served[1], parse_recipe(remote.recipe).data)
    here = [answer.text for answer in answer_examples(served[0], tokenizer, questions, batch_size=8)]
    answers = {row["id"]: row["answers"][0] for row in read_jsonl(run.stage("answers") / "answers.jsonl")}
    assert answers == {row.id: text for row, text in zip(questions, here, strict=True) if text}
    # Nothing is asked a second time, by another run of the same questions neither.
    before = len(server.asked)
    again = command("run", str(remote.write_recipe()), "name=second", "distil.gold_weight=0.25")
    assert again.code == 0, again.err
    assert len(server.asked) == before


def test_a_server_of_texts_teaches_texts_alone(remote: House, served: tuple[Any, Any], command: Command) -> None:
    with TeacherServer(*served, dialect="none") as texts_only:
        remote.recipe["teacher"]["base_url"] = texts_only.base_url
        refused = command("run", str(remote.write_recipe()), "evaluate.arms=[distilled]")
        assert refused.code != 0
        assert "served does not score prompts" in refused.err
        assert "evaluate.arms=[sft,seqkd]" in refused.err
        assert "Traceback" not in refused.err
        assert not list((remote.folder / "runs").glob("*/stages/train-*"))
        done = command("run", str(remote.write_recipe()), "evaluate.arms=[seqkd]", "name=texts")
        assert done.code == 0, done.err
        assert texts_only.scored == 3  # The trials of the first run, one in each way.


def test_leaving_out_the_tail_is_called_biased(remote: House, command: Command) -> None:
    fields = ["evaluate.arms=[kd_gold]", "distil.loss_temperature=2"]
    refused = command("run", str(remote.write_recipe()), *fields)
    assert refused.code != 0
    assert "distil.loss_temperature 2: a server gives its likeliest tokens at temperature 1" in refused.err
    done = command("run", str(remote.write_recipe()), *fields, "teacher.tail=renormalise")
    assert done.code == 0, done.err
    report = (remote.run_folder() / "report.html").read_text(encoding="utf-8")
    assert "scaled to 1: a biased target, for all others are left out" in report


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (["distil.method=dskd"], "this teacher gives log-probabilities of the likeliest tokens"),
        (["distil.divergence=adaptive_kl"], "does not take the tail of a top-k target as one bucket"),
        (["distil.divergence=reverse_kl", "teacher.tail=renormalise"], "infinite where the teacher leaves out"),
        (["teacher.tokenizer={models}/other"], "or take a student of the teacher's family"),
        (["teacher.sft.steps=2"], "sft is for a model that is loaded here"),
        (["teacher.tokenizer=null"], "name its tokenizer"),
        (["teacher.k=5000"], "gave 300 of the 5000 likeliest tokens"),
        (["teacher.base_url=localhost:8000"], "is no address"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    remote: House, command: Command, fields: list[str], message: str
) -> None:
    filled = [field.format(models=remote.models) for field in fields]
    outcome = command("run", str(remote.write_recipe()), "evaluate.arms=[kd_gold]", *filled)
    assert outcome.code != 0
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_there_are_no_weights_to_inspect(remote: House, command: Command) -> None:
    outcome = command("inspect", str(remote.write_recipe()))
    assert outcome.code != 0
    assert "this one is on a server" in outcome.err


def test_the_server_writes_texts_too(remote: House, server: TeacherServer, command: Command) -> None:
    remote.write_data(12)
    texts = {"steps": ["explain"], "max_tokens": {"explain": 4}}
    remote.recipe |= {"generate": texts, "tasks": {"kind": "rationale_answer"}}
    remote.recipe["evaluate"]["arms"] = ["explained"]
    command("generate", str(remote.write_recipe()))
    asked = [body for path, body in server.asked if path == "/v1/chat/completions"]
    assert {body["model"] for body in asked} == {"served"}
    assert len(asked) >= 4


def test_a_teacher_that_only_writes_needs_no_section() -> None:
    recipe = parse_recipe(
        {
            "teacher": None,
            "generate": {"teacher": {"model": "m", "base_url": "http://localhost:1/v1"}, "steps": ["explain"]},
            "tasks": {"kind": "rationale_answer"},
            "evaluate": {"arms": ["sft", "explained"]},
        }
    )
    assert recipe.served_teacher is None


@pytest.mark.parametrize("distil", [None, {"method": "uld"}], ids=["in a mean", "by its own loss"])
def test_a_further_teacher_on_a_server_is_asked_for_its_own_rows_alone(
    remote: House, server: TeacherServer, command: Command, distil: Any
) -> None:
    """`teacher` is loaded here, the other stands on a server and is heard on one category."""
    asked = [(f"{question} ({n})", answer) for n in range(4) for question, answer in FACTS]
    rows = [
        {"id": f"q{n}", "question": question, "answer": answer, "category": ("radio", "core")[n % 2]}
        for n, (question, answer) in enumerate(asked)
    ]
    (remote.folder / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    other = {**remote.recipe["teacher"], "where": {"category": "radio"}} | ({"distil": distil} if distil else {})
    remote.recipe["teacher"] = {"model": str(remote.models / "teacher")}
    remote.recipe["teachers"] = {"others": {"radio": other}}
    remote.recipe["data"]["gold_share"] = 1.0
    remote.recipe["distil"]["loss_temperature"] = 1.0
    remote.recipe["evaluate"] |= {"arms": ["kd_gold"], "rows": 4}
    outcome = command("run", str(remote.write_recipe()))
    assert outcome.code == 0, outcome.err
    run = Run.open(remote.run_folder())
    template = load_template(ModelConfig(model=str(remote.models / "teacher")))
    tokenizer = ExampleTokenizer(template, parse_recipe(remote.recipe).data)
    learned: dict[str, set[tuple[int, ...]]] = {"radio": set(), "core": set()}
    for row in rows_of(run, "train"):
        learned[row.meta["category"]].add(tuple(tokenizer.encode(row).ids))
    sent = {tuple(body["prompt"]) for _, body in server.asked if isinstance(body.get("prompt"), list)}
    assert sent & learned["radio"]
    assert not sent & learned["core"]
    assert "radio" in run.report.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tokenizer": None}, "needs model, its name there, and tokenizer"),
        ({"tail": "renormalise"}, "a mean is of what teachers say"),
        ({"base_url": None}, "of a teacher on a server: it needs base_url"),
        ({"dtype": "bfloat16"}, "dtype is for a model that is loaded here"),
    ],
)
def test_what_a_further_teacher_on_a_server_needs_is_said_in_a_line(
    remote: House, command: Command, change: dict[str, Any], words: str
) -> None:
    other = {**remote.recipe["teacher"], **change}
    remote.recipe["teacher"] = {"model": str(remote.models / "teacher")}
    named = {name: value for name, value in other.items() if value is not None}
    remote.recipe["teachers"] = {"others": {"radio": named}}
    outcome = command("run", str(remote.write_recipe()))
    assert outcome.code == 1
    assert words in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(("method", "tail"), [("uld", "bucket"), ("min_edit", "renormalise")])
def test_methods_of_two_vocabularies_learn_from_a_server_too(
    remote: House, command: Command, method: str, tail: str
) -> None:
    remote.recipe["teacher"]["tail"] = tail
    remote.recipe["distil"] |= {"method": method}
    remote.recipe["evaluate"] |= {"arms": ["kd_gold"], "rows": 4}
    outcome = command("run", str(remote.write_recipe()))
    assert outcome.code == 0, outcome.err
    run = Run.open(remote.run_folder())
    rows = read_jsonl(run.stage("train-kd_gold") / "training" / "metrics.jsonl")
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses
    assert all(0 < loss < 100 for loss in losses)
