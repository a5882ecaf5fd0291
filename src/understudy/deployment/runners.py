"""Models of any engine, asked alike: logits of the next token, and greedy answers made of them one token at a time.

Batches and padding are left out on purpose: they move the last digits of logits, and here those are compared.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from understudy.models.kinds import kind_of
from understudy.tokens.template import Template


class Runner(Protocol):
    """A model that writes, one text at a time."""

    def start(self, prompt_ids: Sequence[int]) -> np.ndarray:
        """Read a prompt; `[V]` logits of what follows."""
        ...

    def step(self, token: int) -> np.ndarray:
        """Read one more token; `[V]` logits of what follows."""
        ...


@dataclass(frozen=True)
class Written:
    """A greedy answer.

    Attributes:
        ids: its tokens, the stop token included where one came.
        logits: `[S, V]` before each of them; empty where they were not kept.
        margins: the best logit minus the second best, before each token.
        seconds: wall time.
    """

    ids: tuple[int, ...]
    logits: np.ndarray
    margins: tuple[float, ...]
    seconds: float


def write(runner: Runner, prompt_ids: Sequence[int], stop_ids: Sequence[int], most: int) -> Written:
    """The greedy answer of at most so many tokens."""
    begin = time.perf_counter()
    logits = [runner.start(prompt_ids)]
    ids = [int(logits[-1].argmax())]
    while len(ids) < most and ids[-1] not in stop_ids:
        logits.append(runner.step(ids[-1]))
        ids.append(int(logits[-1].argmax()))
    seconds = time.perf_counter() - begin
    table = np.stack(logits)
    best = np.partition(table, -2, axis=1)[:, -2:]
    return Written(tuple(ids), table, tuple((best[:, 1] - best[:, 0]).tolist()), seconds)


class TransformersRunner:
    """A causal model or an encoder–decoder of `transformers`, with its own cache.

    Args:
        model: the model, in evaluation mode.
        template: tells what a decoder begins with.
    """

    def __init__(self, model: Any, template: Template) -> None:
        self._model = model.eval()
        self._decodes = kind_of(model.config).name == "seq2seq"
        self._start_ids = list(template.start_ids)
        self._state: dict[str, Any] = {}

    @torch.no_grad()
    def start(self, prompt_ids: Sequence[int]) -> np.ndarray:
        """See `Runner`."""
        ids = torch.tensor([list(prompt_ids)], device=self._model.device)
        if not self._decodes:
            self._state = {}
            return self._read({"input_ids": ids})
        encoded = self._model.get_encoder()(input_ids=ids, attention_mask=torch.ones_like(ids), return_dict=True)
        self._state = {"encoder_outputs": encoded, "attention_mask": torch.ones_like(ids)}
        return self._read({"decoder_input_ids": torch.tensor([self._start_ids], device=self._model.device)})

    @torch.no_grad()
    def step(self, token: int) -> np.ndarray:
        """See `Runner`."""
        name = "decoder_input_ids" if self._decodes else "input_ids"
        return self._read({name: torch.tensor([[token]], device=self._model.device)})

    def _read(self, inputs: dict[str, Any]) -> np.ndarray:
        output = self._model(**inputs, **self._state, use_cache=True)
        self._state["past_key_values"] = output.past_key_values
        return output.logits[0, -1].float().cpu().numpy()


class OnnxCausalRunner:
    """A causal model exported with its cache, run by onnxruntime.

    Args:
        session: of `model.onnx`.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._empty = {
            place.name: np.zeros((1, place.shape[1], 0, place.shape[3]), np.float32)
            for place in session.get_inputs()
            if place.name.startswith("past_key_values.")
        }
        self._past: dict[str, np.ndarray] = {}
        self._length = 0

    def start(self, prompt_ids: Sequence[int]) -> np.ndarray:
        """See `Runner`."""
        self._past, self._length = self._empty, 0
        return self._read(list(prompt_ids))

    def step(self, token: int) -> np.ndarray:
        """See `Runner`."""
        return self._read([token])

    def _read(self, ids: list[int]) -> np.ndarray:
        begin, self._length = self._length, self._length + len(ids)
        inputs = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, self._length), np.int64),
            "position_ids": np.arange(begin, self._length, dtype=np.int64)[None],
        }
        logits, *present = self._session.run(None, {**inputs, **self._past})
        self._past = dict(zip(self._empty, present, strict=True))
        return logits[0, -1]


class OnnxSeq2SeqRunner:
    """An encoder–decoder exported as two graphs without a cache: what was written is read again for each token.

    Args:
        encoder: session of `encoder_model.onnx`.
        decoder: session of `decoder_model.onnx`.
        start_ids: what the decoder begins with.
    """

    def __init__(self, encoder: Any, decoder: Any, start_ids: Sequence[int]) -> None:
        self._encoder, self._decoder, self._start_ids = encoder, decoder, list(start_ids)
        self._inputs: dict[str, np.ndarray] = {}
        self._written: list[int] = []

    def start(self, prompt_ids: Sequence[int]) -> np.ndarray:
        """See `Runner`."""
        ids = np.array([list(prompt_ids)], np.int64)
        (states,) = self._encoder.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        self._inputs = {"encoder_hidden_states": states, "encoder_attention_mask": np.ones_like(ids)}
        self._written = list(self._start_ids)
        return self._logits()

    def step(self, token: int) -> np.ndarray:
        """See `Runner`."""
        self._written.append(token)
        return self._logits()

    def _logits(self) -> np.ndarray:
        (logits,) = self._decoder.run(None, {"decoder_input_ids": np.array([self._written], np.int64), **self._inputs})
        return logits[0, -1]


class OnnxSpanModel:
    """A model that points, exported, in the place of the `transformers` model that it came from.

    Args:
        session: of `model.onnx`.
        config: of the model.
    """

    training = False
    device = torch.device("cpu")

    def __init__(self, session: Any, config: Any) -> None:
        self.config = config
        self._session = session
        self._names = [place.name for place in session.get_inputs()]

    def __call__(self, *, return_dict: bool = True, **inputs: torch.Tensor) -> OnnxSpanLogits:
        """Logits of start and end, `[B, S]` each."""
        start, end = self._session.run(None, {name: inputs[name].numpy() for name in self._names})
        return OnnxSpanLogits(torch.from_numpy(start), torch.from_numpy(end))

    def eval(self) -> OnnxSpanModel:
        """Itself: there is no training."""
        return self

    def train(self, mode: bool = True) -> OnnxSpanModel:
        """Itself: there is no training."""
        return self


@dataclass(frozen=True)
class OnnxSpanLogits:
    """What a model that points says of a batch, `[B, S]` each."""

    start_logits: torch.Tensor
    end_logits: torch.Tensor


class LlamaCppRunner:
    """A GGUF file run by llama.cpp, keys and values in 32 bits.

    Args:
        llama: `llama_cpp.Llama` with `logits_all`.
    """

    def __init__(self, llama: Any) -> None:
        self._llama = llama

    def start(self, prompt_ids: Sequence[int]) -> np.ndarray:
        """See `Runner`."""
        self._llama.reset()
        return self._read(list(prompt_ids))

    def step(self, token: int) -> np.ndarray:
        """See `Runner`."""
        return self._read([token])

    def _read(self, ids: list[int]) -> np.ndarray:
        self._llama.eval(ids)
        return np.array(self._llama.scores[self._llama.n_tokens - 1], dtype=np.float32)
