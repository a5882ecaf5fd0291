"""What may be spent is never passed, and what was paid for is kept."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.asking import by_id, completer, question, questions
from support.servers import Call, Reply, Server, echo
from understudy.completers.budget import Amount, Budget, most_tokens
from understudy.completers.cache import FILE_NAME, AnswerCache
from understudy.completers.factory import build_completer
from understudy.errors import ConfigError
from understudy.recipe import EndpointConfig
from understudy.types import Message, Request


def test_calls_stop_at_the_limit_and_all_is_accounted_for(tmp_path: Path) -> None:
    with Server(lambda call: Reply(call.prompt, delay=0.01)) as server:
        found = by_id(completer(server, tmp_path, max_calls=23, concurrency=8).complete(questions(100)))
        assert len(server.calls) == 23
        answered = {name for name, completion in found.items() if completion.text}
        reasons = {completion.reason for completion in found.values() if completion.reason}
        assert len(found) == 100
        assert len(answered) == 23
        assert reasons == {"budget: 23 of 23 calls are spent"}
        again = by_id(completer(server, tmp_path, max_calls=5).complete(questions(100)))
    assert len(server.calls) == 28, "a completer has a budget of its own, and what is kept costs nothing"
    assert answered < {name for name, completion in again.items() if completion.text}


def test_what_the_endpoint_refused_is_not_paid() -> None:
    def script(call: Call) -> Reply:
        if call.attempt == 0:
            return Reply("later", status=429 if call.number % 2 else 503)
        return Reply(call.prompt, finish="length") if call.prompt == "q0" else echo(call)

    with Server(script) as server:
        found = by_id(completer(server, max_calls=10, max_retries=3, concurrency=4).complete(questions(30)))
    assert sum(server.answered().values()) == 10
    assert sum(completion.text is not None for completion in found.values()) == 9, "the unfinished one was paid too"


def test_what_may_have_been_paid_counts() -> None:
    with Server(lambda _: Reply(act="half")) as server:
        asked = completer(server, max_calls=7, max_retries=0)
        found = by_id(asked.complete(questions(20)))
    assert len(server.calls) == 7
    assert {completion.reason.partition(":")[0] for completion in found.values()} == {"connection", "budget"}


def test_broken_answers_are_paid() -> None:
    with Server(lambda _: Reply("no json")) as server:
        asked = completer(server, max_calls=7)
        list(asked.complete(questions(20, schema={"type": "object"})))
    assert len(server.calls) == 7


@pytest.mark.parametrize("counted", [True, False])
def test_tokens_are_passed_by_one_call_at_most(counted: bool) -> None:
    per_call = (20, 30) if counted else None
    with Server(lambda call: Reply(call.prompt, tokens=per_call, delay=0.005)) as server:
        asked = completer(server, max_total_tokens=1_000, max_tokens=100, concurrency=16)
        found = by_id(asked.complete(questions(100)))
    largest = most_tokens(question("q99"), 100)
    cost = 50 if counted else largest
    spent = len(server.calls) * cost
    assert 1_000 <= spent < 1_000 + cost
    missing = [completion for completion in found.values() if completion.reason]
    assert len(missing) == 100 - len(server.calls)
    assert all(completion.reason.startswith("budget: ") for completion in missing)
    assert "of 1,000 tokens" in missing[-1].reason


def test_money_is_passed_by_one_call_at_most(tmp_path: Path) -> None:
    """20 tokens read at 3 and 30 written at 10 a million: 0.00036 a call, so that 28 calls pass 0.01 by a little."""
    prices = {"input_price": 3.0, "output_price": 10.0, "max_cost": 0.01}
    with Server(lambda call: Reply(call.prompt, tokens=(20, 30), delay=0.005)) as server:
        for _ in range(2):
            asked = completer(server, tmp_path, account="run", max_tokens=100, concurrency=16, **prices)
            found = by_id(asked.complete(questions(100)))
    assert len(server.calls) == 28
    missing = [completion.reason for completion in found.values() if completion.reason]
    assert len(missing) == 100 - 28
    assert missing[-1] == "budget: 0.0101 of 0.0100 in money are spent"


@pytest.mark.parametrize("prices", [{}, {"input_price": 1.0}, {"output_price": 1.0}])
@pytest.mark.parametrize("base_url", [None, "http://localhost:1/v1"])
def test_money_without_prices_is_refused_before_anything_is_asked(
    prices: dict[str, float], base_url: str | None
) -> None:
    with pytest.raises(ConfigError, match="max_cost 5 of m cannot be kept without prices") as refused:
        build_completer(EndpointConfig(model="m", base_url=base_url, max_cost=5, **prices))
    assert "input_price and output_price" in refused.value.hint


def test_a_file_that_counted_no_money_goes_on(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / FILE_NAME)
    database.execute(
        "CREATE TABLE spending (account TEXT PRIMARY KEY, calls INTEGER NOT NULL, tokens INTEGER NOT NULL)"
    )
    database.execute("INSERT INTO spending VALUES ('run/m', 4, 400)")
    database.commit()
    database.close()
    cache = AnswerCache(tmp_path)
    assert cache.spent("run/m") == (4, 400)
    assert cache.spent_cost("run/m") == 0
    assert cache.spend("run/m", 10, 70, alone=False, max_cost=100)
    assert cache.spent_cost("run/m") == 70
    cache.close()


def test_an_account_goes_on_where_it_stood(tmp_path: Path) -> None:
    with Server() as server:
        for _ in range(3):
            asked = completer(server, tmp_path, account="run", max_calls=10)
            found = by_id(asked.complete(questions(7, sample=len(server.calls))))
        assert len(server.calls) == 10
        other = by_id(completer(server, tmp_path, account="other run", max_calls=10).complete(questions(7, sample=99)))
    assert sum(completion.text is not None for completion in found.values()) == 0
    assert all(completion.text for completion in other.values())


def test_a_model_that_writes_bytes_fits_the_estimate() -> None:
    request = Request("r", (Message("system", "é" * 10), Message("user", "漢" * 5)), {"type": "object"})
    assert most_tokens(request, 50) >= 20 + 15 + len('{"type": "object"}') + 50


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30), st.booleans()), max_size=60),
    st.none() | st.integers(1, 20),
    st.none() | st.integers(1, 200),
    st.none() | st.integers(1, 200),
)
def test_no_order_of_calls_passes_a_limit(
    calls: list[tuple[int, int, bool]], max_calls: int | None, max_tokens: int | None, max_cost: int | None
) -> None:
    """Calls that cost at most what was reserved, some settled late, some refused."""
    cache = AnswerCache()
    limits = {"max_calls": max_calls, "max_total_tokens": max_tokens, "max_cost": max_cost and max_cost * 2e-6}
    budget = Budget(cache, "a", EndpointConfig(model="m", input_price=2.0, output_price=2.0, **limits))
    open_calls: list[tuple[Amount, Amount]] = []
    paid: list[int] = []
    for reserved, tokens, wait in calls:
        if budget.try_reserve(budget.amount(0, reserved)):
            open_calls.append((budget.amount(0, reserved), budget.amount(min(tokens, reserved), 0)))
        while open_calls and not wait:
            size, spent = open_calls.pop()
            budget.settle(size, spent, calls=int(spent.tokens > 0))
            paid += [spent.tokens] if spent.tokens else []
    for size, spent in open_calls:
        budget.settle(size, spent)
        paid.append(spent.tokens)
    assert max_calls is None or len(paid) <= max_calls
    assert max_tokens is None or sum(paid) < max_tokens + max([*paid, 1])
    assert max_cost is None or sum(paid) < max_cost + max([*paid, 1])
    assert cache.spent("a") == ((len(paid), sum(paid)) if calls else (0, 0))
    # A token costs 2 millionths, that is 2,000 billionths.
    assert cache.spent_cost("a") == 2_000 * sum(paid)
    cache.close()
