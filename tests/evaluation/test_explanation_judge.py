"""Explanations before a judge: a scripted one behind a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import scripted_judge
from support.asking import completer
from support.servers import Reply, Script, Server
from understudy.errors import RunError
from understudy.evaluation.explanation_judge import judged_explanations
from understudy.evaluation.explanation_results import NotMeasured
from understudy.evaluation.judge_check import check_judge
from understudy.metrics import Interval, MetricModels
from understudy.metrics.significance import Resampling
from understudy.records import ExplainedPrediction

CONTEXT = "The AMF ends N2. The SMF ends N4."


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(scripted_judge.judge) as running:
        yield running


def row(number: int, explanation: str | None, context: str | None = CONTEXT) -> ExplainedPrediction:
    fields = {
        "id": f"q{number}",
        "group": None,
        "question": "Which node ends N2?",
        "references": ["AMF"],
        "explanation": explanation,
        "context": context,
        "prediction": "",
    }
    return ExplainedPrediction.from_json(fields)


def test_claims_of_an_explanation_are_held_against_the_context(server: Server) -> None:
    rows = [row(0, "The AMF ends N2."), row(1, "The AMF ends N2. The SMF ends N9."), row(2, None), row(3, "x", None)]
    models = MetricModels(judge=completer(server))
    figures = judged_explanations(rows, models, resampling=Resampling(200))["faithfulness"]
    assert isinstance(figures, Interval)
    assert figures.value == pytest.approx((1 + 1 / 2) / 2)
    assert figures.n == 2, "neither a row without explanation nor one without context"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row(0, None)], "no explanation was written"),
        ([row(0, "It is so.", None)], "no row has a context"),
        ([row(0, "BROKEN")], "not measured"),
    ],
)
def test_what_cannot_be_judged_says_why(server: Server, rows: list[ExplainedPrediction], said: str) -> None:
    models = MetricModels(judge=completer(server))
    figures = judged_explanations(rows, models, resampling=Resampling(200))["faithfulness"]
    assert isinstance(figures, NotMeasured)
    assert said in figures.reason


def silent(script: Script) -> list[tuple[str, str]]:
    with Server(script) as running:
        models = MetricModels(judge=completer(running, max_retries=0))
        figures = judged_explanations([row(0, "The AMF ends N2.")], models, resampling=Resampling(200))
    return [(metric, figure.reason) for metric, figure in figures.items() if isinstance(figure, NotMeasured)]


@pytest.mark.parametrize(
    "reply",
    [
        Reply("down", status=503),
        Reply("no such parameter", status=400),
        Reply(raw=b"<html>"),
        Reply(raw=b"[" * 100_000),
        Reply("half", finish="error"),
    ],
)
def test_a_judge_that_was_not_there_is_no_measurement(reply: Reply) -> None:
    with pytest.raises(RunError, match="the judge m gave no verdict for answer_relevance: "):
        check_judge("m", silent(lambda _: reply))


@pytest.mark.parametrize("reply", [Reply("I would rather not"), Reply("half", finish="length")])
def test_a_judge_whose_answers_cannot_be_used_leaves_its_metric_out(reply: Reply) -> None:
    reasons = dict(silent(lambda _: reply))
    assert "no item got a verdict" in reasons["faithfulness"]
    check_judge("m", reasons.items())
