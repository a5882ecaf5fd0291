"""Losses across two vocabularies against their formulas, written out slowly in float64, and their identities."""

import itertools
import math

import pytest
import torch

from understudy.losses import DIVERGENCES, Head, HeadStates, divergence, head_losses, traits
from understudy.losses.crossvocab import AlignedTokens, SpanMerge, TokenSpans, merged_losses, paired_losses
from understudy.losses.dense import head_logits
from understudy.losses.divergences import forward_kl
from understudy.losses.logit_comparisons import ColumnMap, MappedColumns, MergedSpans, SortedL1
from understudy.losses.requests import HeadTerms
from understudy.losses.sorting import sorted_gap
from understudy.losses.sources import SampledProbabilities, TopKProbabilities
from understudy.recipe.methods import MinEditConfig

STUDENT, TEACHER = 13, 17
# Nine of the student's tokens and eight of the teacher's; the first three and the last stand side by side.
PARTNERS = torch.tensor([0, 1, 2, -1, 4, -1, -1, -1, 7])
NEAREST = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, -1, 12, 0, 7, 9, 1])
HEADS = [{}, {"bias": True, "softcap": 2.5, "scale": 0.7}, {"bias": True, "scale": 1.4}]


def normal(*shape, seed, spread=1.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * spread


class Case:
    """Two heads over other columns, with leaves that collect gradients."""

    def __init__(self, bias=False, dtype=torch.float64, columns=(STUDENT, TEACHER), tokens=(9, 8), **head):
        def side(columns, width, tokens, seed):
            hidden, weight = normal(tokens, width, seed=seed), normal(columns, width, seed=seed + 1)
            offset = normal(columns, seed=seed + 2) if bias else None
            given = [None if x is None else x.to(dtype).requires_grad_() for x in (hidden, weight, offset)]
            return HeadStates(given[0], Head(*given[1:], **head)), given

        (self.student, own), (self.teacher, other) = (
            side(columns[0], 5, tokens[0], 0),
            side(columns[1], 7, tokens[1], 9),
        )
        self.leaves = [leaf for leaf in own if leaf is not None]
        self.teacher_leaves = [leaf for leaf in other if leaf is not None]
        self.gold_ids = torch.arange(tokens[0]) * 5 % columns[0]
        self.teacher_ids = torch.arange(tokens[1]) * 3 % columns[1]
        self.weights, self.gold_weights = (normal(tokens[0], seed=s).abs() for s in (20, 21))
        self.weights[1:2] = 0

    def logits(self):
        """Full logits of both sides, the teacher's as constants."""
        q, p = (
            head_logits(x.hidden, x.head.weight, x.head.bias, x.head.softcap, x.head.scale)
            for x in (self.student, self.teacher)
        )
        return q, p.detach()

    def gold(self, q):
        return (self.gold_weights * -q.log_softmax(-1)[torch.arange(len(q)), self.gold_ids]).sum()

    def terms(self, **more):
        weights = {"token_weights": self.weights, "gold_ids": self.gold_ids, "gold_weights": self.gold_weights}
        return HeadTerms(**{"divergence": forward_kl, **weights, **more})

    def assert_same(self, losses, expected):
        torch.testing.assert_close(losses.total, expected)
        ours, theirs = (torch.autograd.grad(x, self.leaves, retain_graph=True) for x in (losses.total, expected))
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-8)
        teacher = torch.autograd.grad(losses.total, self.teacher_leaves, allow_unused=True)
        assert all(gradient is None for gradient in teacher)


def kl(p, q_logp):
    """Σ p log(p/q) with 0 log 0 = 0, term by term."""
    return sum(x * (x.log() - y) for x, y in zip(p, q_logp, strict=True) if x > 0)


def mapped(row, columns, nearest):
    """One row of the teacher's logits in the student's columns, by a loop over ids."""
    found = torch.full((columns,), -1e5, dtype=torch.float64)
    for theirs, ours in enumerate(nearest.tolist()):
        if ours >= 0:
            found[ours] = row[theirs] if found[ours] == -1e5 else max(found[ours], row[theirs])
    return found


