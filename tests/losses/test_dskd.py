"""Dual-space distillation against its formulas written out, on tied heads and across batch cuts."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, kl_div

from understudy.losses import CrossModelAttention, Deviations, DualSpace, Head, HeadStates, TokenViews

WIDTH, TEACHER_WIDTH, COLUMNS, TEACHER_COLUMNS = 6, 10, 23, 31


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class TiedModel(nn.Module):
    """Reads tokens and writes logits through one embedding, as small language models do."""

    def __init__(self, columns, width, seed):
        super().__init__()
        self.embedding = nn.Parameter(normal(columns, width, seed=seed) * 0.5)
        self.mix = nn.Parameter(normal(width, width, seed=seed + 1) * 0.5)

    def hidden(self, ids):
        return torch.tanh(self.embedding[ids] @ self.mix)

    def head(self, ids, **options):
        return HeadStates(self.hidden(ids), Head(self.embedding, **options))


@pytest.fixture
def models():
    return TiedModel(COLUMNS, WIDTH, 0), TiedModel(COLUMNS, TEACHER_WIDTH, 10)


def same_gradients(module_and_models, first, second):
    parameters = [p for module in module_and_models for p in module.parameters()]
    ours = torch.autograd.grad(first, parameters, allow_unused=True)
    theirs = torch.autograd.grad(second, parameters, allow_unused=True)
    for one, other in zip(ours, theirs, strict=True):
        zero = torch.zeros(())
        torch.testing.assert_close(zero if one is None else one, zero if other is None else other, atol=1e-9, rtol=1e-9)


def test_one_vocabulary_as_written_in_the_paper(models):
    student, teacher = models
    space = DualSpace(WIDTH, TEACHER_WIDTH).double()
    ids, gold = torch.randint(0, COLUMNS, (2, 9), generator=torch.Generator().manual_seed(3))
    weights, gold_weights = normal(9, seed=4).abs(), normal(9, seed=5).abs()
    losses = space(
        student.head(ids), teacher.head(ids), gold, temperature=2.0, weights=weights, gold_weights=gold_weights
    )

    hidden, frozen = student.hidden(ids), teacher.hidden(ids).detach()
    logits = hidden @ student.embedding.t()
    carried = space.teacher_to_student(frozen) @ student.embedding.detach().t()
    back = space.student_to_teacher(hidden) @ teacher.embedding.detach().t()
    target = (frozen @ teacher.embedding.detach().t() / 2).log_softmax(-1)

    def kl(student_logits, teacher_logp):
        return kl_div((student_logits / 2).log_softmax(-1), teacher_logp, log_target=True, reduction="none").sum(-1)

    terms = {
        "student_space": weights @ kl(logits, (carried.detach() / 2).log_softmax(-1)),
        "teacher_space": weights @ kl(back, target),
        "projection": weights @ cross_entropy(carried, gold, reduction="none"),
        "gold": gold_weights @ cross_entropy(logits, gold, reduction="none"),
    }
    for name, value in terms.items():
        torch.testing.assert_close(losses.sums[name], value.detach(), msg=name)
    total = torch.stack(list(terms.values())).sum()
    torch.testing.assert_close(losses.total, total)
    same_gradients((space, student, teacher), losses.total, total)
    assert torch.autograd.grad(losses.total, [teacher.embedding], allow_unused=True) == (None,)


def views(model, inputs, targets, lengths):
    return TokenViews(model.head(inputs), model.embedding[inputs], model.embedding[targets], lengths)


@pytest.fixture
def pair():
    """Two tokenizations of three texts: (student, teacher, student ids, teacher ids, lengths of both)."""
    generator = torch.Generator().manual_seed(7)
    lengths, teacher_lengths = [4, 2, 5], [3, 4, 2]
    ids = torch.randint(0, COLUMNS, (2, sum(lengths)), generator=generator)
    teacher_ids = torch.randint(0, TEACHER_COLUMNS, (2, sum(teacher_lengths)), generator=generator)
    student, teacher = TiedModel(COLUMNS, WIDTH, 0), TiedModel(TEACHER_COLUMNS, TEACHER_WIDTH, 10)
    return student, teacher, ids, teacher_ids, lengths, teacher_lengths


def attention(seed=0, **options):
    torch.manual_seed(seed)
    return CrossModelAttention(WIDTH, TEACHER_WIDTH, WIDTH, TEACHER_WIDTH, **options).double()


def cut(pair, examples):
    """The given examples of the pair alone, with the rows they own on the student's side."""
    student, teacher, ids, teacher_ids, lengths, teacher_lengths = pair
    rows = [torch.arange(sum(lengths)).split(lengths)[i] for i in examples]
    teacher_rows = [torch.arange(sum(teacher_lengths)).split(teacher_lengths)[i] for i in examples]
    own, other = ids[:, torch.cat(rows)], teacher_ids[:, torch.cat(teacher_rows)]
    return (
        views(student, *own, [lengths[i] for i in examples]),
        views(teacher, *other, [teacher_lengths[i] for i in examples]),
        own[1],
        torch.cat(rows),
        torch.cat(teacher_rows),
    )


