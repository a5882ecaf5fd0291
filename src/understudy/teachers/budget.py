"""What may be spent: calls and tokens, counted beside the cache so that a resumed run goes on counting.

A call is taken off the budget before it is sent, at the most it can cost, and corrected once the endpoint has said
what it did cost. A process killed in between leaves the estimate standing: nobody knows whether that call was charged,
so it counts as if it was.
"""

from __future__ import annotations

import asyncio

from understudy.teachers.cache import AnswerCache, content_bytes
from understudy.types import Request

_TOKENS_AROUND_A_TURN = 16


def most_tokens(request: Request, max_tokens: int) -> int:
    """The most tokens a call can cost, by endpoints that keep to `max_tokens`.

    No byte-level tokenizer makes more tokens of a text than it has bytes.
    """
    schema = len(str(dict(request.schema)).encode("utf-8", "replace")) if request.schema else 0
    around = _TOKENS_AROUND_A_TURN * (len(request.messages) + 1)
    return content_bytes(request.messages) + schema + around + max_tokens


class Budget:
    """Admits calls while there is something left.

    The number of calls is never passed. The number of tokens is passed by one call at most in each process: while
    others are under way, a call is admitted only if the most it can cost fits.
    """

    def __init__(self, cache: AnswerCache, account: str, max_calls: int | None, max_tokens: int | None) -> None:
        self.max_calls = max_calls
        self.max_tokens = max_tokens
        self._cache = cache
        self._account = account
        self._under_way = 0
        self._changed = asyncio.Event()

    def try_reserve(self, tokens: int) -> bool:
        """Take a call off the budget; False where it does not fit."""
        admitted = self._cache.spend(
            self._account,
            tokens,
            max_calls=self.max_calls,
            max_tokens=self.max_tokens,
            alone=self._under_way == 0,
        )
        self._under_way += admitted
        return admitted

    async def reserve(self, tokens: int) -> bool:
        """The same, but a call that does not fit waits for those under way, which may cost less than they could."""
        while not self.try_reserve(tokens):
            if self._under_way == 0:
                return False
            self._changed.clear()
            await self._changed.wait()
        return True

    def settle(self, reserved: int, tokens: int, *, calls: int = 1) -> None:
        """Put back what a call did not cost, and let those who wait look again.

        Args:
            reserved: what was reserved for it.
            tokens: what it cost.
            calls: 0 where the endpoint refused it, so that it cost nothing.
        """
        self._under_way -= 1
        self._cache.correct(self._account, calls=calls - 1, tokens=tokens - reserved)
        self._changed.set()

    def why(self) -> str:
        """Why nothing more is asked, in words."""
        calls, tokens = self._cache.spent(self._account)
        if self.max_calls is not None and calls >= self.max_calls:
            return f"budget: {calls:,} of {self.max_calls:,} calls are spent"
        return f"budget: {tokens:,} of {self.max_tokens or 0:,} tokens are spent"
