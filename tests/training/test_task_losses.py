"""The loss of tasks: values by hand, what carries no gradient, and what must not change it."""

import dataclasses

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import T5Config, T5ForConditionalGeneration

from support.stopping import StopAt
from support.tiny import EVERY, pair, tokenizer, weights
from support.tiny_tasks import ROOM, encoded, explained, task_trainer
from understudy import build
from understudy.data.tasks import rows_of_examples
from understudy.errors import ConfigError
from understudy.losses import Head
from understudy.losses.divergences import divergence
from understudy.models.output import VocabularyOutput
from understudy.recipe import METHODS, TaskConfig, parse_recipe
from understudy.teachers.local import LocalTeacher
from understudy.tokens.collate import Collator, ExampleRows, ExampleTokenizer
from understudy.tokens.seq2seq_template import Seq2SeqTemplate
from understudy.tokens.task_rows import encode_groups
from understudy.training.module import DistillationModule
from understudy.training.objectives.cross_entropy import CrossEntropy
from understudy.training.objectives.output_divergence import OutputDivergence
from understudy.types import Batch

KINDS = ["answer", "rationale_answer", "multitask", "counterfactual", "multitask_counterfactual"]
PLAIN: dict = {"schedule": "constant", "warmup": 0.0, "weight_decay": 0.0, "max_grad_norm": 1e9}
SHARES = {"predict_weight": 0.3, "factual_weight": 0.6, "multitask_weight": 0.2}


def plain_descent(run, rate=0.05):
    run.optimizer = torch.optim.SGD([p for p in run.module.parameters() if p.requires_grad], lr=rate)
    return run


def logged(run):
    return [row for row in run.state.log_history if "loss" in row]


def close(ours, theirs, **tolerance):
    assert ours.keys() == theirs.keys()
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], msg=name, **{"atol": 1e-6, "rtol": 1e-5, **tolerance})


# -- values by hand ----------------------------------------------------------------------------------------------------


def output(probabilities, targets, lengths):
    """What a model says that gives these probabilities: its hidden states are their logarithms."""
    hidden = torch.tensor(probabilities).log().requires_grad_()
    return VocabularyOutput(torch.tensor(targets), lengths, hidden, Head(torch.eye(hidden.shape[1])))


def test_weighted_means_of_two_tasks_on_three_tokens(tmp_path):
    """`predict`: one token at 1/2. `explain`: two tokens at 1/4 and 1/8. L = .3 · log 2 + .7 · (log 4 + log 8) / 2."""
    run = task_trainer(tmp_path, rows=encoded(pair("sft"), kind="multitask"), steps=1)
    batch: Batch = {
        "student": {
            "inputs": {},
            "target_mask": torch.tensor([[True, False], [True, True]]),
            "target_ids": torch.tensor([0, 1, 2]),
        },
        "gold_rows": torch.tensor([True, True]),
        "use_teacher": torch.tensor([True, True]),
        "weights": torch.tensor([0.3, 0.7]),
        "tasks": ["predict", "explain"],
        "ids": ["q", "q"],
    }
    tokens = run.step_tokens([batch], torch.device("cpu"))
    assert tokens == 3
    assert batch["weights"].tolist() == pytest.approx([0.3 * 3 / 1, 0.7 * 3 / 2])
    said = output([[1 / 2, 1 / 4, 1 / 4], [1 / 4, 1 / 4, 1 / 2], [1 / 4, 5 / 8, 1 / 8]], [0, 1, 2], (1, 2))
    result = CrossEntropy()(said, None, batch)
    log2 = 0.6931471805599453
    assert result.total.item() / 3 == pytest.approx(0.3 * log2 + 0.7 * (2 + 3) / 2 * log2)
    assert result.sums["gold"].item() == pytest.approx(6 * log2)
    assert {name: value.item() for name, value in result.sums.items() if "task" in name} == pytest.approx(
        {"task_predict": log2, "task_predict_tokens": 1, "task_explain": 5 * log2, "task_explain_tokens": 2}
    )


