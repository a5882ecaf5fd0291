"""Standard deviations as DSKD's authors take them for cross-model attention: over a whole padded batch.

Their figures (arXiv 2406.17328) divide the teacher's states by the deviation over all positions, those of the prompt
and of the padding too, and its embeddings by one in which every position outside the target counts as the token of id
0. So the loss depends on how long a batch is padded and on which rows share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Deviations:
    """What the teacher's tensors are divided by, one number each, float32.

    Attributes:
        keys: of [e_in; e_tgt].
        targets: of e_tgt.
        hidden: of the last hidden states.
    """

    keys: Tensor
    targets: Tensor
    hidden: Tensor

    @classmethod
    def over_batch(cls, states: Tensor, inputs: Tensor, targets: Tensor, outside: Tensor) -> Deviations:
        """Over all positions of a batch as it is padded.

        Args:
            states: `[B, S, D]` the last hidden states of every position.
            inputs: `[N, D_e]` embeddings of the tokens at the predicting positions.
            targets: `[N, D_e]` embeddings of the target tokens.
            outside: `[D_e]` the embedding that stands at the B·S − N other positions (id 0).
        """
        num_outside = states.shape[0] * states.shape[1] - len(targets)
        return cls(
            keys=_deviation([(inputs, 1), (targets, 1), (outside, 2 * num_outside)]),
            targets=_deviation([(targets, 1), (outside, num_outside)]),
            hidden=_deviation([(row, 1) for row in states]),
        )


def _deviation(pieces: Sequence[tuple[Tensor, int]]) -> Tensor:
    """Unbiased standard deviation of all numbers of some tensors, each counted so many times."""
    # In two passes and piece by piece: no copy of a batch's states in float32, no difference of large squares.
    exact = [(piece.detach(), times) for piece, times in pieces]
    count = sum(piece.numel() * times for piece, times in exact)
    mean = sum(piece.float().sum() * times for piece, times in exact) / count
    squares = sum((piece.float() - mean).square().sum() * times for piece, times in exact)
    return (squares / max(1, count - 1)) ** 0.5  # pyright: ignore[reportReturnType]
