"""Prediction rows: what is resampled together, and what a model adds to its process."""

import torch

from understudy.evaluation.memory import PeakMemory
from understudy.evaluation.predict import group_of
from understudy.types import Example


def test_items_of_one_fact_one_context_or_one_question_belong_together() -> None:
    first = Example("a", "Who?", ("x",), context="One paragraph.")
    second = Example("b", "When?", ("y",), context="One paragraph.")
    other = Example("c", "Who?", ("x",), context="Another paragraph.")
    assert group_of(first) == group_of(second) != group_of(other)
    assert group_of(Example("d", "Who?")) == group_of(Example("e", "who?")) != group_of(Example("f", "Whom?"))
    assert group_of(Example("g", "Who?", meta={"fact": ["n2", "n4"]})) == "n2 + n4"


def test_memory_is_what_comes_on_top() -> None:
    memory = PeakMemory(torch.device("cpu"))
    held = torch.ones(16 * 2**20)
    assert held.sum() > 0
    assert 60 * 2**20 < memory.bytes() < 200 * 2**20
