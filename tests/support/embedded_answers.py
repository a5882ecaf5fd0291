"""What the three embedded base models really answer to held-out questions: made once a session, in a few seconds."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import torch

from understudy.data.embedded.telecom import generate
from understudy.evaluation.predict import predict
from understudy.models.load import load_model, load_template
from understudy.recipe import DataConfig, ModelConfig
from understudy.records import Prediction
from understudy.tokens.collate import ExampleTokenizer

NAMES = ("telecom-teacher", "telecom-student", "telecom-student-other")


@lru_cache(maxsize=1)
def embedded_answers() -> dict[str, list[Prediction]]:
    """Model -> predictions, as a run makes them; 60 items, some of one fact."""
    rows = [row for row in generate().test if row.meta.get("kind") in ("phrasing", "context")][:240:4]
    found = {}
    for name in NAMES:
        config = ModelConfig(model=f"embedded:{name}")
        model = load_model(config, torch.device("cpu"), seed=0)
        encoder = ExampleTokenizer(load_template(config), DataConfig(max_answer_tokens=16))
        found[name] = predict(model, encoder, rows, batch_size=30)
    return found


def write(folder: Path, *names: str) -> list[str]:
    """The answers as files of predictions; their paths."""
    paths = []
    for name in names or NAMES:
        path = folder / f"{name}.jsonl"
        lines = [json.dumps(row.to_json()) for row in embedded_answers()[name]]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        paths.append(str(path))
    return paths
