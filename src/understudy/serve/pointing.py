"""Models that choose their answer – a span, an option – as an engine: one thread, what is waiting at once."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from understudy.models.decoding import Generated
from understudy.models.generate import answer_examples
from understudy.models.head import base_model
from understudy.models.kinds import kind_of
from understudy.serve.work import EngineFault
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.types import Example


@dataclass(eq=False)
class _Question:
    example: Example
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Generated] = field(init=False)

    def __post_init__(self) -> None:
        self.answer = self.loop.create_future()

    def tell(self, outcome: Generated | Exception) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._settle, outcome)

    def _settle(self, outcome: Generated | Exception) -> None:
        if self.answer.done():
            return
        if isinstance(outcome, Exception):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


class PointingEngine:
    """Answers examples with a model that chooses.

    Args:
        model: of such a kind.
        tokenizer: of it.
        batch: questions at once, at most.
        name: of the thread.
    """

    def __init__(self, model: Any, tokenizer: ExampleTokenizer, *, batch: int, name: str) -> None:
        self._model, self._tokenizer, self._batch = model.eval(), tokenizer, batch
        self._kind = kind_of(base_model(model).config)
        self._waiting: deque[_Question] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._running = 0
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def load(self) -> tuple[int, int]:
        """Questions that wait, and those that are being answered."""
        return len(self._waiting), self._running

    def row_size(self, example: Example) -> tuple[int, int]:
        """Positions that are read of an example, and written."""
        return self._kind.row_size(self._tokenizer, example, answered=True)

    async def answer(self, example: Example) -> Generated:
        """The answer to one example.

        Raises:
            EngineFault: there is none.
            DataError: the example has no context, or does not fit.
        """
        question = _Question(example, asyncio.get_running_loop())
        with self._changed:
            if self._closed:
                raise EngineFault("the server is going down")
            self._waiting.append(question)
            self._changed.notify()
        return await question.answer

    async def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join, 30)

    def _work(self) -> None:
        while not self._closed:
            questions = self._next()
            self._running = len(questions)
            try:
                if questions:
                    self._answer(questions)
            except Exception as error:
                for question in questions:
                    question.tell(EngineFault(f"the model failed: {type(error).__name__}: {error}"))
            finally:
                self._running = 0
        for question in self._waiting:
            question.tell(EngineFault("the server is going down"))

    def _next(self) -> list[_Question]:
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if self._closed:
                return []
            taken: list[_Question] = []
            while self._waiting and len(taken) < self._batch:
                question = self._waiting.popleft()
                if not question.answer.cancelled():
                    taken.append(question)
            return taken

    def _answer(self, questions: Sequence[_Question]) -> None:
        answers = answer_examples(
            self._model,
            self._tokenizer,
            [question.example for question in questions],
            batch_size=self._batch,
            confidence=True,
        )
        for question, answer in zip(questions, answers, strict=True):
            question.tell(answer)
