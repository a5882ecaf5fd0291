"""The figure of development rows by which weights are kept, of each kind of model."""

from __future__ import annotations

import pytest

from support import tiny, tiny_encoders, tiny_span
from understudy.data.sessions import Item, Session, example_of
from understudy.evaluation.predict import dev_scores
from understudy.metrics import METRICS
from understudy.models.kept_by import kept_by
from understudy.models.kinds import KINDS
from understudy.records import kept_score

SESSION = example_of(Session("s", (Item("a", "Lamp"), Item("b", "Bulb"))))


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_names_a_metric(name):
    assert KINDS[name].kept_by in METRICS


@pytest.mark.parametrize(("kind", "metric"), [("choice", "accuracy"), ("classify", "macro_f1"), ("tag", "entity_f1")])
def test_encoders_go_by_that_of_their_kind_and_it_is_measured(kind, metric):
    model, rows = tiny_encoders.bert(kind), tiny_encoders.ROWS[kind]()
    assert kept_by(model, rows) == metric
    scores = dev_scores(tiny_encoders.reader(kind), rows, batch_size=8)(model)
    assert kept_score({f"eval_{name}": value for name, value in scores.items()}) == (metric, scores[metric])


def test_a_model_that_points_goes_by_f1():
    reader = tiny_span.reader()
    model = tiny_span.bert(len(reader.template.tokenizer))
    rows = tiny_span.examples(6)
    assert kept_by(model, rows) == "token_f1"
    assert "token_f1" in dev_scores(reader, rows, batch_size=8)(model)


def test_a_model_that_writes_goes_by_rouge_and_of_sessions_by_their_bundles():
    model = tiny.llama(300)
    assert kept_by(model, tiny.examples()) == "rougeL"
    assert kept_by(model, [SESSION]) == "bundle_f1"
    assert kept_by(model, [SESSION, *tiny.examples()]) == "rougeL"
    assert kept_score({"eval_rougeL": 0.5, "eval_exact_match": 0.1, "eval_loss": 2.0, "step": 3}) == ("rougeL", 0.5)
    assert kept_score({"loss": 1.0, "step": 3}) is None