@pytest.mark.parametrize("head", HEADS, ids=["plain", "capped", "biased"])
@pytest.mark.parametrize("tau", [1.0, 2.0, 0.1])
def test_min_edit_is_its_formula(head, tau):
    case = Case(**head)
    q, p = case.logits()
    expected = case.gold(q)
    for n, partner in enumerate(PARTNERS.tolist()):
        own = (q[n] / tau).log_softmax(-1)
        if partner < 0:
            value = -own[case.gold_ids[n]]
        else:
            value = kl((mapped(p[partner], STUDENT, NEAREST) / tau).softmax(-1), own)
        expected = expected + case.weights[n] * value
    for chunk in (None, 3, 1):
        pairs = AlignedTokens.of(PARTNERS)
        compared = MappedColumns(
            forward_kl, ColumnMap(NEAREST, STUDENT), pairs.arranged(case.gold_ids), temperature=tau
        )
        terms = case.terms(divergence=compared, temperature=tau, chunk_tokens=chunk)
        case.assert_same(paired_losses(case.student, case.teacher, pairs, terms), expected)


@pytest.mark.parametrize("name", ["js", "skew_reverse_kl", "total_variation"])
def test_min_edit_with_other_divergences(name):
    case = Case()
    q, p = case.logits()
    values = []
    for n, partner in enumerate(PARTNERS.tolist()):
        target = torch.full((STUDENT,), -1e5, dtype=torch.float64)
        target[case.gold_ids[n]] = 0.0
        target = target if partner < 0 else mapped(p[partner], STUDENT, NEAREST)
        values.append(divergence(name)((q[n : n + 1] / 2).log_softmax(-1), (target[None] / 2).log_softmax(-1))[0])
    expected = case.gold(q) + (case.weights * torch.stack(values)).sum()
    pairs = AlignedTokens.of(PARTNERS)
    gold = pairs.arranged(case.gold_ids)
    compared = MappedColumns(divergence(name), ColumnMap(NEAREST, STUDENT), gold, temperature=2.0)
    terms = case.terms(divergence=compared, temperature=2.0)
    case.assert_same(paired_losses(case.student, case.teacher, pairs, terms), expected)


def by_rank(q, p):
    """Σ |q_(i) − p_(i)|, the shorter filled up with 0."""
    size = max(len(q), len(p))
    q, p = (torch.cat([x.sort(descending=True).values, x.new_zeros(size - len(x))]) for x in (q, p))
    return (q - p).abs().sum()


@pytest.mark.parametrize("columns", [(STUDENT, TEACHER), (TEACHER, STUDENT)], ids=["narrower", "wider"])
@pytest.mark.parametrize("head", HEADS, ids=["plain", "capped", "biased"])
@pytest.mark.parametrize("tau", [1.0, 2.0])
def test_sorted_probabilities_are_their_formula(columns, head, tau):
    case = Case(columns=columns, **head)
    q, p = case.logits()
    expected = case.gold(q)
    for n, partner in enumerate(PARTNERS.tolist()):
        if partner >= 0:
            value = by_rank((q[n] / tau).softmax(-1), (p[partner] / tau).softmax(-1))
            expected = expected + case.weights[n] * value
    for chunk in (None, 2):
        terms = case.terms(divergence=SortedL1(), temperature=tau, chunk_tokens=chunk)
        case.assert_same(paired_losses(case.student, case.teacher, AlignedTokens.of(PARTNERS), terms), expected)


