"""Inner states beside the objective: of encoders and of causal models, whatever a step is cut into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from support import tiny, tiny_encoders
from understudy import build
from understudy.errors import ConfigError, ModelError
from understudy.losses import features as distances
from understudy.models.features import taking
from understudy.models.forward import forward
from understudy.models.inner_states import WantedFeatures
from understudy.recipe import FeaturesConfig, parse_recipe
from understudy.teachers.local import LocalTeacher
from understudy.tokens.collate import encode_rows
from understudy.training.module import DistillationModule
from understudy.training.objectives.features import FeatureObjective, layer_map
from understudy.training.trainer import DistillationTrainer

EVERYTHING = {"hidden": 0.5, "embedding": 0.25, "relation": 2.0, "relation_heads": 2}


def trainer(
    folder: Path, kind: str, features: dict[str, Any], *, exact: bool = False, **fields: Any
) -> DistillationTrainer:
    """A trainer of a pair of a kind whose objective reads inner states."""
    if kind == "causal":
        made = tiny.pair("kd", lora=False)
        rows = made.rows("kd")
    else:
        template = tiny_encoders.reader(kind).template
        student = tiny_encoders.bert(kind, seed=3)
        teacher = tiny_encoders.bert(kind, width=24, layers=4, seed=4)
        made = tiny.Pair(student, teacher, template, template)
        reader = tiny_encoders.reader(kind)
        rows = encode_rows(tiny_encoders.ROWS[kind]()[:12], reader, reader)
    if exact:
        made.student.double(), made.teacher.double()
    config = FeaturesConfig(**features)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        inner = build.objective(tiny.method_config("kd", gold_weight=0.3), made.student, made.teacher)
        objective = FeatureObjective(inner, config, made.student, made.teacher).to(made.student.dtype)
    teacher = LocalTeacher(made.teacher)
    teacher.features = objective.of_teacher
    trainer = tiny.trainer(folder, "kd", made=made, rows=rows, teacher=teacher, batch_size=12, **fields)
    module = DistillationModule(made.student, objective)
    trainer.model = trainer.model_wrapped = module
    return trainer


@pytest.mark.parametrize("kind", ["choice", "classify", "tag", "causal"])
@pytest.mark.parametrize("loss", ["mse", "cosine", "cka"])
def test_the_loss_is_the_formula(tmp_path: Path, kind: str, loss: str) -> None:
    own = trainer(
        tmp_path,
        kind,
        {**EVERYTHING, "hidden_loss": loss, "relations": ["query", "value"]}
        | ({"relations": ["query"]} if kind == "causal" else {}),
        steps=1,
    )
    module, rows = own.module, list(own.train_dataset.rows)  # pyright: ignore
    objective, student = module.objective, module.student.eval()
    assert isinstance(objective, FeatureObjective)
    batch = own.data_collator(rows)
    signal = own.teacher.signal(batch)  # pyright: ignore
    result = module(batch, signal)
    plain = objective.main(forward(student, batch["student"]), signal, batch)
    inputs, mask = batch["student"]["inputs"], batch["student"]["inputs"]["attention_mask"].flatten(0, -2).bool()
    teacher = own.teacher.model  # pyright: ignore
    with torch.no_grad():
        states = [model(**inputs, output_hidden_states=True).hidden_states for model in (student, teacher)]
    # What a causal model lists last is behind its last norm, so layers are compared up to the one before.
    distance = {"mse": distances.mse, "cosine": distances.cosine, "cka": distances.cka}
    lengths = torch.tensor(forward(student, batch["student"]).lengths)
    if kind != "causal":
        total = 0.0
        for n, m in {1: 2, 2: 4}.items():
            h = states[0][n]
            h = objective.projections[str(n)](h) if loss != "cka" else h
            total = total + distance[loss](h, states[1][m], mask) / 2
        start = objective.projections["0"](states[0][0])
        begin = distance["mse" if loss == "cka" else loss](start, states[1][0], mask)
        texts = 0.5 * total + 0.25 * begin
        if kind == "choice":
            counts = batch["student"]["candidates"].sum(1).tolist()
            texts = torch.stack([piece.mean() for piece in texts.split(counts)])
        expected = float((lengths * texts).detach().sum())
        measured = float(0.5 * result.sums["features_hidden"] + 0.25 * result.sums["features_embedding"])
        assert measured == pytest.approx(expected, rel=1e-4)
    added = sum(
        EVERYTHING[name] * float(result.sums[f"features_{name}"]) for name in ("hidden", "embedding", "relation")
    )
    assert float(result.total.detach()) == pytest.approx(float(plain.total.detach()) + added, rel=1e-5)
    assert all(float(result.sums[f"features_{name}"]) > 0 for name in ("hidden", "embedding", "relation"))


@pytest.mark.parametrize("kind", ["choice", "tag"])
def test_how_a_step_is_cut_changes_nothing(tmp_path: Path, kind: str) -> None:
    weights = []
    for size in (12, 4):
        own = trainer(tmp_path / str(size), kind, EVERYTHING, exact=True, steps=2, micro_batch_size=size)
        own.train()
        weights.append(tiny.weights(own))
    assert any(name.startswith("objective.projections") for name in weights[0])
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, atol=1e-6, rtol=1e-6)


def test_a_student_comes_nearer_to_its_teacher(tmp_path: Path) -> None:
    own = trainer(tmp_path, "classify", {"relation": 1.0}, steps=40, learning_rate=5e-3)
    batch = own.data_collator(list(own.train_dataset.rows))  # pyright: ignore
    signal = own.teacher.signal(batch)  # pyright: ignore
    with torch.no_grad():
        before = own.module(batch, signal).sums
    own.train()
    with torch.no_grad():
        after = own.module.eval()(batch, signal).sums
    for name in ("features_hidden", "features_relation"):
        assert float(after[name]) < 0.8 * float(before[name])


def test_layers_are_laid_out_evenly_or_as_they_are_named() -> None:
    assert layer_map(FeaturesConfig(hidden=1), 3, 12) == {1: 4, 2: 8, 3: 12}
    assert layer_map(FeaturesConfig(hidden=1, layers={1: 5}), 3, 12) == {1: 5}
    with pytest.raises(ConfigError, match="the teacher has 12"):
        layer_map(FeaturesConfig(hidden=1, layers={1: 13}), 3, 12)
    with pytest.raises(ConfigError, match="relation_layer"):
        layer_map(FeaturesConfig(relation=1, relation_layer=13), 3, 12)


def test_heads_must_divide_both_widths() -> None:
    student, teacher = tiny_encoders.bert("choice"), tiny_encoders.bert("choice", width=24, heads=3)
    inner = build.objective(tiny.method_config("kd"), student, teacher)
    with pytest.raises(ConfigError, match="relation_heads 3 does not divide the width 16"):
        FeatureObjective(inner, FeaturesConfig(relation=1), student, teacher)


def test_models_that_read_other_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="give hidden, embedding, relation or sentence a weight"):
        FeaturesConfig(hidden=0)
    encoder, other = tiny_encoders.reader("choice").template, tiny_encoders.reader("tag").template
    recipe = {"features": {"hidden": 1.0}}
    cached = parse_recipe({**recipe, "teacher": {"model": "m", "cache": {}}})
    with pytest.raises(ConfigError, match="features needs inner states of one teacher"):
        build.check_features(cached, encoder, encoder)
    forgetful = parse_recipe({**recipe, "distil": {"gradient_checkpointing": True}})
    with pytest.raises(ConfigError, match="gradient_checkpointing"):
        build.check_features(forgetful, encoder, encoder)
    with pytest.raises(ModelError, match="read a row in two ways"):
        build.check_features(parse_recipe(recipe), encoder, other)


def test_hooks_are_gone_afterwards() -> None:
    model = tiny_encoders.bert("choice")
    with taking(model, WantedFeatures((0, 1), ("query",), 2)) as taken:
        reader = tiny_encoders.reader("choice")
        forward(model, type(row := reader.encode(tiny_encoders.choices()[0])).batched([row], 0))
    assert set(taken.hidden) == {0, 1}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
