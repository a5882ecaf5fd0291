"""The fused head equals the dense reference, whatever the options and however the tokens are cut."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.errors import ConfigError
from understudy.losses import DIVERGENCES, divergence, fused_head, gold_cross_entropy, lm_head_divergence
from understudy.losses.dense import dense_head, head_logits

PER_TOKEN = ("divergence", "gold", "teacher_gold", "teacher_right", "agreement", "student_argmax", "teacher_argmax")
PER_TOKEN += ("student_entropy", "teacher_entropy")


def squared_difference(student_logp, teacher_logp):
    """A divergence of the user's own, which has no kernel."""
    return ((student_logp.exp() - teacher_logp.exp()) ** 2).sum(-1)


class Case:
    """Random heads of V_s and V_t columns over the same tokens, with leaves that collect gradients."""

    def __init__(self, tokens=11, student_columns=37, teacher_columns=37, dtype=torch.float32, seed=0, **head):
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape, spread=1.0):
            return (torch.randn(*shape, generator=generator, dtype=torch.float64) * spread).to(dtype)

        self.student_hidden, self.student_weight = normal(tokens, 6), normal(student_columns, 6)
        self.teacher_hidden, self.teacher_weight = normal(tokens, 10), normal(teacher_columns, 10, spread=0.7)
        with_bias = head.pop("bias", False)
        self.student_bias = normal(student_columns) if with_bias else None
        self.teacher_bias = normal(teacher_columns) if with_bias else None
        self.head = head
        self.weights, self.gold_weights, self.teacher_gold_weights = torch.rand(
            3, tokens, generator=generator, dtype=torch.float64
        ).to(torch.promote_types(dtype, torch.float32))
        self.weights[::3] = 0
        self.gold_weights[1::4] = 0
        self.gold_ids = torch.randint(0, min(student_columns, teacher_columns), (tokens,), generator=generator)
        self.gold_ids[:1] = -100
        names = ("student_hidden", "student_weight", "student_bias", "teacher_hidden")
        self.leaves = [leaf.requires_grad_() for name in names if (leaf := getattr(self, name)) is not None]

    def sides(self):
        return self.student_hidden, self.student_weight, self.teacher_hidden, self.teacher_weight

    def fused(self, **options):
        head = {f"{side}_{key}": value for side in ("student", "teacher") for key, value in self.head.items()}
        biases = {"student_bias": self.student_bias, "teacher_bias": self.teacher_bias}
        return fused_head(*self.sides(), **biases, **head, **options)

    def dense(self, **options):
        student = head_logits(self.student_hidden, self.student_weight, self.student_bias, **self.head)
        teacher = head_logits(self.teacher_hidden, self.teacher_weight, self.teacher_bias, **self.head)
        return dense_head(student, teacher, **options)

    def gradients(self, total):
        found = torch.autograd.grad(total * 1.7, self.leaves, allow_unused=True)
        return [torch.zeros_like(x) if g is None else g for x, g in zip(self.leaves, found, strict=True)]


def assert_same(case, chunks=(None, 4, 1), statistics=False, tolerance=1e-5, **options):
    dense = case.dense(**options)
    expected = case.gradients(dense.total)
    for chunk in chunks:
        fused = case.fused(chunk_tokens=chunk, statistics=statistics, **options)
        close = {"atol": tolerance, "rtol": tolerance}
        torch.testing.assert_close(fused.total, dense.total, **close)
        for name in PER_TOKEN:
            if getattr(fused, name) is not None:
                torch.testing.assert_close(getattr(fused, name), getattr(dense, name), **close, msg=name)
        for ours, theirs in zip(case.gradients(fused.total), expected, strict=True):
            # Relative to the largest entry: where terms cancel, single small entries keep no digits in float32.
            scale = max(1.0, float(theirs.abs().amax()) if theirs.numel() else 0.0)
            torch.testing.assert_close(ours / scale, theirs / scale, **close)
    return dense


ALL = [*DIVERGENCES, divergence("generalized_js", beta=0.2), divergence("generalized_js", beta=0.0), squared_difference]
IDS = [*DIVERGENCES, "beta=0.2", "beta=0", "user"]


@pytest.mark.parametrize("temperature", [0.1, 1.0, 2.0])
@pytest.mark.parametrize("name", ALL, ids=IDS)
def test_equals_dense_in_float32(name, temperature):
    case = Case()
    # At 0.1 the logits reach ±100, of which float32 keeps 1e-5: the dense value is no closer to the float64 one.
    tolerance = 1e-5 if temperature >= 1 else 5e-5
    assert_same(case, tolerance=tolerance, divergence=name, temperature=temperature, token_weights=case.weights)


