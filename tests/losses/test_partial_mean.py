"""The mean of teachers of which some tell of a few tokens, against sums over sets of tokens written out by hand."""

import math

import pytest
import torch

from understudy.losses import DIVERGENCES, Head, HeadStates, HeadTerms, divergence, head_losses, traits
from understudy.losses.averaged import Averaged
from understudy.losses.logit_comparisons import SortedL1
from understudy.losses.partial_mean import partial_mean
from understudy.losses.sources import TopKProbabilities

TOKENS, COLUMNS = 11, 29
TAILED = [name for name in DIVERGENCES if traits(divergence(name)).takes_tail]


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def head(width, seed):
    return HeadStates(normal(TOKENS, width, seed=seed), Head(normal(COLUMNS, width, seed=seed + 1)))


WHOLE = [head(4, 10), head(6, 20), head(5, 30)]
P = [w.head.logits(w.hidden).softmax(-1) for w in WHOLE]
SHARES = normal(TOKENS, 3, seed=40).abs()
SHARES[0] = torch.tensor([0.0, 1.0, 0.0])
SHARES[1] = torch.tensor([2.0, 0.0, 0.0])
SHARES[2] = torch.tensor([0.0, 1.0, 3.0])
SHARES[3] = torch.tensor([1.0, 0.0, 1.0])
SHARES = SHARES / SHARES.sum(-1, keepdim=True)


def top(number, k):
    logp = P[number].log()
    ids = logp.topk(k).indices.flip(-1)
    return TopKProbabilities(ids, logp.gather(1, ids), logp.scatter(1, ids, -torch.inf).logsumexp(-1))


def leaves():
    return [normal(TOKENS, 6, seed=1).requires_grad_(), normal(COLUMNS, 6, seed=2).requires_grad_()]


def student(given):
    return HeadStates(given[0], Head(given[1]))


def known_of_all(ks, n):
    """The tokens that each teacher heard on a token tells of; None: all of them do of all."""
    known = None
    for number, k in enumerate(ks):
        if k is not None and SHARES[n, number] > 0:
            own = set(P[number][n].topk(k).indices.tolist())
            known = own if known is None else known & own
    return known


def by_hand(ks, name, given, weights):
    """Σ_n w_n D over the tokens that all tell of and one bucket for the others."""
    q = (given[0] @ given[1].T).softmax(-1)
    total = q.new_zeros(())
    for n in range(TOKENS):
        mixed = sum(SHARES[n, i] * P[i][n] for i in range(3))
        known = known_of_all(ks, n)
        known = sorted(range(COLUMNS) if known is None else known)
        rest = [v for v in range(COLUMNS) if v not in known]
        both = [torch.cat([x[known], x[rest].sum()[None]]).log()[None] for x in (q[n], mixed)]
        total = total + weights[n] * divergence(name)(*both)[0]
    return total


@pytest.mark.parametrize("chunk", [None, 4])
@pytest.mark.parametrize("ks", [(5, 9, None), (None, 7, None), (12, 12, 12), (1, 1, None)], ids=str)
@pytest.mark.parametrize("name", TAILED)
def test_value_and_gradient_are_those_of_the_buckets_that_all_can_fill(name, ks, chunk):
    given, weights = leaves(), normal(TOKENS, seed=3).abs()
    teachers = [WHOLE[n] if k is None else top(n, k) for n, k in enumerate(ks)]
    terms = HeadTerms(divergence(name), token_weights=weights, chunk_tokens=chunk)
    total = head_losses(student(given), partial_mean(teachers, SHARES), terms).total
    expected = by_hand(ks, name, given, weights)
    torch.testing.assert_close(total, expected, atol=1e-9, rtol=1e-9)
    for one, other in zip(*(torch.autograd.grad(x, given) for x in (total, expected)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("ks", [(COLUMNS, COLUMNS, None), (COLUMNS,) * 3, (None, None, None)], ids=str)
@pytest.mark.parametrize("name", TAILED)
def test_every_token_of_each_is_the_mean_itself(name, ks):
    given, terms = leaves(), HeadTerms(divergence(name))
    teachers = [WHOLE[n] if k is None else top(n, k) for n, k in enumerate(ks)]
    total = head_losses(student(given), partial_mean(teachers, SHARES), terms).total
    expected = head_losses(student(given), Averaged(WHOLE, SHARES), terms).total
    torch.testing.assert_close(total, expected, atol=1e-9, rtol=1e-9)
    for one, other in zip(*(torch.autograd.grad(x, given) for x in (total, expected)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", TAILED)
def test_it_is_never_larger_than_that_of_the_whole_mean(name):
    given, terms = leaves(), HeadTerms(divergence(name))
    whole = head_losses(student(given), Averaged(WHOLE, SHARES), terms).divergence
    for k in (1, 4, 14):
        few = head_losses(student(given), partial_mean([top(0, k), WHOLE[1], top(2, 2 * k)], SHARES), terms).divergence
        assert few is not None
        assert whole is not None
        assert bool((few <= whole + 1e-12).all())


def test_two_tokens_by_hand():
    """p = (0.7, 0.2, 0.1) of which two are told, and (0.5, 0.1, 0.4) of which the first and the last: three to one."""
    first = TopKProbabilities(torch.tensor([[1, 0]]), double([[0.2, 0.7]]).log(), double([0.1]).log())
    second = TopKProbabilities(torch.tensor([[0, 2]]), double([[0.5, 0.4]]).log(), double([0.1]).log())
    uniform = HeadStates(torch.zeros(1, 1, dtype=torch.float64), Head(torch.zeros(3, 1, dtype=torch.float64)))
    mean = partial_mean([first, second], double([[3.0, 1.0]]))
    losses = head_losses(uniform, mean, HeadTerms(divergence("forward_kl")))
    # The token 0 alone is told by both: 0.75 · 0.7 + 0.25 · 0.5 = 0.65 against 1/3, the rest 0.35 against 2/3.
    value = 0.65 * math.log(0.65 * 3) + 0.35 * math.log(0.35 * 1.5)
    assert losses.divergence is not None
    assert losses.divergence.item() == pytest.approx(value, rel=1e-12)


def test_rows_keep_their_buckets():
    which = torch.tensor([10, 0, 3])
    source = partial_mean([top(0, 4), WHOLE[1], top(2, 6)], SHARES)
    terms = HeadTerms(divergence("js"))
    whole = head_losses(student(leaves()), source, terms).divergence
    part = head_losses(student(leaves()).rows(which), source.rows(which), terms).divergence
    assert whole is not None
    torch.testing.assert_close(part, whole[which])


def test_what_a_partial_mean_cannot_be():
    tempered = TopKProbabilities(top(0, 3).ids, top(0, 3).logp, top(0, 3).tail, 2.0)
    with pytest.raises(ValueError, match="at temperature 1"):
        partial_mean([tempered, WHOLE[1]], SHARES[:, :2])
    source = partial_mean([top(0, 4), WHOLE[1], top(2, 6)], SHARES)
    with pytest.raises(ValueError, match="needs the likeliest tokens"):
        head_losses(student(leaves()), source, HeadTerms(SortedL1()))
    with pytest.raises(ValueError, match="temperature 1, not 2"):
        head_losses(student(leaves()), source, HeadTerms(divergence("js"), temperature=2.0))