@pytest.mark.parametrize("widths", [(40, 55), (55, 40), (30, 30), (5, 0), (0, 5)])
@pytest.mark.parametrize("threads", [1, 3])
def test_signs_by_value_are_signs_by_rank(widths, threads):
    """On a CPU the sign is found without the places of the sorted entries; both ways agree, ties aside."""
    q, p = (normal(9, width, seed=s, spread=2.0).softmax(-1) for s, width in enumerate(widths))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        value, sign = sorted_gap(q, p, torch.empty_like(q))
    finally:
        torch.set_num_threads(before)
    leaf = q.clone().requires_grad_()
    expected = torch.stack([by_rank(a, b) for a, b in zip(leaf, p, strict=True)])
    torch.testing.assert_close(value, expected.detach())
    if widths[0]:
        torch.testing.assert_close(sign, torch.autograd.grad(expected.sum(), leaf)[0])


def top(case, k, tau):
    """The k likeliest tokens of the teacher at τ, shuffled, and what the others have."""
    logp = (case.logits()[1] / tau).log_softmax(-1)
    ids = logp.topk(k).indices.flip(-1)
    return TopKProbabilities(ids, logp.gather(1, ids), logp.scatter(1, ids, -torch.inf).logsumexp(-1), tau)


def mapped_terms(case, tau, name, chunk=None, nearest=NEAREST):
    pairs = AlignedTokens.of(PARTNERS)
    columns, gold = ColumnMap(nearest, STUDENT), pairs.arranged(case.gold_ids)
    compared = MappedColumns(divergence(name), columns, gold, temperature=tau)
    return case.terms(divergence=compared, temperature=tau, chunk_tokens=chunk)


MAPPED = [n for n in DIVERGENCES if n not in MinEditConfig.forbids and traits(divergence(n)).takes_tail]
TAUS = [1.0, 2.0, 0.5]


@pytest.mark.parametrize("head", HEADS, ids=["plain", "capped", "biased"])
@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("name", MAPPED)
def test_every_token_in_the_top_k_is_min_edit_itself(name, tau, head):
    case, pairs = Case(**head), AlignedTokens.of(PARTNERS)
    whole = paired_losses(case.student, case.teacher, pairs, mapped_terms(case, tau, name))
    for chunk in (None, 3):
        losses = paired_losses(case.student, top(case, TEACHER, tau), pairs, mapped_terms(case, tau, name, chunk))
        case.assert_same(losses, whole.total)


@pytest.mark.parametrize("columns", [(STUDENT, TEACHER), (TEACHER, STUDENT)], ids=["narrower", "wider"])
@pytest.mark.parametrize("head", HEADS, ids=["plain", "capped", "biased"])
@pytest.mark.parametrize("tau", TAUS)
def test_every_token_in_the_top_k_is_the_sorted_distance_itself(columns, head, tau):
    case, pairs = Case(columns=columns, **head), AlignedTokens.of(PARTNERS)
    terms = case.terms(divergence=SortedL1(), temperature=tau)
    whole = paired_losses(case.student, case.teacher, pairs, terms)
    for chunk in (None, 2):
        terms = case.terms(divergence=SortedL1(), temperature=tau, chunk_tokens=chunk)
        case.assert_same(paired_losses(case.student, top(case, columns[1], tau), pairs, terms), whole.total)


@pytest.mark.parametrize("columns", [(STUDENT, TEACHER), (TEACHER, STUDENT)], ids=["narrower", "wider"])
@pytest.mark.parametrize("tau", TAUS)
def test_sorted_probabilities_with_a_tail_are_their_formula(columns, tau):
    case, pairs = Case(columns=columns), AlignedTokens.of(PARTNERS)
    q, p = ((x / tau).softmax(-1).sort(-1, descending=True).values for x in case.logits())
    bound = []
    for k in range(1, columns[1] + 1):
        expected, values = case.gold(case.logits()[0]), []
        for n, partner in enumerate(PARTNERS.tolist()):
            if partner >= 0:
                value = sum(abs(q[n, i] - p[partner, i]) for i in range(min(k, STUDENT, TEACHER)))
                value = value + p[partner, min(k, columns[0]) : k].sum()
                value = value + abs(q[n, k:].sum() - p[partner, k:].sum())
                values.append(value.item())
                expected = expected + case.weights[n] * value
        terms = case.terms(divergence=SortedL1(), temperature=tau)
        losses = paired_losses(case.student, top(case, k, tau), pairs, terms)
        case.assert_same(losses, expected)
        bound.append(
            (values, [2 * min(q[n, k:].sum().item(), p[m, k:].sum().item()) for n, m in zip(*pairs_of(), strict=True)])
        )
    # It grows with k up to the distance itself, and never lies further below than the bound.
    for (few, most), (more, _) in itertools.pairwise(bound):
        assert all(a <= b + 1e-12 for a, b in zip(few, more, strict=True))
        assert all(w - a <= m + 1e-12 for a, w, m in zip(few, bound[-1][0], most, strict=True))


