"""Encoders that choose are distilled by the trainer and objective of every other student."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from support import tiny, tiny_encoders
from understudy.losses import divergence
from understudy.losses.averaged import candidate_mean
from understudy.losses.sources import CandidateLogits
from understudy.models.forward import forward
from understudy.teachers.cache.cached import CachedTeacher
from understudy.teachers.cache.formats import CandidatesFormat
from understudy.teachers.cache.identity import write_identity
from understudy.teachers.cache.write import fill, rows_to_read
from understudy.teachers.ensemble import Ensemble
from understudy.teachers.local import LocalTeacher
from understudy.tokens.collate import encode_rows

KINDS = ("choice", "classify", "tag")


def encoded(kind: str) -> list:
    reader = tiny_encoders.reader(kind)
    return encode_rows(tiny_encoders.ROWS[kind](), reader, reader)


def pair(kind: str, student: Any, teacher: Any) -> tiny.Pair:
    template = tiny_encoders.reader(kind).template
    return tiny.Pair(student, teacher, template, template)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_of_a_step_is_the_formula(tmp_path: Path, kind: str) -> None:
    """Σ g·CE + (1 − g)·D over the targets, in float64 over the candidates of each."""
    student, teacher = tiny_encoders.bert(kind, seed=3), tiny_encoders.bert(kind, width=24, seed=4)
    rows = encoded(kind)
    batch = tiny.pair("kd", lora=False).collator("kd")(rows)
    assert batch["teacher"] is batch["student"]
    with torch.no_grad():
        own, other = (forward(model, batch["student"]) for model in (student, teacher))
    total, tau = 0.0, 2.0
    for n, target in enumerate(own.target_ids.tolist()):
        kept = own.mask[n]
        q, p = (side.logits[n, kept].double() for side in (own, other))
        compared = divergence("forward_kl")((q / tau).log_softmax(-1)[None], (p / tau).log_softmax(-1)[None])
        total += 0.7 * float(compared) - 0.3 * float(q.log_softmax(-1)[target])
    fields = {"steps": 1, "batch_size": len(rows), "loss_temperature": tau, "gold_weight": 0.3}
    trainer = tiny.trainer(tmp_path, "kd", made=pair(kind, student, teacher), rows=rows, **fields)
    assert trainer.train().training_loss == pytest.approx(total / len(own.target_ids), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_how_a_step_is_cut_changes_nothing(tmp_path: Path, kind: str) -> None:
    weights = []
    rows = encoded(kind)[:12]
    for size in (12, 4):
        made = pair(kind, tiny_encoders.bert(kind, seed=3).double(), tiny_encoders.bert(kind, width=24).double())
        fields = {"steps": 2, "batch_size": 12, "micro_batch_size": size, "learning_rate": 1e-2}
        trainer = tiny.trainer(tmp_path / str(size), "kd", made=made, rows=rows, **fields)
        trainer.train()
        weights.append(tiny.weights(trainer))
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_cache_gives_is_what_the_teacher_says(tmp_path: Path, kind: str) -> None:
    teacher = LocalTeacher(tiny_encoders.bert(kind, width=24, seed=4))
    rows = encoded(kind)
    targets = CandidatesFormat(8, (1.0,))
    write_identity(tmp_path, targets, {})
    fill(tmp_path, targets, teacher, rows_to_read(rows, 0), 0, torch.device("cpu"), lambda *_: None)
    batch = tiny.pair("kd", lora=False).collator("kd")(rows[3:9])
    live, kept = teacher.signal(batch), CachedTeacher(tmp_path, targets, 2.0).signal(batch)
    assert kept.lengths == live.lengths
    for own, other in ((kept.mask, live.mask), (kept.target_ids, live.target_ids)):
        assert torch.equal(own, other)
    torch.testing.assert_close(kept.states.masked(), live.states.masked(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mean", ["probabilities", "log_probabilities"])
def test_several_teachers_say_their_mean(mean: Any) -> None:
    models = [tiny_encoders.bert("choice", seed=seed) for seed in (1, 2)]
    batch = tiny.pair("kd", lora=False).collator("kd")(encoded("choice"))
    shares = torch.tensor([0.25, 0.75])
    heard = Ensemble([LocalTeacher(model) for model in models], lambda ids: shares.repeat(len(ids), 1), mean=mean)
    signal = heard.signal(batch)
    got = signal.states.masked().softmax(-1)
    each = [forward(model, batch["student"]).states.masked().softmax(-1) for model in models]
    for n, kept in enumerate(batch["student"]["candidates"]):
        p, q = (side[n, kept] for side in each)
        expected = 0.25 * p + 0.75 * q if mean == "probabilities" else (p**0.25 * q**0.75)
        torch.testing.assert_close(got[n, kept], expected / expected.sum(), atol=1e-5, rtol=1e-5)
        assert not got[n, ~kept].any()


def test_a_teacher_that_knows_outweighs_one_that_guesses() -> None:
    logits = torch.tensor([[[4.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    mixed = candidate_mean([CandidateLogits(side, mask) for side in logits], (0.5, 0.5), by_confidence=True)
    p = logits.softmax(-1)
    weight = (p * p.log()).sum(-1).exp()
    weight = weight / weight.sum(0)
    torch.testing.assert_close(mixed.masked().softmax(-1), (weight[..., None] * p).sum(0))


def test_a_student_learns_from_the_teacher_alone(tmp_path: Path) -> None:
    teacher = tiny_encoders.bert("choice", width=24, seed=4)
    student = tiny_encoders.bert("choice", seed=2)
    rows = encoded("choice")
    batch = tiny.pair("kd", lora=False).collator("kd")(rows)

    def disagreement() -> float:
        with torch.no_grad():
            own, other = (forward(model.eval(), batch["student"]).states.masked() for model in (student, teacher))
        return (other.softmax(-1) * (other.log_softmax(-1) - own.log_softmax(-1))).nan_to_num().sum(-1).mean().item()

    before = disagreement()
    fields = {"steps": 80, "batch_size": 16, "learning_rate": 5e-3, "gold_weight": 0.0}
    tiny.trainer(tmp_path, "kd", made=pair("choice", student, teacher), rows=rows, **fields).train()
    assert disagreement() < before / 4


def test_a_causal_teacher_s_scores_teach_a_classifier(tmp_path: Path) -> None:
    """Labels are the scorer's options, so a teacher and a student of different tokens have the same candidates."""
    from understudy import build
    from understudy.recipe import parse_recipe
    from understudy.tokens.options import ScoredOptionTokenizer, ScoringTemplate

    own = tiny.tokenizer(300)
    teacher = tiny.llama(300)
    teacher.config.understudy_scores_options = True
    scorer = ScoredOptionTokenizer(
        ScoringTemplate(own), tiny_encoders.DATA["classify"].model_copy(update={"max_length": 64})
    )
    reader = tiny_encoders.reader("classify")
    recipe = parse_recipe({"data": {"labels": list(tiny_encoders.LABELS)}})
    build.check_pair(recipe, reader.template, scorer.template, gives=LocalTeacher(teacher).gives)
    rows = encode_rows(tiny_encoders.texts(), reader, scorer)
    student = tiny_encoders.bert("classify")
    made = tiny.Pair(student, teacher, reader.template, scorer.template)
    fields = {"steps": 60, "batch_size": 18, "learning_rate": 5e-3, "gold_weight": 0.0}
    trainer = tiny.trainer(tmp_path, "kd", made=made, rows=rows, **fields)
    trainer.train()
    batch = made.collator("kd")(rows)
    with torch.no_grad():
        own_logits, said = forward(student.eval(), batch["student"]).logits, forward(teacher, batch["teacher"]).logits
    gap = (said.softmax(-1) - own_logits.softmax(-1)).abs().max()
    assert gap < 0.05
    assert dataclasses.is_dataclass(batch["student"]) is False