@pytest.mark.parametrize("name", ALL, ids=IDS)
def test_every_option_in_float64(name):
    heads = ({}, {"bias": True, "softcap": 3.0, "scale": 0.6}, {"bias": True, "scale": 1.5}, {"softcap": 2.0})
    for head, columns, temperature, gold in itertools.product(heads, (30, 37, 44), (1.0, 2.0), (0, 1, 2)):
        case = Case(teacher_columns=columns, dtype=torch.float64, **head)
        options = {"divergence": name, "temperature": temperature, "token_weights": case.weights}
        if gold:
            options |= {"gold_ids": case.gold_ids, "gold_weights": case.gold_weights}
        if gold == 2:
            case.gold_ids[3:7] = head_logits(case.teacher_hidden, case.teacher_weight, case.teacher_bias)[
                3:7, :30
            ].argmax(-1)
            options |= {"teacher_gold_weights": case.teacher_gold_weights, "only_where_teacher_right": True}
        assert_same(case, chunks=(4,), statistics=gold == 1, tolerance=1e-9, **options)


@settings(max_examples=25, deadline=None)
@given(
    tokens=st.integers(0, 9),
    student_columns=st.integers(1, 20),
    teacher_columns=st.integers(1, 20),
    chunk=st.integers(1, 12),
    name=st.sampled_from(sorted(DIVERGENCES)),
    temperature=st.floats(0.3, 4),
    seed=st.integers(0, 1000),
)
def test_any_shape(tokens, student_columns, teacher_columns, chunk, name, temperature, seed):
    case = Case(tokens, student_columns, teacher_columns, torch.float64, seed)
    options = {"gold_ids": case.gold_ids, "gold_weights": case.gold_weights, "token_weights": case.weights}
    assert_same(case, chunks=(chunk,), tolerance=1e-8, divergence=name, temperature=temperature, **options)


@pytest.mark.parametrize("name", ALL, ids=IDS)
def test_bias_of_minus_infinity_takes_a_column_away(name):
    case = Case(bias=True, dtype=torch.float64)
    with torch.no_grad():
        case.student_bias[3] = case.teacher_bias[5] = case.student_bias[7] = case.teacher_bias[7] = -math.inf
    case.gold_ids[case.gold_ids == 3] = 4
    case.gold_ids[case.gold_ids == 7] = 4
    options = {"gold_ids": case.gold_ids, "gold_weights": case.gold_weights, "token_weights": case.weights}
    kept = [i for i in range(37) if i not in (3, 5, 7)]
    fused = case.fused(divergence=name, chunk_tokens=4, statistics=True, **options)
    assert all(gradient.isfinite().all() for gradient in case.gradients(fused.total))
    narrow = Case(bias=True, dtype=torch.float64)
    for field in ("student_weight", "teacher_weight", "student_bias", "teacher_bias"):
        setattr(narrow, field, getattr(narrow, field)[kept])
    torch.testing.assert_close(fused.divergence, narrow.dense(divergence=name).divergence)
    assert_same(case, chunks=(4,), statistics=True, tolerance=1e-9, divergence=name, **options)


def test_gold_keeps_the_whole_vocabulary_of_the_student():
    case = Case(student_columns=40, teacher_columns=30)
    case.gold_ids[2:] = 35
    losses = case.fused(gold_ids=case.gold_ids, gold_weights=torch.ones(11), token_weights=torch.zeros(11))
    logits = case.student_hidden @ case.student_weight.t()
    expected = torch.nn.functional.cross_entropy(logits, case.gold_ids, reduction="none", ignore_index=-100)
    torch.testing.assert_close(losses.gold, expected.detach())
    (gradient,) = torch.autograd.grad(losses.total, case.student_weight)
    assert bool((gradient[30:] != 0).any())


def test_gold_alone():
    case = Case(bias=True, softcap=4.0)
    weight = {"bias": case.student_bias, "softcap": 4.0}
    total, values = gold_cross_entropy(
        case.student_hidden, case.student_weight, case.gold_ids, weights=case.gold_weights, chunk_tokens=4, **weight
    )
    logits = head_logits(case.student_hidden, case.student_weight, **weight)
    expected = torch.nn.functional.cross_entropy(logits, case.gold_ids, reduction="none", ignore_index=-100)
    torch.testing.assert_close(values, expected.detach())
    reference = (expected * case.gold_weights).sum()
    for ours, theirs in zip(case.gradients(total), case.gradients(reference), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(set(DIVERGENCES) - {"adaptive_kl"}))
def test_gradcheck(name):
    case = Case(4, 7, 6, torch.float64, bias=True, softcap=5.0, scale=0.8)
    leaves = [case.student_hidden, case.student_weight, case.student_bias]

    def total(hidden, weight, bias):
        sides = (hidden, weight, case.teacher_hidden, case.teacher_weight)
        head = {"student_softcap": 5.0, "student_scale": 0.8, "student_bias": bias, "chunk_tokens": 3}
        gold = {"gold_ids": torch.tensor([0, 6, 3, 1]), "gold_weights": case.gold_weights}
        return fused_head(*sides, divergence=name, temperature=1.3, token_weights=case.weights, **head, **gold).total

    assert torch.autograd.gradcheck(total, leaves)


