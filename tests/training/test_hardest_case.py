"""The contracts on their hardest case: cross-model attention, tied embeddings, adapters on every layer and the head."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from support.tiny import EVERY_LINEAR, Pair, llama, pair, trainer, weights
from understudy.models.adapters import add_lora, merged
from understudy.models.forward import forward, probe
from understudy.models.output import Output
from understudy.recipe import LoraConfig
from understudy.tokens.template import Template
from understudy.training.checkpoints import MARKER, last_checkpoint
from understudy.training.module import WEIGHTS_FILE


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """30 steps of the hardest case: (trainer, folder, the teacher's weights before)."""
    folder = tmp_path_factory.mktemp("trained")
    made = pair("dskd_cma")
    before = {name: value.clone() for name, value in made.teacher.state_dict().items()}
    run = trainer(folder, made=made, steps=30, batch_size=6, save_every=30, schedule="constant", warmup=0.0)
    run.train()
    return run, folder, before


def test_it_learns(trained):
    _, folder, _ = trained
    losses = [row["loss"] for row in metrics(folder) if "loss" in row]
    assert len(losses) == 30
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])


def test_the_teacher_never_changes(trained):
    run, _, before = trained
    after = run.teacher.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.grad is None and not p.requires_grad for p in run.teacher.model.parameters())
    assert not run.teacher.model.training


def test_only_adapters_and_projectors_are_trained(trained):
    run, *_ = trained
    fresh = weights(trainer(Path("unused"), made=pair("dskd_cma"), steps=1))
    now = weights(run)
    assert now.keys() == fresh.keys()
    adapters = [name for name in now if "lora_" in name]
    projectors = [name for name in now if name.startswith("objective.spaces.")]
    assert len(adapters) == 2 * (2 * 7 + 1)
    assert set(now) == set(adapters) | set(projectors)
    for name in now:
        assert not torch.equal(now[name], fresh[name]), name


def test_projectors_have_their_own_learning_rate(trained):
    run, *_ = trained
    of_projectors = {id(p) for p in run.module.objective.parameters()}
    seen = set()
    for group in run.optimizer.param_groups:
        for parameter in group["params"]:
            assert group["initial_lr"] == (3e-3 if id(parameter) in of_projectors else 1e-2)
            seen.add(id(parameter))
    assert seen == {id(p) for p in run.module.parameters() if p.requires_grad}


def test_the_checkpoint_holds_what_is_trained_and_no_teacher(trained):
    run, folder, _ = trained
    checkpoint = last_checkpoint(folder)
    with safe_open(checkpoint / WEIGHTS_FILE, framework="pt") as stored:
        assert set(stored.keys()) == set(weights(run))
        for name, value in weights(run).items():
            assert torch.equal(stored.get_tensor(name), value)
    files = {path.name for path in checkpoint.rglob("*")}
    assert files == {WEIGHTS_FILE, "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", MARKER}


def test_every_term_is_logged(trained):
    _, folder, _ = trained
    lines = [row for row in metrics(folder) if "loss" in row]
    terms = {"student_space", "teacher_space", "projection", "gold"}
    statistics = {"agreement", "student_entropy", "teacher_entropy"}
    for row in lines:
        assert terms | statistics | {"grad_norm", "learning_rate", "step"} <= row.keys()
        assert 0 <= row["agreement"] <= 1
    assert lines[-1]["gold"] < lines[0]["gold"]


def test_merged_export_is_the_trained_model(trained, tmp_path):
    _, folder, _ = trained
    made = pair("dskd_cma")
    run = trainer(folder, made=made, steps=1)
    run.module.load_trainable(last_checkpoint(folder))
    student = made.student.eval()
    ids = torch.tensor([made.rows("sft")[0].student.ids])
    with torch.no_grad():
        expected = student(input_ids=ids).logits
        final = merged(student)
        torch.testing.assert_close(final(input_ids=ids).logits, expected, atol=1e-4, rtol=1e-4)
        final.save_pretrained(tmp_path)
        again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
        torch.testing.assert_close(again(input_ids=ids).logits, expected, atol=1e-4, rtol=1e-4)
    assert again.config.tie_word_embeddings is False
    assert again.get_output_embeddings().weight is not again.get_input_embeddings().weight
    assert not torch.equal(again.get_output_embeddings().weight, again.get_input_embeddings().weight)


