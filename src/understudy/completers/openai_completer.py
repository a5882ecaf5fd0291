"""A language model behind an OpenAI-compatible endpoint, as a `Completer`.

Every request ends in exactly one completion: an answer, or a reason whose first word names the kind of fault
(`completers/faults.py`). What was answered once is never asked again (`completers/cache.py`), whatever kills the
process; identical requests under way at once are sent once.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from understudy.completers.async_bridge import as_ready
from understudy.completers.budget import NOTHING, Budget
from understudy.completers.cache import AnswerCache, CachedAnswer, request_key
from understudy.completers.faults import Fault
from understudy.completers.interfaces import Chat, Interface
from understudy.completers.response_parsing import read_value
from understudy.completers.usage import Usage
from understudy.errors import ConfigError, TeacherError
from understudy.recipe import EndpointConfig
from understudy.types import Completion, Message, Request

MAX_BROKEN_RETRIES = 2
"""How often an answer that cannot be used is asked for again, at most."""

MAX_FIRST_REFUSALS = 10
"""So many requests refused before a single answer came end the run: the fault lies not with one of them."""

_LONGEST_BACKOFF = 30.0
_LONGEST_ECHO = 2_000


class ApiCompleter:
    """Asks an endpoint, several requests at once.

    Attributes:
        config: the endpoint; the key is read from the environment at the time of asking and kept nowhere.
        usage: what was asked and what it cost so far.
    """

    def __init__(
        self,
        config: EndpointConfig,
        cache_folder: str | os.PathLike[str] | None = None,
        *,
        account: str = "",
        backoff: float = 0.5,
        interface: Callable[[EndpointConfig, Usage], Interface] = Chat,
    ) -> None:
        """Prepare to ask; nothing is sent yet.

        Args:
            config: the endpoint, its limits and the budget.
            cache_folder: where answers are kept; without it, as long as this object lives.
            account: what the budget is for, such as the name of a run: all completers of that account and that folder
                spend from it, resumed ones too. Default: this object has a budget of its own.
            backoff: seconds; the n-th wait is drawn from 0 to backoff · 2ⁿ, at most 30 s.
            interface: how requests are put to it; one is made for each `complete`.

        Raises:
            ConfigError: `base_url` is no address, or a budget in money has no prices.
        """
        if urlsplit(config.base_url or "").scheme not in ("http", "https"):
            raise ConfigError(
                f"base_url {config.base_url!r} is no address", hint="for example http://localhost:8000/v1"
            )
        self.config = config
        self.usage = Usage()
        self._cache = AnswerCache(cache_folder)
        self._ledger = self._cache if account else AnswerCache()
        self._account = f"{account}/{config.model}"
        # Refused here, not at the first question.
        Budget(self._ledger, self._account, config)
        self._backoff, self._interface = backoff, interface

    @property
    def name(self) -> str:
        """The model's name."""
        return self.config.model

    def __repr__(self) -> str:
        return f"ApiCompleter({self.config.model!r} at {urlsplit(self.config.base_url or '').hostname})"

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """One completion a request, in the order in which they are ready.

        At most two times `concurrency` requests are drawn ahead of the completions taken. Closing the generator
        breaks off what is under way.

        Raises:
            TeacherError: the endpoint will answer nothing at all: no such model, no valid key.
            RunError: the cache cannot be written.
        """
        window = 2 * self.config.concurrency
        return as_ready(requests, self._open, window=window)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Callable[[Request], Awaitable[Completion]]]:
        from understudy.completers.http_client import open_wire

        key = os.environ.get(self.config.api_key_env, "") if self.config.api_key_env else ""
        budget = Budget(self._ledger, self._account, self.config)
        interface = self._interface(self.config, self.usage)
        async with open_wire(self.config, key, interface) as wire:
            session = _Session(self.config, wire.send, self._cache, budget, self.usage, self._backoff, interface.value)
            yield session.answer


