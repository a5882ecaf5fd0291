"""Models that make vectors are distilled by the trainer and objective of every other student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from support import tiny, tiny_embed, tiny_span
from support.stopping import StopAt
from understudy import build
from understudy.errors import ConfigError, ModelError, VocabularyMismatch
from understudy.models.forward import forward
from understudy.recipe import FeaturesConfig, parse_recipe
from understudy.teachers.ensemble import Ensemble
from understudy.teachers.local import LocalTeacher
from understudy.tokens.collate import encode_rows
from understudy.training.module import DistillationModule
from understudy.training.objectives.features import FeatureObjective
from understudy.types import Example

CELLS: dict[str, Any] = {"student": {"seed": 3}, "teacher": {"width": 24, "seed": 4}}


def made() -> tuple[tiny.Pair, list]:
    """A pair of two widths, and its rows."""
    reader = tiny_embed.reader()
    student, teacher = (tiny_embed.bert(**fields) for fields in CELLS.values())
    return tiny.Pair(student, teacher, reader.template, reader.template), encode_rows(tiny_embed.rows(), reader, reader)


def similarities(model: Any) -> torch.Tensor:
    """`[16, 8]` cosines of all queries and passages in float64, each text read by itself."""

    def vectors(texts: list[str]) -> torch.Tensor:
        each = []
        for text in texts:
            inputs = tiny_embed.shared_tokenizer()(text, return_tensors="pt")
            with torch.no_grad():
                pooled = model(**inputs).last_hidden_state[0].double().mean(0)
            each.append(pooled / pooled.norm())
        return torch.stack(each)

    return vectors([row.question for row in tiny_embed.rows()]) @ vectors(list(tiny_embed.PASSAGES)).T


def test_the_loss_of_a_step_is_infonce_beside_kl_of_similarities(tmp_path: Path) -> None:
    """Σ g·(−log softmax(s/τ)_right) + (1 − g)·KL(softmax(t/τ'/T) ‖ softmax(s/τ/T)), in float64."""
    pair, rows = made()
    own, other = (similarities(model) / tiny_embed.SETTINGS.temperature for model in (pair.student, pair.teacher))
    total, temperature = 0.0, 2.0
    for n in range(16):
        q, p = own[n] / temperature, other[n] / temperature
        kl = (p.softmax(-1) * (p.log_softmax(-1) - q.log_softmax(-1))).sum()
        total += 0.7 * float(kl) - 0.3 * float(own[n].log_softmax(-1)[n % 8])
    fields = {"steps": 1, "batch_size": 16, "loss_temperature": temperature, "gold_weight": 0.3}
    trainer = tiny.trainer(tmp_path, "kd", made=pair, rows=rows, **fields)
    assert trainer.train().training_loss == pytest.approx(total / 16, rel=1e-5)


def test_gold_alone_is_infonce_with_in_batch_negatives(tmp_path: Path) -> None:
    pair, rows = made()
    own = similarities(pair.student) / tiny_embed.SETTINGS.temperature
    expected = -sum(float(own[n].log_softmax(-1)[n % 8]) for n in range(16)) / 16
    trainer = tiny.trainer(tmp_path, "sft", made=pair, rows=rows, steps=1, batch_size=16)
    assert trainer.train().training_loss == pytest.approx(expected, rel=1e-5)


def test_texts_without_a_passage_are_learned_from_the_teacher_alone(tmp_path: Path) -> None:
    """What a teacher found for a text counts as no gold: similarities alone are learned, and they come near."""
    pair, _ = made()
    reader = tiny_embed.reader()
    asked = [Example(row.id, row.question) for row in tiny_embed.rows()]
    from understudy.models.generate import answer_examples

    found = answer_examples(pair.teacher, reader, asked, batch_size=8)
    learned = [
        Example(row.id, row.question, (answer.text,), origin="teacher")
        for row, answer in zip(asked, found, strict=True)
    ]
    rows = encode_rows(learned, reader, reader)
    batch = pair.collator("kd")(rows)
    assert not batch["gold_rows"].any()

    def gap() -> float:
        with torch.no_grad():
            own, other = (forward(model.eval(), batch["student"]) for model in (pair.student, pair.teacher))
        q, p = (side.states.masked().log_softmax(-1) for side in (own, other))
        return float((p.exp() * (p - q).nan_to_num()).sum(-1).mean())

    before = gap()
    # Whatever gold_weight says, there is no gold.
    fields = {"steps": 60, "batch_size": 16, "learning_rate": 5e-3, "gold_weight": 0.9}
    tiny.trainer(tmp_path, "kd", made=pair, rows=rows, **fields).train()
    assert gap() < before / 4


def test_stopped_and_gone_on_ends_with_the_same_bytes(tmp_path: Path) -> None:
    weights = []
    for name, stop in (("whole", 0), ("stopped", 2)):
        fields = {"steps": 4, "batch_size": 8, "save_every": 2}
        pair, rows = made()
        trainer = tiny.trainer(tmp_path / name, "kd", made=pair, rows=rows, **fields)
        if stop:
            trainer.add_callback(StopAt(stop))
        trainer.train()
        if stop:
            pair, rows = made()
            trainer = tiny.trainer(tmp_path / name, "kd", made=pair, rows=rows, **fields)
            trainer.train(resume_from_checkpoint=str(tmp_path / name / "checkpoint-2"))
        weights.append(tiny.weights(trainer))
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_several_teachers_say_their_mean() -> None:
    models = [tiny_embed.bert(seed=seed) for seed in (1, 2)]
    pair, rows = made()
    batch = pair.collator("kd")(rows)
    shares = torch.tensor([0.25, 0.75])
    heard = Ensemble([LocalTeacher(model) for model in models], lambda ids: shares.repeat(len(ids), 1))
    got = heard.signal(batch).states.masked().softmax(-1)
    p, q = (forward(model, batch["student"]).states.masked().softmax(-1).detach() for model in models)
    torch.testing.assert_close(got.float(), 0.25 * p + 0.75 * q, atol=1e-5, rtol=1e-5)


def features(config: dict[str, Any], *, own: Any = None) -> tuple[DistillationModule, dict[str, Any], Any]:
    """A module with losses of inner states, a batch, and what the teacher says of it."""
    reader = tiny_embed.reader()
    other = tiny_embed.reader(own=own) if own else reader
    student = tiny_embed.bert(seed=3)
    teacher = tiny_embed.bert(width=24, layers=4, seed=4, tokens=len(own) if own else None)
    rows = encode_rows(tiny_embed.rows(), reader, other)
    pair = tiny.Pair(student, teacher, reader.template, other.template)
    torch.manual_seed(3)
    inner = build.objective(tiny.method_config("kd", gold_weight=0.3), student, teacher)
    objective = FeatureObjective(inner, FeaturesConfig(**config), student, teacher)
    heard = LocalTeacher(teacher)
    heard.features = objective.of_teacher
    batch = pair.collator("kd")(rows)
    return DistillationModule(student, objective), batch, heard.signal(batch)  # pyright: ignore


@pytest.mark.parametrize("loss", ["cosine", "mse"])
@pytest.mark.parametrize("tokens", ["same", "other"])
def test_vectors_are_compared_by_the_formula(loss: str, tokens: str) -> None:
    """Of a row the mean over its texts: its query, and the passages that it is the first to bring."""
    own = tiny_span.tokenizer(tiny_embed.PASSAGES, 90) if tokens == "other" else None
    module, batch, signal = features({"hidden": 0, "sentence": 2.0, "sentence_loss": loss}, own=own)
    assert (batch["teacher"] is batch["student"]) == (own is None)
    result = module(batch, signal)
    objective = module.objective
    assert isinstance(objective, FeatureObjective)
    with torch.no_grad():
        output = forward(module.student, batch["student"])
        mapped = objective.projections["sentence"](output.vectors).double()
    other = signal.vectors.double()
    each = (mapped - other).square().mean(-1)
    if loss == "cosine":
        each = 1 - (mapped * other).sum(-1) / (mapped.norm(dim=-1) * other.norm(dim=-1))
    expected = 0.0
    for n in range(16):
        texts = [m for m, owner in enumerate(batch["student"]["owners"].tolist()) if owner == n]
        expected += sum(float(each[m]) for m in texts) / len(texts)
    assert float(result.sums["features_sentence"]) == pytest.approx(expected, rel=1e-4)
    plain = objective.main(output, signal, batch)
    added = float(result.total.detach()) - float(plain.total)
    assert added == pytest.approx(2 * expected, rel=1e-3)


def test_hidden_states_and_relations_of_queries_and_passages() -> None:
    module, batch, signal = features({"hidden": 0.5, "embedding": 0.1, "relation": 1.0, "relation_heads": 2})
    result = module(batch, signal)
    assert all(float(result.sums[f"features_{name}"]) > 0 for name in ("hidden", "embedding", "relation"))
    result.total.backward()
    assert module.student.encoder.layer[0].attention.self.query.weight.grad.abs().sum() > 0


def recipe(**fields: Any) -> Any:
    return parse_recipe({"teacher": {"model": "t"}, "student": {"model": "s"}, **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"distil": {"batch_size": 8, "micro_batch_size": 4}}, "distil.micro_batch_size 4 would cut the passages"),
        (
            {"student": {"model": "s", "sft": {"batch_size": 8, "micro_batch_size": 2}}},
            "student.sft.micro_batch_size 2 would cut",
        ),
        ({"distil": {"on_policy": {"share": 0.5}}}, "needs a student that writes"),
    ],
)
def test_what_in_batch_negatives_do_not_go_with_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build.check_embeds(recipe(**fields), tiny_embed.reader().template)


