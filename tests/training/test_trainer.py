"""The loop: what is logged, what is kept, and what stops it."""

import json

import pytest
import torch

from support.stopping import StopAt
from support.tiny import DATA, EVERY_LINEAR, examples, llama, pair, trainer, weights
from understudy.errors import ConfigError, RunError
from understudy.evaluation.predict import dev_scores
from understudy.models.adapters import add_lora
from understudy.recipe import LoraConfig, TrainConfig
from understudy.tokens.collate import ExampleTokenizer, encode_rows
from understudy.tokens.template import Template
from understudy.training.checkpoints import last_checkpoint
from understudy.training.module import DistillationModule
from understudy.training.objectives.cross_entropy import CrossEntropy
from understudy.training.schedule import train_schedule


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# -- plan ------------------------------------------------------------------------------------------------------------


def test_plan_of_epochs_and_micro_batches():
    numbers = train_schedule(TrainConfig(epochs=3, batch_size=8, micro_batch_size=2, warmup=0.1), 20)
    assert (numbers.steps, numbers.micro_batch_size, numbers.accumulation) == (9, 2, 4)
    assert (numbers.warmup_steps, numbers.eval_every, numbers.save_every) == (1, 3, 3)
    assert train_schedule(TrainConfig(epochs=3, batch_size=8), 20, processes=2).steps == 6
    assert train_schedule(TrainConfig(steps=7), 20).steps == 7
    assert train_schedule(TrainConfig(epochs=0.01), 20).steps == 1


def test_nothing_to_train_on_is_named():
    with pytest.raises(ConfigError, match="no rows to train on"):
        train_schedule(TrainConfig(), 0)


# -- stopping at what is no number -------------------------------------------------------------------------------------


def rows_named(message):
    return {name.strip() for name in message.split("on the rows ")[1].split("(")[0].split(",")}


def test_a_loss_that_is_no_number_stops_with_its_rows_named(tmp_path):
    run = trainer(tmp_path, "dskd_cma", steps=4, batch_size=4, micro_batch_size=2)
    seen = []

    real = run.data_collator

    def collate(rows):
        seen.append([row.id for row in rows])
        return real(rows)

    run.data_collator = collate
    with torch.no_grad():
        next(p for n, p in run.module.named_parameters() if "spaces.query" in n).fill_(float("nan"))
    with pytest.raises(RunError, match="the loss became nan at step 1") as caught:
        run.train()
    assert rows_named(str(caught.value)) == set(seen[0])
    assert "learning rate" in caught.value.hint
    assert last_checkpoint(tmp_path) is None


def test_a_gradient_that_is_no_number_stops_before_the_update(tmp_path):
    """The loss is still finite; the next one would not be, and would blame rows that did nothing."""
    run = trainer(tmp_path, "kd", steps=4, batch_size=4, micro_batch_size=2, save_every=1)

    class Overflow(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * (float("inf") if run.state.global_step == 1 else 1.0)

    run.module.student.get_base_model().model.norm.register_forward_hook(lambda *parts: Overflow.apply(parts[2]))
    batches = []
    real = run.data_collator

    def collate(rows):
        batches.append([row.id for row in rows])
        return real(rows)

    run.data_collator = collate
    with pytest.raises(RunError, match=r"the gradient became (nan|inf) at step 2") as caught:
        run.train()
    assert rows_named(str(caught.value)) == set(batches[2] + batches[3])
    assert all(torch.isfinite(value).all() for value in weights(run).values())


# -- metrics ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "terms"),
    [
        ("sft", {"gold"}),
        ("kd", {"gold", "divergence"}),
        ("dskd", {"gold", "student_space", "teacher_space", "projection"}),
        ("dskd_cma", {"gold", "student_space", "teacher_space", "projection"}),
    ],
)
def test_metrics_hold_every_term(tmp_path, method, terms):
    trainer(tmp_path, method, steps=2).train()
    rows = [row for row in lines(tmp_path) if "loss" in row]
    statistics = set() if method == "sft" else {"agreement", "student_entropy", "teacher_entropy"}
    assert [row["step"] for row in rows] == [1, 2]
    frame = {"loss", "grad_norm", "learning_rate", "epoch", "step"}
    for row in rows:
        assert row.keys() == terms | statistics | frame


def test_logged_terms_are_means_over_target_tokens(tmp_path):
    """All rows in one step: each term must be its sum over all target tokens divided by their number."""
    run = trainer(tmp_path, "kd", steps=1, batch_size=12, micro_batch_size=4)
    batch = run.data_collator(run.train_dataset.rows)
    run.module.objective.statistics = True
    with torch.no_grad():
        result = run.module(batch, run.teacher.signal(batch))
    run.train()
    row = lines(tmp_path)[0]
    tokens = result.sums["tokens"].item()
    for name in ("gold", "divergence", "agreement", "student_entropy", "teacher_entropy"):
        assert row[name] == pytest.approx(result.sums[name].item() / tokens, rel=1e-5), name
    assert row["loss"] == pytest.approx(result.total.item() / tokens, rel=1e-5)


# -- the best weights --------------------------------------------------------------------------------------------------


