"""The engine of this process under several requests: they join each other's batch, and one that breaks ends it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from support.serving import causal_run, seq2seq_run
from understudy.serve.local_engine import LocalEngine
from understudy.serve.sides import Side, open_side
from understudy.serve.work import EngineFault, Piece, Work
from understudy.tokens.encoded import TokenizedExample

LONG, SHORT = 120, 3


def engine_of(side: Side) -> LocalEngine:
    assert isinstance(side.engine, LocalEngine)
    return side.engine


async def answer(engine: LocalEngine, prompt: tuple[int, ...], length: int) -> str:
    work = Work(prompt, max_tokens=length, plain=True)
    return "".join([piece.text async for piece in engine.write(work)])


async def idle(engine: LocalEngine) -> None:
    while engine.load != (0, 0):
        await asyncio.sleep(0.01)


def test_a_short_answer_does_not_wait_for_a_long_one(tmp_path: Path) -> None:
    """It comes while the long one is being written, and the text of both is that which each has alone."""
    engine = engine_of(open_side(causal_run(tmp_path), "student"))

    async def together() -> tuple[list[str], list[Piece]]:
        pieces: list[Piece] = []
        over: list[str] = []

        async def long() -> None:
            async for piece in engine.write(Work((5, 6, 7), max_tokens=LONG, plain=True, streams=True)):
                pieces.append(piece)
            over.append("long")

        task = asyncio.create_task(long())
        while not pieces:
            await asyncio.sleep(0)
        texts = [await answer(engine, (5, 6, 7, 8, 9, 10), SHORT)]
        over.append("short")
        await task
        assert over == ["short", "long"]
        texts.append("".join(piece.text for piece in pieces))
        return texts, pieces

    async def apart() -> list[str]:
        return [await answer(engine, (5, 6, 7, 8, 9, 10), SHORT), await answer(engine, (5, 6, 7), LONG)]

    texts, pieces = asyncio.run(together())
    assert pieces[-1].completion_tokens == LONG
    assert texts == asyncio.run(apart())
    asyncio.run(engine.close())


def test_whoever_leaves_makes_room(tmp_path: Path) -> None:
    """A client that hangs up is dropped at the next token, in the middle of the others."""
    engine = engine_of(open_side(causal_run(tmp_path), "student"))

    async def talk() -> None:
        stream = engine.write(Work((5, 6), max_tokens=10_000, plain=True, streams=True))
        await anext(stream)
        other = asyncio.create_task(answer(engine, (7, 8), SHORT))
        await stream.aclose()  # pyright: ignore[reportAttributeAccessIssue]
        await other
        await idle(engine)

    asyncio.run(asyncio.wait_for(talk(), 30))
    asyncio.run(engine.close())


@pytest.mark.parametrize("made", [causal_run, seq2seq_run])
def test_a_model_that_fails_does_not_end_the_engine(made, tmp_path: Path) -> None:
    """All that were under way hear of it, in either way of batching; the next is answered as if nothing had been."""
    engine = engine_of(open_side(made(tmp_path), "student"))
    before = asyncio.run(answer(engine, (5, 6, 7), SHORT))
    beyond = (1_000_000,)

    async def broken() -> None:
        with pytest.raises(EngineFault, match="the model failed: IndexError"):
            await answer(engine, beyond, SHORT)

    asyncio.run(broken())
    assert asyncio.run(answer(engine, (5, 6, 7), SHORT)) == before
    asyncio.run(asyncio.wait_for(idle(engine), 30))
    asyncio.run(engine.close())


def test_options_that_break_the_model_break_no_answer(tmp_path: Path) -> None:
    """They are scored between two tokens of the answer that is being written."""
    engine = engine_of(open_side(causal_run(tmp_path), "student"))
    alone = asyncio.run(answer(engine, (5, 6, 7), LONG))

    async def both() -> str:
        task = asyncio.create_task(answer(engine, (5, 6, 7), LONG))
        while engine.load != (0, 1):
            await asyncio.sleep(0)
        with pytest.raises(EngineFault, match="the model failed: IndexError"):
            await engine.option_scores([TokenizedExample([5], [1_000_000])])
        assert not task.done()
        return await task

    assert asyncio.run(both()) == alone
    asyncio.run(engine.close())