def test_pairs_that_do_not_fit_are_refused() -> None:
    from support import tiny_encoders
    from understudy.caching import check_cache

    own, other = tiny_embed.reader().template, tiny_encoders.reader("classify").template
    gives = LocalTeacher(tiny_embed.bert()).gives
    with pytest.raises(ModelError, match="the teacher gives a text a label, and the student finds passages"):
        build.check_pair(recipe(), own, other, gives=gives)
    with pytest.raises(ConfigError, match=r"reads hidden states|dskd"):
        build.check_pair(recipe(distil={"method": "dskd"}), own, own, gives=gives)
    with pytest.raises(ConfigError, match=r"features\.sentence compares vectors"):
        build.check_features(recipe(features={"hidden": 0, "sentence": 1}), other, other)
    with pytest.raises(ConfigError, match=r"teacher\.cache keeps what is said of a row"):
        check_cache(recipe(teacher={"model": "t", "cache": {}}), own)
    theirs = tiny_embed.reader(own=tiny_span.tokenizer(tiny_embed.PASSAGES, 90)).template
    build.check_pair(recipe(features={"hidden": 0, "sentence": 1}), own, theirs, gives=gives)
    with pytest.raises(VocabularyMismatch):
        build.check_pair(recipe(features={"sentence": 1}), own, theirs, gives=gives)
