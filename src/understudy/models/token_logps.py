"""Log-probabilities of the tokens that a model writes, noted while it writes them: nothing of size [S, V] is kept."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LogitsProcessor


class TokenLogps(LogitsProcessor):
    """Notes what the model itself said of each token that was then taken, greedily or by a draw.

    It stands first among the processors, so that it sees the model's own logits, and changes nothing. One object
    serves one batch.
    """

    def __init__(self) -> None:
        self._logps: list[Tensor] = []
        self._last: Tensor | None = None
        self._margins: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Note scores `[B, V]`; of the step before it is known by now which token was taken."""
        self._note(input_ids)
        self._last = scores.float().log_softmax(dim=-1)
        if self._margins is None:
            best = self._last.topk(2, dim=-1).values
            self._margins = best[:, 0] - best[:, 1]
        return scores

    def _note(self, input_ids: Tensor) -> None:
        if self._last is not None:
            self._logps.append(self._last.gather(1, input_ids[:, -1:]).squeeze(1).cpu())
            self._last = None

    def finish(self, output_ids: Tensor) -> tuple[list[list[float]], list[float]]:
        """Of each row, log-probabilities of the tokens behind the prompt, and the margin of the first one.

        Tokens behind a row's end are counted too; whoever knows where a row ends cuts them off.

        Args:
            output_ids: `[B, S]` what `generate` returned.
        """
        self._note(output_ids)
        assert self._margins is not None, "nothing was generated"
        return torch.stack(self._logps, dim=1).tolist(), self._margins.tolist()