def test_gradcheck_of_the_teachers_cross_entropy():
    case = Case(4, 7, 9, torch.float64)

    def total(hidden):
        sides = (case.student_hidden.detach(), case.student_weight.detach(), hidden, case.teacher_weight)
        # The divergence takes the teacher as a constant, so it must not move the finite difference.
        weights = {"token_weights": torch.zeros(4), "teacher_gold_weights": case.teacher_gold_weights}
        return fused_head(*sides, gold_ids=torch.tensor([0, 6, 3, 1]), **weights).total

    assert torch.autograd.gradcheck(total, [case.teacher_hidden])


def test_gradients_only_where_needed():
    case = Case()
    case.student_weight.requires_grad_(False)
    total, values = lm_head_divergence(*case.sides(), divergence="js")
    assert not values.requires_grad
    (total * 1.7).backward()
    assert case.student_weight.grad is None
    assert case.teacher_hidden.grad is None
    expected = Case()
    dense = expected.dense(divergence="js").total
    torch.testing.assert_close(case.student_hidden.grad, expected.gradients(dense)[0], atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        quiet, same = lm_head_divergence(*Case().sides(), divergence="js")
    assert not quiet.requires_grad
    torch.testing.assert_close(same, values)


def test_backward_twice_and_through_what_follows():
    case = Case()
    total = case.fused().total
    first = torch.autograd.grad(total * 2, case.student_weight, retain_graph=True)[0]
    second = torch.autograd.grad(total, case.student_weight)[0]
    torch.testing.assert_close(first, 2 * second)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(total, case.student_weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ALL, ids=IDS)
def test_half_precision(name, dtype):
    case = Case(dtype=dtype, bias=True)
    exact = Case(bias=True)
    options = {"divergence": name, "gold_ids": case.gold_ids, "gold_weights": case.gold_weights}
    for temperature in (0.1, 1.0):
        # Weights as small as 1/tokens of a long run must not vanish in half precision.
        fused = case.fused(**options, temperature=temperature, token_weights=case.weights * 1e-6)
        assert fused.total.isfinite()
        gradients = case.gradients(fused.total)
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert [g.dtype for g in gradients[:3]] == [dtype] * 3
    small = 1e-5
    options |= {"gold_weights": case.gold_weights * small, "token_weights": case.weights * small}
    ours = case.gradients(case.fused(**options).total / small)
    theirs = exact.gradients(exact.dense(**options).total / small)
    for half, full in zip(ours[:3], theirs[:3], strict=True):
        assert float((half.float() - full).norm() / full.norm()) < 0.05


def test_weight_gradient_adds_up_in_float32():
    hidden = torch.full((4096, 1), 1.0, dtype=torch.bfloat16)
    weight = torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    total, _ = gold_cross_entropy(hidden, weight, torch.zeros(4096, dtype=torch.long), chunk_tokens=1)
    (gradient,) = torch.autograd.grad(total, weight)
    # 4,096 steps of ½; a sum kept in bfloat16 stops growing at 128.
    assert gradient.flatten().tolist() == [-2048.0, 2048.0]


def test_under_autocast():
    case = Case()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fused = case.fused(divergence="js", gold_ids=case.gold_ids, gold_weights=case.gold_weights)
    dense = case.dense(divergence="js", gold_ids=case.gold_ids, gold_weights=case.gold_weights)
    torch.testing.assert_close(fused.total, dense.total, rtol=0.02, atol=0.02)
    for ours, theirs in zip(case.gradients(fused.total), case.gradients(dense.total), strict=True):
        assert ours.dtype == torch.float32
        assert float((ours - theirs).norm()) <= 0.03 * float(theirs.norm())


def test_infinite_value_of_a_token_without_weight():
    case = Case(bias=True)
    with torch.no_grad():
        case.student_bias[4] = -math.inf
    gold = torch.full((11,), 5)
    gold[0] = 4
    weights = torch.ones(11)
    weights[0] = 0
    losses = case.fused(gold_ids=gold, gold_weights=weights)
    assert losses.gold[0] == math.inf
    assert losses.total.isfinite()


def test_bad_arguments():
    case = Case()
    student, weight, teacher, teacher_weight = case.sides()
    for message, call in {
        "same tokens": lambda: fused_head(student, weight, teacher[:4], teacher_weight),
        r"\[N, d\]": lambda: fused_head(student, weight[:, :3], teacher, teacher_weight),
        "temperature must be positive": lambda: case.fused(temperature=0),
        "need gold_ids": lambda: case.fused(gold_weights=case.gold_weights),
        "token_weights must be": lambda: case.fused(token_weights=case.weights[:3]),
        "go together": lambda: fused_head(student, weight, teacher),
        "without a teacher": lambda: fused_head(student, weight),
        "outside the student": lambda: case.fused(gold_ids=torch.full((11,), 99)),
        "chunk_tokens": lambda: case.fused(chunk_tokens=0),
        "student_bias must be": lambda: fused_head(student, weight, teacher, teacher_weight, student_bias=teacher[0]),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ConfigError, match="there is no divergence"):
        case.fused(divergence="kl-forward")