def pairs_of():
    pairs = AlignedTokens.of(PARTNERS)
    return pairs.student.tolist(), pairs.teacher.tolist()


def mapped_by_hand(p, q, k, nearest):
    """Both sides in buckets: the columns of the k likeliest, the rest that something maps to, each of the others."""
    order = sorted(range(len(p)), key=lambda v: -float(p[v]))
    known = {}
    for token in order[:k]:
        column = int(nearest[token])
        if column >= 0:
            known[column] = max(known.get(column, 0.0), float(p[token]))
    rest = sorted({int(v) for v in nearest if v >= 0} - known.keys())
    none = [v for v in range(STUDENT) if v not in known and v not in rest]
    tail = sum(float(p[token]) for token in order[k:]) if rest else 0.0
    whole = sum(known.values()) + tail
    teacher = [value / whole for value in known.values()] + [tail / whole] + [0.0] * len(none)
    student = [q[v] for v in known] + [q[rest].sum()] + [q[v] for v in none]
    return torch.stack(student), torch.tensor(teacher, dtype=q.dtype)


@pytest.mark.parametrize("k", [1, 4, 9, TEACHER - 1])
@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("name", MAPPED)
def test_min_edit_with_a_tail_is_its_formula(name, tau, k):
    """In float64 and by hand: P on the columns of what is known, t on the rest, the student summed over the same."""
    case, pairs = Case(), AlignedTokens.of(PARTNERS)
    q, p = case.logits()
    expected = case.gold(q)
    for n, partner in enumerate(PARTNERS.tolist()):
        own = (q[n] / tau).softmax(-1)
        if partner < 0:
            target = torch.zeros(STUDENT, dtype=q.dtype)
            target[case.gold_ids[n]] = 1.0
        else:
            own, target = mapped_by_hand((p[partner] / tau).softmax(-1), own, k, NEAREST)
        expected = expected + case.weights[n] * divergence(name)(own.log()[None], target.log()[None])[0]
    for chunk in (None, 3):
        losses = paired_losses(case.student, top(case, k, tau), pairs, mapped_terms(case, tau, name, chunk))
        case.assert_same(losses, expected)


@pytest.mark.parametrize("k", [1, 3, 6, 12])
def test_a_mapped_tail_lies_within_its_bucket_of_the_whole(k):
    """Total variation between the buckets of P and those of the whole mapped teacher, token by token."""
    _, logits = Case().logits()
    for row in logits:
        p = row.softmax(-1)
        whole = mapped(row, STUDENT, NEAREST).softmax(-1)
        buckets, with_tail = mapped_by_hand(p, whole, k, NEAREST)
        away = (buckets - with_tail).abs() / 2
        kept = len({int(NEAREST[v]) for v in p.topk(k).indices if NEAREST[v] >= 0})
        assert float(away.sum()) <= float(with_tail[kept]) + 1e-12


def test_where_no_column_is_left_the_tail_is_nowhere():
    """Every token maps to one column, or to none: whatever the others have is covered by the likelier ones."""
    case, pairs = Case(), AlignedTokens.of(PARTNERS)
    nearest = torch.full((TEACHER,), 5)
    whole = paired_losses(case.student, case.teacher, pairs, mapped_terms(case, 1.0, "forward_kl", nearest=nearest))
    terms = mapped_terms(case, 1.0, "forward_kl", nearest=nearest)
    case.assert_same(paired_losses(case.student, top(case, 2, 1.0), pairs, terms), whole.total)