def test_a_teacher_is_heard_by_every_task_but_the_counterfactual_one():
    """g = ¼: the first row ¼ · log 2 + ¾ · KL, the second its cross-entropy alone, times their weights 2 and 3."""
    batch: Batch = {
        "student": {
            "inputs": {},
            "target_mask": torch.ones(2, 1, dtype=torch.bool),
            "target_ids": torch.tensor([0, 1]),
        },
        "gold_rows": torch.tensor([True, False]),
        "use_teacher": torch.tensor([True, False]),
        "weights": torch.tensor([2.0, 3.0]),
        "tasks": ["factual", "counterfactual"],
        "ids": ["q", "q"],
    }
    student = output([[1 / 2, 1 / 2], [3 / 4, 1 / 4]], [0, 1], (1, 1))
    teacher = output([[1 / 4, 3 / 4], [1 / 2, 1 / 2]], [0, 1], (1, 1))
    found = OutputDivergence(divergence("forward_kl"), gold_weight=0.25)(student, teacher, batch)
    kl, log2, log4 = 0.13081203594113694, 0.6931471805599453, 1.3862943611198906  # ¼ log ½ + ¾ log 3/2
    assert found.total.item() == pytest.approx(2 * (0.25 * log2 + 0.75 * kl) + 3 * log4)
    # A row whose words the teacher wrote has no gold to weigh, but of a counterfactual that is no reason to be silent.
    found.total.backward()
    assert student.hidden.grad is not None
    assert student.hidden.grad[1].tolist() == pytest.approx([3 * 0.75, -3 * 0.75])


def by_formula(model, rows, kl=None):
    """Σ_k w_k · mean of task k in float64, from the model's own logits, one row at a time without padding."""
    sums, counts, given_weights = {}, {}, {}
    for row in rows:
        prompt, answer, num_forced = row.student.prompt_ids, row.student.answer_ids, row.student.num_forced
        with torch.no_grad():
            logits = model(torch.tensor([prompt + answer])).logits[0].double()
        predicting = logits[len(prompt) - 1 + num_forced : -1]
        values = cross_entropy(predicting, torch.tensor(answer[num_forced:]), reduction="none")
        if kl is not None and row.task != "counterfactual":
            gold = 0.5 if row.gold else 0.0
            with torch.no_grad():
                other = kl(torch.tensor([prompt + answer])).logits[0].double()[len(prompt) - 1 + num_forced : -1]
            p, q = (other / 2).softmax(-1), (predicting / 2).softmax(-1)
            values = gold * values + (1 - gold) * (p * (p / q).log()).sum(-1)
        sums[row.task] = sums.get(row.task, 0.0) + values.sum().item()
        counts[row.task] = counts.get(row.task, 0) + len(values)
        given_weights[row.task] = row.weight
    return sum(given_weights[task] * sums[task] / counts[task] for task in sums), sums, counts