@pytest.mark.parametrize("targets", [EVERY_LINEAR[:-1], ["embed_tokens"], ["embed_tokens", "lm_head"], "all-linear"])
def test_ties_hold_unless_an_adapter_set_one_side_apart(targets, tmp_path):
    model = llama(320, tied=True)
    adapted = add_lora(model, LoraConfig(r=4, target_modules=targets))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    ids = torch.arange(1, 12)[None]
    with torch.no_grad():
        probe(adapted, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
        expected = adapted(input_ids=ids).logits
        final = merged(adapted)
        torch.testing.assert_close(final(input_ids=ids).logits, expected, atol=1e-4, rtol=1e-4)
        final.save_pretrained(tmp_path)
        again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
        torch.testing.assert_close(again(input_ids=ids).logits, expected, atol=1e-4, rtol=1e-4)
    tied = again.get_output_embeddings().weight is again.get_input_embeddings().weight
    assert tied == (not {"embed_tokens", "lm_head"} & set(targets))


def test_full_fine_tuning_keeps_the_tie(tmp_path):
    run = trainer(tmp_path, "dskd_cma", lora=False, steps=2)
    run.train()
    student = run.module.student
    assert student.get_output_embeddings().weight is student.get_input_embeddings().weight
    names = weights(run)
    assert "student.model.embed_tokens.weight" in names
    assert "student.lm_head.weight" not in names
    student.save_pretrained(tmp_path / "model")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    assert again.get_output_embeddings().weight is again.get_input_embeddings().weight
    ids = torch.arange(1, 9)[None]
    torch.testing.assert_close(again(input_ids=ids).logits, student.eval()(input_ids=ids).logits)


@pytest.mark.parametrize("method", ["sft", "kd", "dskd", "dskd_cma"])
@pytest.mark.parametrize("lora", [True, False])
def test_every_parameter_gets_a_gradient(method, lora):
    """DDP waits for each of them."""
    made = pair(method, lora=lora)
    run = trainer(Path("unused"), method, made=made, steps=1)
    batch = run.data_collator(run.train_dataset.rows[:4])
    signal = run.teacher.signal(batch) if run.teacher else None
    if signal:
        assert isinstance(signal, Output)
        assert not signal.hidden.requires_grad
    run.module(batch, signal).total.backward()
    missing = [name for name, p in run.module.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    assert all(torch.isfinite(p.grad).all() for p in run.module.parameters() if p.grad is not None)


def test_forward_never_makes_logits():
    made = pair("dskd_cma")
    batch = made.collator("dskd_cma")(made.rows("dskd_cma")[:3])
    seen = []
    made.student.get_base_model().lm_head.register_forward_hook(lambda *_: seen.append(1))
    output = forward(made.student, batch["student"], embeddings=True)
    assert seen == []
    assert output.hidden.shape == output.input_embeddings.shape == output.target_embeddings.shape
    assert sum(output.lengths) == len(output.target_ids) == len(output.hidden)


def test_real_models_of_two_vocabularies(shared, tmp_path):
    """A pretrained storyteller of 512 word pieces teaches one of 105 letters, adapters on its head."""
    teacher, student = (shared / "models" / name for name in ("stories260k", "babyllama-char105"))
    made = Pair(
        add_lora(AutoModelForCausalLM.from_pretrained(student), LoraConfig(r=4, target_modules=[*EVERY_LINEAR])),
        AutoModelForCausalLM.from_pretrained(teacher),
        Template(AutoTokenizer.from_pretrained(student)),
        Template(AutoTokenizer.from_pretrained(teacher)),
    )
    for model, template in ((made.student, made.template), (made.teacher, made.teacher_template)):
        ids = torch.tensor([template.encode([{"role": "user", "content": "Who is she?"}], "Lily").ids])
        assert probe(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}) < 1e-4
    run = trainer(tmp_path, made=made, steps=6, batch_size=6, learning_rate=5e-3, schedule="constant", warmup=0.0)
    run.train()
    losses = [row["loss"] for row in metrics(tmp_path) if "loss" in row]
    assert losses[-1] < losses[0]