def test_what_needs_every_column_is_refused():
    case, pairs = Case(), AlignedTokens.of(PARTNERS)
    with pytest.raises(ValueError, match="one bucket"):
        paired_losses(case.student, top(case, 3, 1.0), pairs, mapped_terms(case, 1.0, "adaptive_kl"))
    merged = MergedSpans(SHARED, (STUDENT, TEACHER), (torch.zeros(5), torch.zeros(5)))
    with pytest.raises(ValueError, match="needs each column"):
        paired_losses(case.student, top(case, 3, 1.0), pairs, case.terms(divergence=merged))


@pytest.mark.parametrize("compared", ["sorted", "mapped"])
def test_a_sample_is_no_teacher_of_what_is_not_linear(compared):
    case, pairs = Case(), AlignedTokens.of(PARTNERS)
    ids = torch.zeros(8, 2, dtype=torch.long)
    sampled = SampledProbabilities(ids, torch.full((8, 2), 0.5), torch.zeros(8))
    terms = case.terms(divergence=SortedL1()) if compared == "sorted" else mapped_terms(case, 1.0, "forward_kl")
    with pytest.raises(ValueError, match="forward KL alone"):
        paired_losses(case.student, sampled, pairs, terms)


# Student's tokens 0 | 1 2 | 3 4 5 | 6 | 7 8 beside the teacher's 0 | 1 | 2 3 | 4 5 6 | (7); the last group has none.
STUDENT_GROUPS = torch.tensor([0, 1, 1, 3, 3, 3, 6, -1, -1])
TEACHER_GROUPS = torch.tensor([0, 1, 3, 3, 6, 6, 6, -1])
FIRST = torch.tensor([0, 1, -1, 2, -1, -1, 4, -1, -1])
LAST = (
    torch.tensor([0, -1, 1, -1, -1, 3, 6, -1, -1]),
    torch.tensor([0, 2, 2, 5, 5, 5, 6, -1, -1]),
    torch.tensor([0, 2, 5, 5, 6, 6, 6, -1]),
)
SHARED = torch.tensor([[3, 1, 4, 0, 5], [2, 7, 1, 8, 16]])


def merged_by_hand(case, tau, beta, weight, partners, own, other):
    """Group by group: probabilities multiplied, then the formula over ids."""
    q, p = ((x / tau).log_softmax(-1) for x in case.logits())
    rest = [[v for v in range(width) if v not in SHARED[side]] for side, width in enumerate((STUDENT, TEACHER))]
    total = q.new_zeros(())
    for n, partner in enumerate(partners.tolist()):
        if partner < 0:
            continue
        mine = [k for k, group in enumerate(own.tolist()) if group == n and k != n]
        its = [k for k, group in enumerate(other.tolist()) if group == n and k != partner]
        log_q = q[n] + sum((q[k, case.gold_ids[k]] for k in mine), q.new_zeros(()))
        log_p = p[partner] + sum((p[k, case.teacher_ids[k]] for k in its), p.new_zeros(()))
        value = q.new_zeros(())
        for v, u in SHARED.t().tolist():
            a, b = log_p[u].exp(), log_q[v].exp()
            if beta == 0:
                value = value + a * (log_p[u] - log_q[v])
            elif beta == 1:
                value = value + b * (log_q[v] - log_p[u])
            else:
                m = beta * a + (1 - beta) * b
                value = value + beta * a * (a / m).log() + (1 - beta) * b * (b / m).log()
        gap = by_rank(log_q[rest[0]].exp(), log_p[rest[1]].exp())
        total = total + case.weights[n] * (weight * value + (1 - weight) * gap)
    return total


