"""Distances between inner states: values written down, identities, and a slow second computation."""

from __future__ import annotations

import pytest
import torch

from understudy.losses import features

GENERATOR = torch.Generator().manual_seed(1)
MASK = torch.tensor([[True, True, True, True], [True, True, False, False]])


def states(width: int) -> torch.Tensor:
    return torch.randn(2, 4, width, generator=GENERATOR, dtype=torch.float32)


def test_mse_and_cosine_by_hand() -> None:
    own = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [9.0, 9.0]]])
    other = torch.tensor([[[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]])
    mask = torch.tensor([[True, True, False]])
    assert features.mse(own, other, mask).tolist() == pytest.approx([0.5])
    assert features.cosine(own, other, mask).tolist() == pytest.approx([(1 - 2**-0.5) / 2])


@pytest.mark.parametrize("distance", [features.mse, features.cosine, features.cka])
def test_a_state_is_at_no_distance_from_itself(distance) -> None:
    own = states(6)
    torch.testing.assert_close(distance(own, own, MASK), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(features.relation(own, own, MASK, 2), torch.zeros(2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("distance", [features.mse, features.cosine, features.cka])
def test_what_is_padding_does_not_count(distance) -> None:
    own, other = states(6), states(6)
    before = distance(own, other, MASK)
    own[1, 2:], other[1, 2:] = 7.0, -3.0
    torch.testing.assert_close(distance(own, other, MASK), before)
    short = distance(own[1:, :2], other[1:, :2], MASK[1:, :2])
    torch.testing.assert_close(short, before[1:])
    torch.testing.assert_close(
        features.relation(own[1:, :2], other[1:, :2], MASK[1:, :2], 2), features.relation(own, other, MASK, 2)[1:]
    )


def test_cka_is_the_formula_and_knows_no_rotation() -> None:
    own, other = states(6), states(3)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=GENERATOR))[0]
    value = features.cka(own, other, MASK)
    torch.testing.assert_close(features.cka(5 * own @ rotation, other, MASK), value, atol=1e-5, rtol=1e-5)
    for n, size in enumerate((4, 2)):
        x, y = (side[n, :size].double() - side[n, :size].double().mean(0) for side in (own, other))
        expected = 1 - (y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())
        assert value[n].item() == pytest.approx(expected.item(), abs=1e-5)


def test_a_single_position_tells_nothing_of_cka() -> None:
    own = states(4).requires_grad_()
    value = features.cka(own, states(4), torch.tensor([[True, False, False, False]] * 2))
    assert value.tolist() == [0.0, 0.0]
    value.sum().backward()
    assert own.grad is not None
    assert own.grad.isfinite().all()


def test_relations_are_the_formula() -> None:
    own, other, heads = states(6), states(4), 2
    value = features.relation(own, other, MASK, heads)
    for n, size in enumerate((4, 2)):
        total = 0.0
        for head in range(heads):
            logs = []
            for side in (other, own):
                width = side.shape[-1] // heads
                x = side[n, :size, head * width : (head + 1) * width].double()
                logs.append((x @ x.T / width**0.5).log_softmax(-1))
            total += float((logs[0].exp() * (logs[0] - logs[1])).sum())
        assert value[n].item() == pytest.approx(total / heads / size, rel=1e-5)


def test_gradients_are_finite_where_positions_are_masked() -> None:
    own = states(6).requires_grad_()
    sum(d(own, states(6), MASK).sum() for d in (features.mse, features.cosine, features.cka)).backward()
    features.relation(own, states(6), MASK, 3).sum().backward()
    assert own.grad is not None
    assert own.grad.isfinite().all()
