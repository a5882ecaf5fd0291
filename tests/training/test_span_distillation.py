"""One encoder that points is distilled into another, through the trainer and the objective of every other student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from support import tiny, tiny_span
from understudy.data.benchmark_formats import UNANSWERABLE
from understudy.evaluation.predict import dev_scores
from understudy.losses import DIVERGENCES
from understudy.models.forward import forward
from understudy.models.generate import answer_examples
from understudy.tokens.collate import encode_rows
from understudy.tokens.spans import SpanExample
from understudy.types import Gives

ROWS = tiny_span.examples(24)


def pair(student: Any, teacher: Any) -> tiny.Pair:
    """Both read by one tokenizer."""
    template = tiny_span.reader().template
    return tiny.Pair(student, teacher, template, template)


def encoded(method: str) -> list:
    """Rows for the student, and for the teacher where one speaks."""
    reader = tiny_span.reader()
    return encode_rows(ROWS, reader, reader if method == "kd" else None)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A teacher that has learned the rows."""
    teacher = tiny_span.bert(200, width=32, seed=1)
    made = pair(teacher, tiny_span.bert(200))
    trainer = tiny.trainer(
        tmp_path_factory.mktemp("sft"),
        "sft",
        made=made,
        rows=encoded("sft"),
        steps=200,
        batch_size=24,
        learning_rate=5e-3,
    )
    trainer.train()
    answers = answer_examples(teacher, tiny_span.reader(), ROWS, batch_size=8)
    assert [answer.text.upper() for answer in answers] == [row.answers[0].upper() for row in ROWS]
    return teacher


def test_a_student_learns_from_the_teacher_s_distributions_alone(tmp_path: Path, taught: Any) -> None:
    student = tiny_span.bert(200, width=24, seed=2)
    rows = encoded("kd")
    batch = tiny.pair("kd", lora=False).collator("kd")(rows)
    fields = {"steps": 200, "batch_size": 24, "learning_rate": 5e-3, "gold_weight": 0.0}
    trainer = tiny.trainer(tmp_path, "kd", made=pair(student, taught), rows=rows, **fields)
    assert trainer.teacher is not None
    assert Gives.LOGPS in trainer.teacher.gives
    assert Gives.STATES not in trainer.teacher.gives

    def disagreement() -> float:
        with torch.no_grad():
            own, other = (forward(model.eval(), batch["student"]).states.masked() for model in (student, taught))
        return (other.softmax(-1) * (other.log_softmax(-1) - own.log_softmax(-1))).nan_to_num().sum(-1).mean().item()

    before = disagreement()
    trainer.train()
    assert disagreement() < before / 20
    scores = dev_scores(tiny_span.reader(), ROWS, batch_size=8)(student)
    assert scores["exact_match"] > 0.9
    answers = answer_examples(student, tiny_span.reader(), ROWS, batch_size=8)
    assert {answer.text for answer in answers} >= {UNANSWERABLE}


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_loss_of_a_step_is_the_formula(tmp_path: Path, name: str) -> None:
    """Σ g·CE + (1 − g)·D over starts and ends, divided by both, in float64 over the positions that can be chosen."""
    from understudy.losses import divergence

    student, teacher = tiny_span.bert(200, seed=3), tiny_span.bert(200, width=24, seed=4)
    rows = encoded("kd")
    tokens = SpanExample.batched([row.student for row in rows], 0)
    assert "candidates" in tokens
    total, tau = 0.0, 2.0
    with torch.no_grad():
        sides = [model(**tokens["inputs"]) for model in (student, teacher)]
    for n, row in enumerate(rows):
        offered = tokens["candidates"][n].nonzero()[:, 0]
        for place, field in zip(row.student.answer_ids, ("start_logits", "end_logits"), strict=True):
            own, other = (side[field][n, offered].double() for side in sides)
            compared = divergence(name)((own / tau).log_softmax(-1)[None], (other / tau).log_softmax(-1)[None])
            total += 0.7 * float(compared) - 0.3 * float(own.log_softmax(-1)[offered.tolist().index(place)])
    fields = {"steps": 1, "batch_size": 24, "loss_temperature": tau, "gold_weight": 0.3, "divergence": name}
    trainer = tiny.trainer(tmp_path, "kd", made=pair(student, teacher), rows=rows, **fields)
    assert trainer.train().training_loss == pytest.approx(total / (2 * len(rows)), rel=1e-5)


def test_four_by_six_is_one_by_twenty_four(tmp_path: Path) -> None:
    """How a step is cut into batches changes nothing, though windows are padded to other widths."""
    weights = []
    for size in (24, 6):
        # In float64, for Adam makes whole steps of what is nothing but rounding.
        made = pair(tiny_span.bert(200, seed=3).double(), tiny_span.bert(200, width=24, seed=4).double())
        fields = {"steps": 2, "batch_size": 24, "micro_batch_size": size, "learning_rate": 1e-2}
        trainer = tiny.trainer(tmp_path / str(size), "kd", made=made, rows=encoded("kd"), **fields)
        trainer.train()
        weights.append(tiny.weights(trainer))
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, atol=1e-6, rtol=1e-6)