@pytest.mark.parametrize("mode", ["observed", "bayesian"])
@pytest.mark.parametrize("head", HEADS, ids=["plain", "capped", "biased"])
@pytest.mark.parametrize(
    ("tau", "beta", "weight"), [(1.0, 0.5, 0.3), (2.0, 0.0, 0.8), (1.5, 1.0, 1.0), (0.5, 0.2, 0.0)]
)
def test_merged_groups_are_their_formula(mode, head, tau, beta, weight):
    case = Case(**head)
    partners, own, other = (FIRST, STUDENT_GROUPS, TEACHER_GROUPS) if mode == "observed" else LAST
    expected = case.gold(case.logits()[0]) + merged_by_hand(case, tau, beta, weight, partners, own, other)
    groups = TokenSpans(partners, own, other, case.gold_ids, case.teacher_ids)
    for chunk in (None, 2):
        terms = case.terms(temperature=tau, chunk_tokens=chunk)
        losses = merged_losses(case.student, case.teacher, SpanMerge(groups, SHARED, beta, weight), terms)
        case.assert_same(losses, expected)


# -- identities with one vocabulary ------------------------------------------------------------------------------------


def one_vocabulary(**head):
    case = Case(columns=(STUDENT, STUDENT), tokens=(9, 9), **head)
    return case, torch.arange(9), torch.arange(STUDENT)


@pytest.mark.parametrize("tau", [1.0, 2.0])
@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "js", "adaptive_kl"])
def test_min_edit_of_equal_vocabularies_is_the_divergence(name, tau):
    case, partners, same = one_vocabulary(bias=True, softcap=3.0)
    terms = case.terms(divergence=divergence(name), temperature=tau)
    expected = head_losses(case.student, case.teacher, terms)
    compared = MappedColumns(divergence(name), ColumnMap(same, STUDENT), case.gold_ids, temperature=tau)
    terms = case.terms(divergence=compared, temperature=tau)
    losses = paired_losses(case.student, case.teacher, AlignedTokens.of(partners), terms)
    case.assert_same(losses, expected.total)
    torch.testing.assert_close(losses.divergence, expected.divergence)


@pytest.mark.parametrize(("name", "beta"), [("forward_kl", 0.0), ("js", 0.5), ("reverse_kl", 1.0)])
def test_merged_groups_of_equal_vocabularies_are_the_divergence(name, beta):
    case, partners, same = one_vocabulary(bias=True)
    expected = head_losses(case.student, case.teacher, case.terms(divergence=divergence(name), temperature=2.0))
    groups = TokenSpans(partners, partners, partners, case.gold_ids, case.gold_ids)
    columns = torch.stack([same, same])
    losses = merged_losses(case.student, case.teacher, SpanMerge(groups, columns, beta), case.terms(temperature=2.0))
    case.assert_same(losses, expected.total)


def test_sorted_probabilities_of_equal_vocabularies_are_no_divergence():
    """A permutation of the columns changes nothing for ULD, and everything for a divergence."""
    case, partners, _ = one_vocabulary()
    order = torch.randperm(STUDENT, generator=torch.Generator().manual_seed(0))
    moved = HeadStates(case.teacher.hidden, Head(case.teacher.head.weight[order]))
    terms = case.terms(divergence=SortedL1())
    pairs = AlignedTokens.of(partners)
    first, second = (paired_losses(case.student, teacher, pairs, terms) for teacher in (case.teacher, moved))
    torch.testing.assert_close(first.total, second.total)
    plain = [head_losses(case.student, teacher, case.terms()).total.item() for teacher in (case.teacher, moved)]
    assert abs(plain[0] - plain[1]) > 0.1


