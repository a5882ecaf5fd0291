"""Values of the objectives against their formulas, dense and in float64, on tiny real models."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from support.tiny import method_config, pair
from understudy import build
from understudy.errors import ConfigError, VocabularyMismatch
from understudy.losses.divergences import divergence
from understudy.models.forward import forward
from understudy.recipe import parse_recipe
from understudy.teachers.local import LocalTeacher
from understudy.tokens.template import Template
from understudy.training.objectives.base import gold_weights
from understudy.training.objectives.cross_entropy import CrossEntropy


def dense(p_logits, q_logits, name, tau):
    """Divergence of student q from teacher p, each row written out."""
    p, q = ((x / tau).softmax(-1) for x in (p_logits, q_logits))
    if name == "forward_kl":
        return (p * (p / q).log()).sum(-1)
    if name == "reverse_kl":
        return (q * (q / p).log()).sum(-1)
    if name == "total_variation":
        return (p - q).abs().sum(-1) / 2
    middle = (p + q) / 2
    return ((p * (p / middle).log()).sum(-1) + (q * (q / middle).log()).sum(-1)) / 2


class Case:
    """A batch of gold and teacher-written rows, both models' outputs, and their logits in float64."""

    def __init__(self, method, **fields):
        self.made = pair(method)
        for name, parameter in self.made.student.named_parameters():
            if "lora_B" in name:
                generator = torch.Generator().manual_seed(len(name))
                parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
        self.batch = self.made.collator(method)(self.made.rows(method)[:6])
        config = method_config(method, **fields)
        if method == "sft":
            self.objective = CrossEntropy()
        else:
            self.objective = build.objective(config, self.made.student, self.made.teacher)
        embeddings = self.objective.embeddings
        self.student = forward(self.made.student, self.batch["student"], embeddings=embeddings)
        self.signal = None
        self.q = self.student.head.logits(self.student.hidden.double().detach().float()).double().detach()
        if method != "sft":
            self.signal = LocalTeacher(self.made.teacher, embeddings=embeddings).signal(self.batch)
            self.p = self.signal.head.logits(self.signal.hidden).double()
        self.targets = self.student.target_ids
        rows = self.batch["gold_rows"].repeat_interleave(torch.tensor(self.student.lengths))
        self.gold = rows.double()

    def result(self, *, statistics=False):
        self.objective.statistics = statistics
        return self.objective(self.student, self.signal, self.batch)


def test_the_batches_hold_both_kinds_of_rows():
    case = Case("sft")
    assert 0 < case.gold.sum() < len(case.gold)
    assert len(set(case.student.lengths)) > 1


def test_gold_is_cross_entropy_on_every_row():
    case = Case("sft")
    result = case.result()
    expected = cross_entropy(case.q, case.targets, reduction="sum")
    assert result.total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert result.sums["gold"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert result.sums["tokens"].item() == len(case.targets)


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "js", "total_variation"])
@pytest.mark.parametrize(
    ("tau", "squared", "weight"), [(1.0, False, 0.5), (2.0, False, 0.3), (2.0, True, 0.3), (3.0, True, 0.0)]
)
def test_output_divergence_is_its_formula(name, tau, squared, weight):
    case = Case("kd", divergence=name, loss_temperature=tau, scale_by_temperature_squared=squared, gold_weight=weight)
    g = weight * case.gold
    values = dense(case.p, case.q, name, tau)
    gold = cross_entropy(case.q, case.targets, reduction="none")
    expected = (g * gold).sum() + ((1 - g) * values).sum() * (tau**2 if squared else 1.0)
    result = case.result()
    assert result.total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert result.sums["divergence"].item() == pytest.approx(values.sum().item(), rel=1e-5)
    assert result.sums["gold"].item() == pytest.approx(gold.sum().item(), rel=1e-5)


def test_teacher_written_tokens_have_no_gold():
    case = Case("kd", gold_weight=0.7)
    assert gold_weights(0.7, case.student, case.batch).tolist() == pytest.approx((0.7 * case.gold).tolist())
    only_gold = Case("kd", gold_weight=1.0).result().total.item()
    on_gold = cross_entropy(case.q, case.targets, reduction="none") * case.gold
    elsewhere = dense(case.p, case.q, "forward_kl", 1.0) * (1 - case.gold)
    assert only_gold == pytest.approx((on_gold + elsewhere).sum().item(), rel=1e-5)


