"""Divergences against hand-worked values, float64 formulas and the identities they must keep."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr, softmax

from understudy.errors import ConfigError
from understudy.losses import DIVERGENCES, divergence, register
from understudy.losses.divergences import teacher_head

P, Q = np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.25, 0.5])
LOG2, LOG3 = math.log(2), math.log(3)


def logp(*rows) -> torch.Tensor:
    return torch.tensor(np.array(rows), dtype=torch.float64).log()


def adaptive_formula(p, q, head_mass=0.5):
    order = np.argsort(-p, kind="stable")
    size = int(np.searchsorted(np.cumsum(p[order]), head_mass - 1e-12)) + 1
    gap = np.abs(p - q)
    head, whole = gap[order[:size]].sum(), gap.sum()
    weight = head / whole if whole else 0.5
    return weight * rel_entr(p, q).sum() + (1 - weight) * rel_entr(q, p).sum()


FORMULAS = {
    ("forward_kl", ()): lambda p, q: rel_entr(p, q).sum(),
    ("reverse_kl", ()): lambda p, q: rel_entr(q, p).sum(),
    ("js", ()): lambda p, q: jensenshannon(p, q) ** 2,
    ("generalized_js", (("beta", 0.3),)): lambda p, q: (
        0.3 * rel_entr(p, 0.3 * p + 0.7 * q).sum() + 0.7 * rel_entr(q, 0.3 * p + 0.7 * q).sum()
    ),
    ("skew_forward_kl", (("skew", 0.1),)): lambda p, q: rel_entr(p, 0.1 * p + 0.9 * q).sum(),
    ("skew_reverse_kl", (("skew", 0.2),)): lambda p, q: rel_entr(q, 0.2 * q + 0.8 * p).sum(),
    ("adaptive_kl", ()): adaptive_formula,
    ("adaptive_kl", (("head_mass", 0.8),)): lambda p, q: adaptive_formula(p, q, 0.8),
    ("total_variation", ()): lambda p, q: np.abs(p - q).sum() / 2,
}


@pytest.mark.parametrize(("name", "parameters"), list(FORMULAS))
def test_formula_in_float64(name, parameters):
    rng = np.random.default_rng(0)
    p, q = softmax(rng.normal(0, 2, (20, 31)), -1), softmax(rng.normal(0, 2, (20, 31)), -1)
    expected = [FORMULAS[name, parameters](*pair) for pair in zip(p, q, strict=True)]
    value = divergence(name, **dict(parameters))(logp(*q), logp(*p))
    np.testing.assert_allclose(value.numpy(), expected, rtol=1e-10)


HAND_WORKED = {
    # p = (½, ½, 0), q = (¼, ¼, ½)
    "forward_kl": LOG2,
    "js": 0.5 * math.log(4 / 3) + 0.5 * (0.5 * math.log(2 / 3) + 0.5 * LOG2),
    "total_variation": 0.5,
    "skew_forward_kl": -math.log(0.1 + 0.9 * 0.5),
    "skew_reverse_kl": 0.5 * math.log(0.25 / (0.025 + 0.45)) + 0.5 * math.log(10),
}


@pytest.mark.parametrize("name", HAND_WORKED)
def test_hand_worked_value(name):
    value = DIVERGENCES[name](logp(Q), logp(P))
    assert value.item() == pytest.approx(HAND_WORKED[name], abs=1e-12)


def test_hand_worked_adaptive():
    # Head of p is the first column: gaps ¼ there and ¼ in the tail, so both directions count half.
    p, q = [0.5, 0.25, 0.25], [0.25, 0.25, 0.5]
    forward = 0.5 * LOG2 - 0.25 * LOG2
    assert DIVERGENCES["adaptive_kl"](logp(q), logp(p)).item() == pytest.approx(forward, abs=1e-12)


def test_head_is_the_fewest_columns():
    p = torch.tensor([[0.1, 0.6, 0.3], [0.3, 0.3, 0.4], [0.25, 0.25, 0.25], [0.2, 0.4, 0.4]])
    p[2, 2] = 0.5
    head = teacher_head(p, 0.5)
    assert head.tolist() == [[False, True, False], [True, False, True], [False, False, True], [False, True, True]]
    uniform = torch.full((1, 4), 0.25)
    assert teacher_head(uniform, 0.5).tolist() == [[True, True, False, False]]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0.1, 30))
def test_identities(columns, seed, spread):
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(3, columns, dtype=torch.float64, generator=generator) * spread for _ in range(2))
    a, b = a.log_softmax(-1), b.log_softmax(-1)
    close = {"atol": 1e-9, "rtol": 1e-9}
    for name, function in DIVERGENCES.items():
        torch.testing.assert_close(function(a, a), torch.zeros(3, dtype=torch.float64), **close, msg=name)
        assert bool((function(a, b) >= -1e-12).all()), name
    js, total = DIVERGENCES["js"], DIVERGENCES["total_variation"]
    torch.testing.assert_close(js(a, b), js(b, a), **close)
    assert float(js(a, b).max()) <= LOG2 + 1e-12
    assert float(total(a, b).max()) <= 1 + 1e-12
    # Pinsker: the total variation is at most √(KL/2).
    assert bool((total(a, b) <= (DIVERGENCES["forward_kl"](a, b) / 2).sqrt() + 1e-9).all())
    torch.testing.assert_close(DIVERGENCES["reverse_kl"](a, b), DIVERGENCES["forward_kl"](b, a), **close)


def test_limits_of_the_parameters():
    generator = torch.Generator().manual_seed(0)
    q, p = torch.randn(2, 5, 9, dtype=torch.float64, generator=generator).log_softmax(-1)
    forward, reverse = DIVERGENCES["forward_kl"](q, p), DIVERGENCES["reverse_kl"](q, p)
    small = 1e-6
    for value, limit in (
        (divergence("generalized_js", beta=0)(q, p), forward),
        (divergence("generalized_js", beta=1)(q, p), reverse),
        (divergence("generalized_js", beta=small)(q, p) / small, forward),
        (divergence("generalized_js", beta=1 - small)(q, p) / small, reverse),
        (divergence("generalized_js", beta=0.5)(q, p), DIVERGENCES["js"](q, p)),
        (divergence("skew_forward_kl", skew=0)(q, p), forward),
        (divergence("skew_reverse_kl", skew=0)(q, p), reverse),
        (divergence("skew_forward_kl", skew=1 - small)(q, p), torch.zeros_like(forward)),
    ):
        torch.testing.assert_close(value, limit, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("absent", ["both", "teacher", "student"])
def test_columns_without_probability(name, absent):
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 4, 7, dtype=torch.float64, generator=generator)
    if absent != "teacher":
        student[:, 2] = -math.inf
    if absent != "student":
        teacher[:, 2] = -math.inf
    student.requires_grad_()
    value = DIVERGENCES[name](student.log_softmax(-1), teacher.log_softmax(-1))
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert not value.isnan().any()
    assert gradient.isfinite().all()
    if absent == "both":
        kept = [0, 1, 3, 4, 5, 6]
        expected = DIVERGENCES[name](student[:, kept].log_softmax(-1), teacher[:, kept].log_softmax(-1))
        torch.testing.assert_close(value, expected)
    infinite = {"teacher": {"reverse_kl", "adaptive_kl"}, "student": {"forward_kl", "adaptive_kl"}, "both": set()}
    assert bool(value.isinf().all()) == (name in infinite[absent])


# The weights of adaptive KL carry no gradient, so no finite difference gives its derivative.
@pytest.mark.parametrize("name", sorted(set(DIVERGENCES) - {"adaptive_kl"}))
def test_gradcheck(name):
    student = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    teacher = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).log_softmax(-1)
    assert torch.autograd.gradcheck(lambda x: DIVERGENCES[name](x.log_softmax(-1), teacher), student)


def test_unknown_names_and_parameters():
    with pytest.raises(ConfigError, match="did you mean `reverse_kl`"):
        divergence("revers_kl")
    with pytest.raises(ConfigError, match="'js' has no parameter 'beta'"):
        divergence("js", beta=0.5)
    with pytest.raises(ConfigError, match=r"beta must lie in \[0, 1\], not 1.5"):
        divergence("generalized_js", beta=1.5)
    with pytest.raises(ConfigError, match="skew must lie"):
        divergence("skew_forward_kl", skew=1)
    with pytest.raises(ConfigError, match="head_mass must lie"):
        divergence("adaptive_kl", head_mass=0)


def test_register(monkeypatch):
    def squared(student_logp, teacher_logp, *, power=2.0):
        return ((student_logp.exp() - teacher_logp.exp()).abs() ** power).sum(-1)

    monkeypatch.setattr("understudy.losses.divergences.DIVERGENCES", {**DIVERGENCES})
    register("squared", squared)
    value = divergence("squared", power=1.0)(logp([0.5, 0.5]), logp([0.2, 0.8]))
    assert value.item() == pytest.approx(0.6)
    with pytest.raises(ConfigError, match="there is a divergence 'squared' already"):
        register("squared", lambda a, b: a.sum(-1))
    with pytest.raises(ConfigError, match="there is a divergence 'js' already"):
        register("js", squared)
