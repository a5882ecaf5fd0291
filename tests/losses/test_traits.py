"""What each divergence declares of itself, by numbers."""

import pytest
import torch

from understudy.losses import DIVERGENCES, divergence, traits


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_linear_in_the_teacher_is_what_it_declares(name):
    """The gradient on the student of D(E p̂) against the mean of the gradients of D(p̂): no term without q is in it."""
    student = normal(5, 9, seed=0).requires_grad_()
    teachers = [normal(5, 9, seed=seed).softmax(-1) for seed in range(1, 5)]

    def gradient(p):
        value = divergence(name)(student.log_softmax(-1), p.log())
        return torch.autograd.grad(value.sum(), student)[0]

    mean = torch.stack([gradient(p) for p in teachers]).mean(0)
    of_mean = gradient(torch.stack(teachers).mean(0))
    assert torch.allclose(mean, of_mean, atol=1e-12) == traits(divergence(name)).linear_in_teacher


@pytest.mark.parametrize("name", DIVERGENCES)
def test_taking_a_tail_is_what_it_declares(name):
    """Merging columns in which both sides have the same proportions changes nothing, and merging others only lowers."""
    function, kept = divergence(name), 4
    student, teacher = normal(200, 12, seed=0), normal(200, 12, seed=1)
    lower = (merged(student, teacher, kept, function) <= function(*logp(student, teacher)) + 1e-12).all()
    # The same proportions within the tail, and any sum.
    teacher[:, kept:] = student[:, kept:] + normal(200, 1, seed=2)
    same = torch.allclose(merged(student, teacher, kept, function), function(*logp(student, teacher)), atol=1e-12)
    assert (bool(lower) and same) == traits(function).takes_tail


def logp(*logits):
    return [x.log_softmax(-1) for x in logits]


def merged(student, teacher, kept, function):
    """The divergence over the first columns and one bucket."""
    own, other = (torch.cat([x[:, :kept], x[:, kept:].logsumexp(-1, keepdim=True)], -1) for x in logp(student, teacher))
    return function(own, other)


def test_parameters_set_change_no_declaration_and_an_unknown_divergence_declares_nothing():
    assert traits(divergence("skew_forward_kl", skew=0.3)).takes_tail
    assert not traits(lambda student, teacher: student.sum(-1)).takes_tail
