"""A teacher on a server: the likeliest tokens at each place of a row's own token ids, asked for over HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from understudy.errors import TeacherError
from understudy.teachers.signals import TopK
from understudy.types import Batch, Completer, Gives, Request, TokenPrompt, TokenScores, is_passing


class RemoteTeacher:
    """What a server says of the target tokens of a batch; the server itself stands behind a completer.

    It speaks at temperature 1, so with the tail as one bucket, log(1 − Σ_k p_k), the signal is TopK at 1. With
    `renormalise` the tail is left out and p_k ∝ exp(log p_k / τ): a target at any τ, and another one than the teacher's
    distribution, the more so the more of it lies beyond the k.

    Args:
        scorer: answers a request of tokens with their `TokenScores`.
        k: the likeliest tokens of a place.
        tail: what becomes of the others.
        temperature: τ of whoever reads it; 1 where the tail is a bucket.
    """

    can_give: ClassVar[Gives] = Gives.TOP_K
    """What a server that scores prompts can give, before one is asked."""
    model: Any = None

    def __init__(
        self,
        scorer: Completer,
        k: int,
        *,
        tail: Literal["bucket", "renormalise"] = "bucket",
        temperature: float = 1.0,
    ) -> None:
        assert tail == "renormalise" or temperature == 1, "the tail's mass is known at temperature 1 alone"
        self.scorer, self.k, self.tail, self.temperature = scorer, k, tail, temperature

    @property
    def gives(self) -> Gives:
        """The likeliest tokens."""
        return self.can_give

    def signal(self, batch: Batch) -> TopK:
        """What the server says of the target tokens of a batch, as constants.

        Raises:
            TeacherError: there is a row of which it says nothing; what it said of others is kept.
        """
        tokens = batch["teacher"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
        places = [row.nonzero()[:, 0].tolist() for row in tokens["target_mask"].cpu()]
        heard = batch["heard"].tolist() if "heard" in batch else [True] * len(places)
        requests = [
            Request(name, (), tokens=TokenPrompt(ids, own[0] + 1, self.k))
            for name, ids, own, counts in zip(batch["ids"], whole_rows(batch), places, heard, strict=True)
            if counts
        ]
        scores = iter(scored(self.scorer, requests))
        # Rows of a batch may be one row twice, and places of a row may lie apart (what is forced).
        said = [
            [(score.ids[place - own[0]], score.logp[place - own[0]]) for place in own]
            if counts and (score := next(scores))
            else None
            for own, counts in zip(places, heard, strict=True)
        ]
        # Where it has no weight a token of another row stands in: nobody pays for what is not learned.
        any_token = next(row[0] for row in said if row)
        picked = [token for own, row in zip(places, said, strict=True) for token in row or [any_token] * len(own)]
        device = tokens["target_ids"].device
        ids = torch.tensor([ids for ids, _ in picked], device=device).view(-1, self.k)
        logp = torch.tensor([logp for _, logp in picked], dtype=torch.float32, device=device).view(-1, self.k)
        lengths = tuple(map(len, places))
        if self.tail == "bucket":
            return TopK(ids, logp, tokens["target_ids"], lengths)
        nothing = torch.full((len(ids),), -torch.inf, device=device)
        return TopK(ids, self._renormalised(logp), tokens["target_ids"], lengths, nothing, self.temperature)

    def _renormalised(self, logp: Tensor) -> Tensor:
        return (logp / self.temperature).log_softmax(-1)


def whole_rows(batch: Batch) -> list[tuple[int, ...]]:
    """The token ids of each row as a teacher reads them, the last target token among them.

    What a model reads lacks the last token, for nothing is predicted behind it; a server scores tokens that it reads.
    """
    tokens = batch["teacher"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
    inputs, counts = tokens["inputs"], tokens["target_mask"].sum(1).tolist()
    last = [ids[-1] for ids in tokens["target_ids"].cpu().split(counts)]
    rows = zip(inputs["input_ids"].cpu(), inputs["attention_mask"].cpu().bool(), last, strict=True)
    return [(*ids[kept].tolist(), int(end)) for ids, kept, end in rows]


def scored(scorer: Completer, requests: Sequence[Request]) -> list[TokenScores]:
    """The scores of each request, in order; equal ids of requests are of no harm.

    Raises:
        TeacherError: of one there are none.
    """
    scores: dict[int, TokenScores] = {}
    for place, completion in _answers(scorer, requests):
        if completion.value is None:
            raise TeacherError(
                f"the server says nothing of row {requests[place].id}: {completion.reason}",
                hint="run the same command again: what it has said is kept"
                if is_passing(completion.reason)
                else "`understudy doctor RECIPE` looks at what the server can do; a budget is raised in teacher",
                retryable=is_passing(completion.reason),
            )
        scores[place] = completion.value
    return [scores[place] for place in range(len(requests))]


def _answers(scorer: Completer, requests: Sequence[Request]) -> Iterator[tuple[int, Any]]:
    numbered: Iterable[Request] = (
        Request(str(place), request.messages, tokens=request.tokens) for place, request in enumerate(requests)
    )
    for completion in scorer.complete(numbered):
        yield int(completion.id), completion