class _Session:
    """The asking of one `complete`: slots, pauses, and what is under way."""

    def __init__(
        self,
        config: EndpointConfig,
        send: Callable[[Request], Awaitable[CachedAnswer]],
        cache: AnswerCache,
        budget: Budget,
        usage: Usage,
        backoff: float,
        value: Callable[[str, Request], Any],
    ) -> None:
        self._value_of_tokens = value
        self._config = config
        self._send = send
        self._cache = cache
        self._budget = budget
        self._usage = usage
        self._waits = wait_random_exponential(multiplier=backoff, max=_LONGEST_BACKOFF)
        self._slots = asyncio.Semaphore(config.concurrency)
        self._under_way: dict[str, asyncio.Future[CachedAnswer | Fault]] = {}
        self._pause_until = 0.0
        self._refusals = 0
        self._fatal: TeacherError | None = None

    async def answer(self, request: Request) -> Completion:
        """The completion of one request, whatever happens to it."""
        key = request_key(
            self._config.model, request, temperature=self._config.temperature, max_tokens=self._config.max_tokens
        )
        outcome, paid = self._cached(request, key), False
        if outcome is not None:
            self._usage.cached += 1
        elif key in self._under_way:
            self._usage.shared += 1
            outcome = await asyncio.shield(self._under_way[key])
        else:
            outcome, paid = await self._ask_shared(request, key), True
        return self._completion(request, outcome, paid=paid)

    def _cached(self, request: Request, key: str) -> CachedAnswer | None:
        answer = self._cache.get(key)
        if answer is not None:
            try:
                self._value(answer.text, request)
            except Fault:
                return None
        return answer

    def _value(self, text: str, request: Request) -> Any:
        """What an answer means beside its text.

        Raises:
            Fault: it has not the form that was asked for.
        """
        if request.schema is not None:
            return read_value(text, request.schema)
        return None if request.tokens is None else self._value_of_tokens(text, request)

    async def _ask_shared(self, request: Request, key: str) -> CachedAnswer | Fault:
        """Ask, and let identical requests that arrive meanwhile have the same answer."""
        self._under_way[key] = future = asyncio.get_running_loop().create_future()
        try:
            async with self._slots:
                begin = time.perf_counter()
                try:
                    answer = await self._ask_with_retries(request)
                    outcome = dataclasses.replace(answer, seconds=time.perf_counter() - begin)
                    self._cache.put(key, self._config.model, outcome)
                except Fault as fault:
                    outcome = fault
            future.set_result(outcome)
            return outcome
        finally:
            del self._under_way[key]
            future.cancel()

    async def _ask_with_retries(self, request: Request) -> CachedAnswer:
        """Ask until there is an answer, or no hope of one."""
        attempted, broken = request, 0
        cost = CachedAnswer("")

        def stop(state: RetryCallState) -> bool:
            return state.attempt_number > self._config.max_retries or broken > MAX_BROKEN_RETRIES

        retrying = AsyncRetrying(stop=stop, wait=self._wait, retry=retry_if_exception(_is_retryable), reraise=True)
        async for attempt in retrying:
            with attempt:
                self._usage.retries += attempt.retry_state.attempt_number > 1
                answer = None
                try:
                    answer = await self._ask_once(attempted)
                    cost = _sum(cost, answer)
                    self._value(answer.text, request)
                except Fault as fault:
                    self._usage.faults[fault.kind] += 1
                    broken += fault.unusable
                    cost = _sum(cost, CachedAnswer("", *fault.tokens or ()))
                    fault.tokens = cost.input_tokens, cost.output_tokens
                    if answer is not None:
                        attempted = _request_again(request, answer.text, fault)
                    raise
                return dataclasses.replace(cost, text=answer.text)
        raise AssertionError("unreachable: the last fault is raised again")

    async def _ask_once(self, request: Request) -> CachedAnswer:
        """One call on the budget."""
        if self._fatal:
            raise self._fatal
        while (pause := self._pause_until - time.monotonic()) > 0:
            await asyncio.sleep(pause)
        longest = self._config.max_tokens if request.max_tokens is None else request.max_tokens
        reserved = self._budget.most(request, longest)
        if not await self._budget.reserve(reserved):
            raise Fault("budget", self._budget.why().removeprefix("budget: "))
        try:
            answer = await self._send(request)
        except Fault as fault:
            counted = self._budget.amount(*fault.tokens) if fault.tokens else reserved
            spent = counted if fault.charged else NOTHING
            self._budget.settle(reserved, spent, calls=int(fault.charged))
            self._count(*fault.tokens or (0, 0))
            self._note_fault(fault)
            raise
        except TeacherError as error:
            self._fatal = error
            self._budget.settle(reserved, NOTHING, calls=0)
            raise
        # An endpoint that does not count is taken to have cost what it could.
        counted = answer.input_tokens + answer.output_tokens > 0
        spent = self._budget.amount(answer.input_tokens, answer.output_tokens) if counted else reserved
        self._budget.settle(reserved, spent)
        self._count(answer.input_tokens, answer.output_tokens)
        self._refusals = -1
        return answer

    def _count(self, input_tokens: int, output_tokens: int) -> None:
        self._usage.calls += 1
        self._usage.input_tokens += input_tokens
        self._usage.output_tokens += output_tokens

    def _note_fault(self, fault: Fault) -> None:
        """A pause that one call was told of holds for all; refusals from the first call on end the run."""
        if fault.wait:
            self._pause_until = max(self._pause_until, time.monotonic() + fault.wait)
        if fault.kind == "request" and self._refusals >= 0:
            self._refusals += 1
            if self._refusals >= MAX_FIRST_REFUSALS:
                raise TeacherError(
                    f"the endpoint refused the first {MAX_FIRST_REFUSALS} requests: {fault.detail}",
                    hint="nothing was answered, so the fault lies not with one of them; check the model's limits",
                ) from fault

    def _wait(self, state: RetryCallState) -> float:
        fault = state.outcome.exception() if state.outcome else None
        if isinstance(fault, Fault) and fault.kind == "unparseable":
            # It is another question, with the complaint behind it.
            return 0.0
        jittered = self._waits(state)
        retry_after = fault.wait if isinstance(fault, Fault) else None
        return jittered if retry_after is None else retry_after + min(jittered, 0.1 * retry_after)

    def _completion(self, request: Request, outcome: CachedAnswer | Fault, *, paid: bool) -> Completion:
        self._usage.requests += 1
        if isinstance(outcome, Fault):
            self._usage.missing[outcome.kind] += 1
            input_tokens, output_tokens = outcome.tokens if paid and outcome.tokens else (0, 0)
            return Completion(
                request.id, None, reason=str(outcome), input_tokens=input_tokens, output_tokens=output_tokens
            )
        self._usage.answered += 1
        value = self._value(outcome.text, request)
        return Completion(
            request.id,
            outcome.text,
            value,
            "",
            outcome.input_tokens,
            outcome.output_tokens,
            outcome.seconds if paid else 0.0,
            not paid,
        )


def _is_retryable(error: BaseException) -> bool:
    return isinstance(error, Fault) and (error.retryable or error.unusable)


def _sum(before: CachedAnswer, answer: CachedAnswer) -> CachedAnswer:
    return CachedAnswer(
        answer.text, before.input_tokens + answer.input_tokens, before.output_tokens + answer.output_tokens
    )


def _request_again(request: Request, text: str, fault: Fault) -> Request:
    """The request with the broken answer behind it: asked in the same words, a greedy model answers the same."""
    broken_turn = Message("assistant", text[:_LONGEST_ECHO])
    complaint = Message(
        "user", f"That cannot be used: {fault.detail}. Answer again, with the JSON value and nothing else."
    )
    return dataclasses.replace(request, messages=(*request.messages, broken_turn, complaint))
