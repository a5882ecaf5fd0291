"""The methods for two vocabularies as objectives: identities, one reduction, resuming, and learning on real models."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from support.tiny import Pair, method_config, pair, trainer
from understudy import build
from understudy.errors import ConfigError, ModelError
from understudy.losses.divergences import divergence
from understudy.models.forward import forward
from understudy.models.load import load_model, load_template
from understudy.recipe import METHODS, DataConfig, DivergenceConfig, ModelConfig, parse_recipe
from understudy.recipe.methods import ProjectorConfig
from understudy.teachers.local import LocalTeacher
from understudy.tokens.collate import ExampleTokenizer, encode_rows
from understudy.tokens.template import Template
from understudy.training.objectives.output_divergence import OutputDivergence
from understudy.types import Example

LEARNED = [name for name, kind in METHODS.items() if issubclass(kind, ProjectorConfig)]
ALIGNED = [name for name, kind in METHODS.items() if kind.alignment]
LIKE_KD = [name for name in ALIGNED if issubclass(METHODS[name], DivergenceConfig) and name not in LEARNED]
ACROSS = [name for name, kind in METHODS.items() if not kind.one_vocabulary]
PLAIN: dict = {"schedule": "constant", "warmup": 0.0, "weight_decay": 0.0, "max_grad_norm": 1e9}


def batch_of(made, method, rows=None):
    return made.collator(method)(made.rows(method) if rows is None else rows)


def result(made, method, *, statistics=False, **fields):
    """One batch through the objective as a stage builds it."""
    batch = batch_of(made, method)
    objective = build.objective(
        method_config(method, **fields), made.student, made.teacher, made.cross_tokenizer(method)
    )
    objective.statistics = statistics
    student = forward(made.student, batch["student"])
    return objective(student, LocalTeacher(made.teacher).signal(batch), batch), student, batch


@pytest.mark.parametrize("method", LIKE_KD)
@pytest.mark.parametrize("name", ["forward_kl", "js"])
@pytest.mark.parametrize("tau", [1.0, 2.0])
def test_with_one_vocabulary_they_are_kd(method, name, tau):
    made = pair("kd")
    fields = {"divergence": name, "loss_temperature": tau, "gold_weight": 0.3}
    ours, student, batch = result(made, method, statistics=True, **fields)
    plain = OutputDivergence(divergence(name), temperature=tau, gold_weight=0.3)
    plain.statistics = True
    theirs = plain(student, LocalTeacher(made.teacher).signal(batch), batch)
    assert ours.total.item() == pytest.approx(theirs.total.item(), rel=1e-5)
    trained = [p for p in made.student.parameters() if p.requires_grad]
    for one, other in zip(
        *(torch.autograd.grad(r.total, trained, retain_graph=True) for r in (ours, theirs)), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert ours.sums["aligned"] == ours.sums["tokens"] == ours.sums["measured_tokens"]
    assert ours.sums["mapped_mass"].item() == pytest.approx(ours.sums["tokens"].item(), rel=1e-5)
    for name in ("divergence", "gold", "agreement", "student_entropy", "teacher_entropy"):
        assert ours.sums[name].item() == pytest.approx(theirs.sums[name].item(), rel=1e-5), name


def test_with_one_vocabulary_uld_is_not_kd_and_does_not_claim_to_be():
    made = pair("kd")
    ours, student, batch = result(made, "uld", loss_temperature=1.0)
    plain = OutputDivergence(divergence("forward_kl"), gold_weight=0.5)
    theirs = plain(student, LocalTeacher(made.teacher).signal(batch), batch)
    assert ours.total.item() != pytest.approx(theirs.total.item(), rel=1e-2)
    with pytest.raises(ConfigError, match="does not apply to uld, which compares sorted probabilities"):
        parse_recipe({"distil": {"method": "uld", "divergence": "js"}})


@pytest.mark.parametrize("tau", [1.0, 2.0])
def test_with_one_vocabulary_dskd_v2_is_the_papers_without_alignment(tau):
    """Exact alignment then puts the n-th token beside the n-th, and shares every column that a teacher may prefer."""
    made = pair("kd", lora=False, tied=False)
    fields = {"loss_temperature": tau, "gold_weight": 0.3}
    ours, student, batch = result(made, "dskd_v2", statistics=True, **fields)
    assert ours.sums["aligned"] == ours.sums["tokens"]
    theirs = LocalTeacher(made.teacher).signal(batch)
    torch.testing.assert_close(student.target_ids, theirs.target_ids)
    terms = one_vocabulary_dskd_v2(student, theirs, tau)
    assert 0 < terms["student_space"].count_nonzero() < len(student.target_ids)
    kept = torch.tensor([0.7 if gold else 1.0 for gold in batch["gold_rows"]]).double()
    kept = kept.repeat_interleave(torch.tensor(student.lengths))
    gold = cross_entropy(student.head.logits(student.hidden).double(), student.target_ids, reduction="none")
    expected = (kept * sum(terms.values())).sum() + ((1 - kept) * gold).sum()
    assert ours.total.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, value in terms.items():
        assert ours.sums[name].item() == pytest.approx((kept * value).sum().item(), rel=1e-4, abs=1e-5), name
    assert ours.sums["gold"].item() == pytest.approx(gold.sum().item(), rel=1e-5)
    trained = [p for p in made.student.parameters() if p.requires_grad]
    for one, other in zip(
        *(torch.autograd.grad(x, trained, retain_graph=True) for x in (ours.total, expected)), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def one_vocabulary_dskd_v2(student, teacher, tau):
    """Each term of DSKDv2 for one vocabulary, token by token, in float64 and with whole heads."""
    (h, w), (k, v) = ((x.hidden.double(), x.head.weight.double()) for x in (student, teacher))
    head = w.detach()
    carried = k @ (v.t() @ torch.linalg.pinv(head.t())) @ head.t()
    back = h @ (head.t() @ torch.linalg.pinv(v.t())) @ v.t()
    q, p = h @ w.t(), k @ v.t()

    def forward_kl(one, other):
        a, b = (one / tau).log_softmax(-1), (other / tau).log_softmax(-1)
        return (b.exp() * (b - a)).sum(-1)

    right = carried.argmax(-1) == p.argmax(-1)
    return {
        "student_space": right * forward_kl(q, carried),
        "teacher_space": forward_kl(back, p),
        "projection": cross_entropy(carried, p.argmax(-1), reduction="none"),
    }


@pytest.mark.parametrize("method", ALIGNED)
def test_the_log_says_how_much_is_aligned(method, tmp_path):
    made = pair(method)
    rows = made.rows(method)
    run = trainer(tmp_path, method, made=made, steps=2, batch_size=12, micro_batch_size=4)
    run.train()
    line = next(row for row in run.state.log_history if "loss" in row)
    tokens = sum(len(row.student.answer_ids) for row in rows)
    aligned = sum(int((row.alignment.partners >= 0).sum()) for row in rows)
    assert line["aligned"] == pytest.approx(aligned / tokens)
    assert 0.3 < line["aligned"] < 1
    assert {"agreement", "student_entropy", "teacher_entropy"} <= line.keys()
    if method in ("min_edit", "byte_aligned"):
        assert 0.5 < line["mapped_mass"] <= 1


@pytest.mark.parametrize("method", ALIGNED)
def test_statistics_change_no_value(method):
    made = pair(method)
    plain, measured = (result(made, method, statistics=s)[0].total.item() for s in (False, True))
    assert measured == pytest.approx(plain, rel=1e-6)


@pytest.mark.parametrize("method", ALIGNED)
def test_every_parameter_gets_a_gradient(method):
    made = pair(method)
    run = trainer(Path("unused"), method, made=made, steps=1)
    rows = run.train_dataset.rows[:3]
    none = [dataclasses.replace(row, alignment=_cleared(row.alignment)) for row in rows]
    for some in (rows, none):
        run.module.zero_grad(set_to_none=True)
        batch = run.data_collator(some)
        run.module(batch, run.teacher.signal(batch)).total.backward()
        assert [name for name, p in run.module.named_parameters() if p.requires_grad and p.grad is None] == []


def _cleared(alignment):
    return type(alignment)(
        *(x * 0 - 1 for x in (alignment.partners, alignment.student_groups, alignment.teacher_groups))
    )


def test_learned_parts_have_their_own_learning_rate(tmp_path):
    run = trainer(tmp_path, "dskd_v2", steps=1)
    run.train()
    own = {id(p) for p in run.module.objective.parameters()}
    assert len(own) == 1
    for group in run.optimizer.param_groups:
        assert {id(p) in own for p in group["params"]} == {group["initial_lr"] == 3e-3}


# -- what does not fit is refused before a weight is loaded ------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "min_edit", "divergence": "reverse_kl"}, "min_edit cannot use reverse_kl"),
        ({"method": "byte_aligned", "divergence": "total_variation"}, "byte_aligned knows the generalised"),
    ],
)
def test_a_divergence_that_a_method_forbids_is_refused(fields, message):
    made = pair("uld")
    with pytest.raises(ConfigError, match=message):
        build.check_pair(parse_recipe({"distil": fields}), made.template, made.teacher_template)


def test_a_slow_tokenizer_is_refused():
    made = pair("min_edit")

    class Slow:
        """A tokenizer of Python alone, which knows no offsets."""

    template = Template(made.template.tokenizer)
    template.tokenizer = Slow()
    with pytest.raises(ModelError, match="slow tokenizer"):
        build.check_pair(parse_recipe({"distil": {"method": "min_edit"}}), template, made.teacher_template)


# -- real models -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def telecom():
    teacher, student = (ModelConfig(model=f"embedded:{name}") for name in ("telecom-teacher", "telecom-student-other"))
    device = torch.device("cpu")
    return lambda: Pair(
        load_model(student, device), load_model(teacher, device), load_template(student), load_template(teacher)
    )


@pytest.mark.parametrize("method", ACROSS)
def test_the_loss_falls_from_one_telecom_model_to_one_of_another_vocabulary(telecom, method, tmp_path):
    made = telecom()
    assert made.template.tokenizer.get_vocab() != made.teacher_template.tokenizer.get_vocab()
    rate = {"learning_rate": 1e-3, "projector_learning_rate": 1e-3, "schedule": "constant", "warmup": 0.0}
    run = trainer(tmp_path, method, made=made, steps=6, batch_size=6, num=6, **rate)
    run.train()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in lines if "loss" in row]
    assert losses[-1] < 0.9 * losses[0]


def test_rows_are_aligned_once_with_both_templates(telecom):
    made = telecom()
    encoders = [ExampleTokenizer(t, DataConfig()) for t in (made.template, made.teacher_template)]
    example = [Example("a", "Which function terminates N2?", ("The AMF terminates N2.",))]
    row = encode_rows(example, *encoders, made.cross_tokenizer("dskd_v2"))[0]
    ours, theirs = row.student, row.teacher
    for n, t in enumerate(row.alignment.partners):
        assert t < 0 or ours.token_ends[n : n + 2] == theirs.token_ends[t : t + 2]
    assert (row.alignment.partners >= 0).sum() > 3
