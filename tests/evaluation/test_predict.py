"""Prediction rows: what is resampled together, and what a model adds to its process."""

import json

import pytest
import torch

from understudy.errors import DataError
from understudy.evaluation.memory import PeakMemory
from understudy.evaluation.predict import group_of
from understudy.records import ExplainedPrediction, Prediction
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


def test_a_line_of_a_predictions_file_comes_back_as_it_was() -> None:
    line = (
        '{"id": "q1", "kind": "choice", "gold_fact": null, "group": "n2", "question": "Which?", "context": null, '
        '"choices": ["AMF", "SMF"], "references": ["AMF"], "prediction": "AMF", "choice_scores": [-0.5, null], '
        '"tokens": 2, "finished": true, "seconds": 0.25}'
    )
    read = Prediction.from_json(json.loads(line))
    assert json.dumps(read.to_json()) == line
    assert (read.choices, read.choice_scores) == (("AMF", "SMF"), (-0.5, None))
    more = {"raw": "Because. Answer: AMF", "answer_given": True, "chosen": 0, "explanation": "Because."}
    explained = {**json.loads(line), **more, "explanation_finished": True}
    assert list(ExplainedPrediction.from_json(explained).to_json().items()) == list(explained.items())
    assert Prediction.from_json(explained) == read


def test_a_row_without_an_answer_key_is_no_prediction() -> None:
    with pytest.raises(DataError, match="no field 'prediction'"):
        Prediction.from_json({"id": "q1", "references": ["AMF"]})