@pytest.mark.parametrize("rationale_in", ["decoder", "encoder"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_of_each_kind_is_its_formula(tmp_path, kind, rationale_in):
    made = pair("sft")
    rows = encoded(made, kind=kind, rationale_in=rationale_in, **SHARES)
    run = task_trainer(tmp_path, made=made, rows=rows, steps=1, batch_size=len(rows), micro_batch_size=1)
    expected, sums, counts = by_formula(made.student, [row for group in rows for row in group.rows])
    run.train()
    (line,) = logged(run)
    assert line["loss"] == pytest.approx(expected, rel=1e-5)
    means = {f"task_{task}": sums[task] / counts[task] for task in sums}
    assert {name: value for name, value in line.items() if name.startswith("task_")} == pytest.approx(means, rel=1e-5)
    assert line["gold"] == pytest.approx(sum(sums.values()) / sum(counts.values()), rel=1e-5)
    assert len(sums) == {"answer": 1, "rationale_answer": 1, "multitask_counterfactual": 4}.get(kind, 2)


def test_the_loss_with_a_logit_teacher_is_its_formula(tmp_path):
    made = pair("kd")
    rows = encoded(made, "kd", kind="multitask_counterfactual", **SHARES)
    teachers = dataclasses.replace(rows[0], rows=tuple(dataclasses.replace(r, gold=False) for r in rows[0].rows))
    rows = [teachers, *rows[1:]]
    options = {"gold_weight": 0.5, "loss_temperature": 2.0, "batch_size": len(rows), "micro_batch_size": 3}
    run = task_trainer(tmp_path, "kd", made=made, rows=rows, steps=1, **options)
    expected, _, _ = by_formula(made.student, [row for group in rows for row in group.rows], made.teacher)
    run.train()
    assert logged(run)[0]["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_task_that_a_step_lacks_leaves_its_weight_to_nobody(tmp_path):
    made = pair("sft")
    rows = encoded(made, kind="multitask", predict_weight=0.3)
    (bare,) = [group for group in rows if len(group.rows) == 1]
    run = task_trainer(tmp_path, made=made, rows=rows, steps=1)
    batch = run.data_collator([bare])
    tokens = run.step_tokens([batch], torch.device("cpu"))
    _, sums, counts = by_formula(made.student, bare.rows)
    found = run.module(batch).total / tokens
    assert found.item() == pytest.approx(0.3 * sums["predict"] / counts["predict"], rel=1e-5)


# -- what carries no gradient ------------------------------------------------------------------------------------------


class States:
    """Keeps the states that enter a model's head, and their gradient."""

    def __init__(self, backbone):
        backbone.register_forward_hook(self.keep)

    def keep(self, module, inputs, made):
        self.seen = made.last_hidden_state
        self.seen.retain_grad()


def sequence_to_sequence(made_tokenizer):
    config = T5Config(
        vocab_size=len(made_tokenizer),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        dropout_rate=0.0,
        pad_token_id=made_tokenizer.pad_token_id,
        eos_token_id=made_tokenizer.eos_token_id,
        decoder_start_token_id=made_tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return T5ForConditionalGeneration(config).eval()


def student_and_rows(form):
    """A model with what its head reads of, and the rows of three examples."""
    if form == "causal":
        made = pair("sft", lora=False)
        return made.student, made.student.model, encoded(made, kind="multitask_counterfactual", num=3)
    made = Seq2SeqTemplate(tokenizer(300))
    texts = rows_of_examples(explained(3), TaskConfig(kind="multitask_counterfactual"), seed=1)
    model = sequence_to_sequence(made.tokenizer)
    return model, model.decoder, encode_groups(texts, ExampleTokenizer(made, ROOM))


@pytest.mark.parametrize("form", ["causal", "encoder-decoder"])
def test_prompt_given_tokens_and_padding_carry_no_gradient(form):
    model, backbone, rows = student_and_rows(form)
    states = States(backbone)
    batch = Collator(0)(rows)
    DistillationModule(model, CrossEntropy())(batch).total.backward()
    gradient = states.seen.grad.abs().sum(-1)
    learned = torch.zeros_like(gradient, dtype=torch.bool)
    for place, row in enumerate(row for group in rows for row in group.rows):
        before = len(row.student.prompt_ids) if form == "causal" else 1
        ends = before + len(row.student.answer_ids) - 1
        assert (row.student.num_forced > 0) == (row.task == "counterfactual")
        learned[place, before - 1 + row.student.num_forced : ends] = True
    assert (gradient[~learned] == 0).all()
    assert (gradient[learned] > 0).all()
    assert (~learned).sum() > learned.sum() > 0


@pytest.mark.parametrize("form", ["causal", "encoder-decoder"])
def test_padding_changes_nothing(form):
    model, _, rows = student_and_rows(form)
    module = DistillationModule(model, CrossEntropy())

    def passed(batches):
        module.zero_grad()
        total = sum(module(batch).total for batch in batches)
        total.backward()
        return total.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    value, gradient = passed([Collator(0)(rows)])
    other, same = passed([Collator(7)(rows)])
    assert torch.equal(value, other)
    assert all(torch.equal(gradient[name], same[name]) for name in gradient)
    flat = [row for group in rows for row in group.rows]
    alone, apart = passed([Collator(0)([row]) for row in flat])
    torch.testing.assert_close(alone, value, rtol=1e-5, atol=1e-5)
    close(apart, gradient, rtol=1e-3, atol=1e-4)


def test_the_teacher_changes_nothing_on_counterfactual_rows():
    """Every objective: the student learns the same of them from any teacher."""
    for method in METHODS:
        found = []
        for seed in (0, 1):
            made = pair(method)
            (group, *_) = encoded(made, method, kind="counterfactual", num=1)
            rows = [ExampleRows(group.rows[1:])]
            torch.manual_seed(seed)
            made.teacher.model.embed_tokens.weight.data.normal_()
            config = parse_recipe({"distil": {"method": method}}).distil
            torch.manual_seed(0)
            objective = build.objective(config, made.student, made.teacher, made.cross_tokenizer(method))
            batch = made.collator(method)(rows)
            signal = LocalTeacher(made.teacher, embeddings=method == "dskd_cma").signal(batch)
            module = DistillationModule(made.student, objective)
            module(batch, signal).total.backward()
            found.append({n: p.grad for n, p in made.student.named_parameters() if p.grad is not None})
        assert sum(float(value.abs().sum()) for value in found[0].values()) > 0
        close(found[1], found[0], atol=0.0, rtol=0.0)


# -- one reduction -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", EVERY)
def test_micro_batches_change_nothing(tmp_path, method):
    found = []
    for micro in (6, 1):
        options = {"steps": 2, "batch_size": 6, "micro_batch_size": micro}
        run = plain_descent(task_trainer(tmp_path, method, **options, **PLAIN))
        run.train()
        found.append((weights(run), [{k: v for k, v in row.items() if k != "epoch"} for row in logged(run)]))
    (whole, lines), (cut, cut_lines) = found
    close(cut, whole)
    for ours, theirs in zip(cut_lines, lines, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
        assert {"task_predict", "task_explain", "task_factual", "task_counterfactual"} < theirs.keys()


def test_rows_of_an_example_stay_in_one_step(tmp_path):
    run = task_trainer(tmp_path, steps=3, batch_size=2, micro_batch_size=1)
    assert run.args.gradient_accumulation_steps == 2
    seen = []
    real = run.data_collator
    run.data_collator = lambda items: seen.append([row.id for item in items for row in item.rows]) or real(items)
    run.train()
    assert all(len(set(ids)) == 1 for ids in seen)
    assert sorted(ids[0] for ids in seen) == [f"q-{n}" for n in range(6)]


# -- identities --------------------------------------------------------------------------------------------------------


def trained(folder, rows, made):
    run = task_trainer(folder, made=made, rows=rows, steps=3, batch_size=3, micro_batch_size=1)
    run.train()
    return weights(run)


def only(rows, *tasks):
    """The rows of some tasks, with weights that add up to 1."""
    kept = [[row for row in group.rows if row.task in tasks] for group in rows]
    return [ExampleRows(tuple(dataclasses.replace(row, weight=1 / len(tasks)) for row in group)) for group in kept]


def test_multitask_of_answers_alone_is_training_on_answers(tmp_path):
    made = pair("sft")
    answers = only(encoded(made, kind="multitask"), "predict")
    plain = [dataclasses.replace(group.rows[0], task="") for group in answers]
    expected = trained(tmp_path / "plain", plain, pair("sft"))
    alpha_is_one = encoded(made, kind="multitask", predict_weight=1.0)
    close(trained(tmp_path / "alpha", alpha_is_one, pair("sft")), expected)
    # Rows that weigh nothing teach nothing, whatever they add to the tokens of a step.
    weightless = [
        ExampleRows(tuple(dataclasses.replace(r, weight=float(r.task == "predict")) for r in group.rows))
        for group in encoded(made, kind="multitask")
    ]
    close(trained(tmp_path / "weightless", weightless, pair("sft")), expected)


def test_both_at_once_with_all_weight_on_multitask_is_multitask(tmp_path):
    made = pair("sft")
    expected = trained(tmp_path / "mt", encoded(made, kind="multitask"), pair("sft"))
    gamma_is_one = encoded(made, kind="multitask_counterfactual", multitask_weight=1.0)
    close(trained(tmp_path / "both", gamma_is_one, pair("sft")), expected)
    half = encoded(made, kind="multitask_counterfactual")
    halved = trained(tmp_path / "half", half, pair("sft"))
    assert any(not torch.allclose(halved[name], expected[name], atol=1e-4) for name in expected)


# -- resume, refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["sft", "dskd_cma"])
def test_four_steps_are_two_and_two(tmp_path, method):
    options = {"steps": 4, "batch_size": 2, "micro_batch_size": 1, "save_every": 2}
    unbroken = task_trainer(tmp_path / "whole", method, **options)
    unbroken.train()
    short = task_trainer(tmp_path / "cut", method, **options)
    short.add_callback(StopAt(2))
    short.train()
    rest = task_trainer(tmp_path / "cut", method, **options)
    rest.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-2"))
    assert rest.state.global_step == 4
    close(weights(rest), weights(unbroken), atol=1e-7, rtol=0)
    assert logged(rest)[-1] == pytest.approx(logged(unbroken)[-1])


def test_the_objective_of_explained_students():
    made = pair("kd")
    recipe = parse_recipe(
        {"tasks": {}, "evaluate": {"arms": ["explained"]}, "generate": {}, "distil": {"method": "kd"}}
    )
    assert isinstance(build.explained_objective(recipe, made.student), CrossEntropy)
    assert recipe.tasks is not None
    heard = recipe.model_copy(update={"tasks": recipe.tasks.model_copy(update={"logits": True})})
    assert isinstance(build.explained_objective(heard, made.student, made.teacher), OutputDivergence)
    with pytest.raises(ConfigError, match=r"tasks\.logits needs a teacher"):
        build.explained_objective(heard, made.student)
