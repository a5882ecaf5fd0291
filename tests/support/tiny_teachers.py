"""Two tiny teachers that are heard as one."""

from __future__ import annotations

import dataclasses
from typing import Any

from support.tiny import Pair, examples, llama
from understudy.recipe import TeachersConfig
from understudy.teachers.ensemble import Ensemble, shares_of
from understudy.teachers.local import LocalTeacher


def second(made: Pair) -> Any:
    """Another teacher of the same vocabulary."""
    return llama(len(made.teacher_template.tokenizer), width=32, tied=False, seed=11)  # pyright: ignore


def ensemble(made: Pair, *models: Any, **fields: Any) -> Ensemble:
    """The pair's teacher and others; the facts are of category `even` and `odd` in turn."""
    config = TeachersConfig.model_validate(
        {
            "weight": 3,
            "mean": "log_probabilities",
            "by_confidence": True,
            "others": {"second": {"model": "-", "where": {"category": "odd"}}},
            **fields,
        }
    )
    rows = [
        dataclasses.replace(example, meta={"category": "odd" if n % 2 else "even"})
        for n, example in enumerate(examples())
    ]
    models = (made.teacher, *(models or (second(made),)))
    return Ensemble(
        [LocalTeacher(model) for model in models],
        shares_of(config, rows),
        mean=config.mean,
        by_confidence=config.by_confidence,
    )
