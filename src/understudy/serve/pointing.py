"""Models that choose their answer – a span, an option – as an engine: one thread, what is waiting at once."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from understudy.models.decoding import Generated
from understudy.models.generate import answer_examples
from understudy.models.head import base_model
from understudy.models.kinds import kind_of
from understudy.models.sentence_vectors import sentence_vectors
from understudy.serve.promised import Promised
from understudy.serve.work import EngineFault
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.passages import PassageTokenizer
from understudy.types import Example


class _Question(Promised[Generated]):
    """An answer that is wanted."""

    def __init__(self, example: Example) -> None:
        super().__init__()
        self.example = example


class _Texts(Promised[Tensor]):
    """Vectors that are wanted of some texts."""

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.rows = rows


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
        self._waiting: deque[_Question | _Texts] = deque()
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

    @property
    def batch(self) -> int:
        """Questions or texts that are read at once, at most."""
        return self._batch

    @property
    def embeds(self) -> bool:
        """Whether it gives vectors of texts."""
        return self._kind.embeds_texts

    @property
    def spans(self) -> bool:
        """Whether it points at spans, so that its answer may be that there is none."""
        return self._kind.name == "span"

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return int(base_model(self._model).config.hidden_size)

    async def answer(self, example: Example) -> Generated:
        """The answer to one example.

        Raises:
            EngineFault: there is none.
            DataError: the example has no context, nothing to be found in, or does not fit.
        """
        if self._kind.searches:
            assert isinstance(self._tokenizer, PassageTokenizer)
            self._tokenizer.corpus([example])
        question = _Question(example)
        self._put(question)
        return await question.outcome

    async def embed(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """`[M, d]` vectors of texts, given as token ids.

        Raises:
            EngineFault: there are none.
        """
        texts = _Texts(rows)
        self._put(texts)
        return await texts.outcome

    def _put(self, asked: _Question | _Texts) -> None:
        with self._changed:
            if self._closed:
                raise EngineFault("the server is going down")
            self._waiting.append(asked)
            self._changed.notify()

    async def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join, 30)

    def _work(self) -> None:
        while not self._closed:
            taken = self._next()
            self._running = 1 if isinstance(taken, _Texts) else len(taken)
            try:
                if isinstance(taken, _Texts):
                    taken.tell(self._vectors(taken.rows))
                elif taken:
                    self._answer(taken)
            except Exception as error:
                fault = EngineFault(f"the model failed: {type(error).__name__}: {error}")
                for asked in [taken] if isinstance(taken, _Texts) else taken:
                    asked.tell(fault)
            finally:
                self._running = 0
        for asked in self._waiting:
            asked.tell(EngineFault("the server is going down"))

    def _next(self) -> list[_Question] | _Texts:
        """Questions up to a batch, or the texts of one request, in the order in which they came."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            taken: list[_Question] = []
            while self._waiting and len(taken) < self._batch and not self._closed:
                asked = self._waiting[0]
                if isinstance(asked, _Texts) and taken and not asked.left:
                    break
                self._waiting.popleft()
                if asked.left:
                    continue
                if isinstance(asked, _Texts):
                    return asked
                taken.append(asked)
            return taken

    def _vectors(self, rows: Sequence[Sequence[int]]) -> Tensor:
        pad: Any = self._tokenizer.template.tokenizer.pad_token_id
        return sentence_vectors(self._model, rows, pad_id=pad, batch_size=self._batch)

    def _answer(self, questions: Sequence[_Question]) -> None:
        # What one user sends to be searched is nothing that another may be answered with.
        for group in [[question] for question in questions] if self._kind.searches else [questions]:
            self._answer_together(group)

    def _answer_together(self, questions: Sequence[_Question]) -> None:
        answers = answer_examples(
            self._model,
            self._tokenizer,
            [question.example for question in questions],
            batch_size=self._batch,
            confidence=True,
        )
        for question, answer in zip(questions, answers, strict=True):
            question.tell(answer)
