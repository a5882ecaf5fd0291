"""DSKDv2 against its formulas, written out in float64."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from understudy.losses import Head, HeadStates
from understudy.losses.dskd_v2 import DualSpaceV2

WIDTH, TEACHER_WIDTH, COLUMNS, TEACHER_COLUMNS = 9, 4, 19, 23
# Shared tokens: ids of the student, ids of the teacher.
SHARED = torch.tensor([[0, 2, 3, 5, 7, 8, 9, 11, 12, 14, 16, 18], [1, 0, 4, 22, 6, 9, 8, 12, 10, 15, 17, 20]])
PARTNERS = torch.tensor([0, 1, -1, 3, 4, -1, 6, 7])
LENGTHS, TEACHER_TOKENS = (3, 5), 8


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Case:
    def __init__(self, scale=1.0, **options):
        self.hidden, self.weight = (
            normal(*shape, seed=s).requires_grad_() for s, shape in ((0, (8, WIDTH)), (1, (COLUMNS, WIDTH)))
        )
        unshared = [v for v in range(COLUMNS) if v not in SHARED[0]]
        self.weight.data[unshared] *= 0.1
        self.other, self.other_weight = (
            normal(TEACHER_TOKENS, TEACHER_WIDTH, seed=2),
            normal(TEACHER_COLUMNS, TEACHER_WIDTH, seed=3),
        )
        for row, k in ((0, 2), (3, 5), (4, 8), (6, 10)):  # states that clearly mean a shared token
            self.other[row] = 4 * self.other_weight[SHARED[1, k]]
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        self.space = DualSpaceV2(self.weight, self.other_weight, SHARED, scale=scale, **options)
        torch.set_default_dtype(before)
        self.gold, self.gold_weights, self.weights = (
            torch.arange(8) * 3 % COLUMNS,
            normal(8, seed=5).abs(),
            normal(8, seed=6).abs(),
        )
        self.student = HeadStates(self.hidden, Head(self.weight))
        self.teacher = HeadStates(self.other, Head(self.other_weight, scale=scale))

    def losses(self, **options):
        options = {"weights": self.weights, "gold_weights": self.gold_weights, "lengths": LENGTHS, **options}
        return self.space(self.student, self.teacher, self.gold, PARTNERS, **options)


def test_projectors_are_the_pseudo_inverses():
    case = Case(scale=1.7)
    ours, theirs = case.weight.detach()[SHARED[0]], case.other_weight[SHARED[1]]
    to_student = theirs.t() @ torch.linalg.pinv(ours.t())
    to_teacher = ours.t() @ torch.linalg.pinv(theirs.t())
    torch.testing.assert_close(case.space.teacher_to_student.weight.t(), 1.7 * to_student)
    torch.testing.assert_close(case.space.student_to_teacher(case.weight, case.other_weight), to_teacher / 1.7)
    assert case.space.teacher_to_student.bias is None
    assert [name for name, _ in case.space.named_parameters()] == ["teacher_to_student.weight"]


def test_the_start_is_the_nearest_that_the_students_head_can_write():
    """No other projection comes nearer to the teacher's logits of the shared tokens."""
    case = Case()
    ours, theirs = case.weight.detach()[SHARED[0]], case.other_weight[SHARED[1]]
    target = case.other @ theirs.t()

    def gap(weight):
        return (case.other @ weight.t() @ ours.t() - target).square().sum()

    start = case.space.teacher_to_student.weight.detach()
    best = gap(start)
    assert all(gap(start + 1e-2 * normal(*start.shape, seed=s)) > best for s in range(20))


@pytest.mark.parametrize("fused", [False, True])
def test_the_students_projector_follows_its_head(fused):
    case = Case()
    optimizer = torch.optim.AdamW([case.weight], lr=0.1, fused=fused)
    for step in (None, 1, 2):
        if step:
            case.space.begin_step()
        found = case.space.student_to_teacher(case.weight, case.other_weight)
        to_teacher = case.weight.detach()[SHARED[0]].t() @ torch.linalg.pinv(case.other_weight[SHARED[1]].t())
        torch.testing.assert_close(found, to_teacher)
        assert not found.requires_grad
        # Of the micro-batches of a step the first computes it.
        assert (case.space.student_to_teacher(case.weight, case.other_weight) is found) == bool(step)
        case.weight.grad = torch.ones_like(case.weight)
        optimizer.step()


def test_without_steps_it_is_that_of_the_head_at_each_call():
    case = Case()
    first = case.losses().total
    optimizer = torch.optim.AdamW([case.weight], lr=0.1, fused=True)
    case.weight.grad = torch.ones_like(case.weight)
    optimizer.step()
    fresh = Case()
    with torch.no_grad():
        fresh.weight.copy_(case.weight)
    fresh.space.teacher_to_student.load_state_dict(case.space.teacher_to_student.state_dict())
    assert torch.equal(case.losses().total, fresh.losses().total)
    assert not torch.equal(case.losses().total, first)