def test_dual_space_is_its_formula():
    case = Case("dskd", loss_temperature=2.0, gold_weight=0.4)
    spaces = case.objective.spaces.double()
    head, teacher_head = case.student.head.weight.double().detach(), case.signal.head.weight.double()
    carried = spaces.teacher_to_student(case.signal.hidden.double()) @ head.t()
    back = spaces.student_to_teacher(case.student.hidden.double()) @ teacher_head.t()
    in_student = dense(carried, case.q, "forward_kl", 2.0)
    in_teacher = dense(case.p, back, "forward_kl", 2.0)
    projection = cross_entropy(carried, case.targets, reduction="none")
    gold = cross_entropy(case.q, case.targets, reduction="none")
    g = 0.4 * case.gold
    expected = (g * gold + (1 - g) * (in_student + in_teacher + projection)).sum()
    case.objective.float()
    result = case.result()
    assert result.total.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, value in {"student_space": in_student, "teacher_space": in_teacher, "projection": projection}.items():
        assert result.sums[name].item() == pytest.approx(((1 - g) * value).sum().item(), rel=1e-5), name


def test_cross_model_total_is_the_sum_of_its_terms():
    case = Case("dskd_cma", loss_temperature=2.0, gold_weight=0.4)
    result = case.result()
    sums = {name: value.item() for name, value in result.sums.items()}
    gold = cross_entropy(case.q, case.targets, reduction="none")
    assert sums["gold"] == pytest.approx(gold.sum().item(), rel=1e-5)
    expected = (
        sums["student_space"] + sums["teacher_space"] + sums["projection"] + (0.4 * case.gold * gold).sum().item()
    )
    assert result.total.item() == pytest.approx(expected, rel=1e-5)
    assert len(case.signal.target_ids) != len(case.targets)


def test_published_deviations_go_over_prompt_and_padding():
    case = Case("dskd_cma", published=True)
    tokens, teacher = case.batch["teacher"], case.made.teacher
    mask, table = tokens["target_mask"], teacher.get_input_embeddings()
    assert not tokens["inputs"]["attention_mask"].all()
    with torch.no_grad():
        states = teacher(**tokens["inputs"], output_hidden_states=True).hidden_states[-1]
        # Every position outside the target counts as the token of id 0.
        inputs = table(tokens["inputs"]["input_ids"].masked_fill(~mask, 0))
        targets = table(torch.zeros_like(mask, dtype=torch.long).masked_scatter(mask, tokens["target_ids"]))
    deviations = case.signal.deviations
    torch.testing.assert_close(deviations.hidden, states.std())
    torch.testing.assert_close(deviations.targets, targets.std())
    torch.testing.assert_close(deviations.keys, torch.cat([inputs, targets], -1).std())
    assert case.result().total != Case("dskd_cma").result().total


@pytest.mark.parametrize("method", ["kd", "dskd", "dskd_cma"])
def test_statistics_change_no_value(method):
    case = Case(method)
    plain, measured = case.result(), case.result(statistics=True)
    assert measured.total.item() == pytest.approx(plain.total.item(), rel=1e-6)
    assert measured.sums["measured_tokens"].item() == len(case.targets)
    assert "agreement" not in plain.sums
    entropy = -(case.q.softmax(-1) * case.q.log_softmax(-1)).sum()
    assert measured.sums["student_entropy"].item() == pytest.approx(entropy.item(), rel=1e-5)
    if method == "kd":
        agreement = (case.q.argmax(-1) == case.p.argmax(-1)).sum()
        entropy = -(case.p.softmax(-1) * case.p.log_softmax(-1)).sum()
        assert measured.sums["agreement"].item() == agreement.item()
        assert measured.sums["teacher_entropy"].item() == pytest.approx(entropy.item(), rel=1e-5)


def test_an_unknown_parameter_of_a_divergence_is_refused():
    with pytest.raises(ConfigError):
        divergence("skew_forward_kl", wrong=0.5)


@pytest.mark.parametrize("method", ["kd", "dskd"])
def test_two_vocabularies_need_the_method_for_two(method):
    made = pair("dskd_cma")
    recipe = parse_recipe({"distil": {"method": method}})
    with pytest.raises(VocabularyMismatch) as caught:
        build.check_pair(recipe, made.template, made.teacher_template)
    assert "dskd_cma" in caught.value.hint
    build.check_pair(parse_recipe({"distil": {"method": "dskd_cma"}}), made.template, made.teacher_template)
    build.check_pair(recipe, made.template, Template(pair("kd").teacher_template.tokenizer))
