"""The mean of several teachers, fused, against the formulas on full logits."""

import math

import pytest
import torch

from understudy.losses import Head, HeadStates, HeadTerms, divergence, head_losses
from understudy.losses.averaged import Averaged
from understudy.losses.sources import LogProbabilities

TOKENS, COLUMNS = 13, 31
MEANS = ["probabilities", "log_probabilities"]


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def head(width, seed, columns=COLUMNS, **more):
    return HeadStates(normal(TOKENS, width, seed=seed), Head(normal(columns, width, seed=seed + 1), **more))


TEACHERS = [head(5, 10), head(9, 20, softcap=3.0, bias=normal(COLUMNS, seed=5)), head(4, 30, columns=COLUMNS + 3)]


def logits(states):
    return states.head.logits(states.hidden)[:, :COLUMNS]


def expected(shares, mean, by_confidence, temperature=1.0):
    """`[N, V]` log-probabilities, written out token by token."""
    logps = [logits(teacher).log_softmax(-1) for teacher in TEACHERS]
    rows = []
    for n in range(TOKENS):
        weights = [float(shares[n][i]) for i in range(len(TEACHERS))]
        if by_confidence:
            entropies = [-(logp[n].exp() * logp[n]).sum().item() for logp in logps]
            weights = [w * math.exp(-h) for w, h in zip(weights, entropies, strict=True)]
        weights = [w / sum(weights) for w in weights]
        if mean == "probabilities":
            row = sum(w * logp[n].exp() for w, logp in zip(weights, logps, strict=True)).log()
        else:
            row = sum(w * logp[n] for w, logp in zip(weights, logps, strict=True))
        rows.append((row / temperature).log_softmax(-1))
    return torch.stack(rows)


def shares_by_token():
    """Of every kind: of one teacher, of two, of all."""
    shares = normal(TOKENS, 3, seed=40).abs()
    shares[0] = torch.tensor([0.0, 0.0, 2.0])
    shares[1, 1] = 0
    return shares


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("by_confidence", [False, True])
@pytest.mark.parametrize(("temperature", "chunk"), [(1.0, None), (2.5, 4)])
@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "js"])
def test_value_and_gradient_are_the_formula(mean, by_confidence, temperature, chunk, name):
    leaves = [normal(TOKENS, 6, seed=1).requires_grad_(), normal(COLUMNS, 6, seed=2).requires_grad_()]
    weights = normal(TOKENS, seed=3).abs()
    source = Averaged(TEACHERS, shares_by_token(), mean, by_confidence)
    assert source.columns == COLUMNS
    terms = HeadTerms(
        divergence(name), temperature=temperature, token_weights=weights, statistics=True, chunk_tokens=chunk
    )
    losses = head_losses(HeadStates(leaves[0], Head(leaves[1])), source, terms)
    logp = expected(shares_by_token(), mean, by_confidence, temperature)
    student = (leaves[0] @ leaves[1].T / temperature).log_softmax(-1)
    dense = divergence(name)(student, logp)
    torch.testing.assert_close(losses.divergence, dense.detach(), atol=1e-9, rtol=1e-9)
    ours = torch.autograd.grad(losses.total, leaves)
    theirs = torch.autograd.grad((weights * dense).sum(), leaves)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)
    own = expected(shares_by_token(), mean, by_confidence)
    torch.testing.assert_close(losses.teacher_entropy, -(own.exp() * own).sum(-1), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("mean", MEANS)
def test_two_tokens_by_hand(mean):
    """p = (0.9, 0.1) and (0.5, 0.5), three to one."""
    teachers = [
        HeadStates(torch.ones(1, 1, dtype=torch.float64), Head(torch.tensor(p, dtype=torch.float64).log()[:, None]))
        for p in ([0.9, 0.1], [0.5, 0.5])
    ]
    student = HeadStates(torch.zeros(1, 1, dtype=torch.float64), Head(torch.zeros(2, 1, dtype=torch.float64)))
    losses = head_losses(student, Averaged(teachers, [3.0, 1.0], mean), HeadTerms(divergence("forward_kl")))
    # Arithmetic: 0.8 and 0.2. Geometric: 0.9^¾ · 0.5^¼ = 0.7770 to 0.1^¾ · 0.5^¼ = 0.1495, that is 0.8386 and 0.1614.
    p = 0.8 if mean == "probabilities" else 0.9**0.75 / (0.9**0.75 + 0.1**0.75)
    value = math.log(2) + p * math.log(p) + (1 - p) * math.log(1 - p)
    assert losses.divergence is not None
    assert losses.divergence.item() == pytest.approx(value, rel=1e-9)


def test_a_teacher_that_knows_outweighs_one_that_guesses():
    certain = HeadStates(torch.full((1, 1), 60.0, dtype=torch.float64), Head(torch.eye(COLUMNS, 1).double()))
    guessing = HeadStates(torch.zeros(1, 1, dtype=torch.float64), Head(torch.eye(COLUMNS, 1).double()))
    student = HeadStates(torch.zeros(1, 1, dtype=torch.float64), Head(torch.zeros(COLUMNS, 1, dtype=torch.float64)))
    # H = 0 and H = ln V: weights 1 and 1/V, so p(0) = (1 + 1/V · 1/V) / (1 + 1/V).
    p = (1 + COLUMNS**-2) / (1 + 1 / COLUMNS)
    rest = (1 - p) / (COLUMNS - 1)
    value = math.log(COLUMNS) + p * math.log(p) + (COLUMNS - 1) * rest * math.log(rest)
    source = Averaged([certain, guessing], [0.5, 0.5], by_confidence=True)
    losses = head_losses(student, source, HeadTerms(divergence("forward_kl")))
    assert losses.divergence is not None
    assert losses.divergence.item() == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("mean", MEANS)
def test_rows_keep_their_shares(mean):
    which = torch.tensor([12, 0, 5])
    student = HeadStates(normal(TOKENS, 6, seed=1), Head(normal(COLUMNS, 6, seed=2)))
    terms = HeadTerms(divergence("forward_kl"))
    source = Averaged(TEACHERS, shares_by_token(), mean, by_confidence=True)
    part = head_losses(student.rows(which), source.rows(which), terms)
    stored = LogProbabilities(expected(shares_by_token(), mean, by_confidence=True)[which])
    whole = head_losses(student, source, terms)
    assert part.divergence is not None
    assert whole.divergence is not None
    torch.testing.assert_close(part.divergence, whole.divergence[which], atol=1e-9, rtol=1e-9)
    of_stored = head_losses(student.rows(which), stored, terms)
    torch.testing.assert_close(part.divergence, of_stored.divergence, atol=1e-9, rtol=1e-9)
