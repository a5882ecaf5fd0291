"""Students that choose, and options that a writing student compares: by the API as in the run's predictions."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError

from support.serving import choices_run, encoder_run, serving, span_run
from support.speaking import client_of, post
from understudy.records import Prediction
from understudy.run import Run
from understudy.serve.answers import answer_with, example_of
from understudy.serve.opening import Plan
from understudy.serve.sides import open_side
from understudy.serve.work import EngineFault


def answered(served: Any, row: Prediction, **fields: Any) -> dict[str, Any]:
    body = {"question": row.question, "context": row.context, "choices": list(row.choices), **fields}
    status, _, content = post(served, "/v1/answer", json.dumps(body).encode())
    assert status == 200, content
    return json.loads(content)


def encoder(folder: Path, kind: str) -> Run:
    return choices_run(folder, kind="scorer") if kind == "scorer" else encoder_run(folder, kind)


@pytest.mark.parametrize("kind", ["choice", "classify", "tag", "scorer"])
def test_every_kind_that_chooses_answers_as_measured(kind: str, tmp_path: Path) -> None:
    run = encoder(tmp_path, kind)
    rows = run.predictions("distilled")
    assert len({row.prediction for row in rows}) > 1
    with serving(run) as served:
        for row in rows[:8]:
            answer = answered(served, row)
            assert answer["answer"] == row.prediction
            assert (answer["start"], answer["end"]) == (None, None)
            candidates = answer["candidates"]
            if kind == "tag":
                assert (candidates, answer["choice"]) == ([], None)
                continue
            options = row.choices or run.recipe.data.labels
            assert [candidate["text"] for candidate in candidates] == list(options)
            assert answer["choice"] == answer["answer"]
            assert answer["confidence"] == max(candidate["probability"] for candidate in candidates)
            told = {candidate["text"]: candidate["probability"] for candidate in candidates}
            assert told == pytest.approx(dict(row.candidates), abs=1e-5)
            if row.choice_scores is not None:
                assert [candidate["logp"] for candidate in candidates] == pytest.approx(
                    list(row.choice_scores), abs=1e-5
                )
        with client_of(served) as client, pytest.raises(BadRequestError, match="/v1/answer"):
            client.chat.completions.create(model="student", messages=[{"role": "user", "content": "?"}])


def test_a_student_that_writes_tells_how_likely_each_option_is(tmp_path: Path) -> None:
    """By likelihood, as `choice_accuracy` counts it, beside the text that it writes."""
    run = choices_run(tmp_path)
    with serving(run, Plan(models=("student", "teacher"))) as served:
        for arm, model in (("distilled", "student"), ("teacher", "teacher")):
            for row in run.predictions(arm)[:6]:
                answer = answered(served, row, model=model)
                assert row.choice_scores is not None
                assert answer["answer"] == row.prediction
                scores = [candidate["logp"] for candidate in answer["candidates"]]
                assert scores == pytest.approx(list(row.choice_scores), abs=1e-4)
                assert answer["choice"] == row.choices[scores.index(max(scores))]
                total = sum(map(math.exp, row.choice_scores))
                shares = [math.exp(score) / total for score in row.choice_scores]
                assert [candidate["probability"] for candidate in answer["candidates"]] == pytest.approx(
                    shares, abs=1e-4
                )
        told = served.notebook.exchanges[0].measures
        assert told is not None
        assert told.choice_probability is not None
        plain = answered(served, run.predictions("distilled")[0], choices=[])
        assert (plain["candidates"], plain["choice"]) == ([], None)


def test_whoever_leaves_while_options_wait_holds_up_nobody(tmp_path: Path) -> None:
    run = choices_run(tmp_path)
    row = run.predictions("distilled")[0]
    example = example_of(row.question or "", choices=row.choices)
    side = open_side(run, "student")
    engine: Any = side.engine
    assert side.tokenizer is not None
    options = [side.tokenizer.encode(example, choice) for choice in row.choices]

    async def asked() -> list[float]:
        long = asyncio.create_task(answer_with(side, example))
        await asyncio.sleep(0)
        leaving = [asyncio.create_task(engine.option_scores(options)) for _ in range(5)]
        await asyncio.sleep(0)
        for task in leaving:
            task.cancel()
        scores = await engine.option_scores(options)
        await long
        await side.close()
        with pytest.raises(EngineFault, match="going down"):
            await engine.option_scores(options)
        return scores

    assert row.choice_scores is not None
    assert asyncio.run(asked()) == pytest.approx(list(row.choice_scores), abs=1e-4)


def test_a_cascade_goes_by_the_options_of_a_student_that_chooses(tmp_path: Path) -> None:
    """Uncalibrated, by the probability of the likeliest option."""
    run = encoder_run(tmp_path, "classify")
    students, teachers = (run.predictions(arm) for arm in ("distilled", "teacher"))
    shares = sorted(row.candidates[0][1] for row in students)
    threshold = shares[len(shares) // 2]
    with serving(run, Plan(cascade=threshold)) as served:
        for own, taught in zip(students, teachers, strict=True):
            if abs(own.candidates[0][1] - threshold) < 1e-5:
                continue
            answer = answered(served, own)
            asked = own.candidates[0][1] < threshold
            assert answer["understudy"]["decision"] == ("asked" if asked else "kept")
            assert answer["answer"] == (taught if asked else own).prediction


def test_a_student_that_points_tells_its_likeliest_spans(tmp_path: Path) -> None:
    run = span_run(tmp_path)
    with serving(run) as served:
        for row in run.predictions("distilled")[:6]:
            answer = answered(served, row)
            told = [
                (candidate["text"] or "unanswerable", candidate["probability"]) for candidate in answer["candidates"]
            ]
            assert told == [tuple(candidate) for candidate in row.candidates]
            assert (answer["candidates"][0]["text"], answer["choice"]) == (answer["answer"], None)


def test_an_option_that_reads_like_no_answer_is_an_option(tmp_path: Path) -> None:
    """Of a student that points `unanswerable` is the word for no answer; elsewhere it is a text like others."""
    run = encoder_run(tmp_path, "choice")
    with serving(run) as served:
        row = run.predictions("distilled")[0]
        assert answered(served, row, choices=["unanswerable"] * 2)["answer"] == "unanswerable"