@pytest.mark.parametrize("threshold", [1.0, 0.3])
@pytest.mark.parametrize("tau", [1.0, 2.0])
def test_as_written_in_the_paper(threshold, tau):
    case = Case(scale=1.3, agreement_threshold=threshold)
    losses = case.losses(temperature=tau, divergence="reverse_kl")
    to_student, head = case.space.teacher_to_student.weight.t(), case.weight.detach()
    ours, theirs = head[SHARED[0]], case.other_weight[SHARED[1]]
    to_teacher = ours.t() @ torch.linalg.pinv(theirs.t()) / 1.3
    q = case.hidden @ case.weight.t()
    p = 1.3 * case.other @ case.other_weight.t()
    same = {b: a for a, b in SHARED.t().tolist()}
    pairs = [(n, t) for n, t in enumerate(PARTNERS.tolist()) if t >= 0]
    carried = {n: (case.other[t] @ to_student) @ head.t() for n, t in pairs}
    target = {n: same.get(int(p[t].argmax()), -1) for n, t in pairs}
    right = {n: int(carried[n].argmax()) == target[n] for n, _ in pairs}

    def reverse_kl(student, teacher):
        a, b = (student / tau).log_softmax(-1), (teacher / tau).log_softmax(-1)
        return (a.exp() * (a - b)).sum()

    examples = [range(3), range(3, 8)]
    agreement = {
        n: sum(right[m] for m in rows if m in right) / sum(m in right for m in rows) for rows in examples for n in rows
    }
    total = q.new_zeros(())
    terms = dict.fromkeys(("student_space", "teacher_space", "projection"), q.new_zeros(()))
    for n, t in pairs:
        if right[n] or agreement[n] > threshold:
            terms["student_space"] = terms["student_space"] + case.weights[n] * reverse_kl(q[n], carried[n].detach())
        back = 1.3 * (case.hidden[n] @ to_teacher) @ case.other_weight.t()
        terms["teacher_space"] = terms["teacher_space"] + case.weights[n] * reverse_kl(back, p[t])
        if target[n] >= 0:
            gold = cross_entropy(carried[n][None], torch.tensor([target[n]]))
            terms["projection"] = terms["projection"] + case.weights[n] * gold
    total = sum(terms.values()) + (case.gold_weights * cross_entropy(q, case.gold, reduction="none")).sum()
    assert any(right.values())
    assert min(target.values()) < 0
    torch.testing.assert_close(losses.total, total)
    for name, value in terms.items():
        torch.testing.assert_close(losses.sums[name], value.detach(), msg=name)
    leaves = [case.hidden, case.weight, *case.space.parameters()]
    ours, theirs = (torch.autograd.grad(x, leaves, retain_graph=True) for x in (losses.total, total))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-7)


def test_agreement_is_an_examples_own():
    """A threshold looks at one example at a time, so a batch may be cut anywhere."""
    case = Case(agreement_threshold=0.3)
    whole = case.losses().total
    parts = []
    for rows, teacher_rows, length in ((slice(0, 3), slice(0, 3), 3), (slice(3, 8), slice(3, 8), 5)):
        partners = PARTNERS[rows].where(PARTNERS[rows] < 0, PARTNERS[rows] - teacher_rows.start)
        student = HeadStates(case.hidden[rows], Head(case.weight))
        teacher = HeadStates(case.other[teacher_rows], Head(case.other_weight))
        losses = case.space(
            student,
            teacher,
            case.gold[rows],
            partners,
            lengths=(length,),
            weights=case.weights[rows],
            gold_weights=case.gold_weights[rows],
        )
        parts.append(losses.total)
    torch.testing.assert_close(parts[0] + parts[1], whole)


def test_without_any_pair_only_gold_is_left():
    case = Case()
    losses = case.space(
        case.student, case.teacher, case.gold, torch.full((8,), -1), gold_weights=case.gold_weights, statistics=True
    )
    q = case.hidden @ case.weight.t()
    torch.testing.assert_close(losses.total, (case.gold_weights * cross_entropy(q, case.gold, reduction="none")).sum())
    losses.total.backward()
    assert not case.space.teacher_to_student.weight.grad.any()


def test_half_precision_models_with_the_projector_in_float32():
    student, teacher = (
        normal(COLUMNS, WIDTH, seed=1).bfloat16().requires_grad_(),
        normal(TEACHER_COLUMNS, TEACHER_WIDTH, seed=3).bfloat16(),
    )
    space = DualSpaceV2(student, teacher, SHARED)
    hidden = normal(8, WIDTH, seed=0).bfloat16().requires_grad_()
    other = HeadStates(normal(8, TEACHER_WIDTH, seed=2).bfloat16(), Head(teacher, softcap=3.0))
    losses = space(
        HeadStates(hidden, Head(student)), other, torch.arange(8), PARTNERS, divergence="js", temperature=0.1
    )
    losses.total.backward()
    assert losses.total.isfinite()
    assert all(x.grad.isfinite().all() for x in (hidden, student, space.teacher_to_student.weight))