# -- bounds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["min_edit", "uld", "byte_aligned"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_finite_in_half_precision_and_near_the_exact_value(kind, dtype, tau):
    def total(case):
        case.weights, case.gold_weights = case.weights.float(), case.gold_weights.float()
        pairs = AlignedTokens.of(PARTNERS)
        if kind == "byte_aligned":
            groups = TokenSpans(FIRST, STUDENT_GROUPS, TEACHER_GROUPS, case.gold_ids, case.teacher_ids)
            terms = case.terms(temperature=tau)
            return merged_losses(case.student, case.teacher, SpanMerge(groups, SHARED, weight=0.5), terms).total
        if kind == "min_edit":
            gold = pairs.arranged(case.gold_ids)
            compared = MappedColumns(forward_kl, ColumnMap(NEAREST, STUDENT), gold, temperature=tau)
        else:
            compared = SortedL1()
        return paired_losses(case.student, case.teacher, pairs, case.terms(divergence=compared, temperature=tau)).total

    case, exact = Case(dtype=dtype), Case()
    found, expected = total(case), total(exact)
    gradients = torch.autograd.grad(found, case.leaves)
    assert all(g.isfinite().all() and g.dtype == dtype for g in gradients)
    tolerance = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 8e-2}[dtype]
    assert found.item() == pytest.approx(expected.item(), rel=tolerance)


@pytest.mark.parametrize("kind", ["min_edit", "uld"])
def test_no_token_or_no_partner(kind):
    for tokens, partners in (((9, 8), torch.full((9,), -1)), ((0, 0), torch.zeros(0, dtype=torch.long))):
        case = Case(tokens=tokens)
        pairs = AlignedTokens.of(partners)
        compared = (
            SortedL1() if kind == "uld" else MappedColumns(forward_kl, ColumnMap(NEAREST, STUDENT), case.gold_ids)
        )
        terms = case.terms(divergence=compared, statistics=True, shared_columns=NEAREST >= 0)
        if not tokens[0]:
            terms = HeadTerms(compared, gold_ids=case.gold_ids, gold_weights=case.gold_weights[:0], statistics=True)
        losses = paired_losses(case.student, case.teacher, pairs, terms)
        gold = -case.logits()[0].log_softmax(-1)[torch.arange(tokens[0]), case.gold_ids]
        weights = case.gold_weights[: tokens[0]] + (case.weights[: tokens[0]] if kind == "min_edit" else 0)
        case.assert_same(losses, (weights * gold).sum())
        assert len(losses.teacher_argmax) == 0


def test_a_column_map_takes_the_largest():
    columns = ColumnMap(torch.tensor([2, 0, 2, -1, 9]), 4)
    logits = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0], [3.0, 2.0, 1.0, 0.0, 9.0]])
    carried = columns.carry(logits, torch.empty(2, 4), -7.0)
    assert carried.tolist() == [[2.0, -7.0, 3.0, -7.0], [2.0, -7.0, 3.0, -7.0]]


def test_statistics_go_over_pairs():
    case = Case()
    q, p = case.logits()
    pairs = AlignedTokens.of(PARTNERS)
    terms = case.terms(divergence=SortedL1(), statistics=True, shared_columns=NEAREST >= 0)
    losses = paired_losses(case.student, case.teacher, pairs, terms)
    theirs = p[pairs.teacher]
    assert losses.teacher_argmax.tolist() == theirs.argmax(-1).tolist()
    torch.testing.assert_close(losses.teacher_shared, theirs.softmax(-1)[:, NEAREST >= 0].sum(-1))
    torch.testing.assert_close(
        losses.student_entropy, -(q.softmax(-1) * q.log_softmax(-1)).sum(-1)[pairs.order].detach()
    )
    assert not math.isnan(losses.total.item())


def test_every_way_of_asking_gives_one_value():
    """Statistics, chunks and temperature-sharing change what is computed where, never the loss."""
    case = Case(bias=True)
    pairs = AlignedTokens.of(PARTNERS)
    found = []
    for statistics, chunk in itertools.product((False, True), (None, 1, 4)):
        compared = MappedColumns(forward_kl, ColumnMap(NEAREST, STUDENT), pairs.arranged(case.gold_ids))
        terms = case.terms(divergence=compared, statistics=statistics, chunk_tokens=chunk)
        losses = paired_losses(case.student, case.teacher, pairs, terms)
        found.append([losses.total, *torch.autograd.grad(losses.total, case.leaves)])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            torch.testing.assert_close(one, two)
