"""A model behind an endpoint as the student: it is sent what is known, held to a schema, and its money is counted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from support.servers import Call, Reply, Server
from understudy.files import read_json, read_jsonl
from understudy.recipe import parse_recipe
from understudy.run import Run

RECIPE = {
    "name": "served",
    "data": {"source": "embedded:bundles", "limit": 120, "max_length": 512, "max_answer_tokens": 16},
    "teacher": None,
    "student": {"model": "embedded:telecom-student"},
    "generate": {"steps": ["patterns"], "sessions": {"support": 0.02}},
    "evaluate": {
        "arms": ["informed"],
        "metrics": ["bundle_f1"],
        "rows": 3,
        "resamples": 100,
        "constrained": "both",
        "speed": False,
    },
    "device": "cpu",
}
FREE, HELD = "Bundle: items 1 and 2, intent: travel", {"bundles": [{"items": [1, 2], "intent": "travel"}]}


def answer(call: Call) -> Reply:
    return Reply(json.dumps(HELD) if "response_format" in call.body else FREE)


def test_a_server_is_sent_knowledge_and_schema_and_costs_money(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))
    from understudy.cli import main

    with Server(answer) as server:
        endpoint = {"model": "served", "base_url": server.base_url, "input_price": 10.0, "output_price": 20.0}
        recipe = {
            **RECIPE,
            "output": str(tmp_path / "runs"),
            "knowledge": {"use": "icl", "formats": ["patterns"], "tokens": 160, "endpoint": endpoint},
        }
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        monkeypatch.setattr(sys, "argv", ["understudy", "run", str(tmp_path / "recipe.yaml")])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 0
        calls = list(server.calls)
    run = Run.of(parse_recipe(recipe))
    held = [call for call in calls if "response_format" in call.body]
    assert len(held) == len(calls) - len(held) == 3
    numbers = held[0].body["response_format"]["json_schema"]["schema"]["properties"]["bundles"]["items"]["properties"]
    shown = read_jsonl(run.stage("predict-informed") / "shown.jsonl")
    assert numbers["items"]["items"]["enum"] == list(range(1, numbers["items"]["maxItems"] + 1))
    turns = ["\n".join(turn["content"] for turn in call.body["messages"]) for call in calls]
    assert all(any(line in text for text in turns) for row in shown for line in row["lines"])
    assert {row.prediction for row in run.predictions("informed")} == {FREE}
    assert [json.loads(row.prediction or "") for row in run.predictions("informed_constrained")] == [HELD] * 3
    cost = read_json(run.stage("predict-informed") / "done.json")["cost"]
    assert (cost["input_tokens"], cost["output_tokens"]) == (3 * 7, 3 * 3)
    assert cost["money"] == pytest.approx((21 * 10 + 9 * 20) / 1e6)