def test_cross_model_attention_as_written_in_the_paper(pair):
    student, teacher, *_ = pair
    module = attention()
    one, other, gold, *_ = cut(pair, [1])
    losses = module(one, other, gold, temperature=2.0)

    def scaled(x):
        x = x.detach().float()
        return (x / x.std()).double()

    query = module.query(torch.cat([one.inputs, one.targets], -1).detach())
    key = scaled(torch.cat([other.inputs, other.targets], -1))
    scores = query @ key.t() / (2 * TEACHER_WIDTH) ** 0.5
    carried = scores.softmax(-1) @ module.teacher_to_student(scaled(other.states.hidden) + scaled(other.targets))
    back = scores.t().softmax(-1) @ module.student_to_teacher(one.states.hidden)
    logits = one.states.hidden @ student.embedding.t()
    carried_logits = carried @ student.embedding.detach().t()
    back_logits = back @ teacher.embedding.detach().t()
    target = (other.states.hidden @ teacher.embedding.t()).detach()
    right = carried_logits.argmax(-1) == gold

    def kl(q, p):
        return (p / 2).softmax(-1).mul((p / 2).log_softmax(-1) - (q / 2).log_softmax(-1)).sum(-1)

    total = (kl(logits, carried_logits.detach()) * right).sum() + kl(back_logits, target).sum()
    total = total + cross_entropy(carried_logits, gold, reduction="sum")
    torch.testing.assert_close(losses.total, total, atol=1e-6, rtol=1e-6)
    parameters = [*module.parameters(), *student.parameters()]
    ours = torch.autograd.grad(losses.total, parameters, retain_graph=True)
    for one_gradient, other_gradient in zip(ours, torch.autograd.grad(total, parameters), strict=True):
        torch.testing.assert_close(one_gradient, other_gradient, atol=1e-6, rtol=1e-5)


def test_student_space_counts_only_where_the_projection_is_right(pair):
    module = attention()
    student, teacher, _, *_ = cut(pair, [0, 1, 2])
    carried, _ = module.align(student, teacher)
    gold = (carried @ student.states.head.weight.t()).argmax(-1)
    gold[::2] = (gold[::2] + 1) % COLUMNS
    losses = module(student, teacher, gold)
    right = losses.student.teacher_right
    assert right.tolist() == [i % 2 == 1 for i in range(11)]
    torch.testing.assert_close(losses.sums["student_space"], losses.student.divergence[right].sum())


