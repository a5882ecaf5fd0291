"""Training encoder–decoders: the loss is the one of full logits, resuming changes nothing, nothing leaks."""

import dataclasses
from pathlib import Path

import pytest
import torch

from support.tiny import DATA, Pair, examples, llama, method_config, trainer, weights
from support.tiny_seq2seq import KINDS, model, pair, template, unigram
from understudy import build
from understudy.models.adapters import add_lora
from understudy.recipe import KdConfig, LoraConfig
from understudy.teachers.local import LocalTeacher
from understudy.tokens.collate import ExampleTokenizer, encode_rows
from understudy.tokens.template import Template
from understudy.training.checkpoints import last_checkpoint
from understudy.training.module import DistillationModule


def batch_of(made, num_forced=0):
    rows = made.rows("kd")
    if num_forced:
        rows = [
            dataclasses.replace(row, student=dataclasses.replace(row.student, num_forced=1), teacher=None)
            for row in rows
        ]
        return dataclasses.replace(made.collator("kd"), teacher_pad=None)(rows)
    return made.collator("kd")(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_kd_is_the_formula_on_full_logits(kind):
    made = pair(kind)
    student, teacher = made.student.double(), made.teacher.double()
    objective = build.objective(KdConfig(gold_weight=0.25, loss_temperature=2.0), student, teacher)
    batch = batch_of(made)
    assert batch["teacher"] is batch["student"]
    found = DistillationModule(student, objective)(batch, LocalTeacher(teacher).signal(batch))
    inputs, mask, ids = batch["student"]["inputs"], batch["student"]["target_mask"], batch["student"]["target_ids"]
    q, p = student(**inputs).logits[mask], teacher(**inputs).logits[mask].detach()
    gold = 0.25 * batch["gold_rows"].double().repeat_interleave(mask.sum(dim=1))
    logq, logp = (q / 2).log_softmax(-1), (p / 2).log_softmax(-1)
    divergence = (logp.exp() * (logp - logq)).sum(-1)
    entropy = torch.nn.functional.cross_entropy(q, ids, reduction="none")
    expected = (gold * entropy + (1 - gold) * divergence).sum()
    torch.testing.assert_close(found.total, expected, rtol=1e-9, atol=1e-9)
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    ours = torch.autograd.grad(found.total, trained)
    for one, other in zip(ours, torch.autograd.grad(expected, trained), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_supervised_loss_is_the_models_own(kind):
    made = pair(kind)
    batch = made.collator("sft")(made.rows("sft"))
    found = DistillationModule(made.student, build.gold_objective())(batch)
    tokens = batch["student"]
    labels = torch.full_like(tokens["target_mask"], -100, dtype=torch.long)
    labels[tokens["target_mask"]] = tokens["target_ids"]
    logits = made.student(**tokens["inputs"]).logits
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    torch.testing.assert_close(found.total / len(tokens["target_ids"]), expected)
    if kind == "t5":
        own = made.student(**{k: v for k, v in tokens["inputs"].items() if not k.startswith("decoder")}, labels=labels)
        torch.testing.assert_close(own.loss, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_given_is_read_and_not_learned(kind):
    made = pair(kind)
    learned, whole = batch_of(made, num_forced=1)["student"], batch_of(made)["student"]
    module = DistillationModule(made.student, build.gold_objective())
    found = module({"student": learned, "gold_rows": torch.ones(12, dtype=torch.bool), "ids": []}).total
    entropy = torch.nn.functional.cross_entropy(
        made.student(**whole["inputs"]).logits[whole["target_mask"]], whole["target_ids"], reduction="none"
    )
    ends = whole["target_mask"].sum(dim=1).cumsum(dim=0)
    firsts = [0, *ends[:-1].tolist()]
    torch.testing.assert_close(found, entropy.sum() - entropy[firsts].sum(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_recomputed_activations_give_the_same_gradients(kind, lora):
    def gradients(recompute):
        made = pair(kind)
        if lora:
            torch.manual_seed(2)
            made = dataclasses.replace(made, student=add_lora(made.student, LoraConfig(r=2)))
            for name, parameter in made.student.named_parameters():
                if "lora_B" in name:
                    parameter.data.fill_(0.1)
        module = DistillationModule(made.student, build.gold_objective())
        if recompute:
            module.activation_checkpointing_enable()
            assert module.is_activation_checkpointing
        module.train()
        module(made.collator("sft")(made.rows("sft"))).total.backward()
        return {name: p.grad for name, p in module.named_parameters() if p.requires_grad}

    plain, again = gradients(False), gradients(True)
    assert all(gradient is not None for gradient in plain.values())
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize(("kind", "method"), [("t5", "kd"), ("bart", "sft"), ("t5-v1.1", "dskd")])
def test_four_steps_are_two_and_two_more(kind, method, tmp_path):
    def run(folder: Path, steps: int):
        made = trainer(folder, method, made=pair(kind, dropout=0.2), steps=4, save_every=2, schedule="constant")
        if steps < 4:
            made.args.max_steps = steps
        checkpoint = last_checkpoint(folder)
        made.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        return weights(made)

    whole = run(tmp_path / "whole", 4)
    half = run(tmp_path / "parts", 2)
    resumed = run(tmp_path / "parts", 4)
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=1e-7, msg=name)
    assert any(not torch.equal(half[name], value) for name, value in whole.items())


def test_accumulation_changes_no_gradient_step(tmp_path):
    one = trainer(tmp_path / "one", "kd", made=pair("t5"), steps=2, batch_size=6)
    one.train()
    three = trainer(tmp_path / "three", "kd", made=pair("t5"), steps=2, batch_size=6, micro_batch_size=2)
    three.train()
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(three)[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_answers_can_be_aligned_across_vocabularies():
    ours, theirs = template("t5"), template("bart")
    cross_tokenizer = build.cross_tokenizer(method_config("min_edit"), ours, theirs)
    rows = encode_rows(examples(), ExampleTokenizer(ours, DATA), ExampleTokenizer(theirs, DATA), cross_tokenizer)
    assert all((row.alignment.partners >= 0).any() for row in rows)


@pytest.mark.parametrize("method", ["dskd_cma", "dskd_v2", "min_edit", "uld", "byte_aligned"])
def test_methods_across_vocabularies_take_steps(method, tmp_path):
    ours, theirs = template("t5"), template("bart")
    made = Pair(model("t5", 300), model("bart", 300, width=24, seed=1), ours, theirs)
    run = trainer(tmp_path, method, made=made, steps=2)
    before = weights(run)
    run.train()
    losses = [row["loss"] for row in run.state.log_history if "loss" in row]
    assert len(losses) == 2
    assert all(loss > 0 for loss in losses)
    changed = [name for name, value in weights(run).items() if not torch.equal(value, before[name])]
    assert "student.shared.weight" in changed


def test_a_causal_teacher_is_compared_on_the_answer_tokens_alone():
    ours = template("t5")
    theirs = Template(unigram())
    made = Pair(model("t5", 300), llama(300), ours, theirs)
    batch = made.collator("kd")(made.rows("kd"))
    assert "decoder_input_ids" not in batch["teacher"]["inputs"]
    assert torch.equal(batch["teacher"]["target_ids"], batch["student"]["target_ids"])
    signal = LocalTeacher(made.teacher).signal(batch)
    objective = build.objective(KdConfig(gold_weight=0.0), made.student, made.teacher)
    found = DistillationModule(made.student, objective)(batch, signal)
    own, other = batch["student"], batch["teacher"]
    logq = made.student(**own["inputs"]).logits[own["target_mask"]].log_softmax(-1)
    logp = made.teacher(**other["inputs"]).logits[other["target_mask"]].log_softmax(-1)
    torch.testing.assert_close(found.total, (logp.exp() * (logp - logq)).sum(), rtol=1e-4, atol=1e-4)
