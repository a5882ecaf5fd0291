"""Teachers that are no head stand where a head stands."""

import pytest
import torch

from understudy.losses import DIVERGENCES, Head, HeadStates, HeadTerms, divergence, head_losses, traits
from understudy.losses.averaged import Averaged
from understudy.losses.dense import head_logits
from understudy.losses.sources import (
    CandidateLogits,
    LogProbabilities,
    SampledProbabilities,
    TopKProbabilities,
)

TOKENS, COLUMNS = 11, 37
TAILED = [name for name in DIVERGENCES if traits(divergence(name)).takes_tail]


def normal(*shape, seed, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


class Case:
    def __init__(self, dtype=torch.float64):
        self.leaves = [
            normal(*shape, seed=n, dtype=dtype).requires_grad_() for n, shape in enumerate([(TOKENS, 6), (COLUMNS, 6)])
        ]
        self.student = HeadStates(self.leaves[0], Head(self.leaves[1], softcap=4.0))
        self.teacher = HeadStates(normal(TOKENS, 9, seed=2, dtype=dtype), Head(normal(COLUMNS, 9, seed=3, dtype=dtype)))
        self.logp = head_logits(self.teacher.hidden, self.teacher.head.weight).log_softmax(-1)
        self.ids = torch.arange(TOKENS) * 3 % COLUMNS
        self.weights, self.gold_weights = (normal(TOKENS, seed=s).abs() for s in (4, 5))

    def losses(self, teacher, name="forward_kl", **more):
        weights = {"token_weights": self.weights, "gold_ids": self.ids, "gold_weights": self.gold_weights}
        return head_losses(self.student, teacher, HeadTerms(divergence(name), **{**weights, **more}))

    def assert_same(self, ours, theirs, tolerance=1e-9):
        torch.testing.assert_close(ours.total, theirs.total, atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(ours.divergence, theirs.divergence, atol=tolerance, rtol=tolerance)
        for one, other in zip(*(torch.autograd.grad(x.total, self.leaves) for x in (ours, theirs)), strict=True):
            torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)

    def top(self, k):
        logp, ids = self.logp.topk(k)
        rest = self.logp.scatter(1, ids, -torch.inf)
        return TopKProbabilities(ids, logp, rest.logsumexp(-1))


@pytest.mark.parametrize("chunk", [None, 3])
@pytest.mark.parametrize("name", TAILED)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_every_token_in_the_top_k_is_the_divergence_itself(name, chunk, dtype, tolerance):
    case = Case(dtype)
    case.assert_same(
        case.losses(case.top(COLUMNS), name, chunk_tokens=chunk), case.losses(case.teacher, name), tolerance
    )


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("name", TAILED)
def test_a_tail_is_one_bucket(name, k):
    case = Case()
    top = case.top(k)
    logits = head_logits(case.student.hidden, case.student.head.weight, softcap=4.0).log_softmax(-1)
    rest = logits.scatter(1, top.ids, -torch.inf).logsumexp(-1, keepdim=True)
    student = torch.cat([logits.gather(1, top.ids), rest], -1)
    expected = divergence(name)(student, torch.cat([top.logp, top.tail[:, None]], -1))
    total = (case.weights * expected).sum()
    losses = case.losses(top, name, gold_ids=None, gold_weights=None)
    torch.testing.assert_close(losses.divergence, expected.detach())
    for one, other in zip(
        *(torch.autograd.grad(x, case.leaves, retain_graph=True) for x in (losses.total, total)), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


def test_what_a_tail_cannot_give_is_refused():
    case = Case()
    for name, more, message in [
        ("adaptive_kl", {}, "one bucket"),
        ("forward_kl", {"temperature": 2.0}, "temperature 1, not 2"),
        ("forward_kl", {"only_where_teacher_right": True}, "no cross-entropy"),
    ]:
        with pytest.raises(ValueError, match=message):
            case.losses(case.top(5), name, **more)


def test_of_a_top_k_the_student_alone_has_figures():
    losses = Case().losses(Case().top(5), statistics=True)
    assert losses.student_entropy is not None
    assert losses.teacher_entropy is None
    assert losses.agreement is None


@pytest.mark.parametrize("name", ["forward_kl", "adaptive_kl", "js"])
@pytest.mark.parametrize("more", [{}, {"temperature": 2.0, "statistics": True, "chunk_tokens": 3}])
def test_stored_log_probabilities_are_the_head_that_gave_them(name, more):
    case = Case()
    case.assert_same(case.losses(LogProbabilities(case.logp), name, **more), case.losses(case.teacher, name, **more))


@pytest.mark.parametrize("more", [{}, {"temperature": 2.0, "statistics": True, "chunk_tokens": 3}])
def test_twice_the_same_teacher_is_that_teacher(more):
    case = Case()
    twice = Averaged([case.teacher, case.teacher], [0.3, 0.7])
    case.assert_same(case.losses(twice, **more), case.losses(case.teacher, **more))


def test_two_teachers_are_averaged_in_probability():
    case = Case()
    other = HeadStates(normal(TOKENS, 9, seed=7), Head(normal(COLUMNS, 9, seed=8)))
    second = head_logits(other.hidden, other.head.weight).softmax(-1)
    mixture = LogProbabilities((0.25 * case.logp.exp() + 0.75 * second).log())
    case.assert_same(case.losses(Averaged([case.teacher, other], [0.25, 0.75])), case.losses(mixture))


class Candidates:
    """Logits over a row's own candidates on both sides, and the same as a head would have them."""

    def __init__(self):
        self.mask = normal(TOKENS, COLUMNS, seed=7) > -0.5
        self.mask[:, 0] = True
        self.logits = normal(TOKENS, COLUMNS, seed=8).requires_grad_()
        self.student = CandidateLogits(self.logits, self.mask)
        self.teacher = CandidateLogits(normal(TOKENS, COLUMNS, seed=9), self.mask)
        self.weights, self.gold_weights = (normal(TOKENS, seed=s).abs() for s in (4, 5))
        self.ids = self.mask.int().argmax(1)


@pytest.mark.parametrize("temperature", [0.05, 1.0, 2.0])
@pytest.mark.parametrize("chunk", [None, 3])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_candidates_are_compared_as_plain_distributions(name, chunk, temperature):
    """Against log-softmax over the offered columns alone, row by row, and autograd."""
    case = Candidates()
    terms = HeadTerms(
        divergence(name),
        temperature=temperature,
        token_weights=case.weights,
        gold_ids=case.ids,
        gold_weights=case.gold_weights,
        statistics=True,
        chunk_tokens=chunk,
    )
    losses = head_losses(case.student, case.teacher, terms)
    total, values = 0.0, []
    for n, offered in enumerate(case.mask):
        own, other = (side.logits[n, offered] for side in (case.student, case.teacher))
        value = divergence(name)(
            (own / temperature).log_softmax(-1)[None], (other / temperature).log_softmax(-1).detach()[None]
        )[0]
        gold = -own.log_softmax(-1)[int(case.mask[n, : case.ids[n]].sum())]
        total = total + case.weights[n] * value + case.gold_weights[n] * gold
        values.append(value.detach())
    torch.testing.assert_close(losses.total, total, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(losses.divergence, torch.stack(values), atol=1e-9, rtol=1e-9)
    ours, theirs = (torch.autograd.grad(value, case.logits)[0] for value in (losses.total, total))
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)
    assert ours[~case.mask].abs().max() == 0
    entropies = torch.distributions.Categorical(logits=case.teacher.masked()).entropy()
    torch.testing.assert_close(losses.teacher_entropy, entropies)


@pytest.mark.parametrize("chunk", [None, 3])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_weights_on_every_token_are_forward_kl(chunk, temperature):
    """With w = p over all columns the estimate is what it estimates."""
    case = Case()
    p = (case.logp / temperature).log_softmax(-1).exp()
    ids = torch.arange(COLUMNS).expand(TOKENS, -1)
    sampled = SampledProbabilities(ids, p, -(p * p.log()).sum(-1), temperature)
    more = {"temperature": temperature, "chunk_tokens": chunk}
    case.assert_same(case.losses(sampled, **more), case.losses(case.teacher, **more))


def test_a_token_that_was_drawn_twice_counts_twice():
    case = Case()
    ids = torch.tensor([[3, 3, 5]]).expand(TOKENS, -1)
    weights = torch.tensor([[0.25, 0.25, 0.5]], dtype=torch.float64).expand(TOKENS, -1)
    once = SampledProbabilities(ids[:, 1:], torch.tensor([[0.5, 0.5]]).double().expand(TOKENS, -1), torch.zeros(TOKENS))
    case.assert_same(case.losses(SampledProbabilities(ids, weights, torch.zeros(TOKENS))), case.losses(once))


def test_the_gradient_of_a_sample_is_right_on_average():
    """Over 10,000 draws, within 3 standard errors, entry by entry; the value likewise. None of them is clamped."""
    make = torch.Generator().manual_seed(1)
    p = torch.randn(20, generator=make, dtype=torch.float64).mul(2).softmax(-1)
    student = (p.log() + torch.randn(20, generator=make, dtype=torch.float64))[None].requires_grad_()
    entropy = -(p * p.log()).sum().reshape(1)
    drawn = torch.multinomial(p, 40_000, replacement=True, generator=make).reshape(10_000, 4)
    side = HeadStates(student.expand(10_000, -1), Head(torch.eye(20, dtype=torch.float64)))
    weights = torch.full((10_000, 4), 0.25, dtype=torch.float64)
    source = SampledProbabilities(drawn, weights, entropy.expand(10_000))
    hidden = side.hidden.detach().requires_grad_()
    losses = head_losses(HeadStates(hidden, side.head), source, HeadTerms(divergence("forward_kl")))
    (gradients,) = torch.autograd.grad(losses.total, hidden)
    expected = divergence("forward_kl")(student.log_softmax(-1), p.log()[None])
    (whole,) = torch.autograd.grad(expected.sum(), student)
    error = gradients.std(0) / 100
    assert ((gradients.mean(0) - whole[0]).abs() < 3 * error).double().mean() > 0.9
    value = losses.divergence
    assert abs(value.mean() - expected.item()) < 3 * value.std() / 100
    assert value.min() < 0


def test_sampled_targets_refuse_what_is_not_linear():
    case = Case()
    sampled = SampledProbabilities(case.top(4).ids, torch.ones(TOKENS, 4) / 4, torch.zeros(TOKENS))
    for name in set(DIVERGENCES) - {"forward_kl"}:
        with pytest.raises(ValueError, match="forward KL alone"):
            case.losses(sampled, name)


def test_a_student_sure_of_the_head_keeps_its_digits():
    """The others' probabilities lie below what float32 can hold: value and gradient are those of float64."""
    logits = torch.full((1, 9), -200.0)
    logits[0, :2] = torch.tensor([3.0, 2.5])
    results = []
    for dtype in (torch.float32, torch.float64):
        hidden = logits.to(dtype).requires_grad_()
        head = Head(torch.eye(9, dtype=dtype))
        shares = torch.tensor([[0.6, 0.3, 0.1]], dtype=dtype).log()
        teacher = TopKProbabilities(torch.tensor([[0, 1]]), shares[:, :2], shares[:, 2])
        losses = head_losses(HeadStates(hidden, head), teacher, HeadTerms(divergence("forward_kl")))
        results.append((losses.divergence.double(), torch.autograd.grad(losses.total, hidden)[0].double()))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert results[0][1][0, 2:].sum() == pytest.approx(-0.1, abs=1e-6)
