"""What may be spent: calls, tokens and money, counted beside the cache so that a resumed run goes on counting.

A call is taken off the budget before it is sent, at the most it can cost, and corrected once the endpoint has said
what it did cost. A process killed in between leaves the estimate standing: nobody knows whether that call was charged,
so it counts as if it was.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from understudy.completers.cache import AnswerCache, content_bytes
from understudy.errors import ConfigError
from understudy.recipe import EndpointConfig
from understudy.types import Request

_TOKENS_AROUND_A_TURN = 16
_BILLION = 1_000_000_000


def most_tokens(request: Request, max_tokens: int) -> int:
    """The most tokens a call can cost, by endpoints that keep to `max_tokens`.

    No byte-level tokenizer makes more tokens of a text than it has bytes.
    """
    schema = len(str(dict(request.schema)).encode("utf-8", "replace")) if request.schema else 0
    if request.tokens is not None:
        return len(request.tokens.ids) + max_tokens
    around = _TOKENS_AROUND_A_TURN * (len(request.messages) + 1)
    return content_bytes(request.messages) + schema + around + max_tokens


@dataclass(frozen=True, slots=True)
class Amount:
    """What a call costs.

    Attributes:
        tokens: read and written.
        cost: in billionths of the prices' currency, so that sums are exact.
    """

    tokens: int
    cost: int = 0


NOTHING = Amount(0)


class Budget:
    """Admits calls while there is something left.

    The number of calls is never passed. The number of tokens, and the money, is passed by one call at most in each
    process: while others are under way, a call is admitted only if the most it can cost fits.
    """

    def __init__(self, cache: AnswerCache, account: str, config: EndpointConfig) -> None:
        """Look at the limits.

        Args:
            cache: where spending is counted.
            account: under which name.
            config: limits and prices.

        Raises:
            ConfigError: a limit in money without prices.
        """
        self.max_calls = config.max_calls
        self.max_tokens = config.max_total_tokens
        self.max_cost = None if config.max_cost is None else round(config.max_cost * _BILLION)
        if config.max_cost is not None and (config.input_price is None or config.output_price is None):
            raise ConfigError(
                f"max_cost {config.max_cost:g} of {config.model} cannot be kept without prices",
                hint="set input_price and output_price, of a million tokens",
            )
        self._prices = config.input_price or 0.0, config.output_price or 0.0
        self._cache = cache
        self._account = account
        self._under_way = 0
        self._changed = asyncio.Event()

    def amount(self, read: int, written: int) -> Amount:
        """What so many tokens cost."""
        return Amount(read + written, round((read * self._prices[0] + written * self._prices[1]) * _BILLION / 1e6))

    def most(self, request: Request, max_tokens: int) -> Amount:
        """The most a call can cost."""
        return self.amount(most_tokens(request, 0), max_tokens)

    def try_reserve(self, most: Amount) -> bool:
        """Take a call off the budget; False where it does not fit."""
        admitted = self._cache.spend(
            self._account,
            most.tokens,
            most.cost,
            max_calls=self.max_calls,
            max_tokens=self.max_tokens,
            max_cost=self.max_cost,
            alone=self._under_way == 0,
        )
        self._under_way += admitted
        return admitted

    async def reserve(self, most: Amount) -> bool:
        """The same, but a call that does not fit waits for those under way, which may cost less than they could."""
        while not self.try_reserve(most):
            if self._under_way == 0:
                return False
            self._changed.clear()
            await self._changed.wait()
        return True

    def settle(self, reserved: Amount, spent: Amount, *, calls: int = 1) -> None:
        """Put back what a call did not cost, and let those who wait look again.

        Args:
            reserved: what was reserved for it.
            spent: what it cost.
            calls: 0 where the endpoint refused it, so that it cost nothing.
        """
        self._under_way -= 1
        self._cache.correct(
            self._account, calls=calls - 1, tokens=spent.tokens - reserved.tokens, cost=spent.cost - reserved.cost
        )
        self._changed.set()

    def why(self) -> str:
        """Why nothing more is asked, in words."""
        calls, tokens = self._cache.spent(self._account)
        if self.max_calls is not None and calls >= self.max_calls:
            return f"budget: {calls:,} of {self.max_calls:,} calls are spent"
        if self.max_tokens is not None and (self.max_cost is None or tokens >= self.max_tokens):
            return f"budget: {tokens:,} of {self.max_tokens:,} tokens are spent"
        cost, limit = self._cache.spent_cost(self._account) / _BILLION, (self.max_cost or 0) / _BILLION
        return f"budget: {cost:,.4f} of {limit:,.4f} in money are spent"