def test_values_do_not_depend_on_how_the_batch_is_cut(pair):
    module = attention()
    whole = module(*cut(pair, [0, 1, 2])[:3])
    totals = []
    for examples in ([0], [2, 1]):
        one, other, gold, rows, teacher_rows = cut(pair, examples)
        part = module(one, other, gold)
        torch.testing.assert_close(part.student.divergence, whole.student.divergence[rows], atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(
            part.teacher.divergence, whole.teacher.divergence[teacher_rows], atol=1e-6, rtol=1e-6
        )
        totals.append(part.total)
    torch.testing.assert_close(totals[0] + totals[1], whole.total, atol=1e-6, rtol=1e-6)
    same = (module, pair[0])
    parameters = [p for m in same for p in m.parameters()]
    summed = torch.autograd.grad(totals[0] + totals[1], parameters)
    for part, all_at_once in zip(summed, torch.autograd.grad(whole.total, parameters), strict=True):
        torch.testing.assert_close(part, all_at_once, atol=1e-6, rtol=1e-5)


def test_published_deviations_depend_on_the_batch(pair):
    """An example's L_proj is another in other company, and a padded position more changes it too."""
    sound, published = attention(), attention(published=True)
    published.load_state_dict(sound.state_dict())

    def projection(examples, padding):
        student, teacher, gold, rows, _ = cut(pair, examples)
        states = torch.cat([teacher.states.hidden, teacher.states.hidden.new_zeros(padding, TEACHER_WIDTH)])
        deviations = Deviations.over_batch(states[None], teacher.inputs, teacher.targets, pair[1].embedding[0])
        whole = published(student, dataclasses.replace(teacher, deviations=deviations), gold)
        return dict(zip(rows.tolist(), whole.student.teacher_gold.tolist(), strict=True))

    alone, together, padded = projection([1], 0), projection([0, 1, 2], 0), projection([1], 1)
    row = next(iter(alone))
    assert abs(alone[row] - together[row]) > 1e-4
    assert abs(alone[row] - padded[row]) > 1e-4
    # Where a batch is one example without prompt and padding, the authors' way is ours.
    student, teacher, gold, rows, _ = cut(pair, [1])
    ours = dict(zip(rows.tolist(), sound(student, teacher, gold).student.teacher_gold.tolist(), strict=True))
    assert alone == pytest.approx(ours, rel=1e-5)


def test_embeddings_narrower_than_the_hidden_states(pair):
    student, teacher, *_ = cut(pair, [0, 2])
    narrow = TokenViews(teacher.states, teacher.inputs[:, :4], teacher.targets[:, :4], teacher.lengths)
    module = CrossModelAttention(WIDTH, TEACHER_WIDTH, WIDTH, 4).double()
    to_student, to_teacher = module.align(student, narrow)
    assert to_student.shape == (9, WIDTH)
    assert to_teacher.shape == (5, TEACHER_WIDTH)


def test_an_example_without_target_tokens_changes_nothing(pair):
    module = attention()
    student, teacher, gold, *_ = cut(pair, [0, 2])
    filled = TokenViews(student.states, student.inputs, student.targets, [*student.lengths, 0])
    teacher_filled = TokenViews(teacher.states, teacher.inputs, teacher.targets, [*teacher.lengths, 0])
    torch.testing.assert_close(module(filled, teacher_filled, gold).total, module(student, teacher, gold).total)


def test_half_precision_models_with_projectors_in_float32(models):
    student, teacher = (model.bfloat16() for model in models)
    space = DualSpace(WIDTH, TEACHER_WIDTH)
    ids = torch.arange(9)
    losses = space(student.head(ids), teacher.head(ids), ids + 1, divergence="js")
    losses.total.backward()
    assert losses.total.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in [*space.parameters(), *student.parameters()])
    assert student.embedding.grad.dtype == torch.bfloat16


def test_lengths_must_fit(pair):
    student, teacher, gold, *_ = cut(pair, [0, 2])
    short = TokenViews(student.states, student.inputs, student.targets, [4, 4])
    with pytest.raises(ValueError, match="add up to 8, not 9"):
        attention()(short, teacher, gold)
    with pytest.raises(ValueError, match="1 examples, teacher 2"):
        attention()(TokenViews(student.states, student.inputs, student.targets, [9]), teacher, gold)