def test_the_weights_of_the_best_evaluation_come_back(tmp_path):
    scores, seen = iter([0.2, 0.7, 0.5, 0.6]), []

    def dev_score(student):
        seen.append({name: p.detach().clone() for name, p in student.named_parameters() if p.requires_grad})
        return {"rougeL": next(scores)}

    run = trainer(tmp_path, "dskd_cma", steps=4, eval_every=1, dev_score=dev_score)
    run.train()
    run.load_best()
    assert (run.state.best_metric, run.state.best_global_step) == (0.7, 2)
    now = {name: p for name, p in run.module.student.named_parameters() if p.requires_grad}
    assert all(torch.equal(now[name], seen[1][name]) for name in now)
    assert any(not torch.equal(now[name], seen[3][name]) for name in now)
    logged = [row for row in lines(tmp_path) if "eval_rougeL" in row]
    assert [(row["step"], row["eval_rougeL"]) for row in logged] == [(1, 0.2), (2, 0.7), (3, 0.5), (4, 0.6)]


def test_of_equally_good_evaluations_the_last_one_is_kept_after_a_stop_too(tmp_path):
    scores = {1: 0.2, 2: 0.7, 3: 0.7, 4: 0.5}

    def training(folder, stop_after=None):
        run = trainer(folder, "kd", steps=4, eval_every=1, save_every=1, dev_score=lambda student: answer(run))
        if stop_after:
            run.add_callback(StopAt(stop_after))
        return run

    def answer(run):
        return {"rougeL": scores[run.state.global_step]}

    whole = training(tmp_path / "whole")
    whole.train()
    whole.load_best()
    assert (whole.state.best_metric, whole.state.best_global_step) == (0.7, 3)
    for stop in (2, 3):
        folder = tmp_path / f"cut-{stop}"
        training(folder, stop).train()
        rest = training(folder)
        rest.train(resume_from_checkpoint=str(last_checkpoint(folder)))
        rest.load_best()
        assert (rest.state.best_metric, rest.state.best_global_step) == (0.7, 3)
        for name, value in weights(whole).items():
            assert torch.equal(weights(rest)[name], value), name


def test_real_answers_are_scored_on_the_way(tmp_path):
    made = pair("kd")
    score = dev_scores(ExampleTokenizer(made.template, DATA), examples(4), batch_size=4)
    run = trainer(tmp_path, "kd", made=made, steps=2, eval_every=2, dev_score=score)
    run.train()
    row = next(row for row in lines(tmp_path) if "eval_rougeL" in row)
    assert 0 <= row["eval_rougeL"] <= 1
    assert run.module.student.training
    # The development loss is what training on these rows would start with: one number by two ways.
    as_rows = trainer(tmp_path, "sft", made=made, steps=1).data_collator(
        encode_rows(examples(4), ExampleTokenizer(made.template, DATA))
    )
    gold = DistillationModule(run.module.student.eval(), CrossEntropy())
    with torch.no_grad():
        result = gold(as_rows)
    assert row["eval_loss"] == pytest.approx((result.total / result.sums["tokens"]).item(), rel=1e-5)


def test_without_evaluation_the_last_weights_stay(tmp_path):
    run = trainer(tmp_path, "sft", steps=2)
    run.train()
    last = weights(run)
    run.load_best()
    assert all(torch.equal(last[name], value) for name, value in weights(run).items())


# -- memory and precision ----------------------------------------------------------------------------------------------


def watch_gradients(module):
    """The gradient of each trained parameter, as the backward pass leaves it and before it is clipped."""
    gradients = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            parameter.register_hook(lambda gradient, name=name: gradients.__setitem__(name, gradient.clone()))
    return gradients


@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize("method", ["kd", "dskd_cma"])
def test_recomputed_activations_give_equal_gradients(tmp_path, method, lora):
    found = {}
    for recompute in (False, True):
        made = pair(method, lora=lora)
        run = trainer(tmp_path, method, made=made, steps=1, gradient_checkpointing=recompute, learning_rate=1e-3)
        gradients = watch_gradients(run.module)
        run.train()
        assert run.module.is_activation_checkpointing is recompute
        found[recompute] = gradients
    assert found[True].keys() == found[False].keys() == weights(run).keys()
    for name, gradient in found[False].items():
        torch.testing.assert_close(found[True][name], gradient, atol=1e-7, rtol=1e-5, msg=name)
    run.module.activation_checkpointing_disable()
    assert not run.module.is_activation_checkpointing


@pytest.mark.parametrize("method", ["sft", "kd", "dskd", "dskd_cma"])
@pytest.mark.parametrize("lora", [True, False])
def test_half_precision_by_autocast_stays_finite_and_near(tmp_path, method, lora):
    losses = {}
    for autocast in (False, True):
        run = trainer(tmp_path, method, made=pair(method, lora=lora), steps=2, autocast=autocast)
        run.train()
        losses[autocast] = [row["loss"] for row in lines(tmp_path) if "loss" in row]
        assert all(torch.isfinite(value).all() for value in weights(run).values())
        assert all(value.dtype == torch.float32 for value in weights(run).values())
    assert losses[True] == pytest.approx(losses[False], rel=0.05)
    assert losses[True] != losses[False]


def test_a_base_in_half_precision_trains_its_adapters(tmp_path):
    made = pair("dskd_cma", lora=False)
    template = Template(made.template.tokenizer)
    made.student = add_lora(
        llama(len(template.tokenizer)).bfloat16(),  # pyright: ignore
        LoraConfig(r=4, target_modules=EVERY_LINEAR),
    )
    made.teacher = made.teacher.bfloat16()
    run = trainer(tmp_path, "dskd_cma", made=made, steps=3, learning_rate=1e-2)
    before = weights(run)
    run.train()
    after = weights(run)
    assert all(torch.isfinite(value).all() for value in after.values())
    assert sum(not torch.equal(before[name], after[name]) for name in after) == len(after)
