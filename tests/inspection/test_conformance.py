"""The conformance test finds each way in which a server may say something else than it is taken to say."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support import tiny
from support.teacher_server import TeacherServer
from understudy.completers import openai_completer
from understudy.inspection.doctor import examine
from understudy.inspection.server_report import ServerReport
from understudy.inspection.temperature import fit_temperature
from understudy.recipe import parse_recipe


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """Data, a student and a teacher on disk; the teacher, and its template. Its distributions are not flat."""
    folder = tmp_path_factory.mktemp("conformance")
    made = tiny.pair("kd", lora=False)
    with torch.no_grad():
        made.teacher.lm_head.weight.mul_(30.0)
    for name, model, template in (
        ("student", made.student, made.template),
        ("teacher", made.teacher, made.teacher_template),
    ):
        model.save_pretrained(folder / name)
        template.tokenizer.save_pretrained(folder / name)
    rows = [{"question": question, "answer": answer} for question, answer in tiny.FACTS]
    (folder / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder, made.teacher, made.teacher_template


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_completer, "_LONGEST_BACKOFF", 0.01)


def report(house: tuple[Path, Any, Any], server: TeacherServer, *, against: str | None = None, **fields: Any) -> Any:
    folder = house[0]
    recipe = {
        "data": {"source": str(folder / "qa.jsonl"), "dev": 0, "test": 0.1, "max_length": 96, "max_answer_tokens": 12},
        "teacher": {
            "base_url": server.base_url,
            "model": "served",
            "tokenizer": str(folder / "teacher"),
            "timeout": 20,
            "max_retries": 2,
            "api_key_env": "",
            **fields,
        },
        "student": {"model": str(folder / "student")},
        "device": "cpu",
    }
    return examine(parse_recipe(recipe), against=against and str(folder / against)).server


def bad(found: ServerReport) -> dict[str, str]:
    return {check.name: check.finding for check in found.bad}


def findings(found: ServerReport) -> dict[str, tuple[str, str]]:
    return {check.name: (check.verdict, check.finding) for check in found.checks}


def test_an_honest_server_passes_and_its_loss_is_that_of_the_model(house: tuple[Path, Any, Any]) -> None:
    with TeacherServer(*house[1:]) as server:
        found = report(house, server, against="teacher")
    assert found.bad == []
    assert found.can == [
        "text",
        "log-probabilities of what it writes",
        "log-probabilities of a given prompt (k = 20, by vLLM's prompt_logprobs)",
        "full",
    ]
    looked_at = findings(found)
    assert list(looked_at) == [
        *("scores prompts", "tokenizer", "template", "largest k", "determinism", "replicas", "temperature", "loss")
    ]
    assert {verdict for verdict, _ in looked_at.values()} == {"good"}
    assert "token by token" in looked_at["tokenizer"][1]


def test_another_tokenizer(house: tuple[Path, Any, Any]) -> None:
    other = tiny.Template(tiny.tokenizer(340))
    with TeacherServer(tiny.llama(len(other.tokenizer), width=24), other) as server:  # pyright: ignore
        found = bad(report(house, server))
    assert "tokens there and" in found["tokenizer"]


def test_a_token_too_many(house: tuple[Path, Any, Any]) -> None:
    with TeacherServer(*house[1:], extra=5) as server:
        found = bad(report(house, server))
    assert "tokens were sent, and the server counted" in found["scores prompts"]


def test_another_template_is_told_and_does_no_harm(house: tuple[Path, Any, Any]) -> None:
    folder, model, template = house
    own = copy.copy(template)
    own.tokenizer = copy.deepcopy(template.tokenizer)
    own.tokenizer.chat_template = "Please: " + template.tokenizer.chat_template
    with TeacherServer(model, own) as server:
        found = report((folder, model, template), server)
    assert found.bad == []
    assert findings(found)["template"][0] == "note"


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_a_wrong_temperature(house: tuple[Path, Any, Any], temperature: float) -> None:
    with TeacherServer(*house[1:], temperature=temperature) as server:
        found = bad(report(house, server, against="teacher"))
    assert found.keys() == {"temperature", "loss"}
    fitted = float(found["temperature"].split("temperature ")[1].split()[0])
    assert fitted == pytest.approx(temperature, rel=0.25)


def test_a_temperature_that_follows_the_request_is_told(house: tuple[Path, Any, Any]) -> None:
    with TeacherServer(*house[1:], processed=True) as server:
        verdict, finding = findings(report(house, server))["temperature"]
    assert verdict == "note"
    assert "they follow the temperature of the request" in finding


@pytest.mark.parametrize(
    ("faults", "k", "reason"),
    [
        ({"most": 5}, 20, "5 tokens a place, and the recipe asks for 20: k = 10: request: 400"),
        ({"crash": 10}, 20, "5 tokens a place, and the recipe asks for 20: k = 10: server: 500"),
        ({"fewer": 2}, 8, "2 tokens a place, and the recipe asks for 8: k = 5: the server gave"),
    ],
)
def test_a_k_too_small(house: tuple[Path, Any, Any], faults: dict[str, Any], k: int, reason: str) -> None:
    with TeacherServer(*house[1:], **faults) as server:
        found = bad(report(house, server, k=k))
    assert found.keys() == {"largest k"}
    assert found["largest k"].startswith(reason)


def test_replicas_that_differ(house: tuple[Path, Any, Any]) -> None:
    _, model, template = house
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.lm_head.weight.mul_(1.1)
    with TeacherServer(model, template, replicas=[other]) as server:
        found = report(house, server)
    assert "2 kinds of answers to one row" in bad(found)["replicas"]
    assert findings(found)["determinism"][0] == "good"


def test_a_server_that_says_something_else_each_time(house: tuple[Path, Any, Any]) -> None:
    with TeacherServer(*house[1:], noise=0.5) as server:
        found = bad(report(house, server))
    assert "16 times the same row: up to" in found["determinism"]


def test_other_weights_than_the_recipe_takes_them_for(house: tuple[Path, Any, Any]) -> None:
    other = tiny.llama(len(house[2].tokenizer), width=24, tied=False, seed=9)
    with torch.no_grad():
        other.lm_head.weight.mul_(30.0)
    with TeacherServer(other, house[2]) as server:
        found = bad(report(house, server, against="teacher"))
    assert found.keys() == {"loss"}
    assert "through the server" in found["loss"]


def test_a_server_of_texts_is_named(house: tuple[Path, Any, Any]) -> None:
    with TeacherServer(*house[1:], dialect="none") as server:
        found = report(house, server)
    assert found.can == ["text", "log-probabilities of what it writes"]
    assert "no log-probabilities of a given prompt" in bad(found)["scores prompts"]


def test_the_temperature_is_fitted_to_draws() -> None:
    """Draws of a known distribution: the estimate lies within four standard errors, which shrink as 1/√n."""
    generator = np.random.default_rng(0)
    logits = np.array([2.0, 1.0, 0.0, -1.0])
    truth = np.exp(logits) / np.exp(logits).sum()
    for temperature in (0.5, 1.0, 2.0):
        stated = logits / temperature - np.log(np.exp(logits / temperature).sum())
        drawn = generator.choice(4, size=2000, p=truth)
        fitted, error = fit_temperature([(stated.tolist(), np.bincount(drawn, minlength=4).tolist())])
        assert abs(fitted - temperature) < 4 * max(error, 0.02)
    # By hand: two tokens of log-odds 1, three of four draws the likelier: a = log 3, and n·p(1 − p) at a = 1.
    pair = [float(np.log(np.e / (1 + np.e))), float(np.log(1 / (1 + np.e)))]
    fitted, error = fit_temperature([(pair, [2, 0]), (pair, [1, 1])])
    assert fitted == pytest.approx(np.log(3))
    assert error == pytest.approx(1 / np.sqrt(4 * np.e / (1 + np.e) ** 2))
