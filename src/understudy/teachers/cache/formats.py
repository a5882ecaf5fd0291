"""What a cache keeps of a target token: its record, always as many bytes, and back to a signal.

A *format* turns what a live teacher says of N target tokens into `[N, record_bytes]` bytes and these into the signal
that a student learns from. Everything that a stored target leaves out, it leaves out here, so a live teacher whose
signal goes through a format and back is what a cached run must equal.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from understudy.losses.heads import HeadStates
from understudy.models.output import CandidateOutput, VocabularyOutput
from understudy.teachers.cache.packing import SortedIds, fixed_width, from_fixed_width
from understudy.teachers.signals import Sampled, Signal, TopK
from understudy.types import Gives

Records = NDArray[np.uint8]

DEEPEST = 80.0
"""Nats below the likeliest token beyond which a probability is stored as e^-80 of it: nothing, and no infinity."""
_CHUNK_BYTES = 64 << 20


@dataclass(frozen=True)
class TargetFormat(ABC):
    """Base of the formats.

    Attributes:
        vocabulary: V, columns of the teacher's head.
        temperatures: τ that the targets can be read at.
        record_bytes: bytes of a target token.
        gives: what a teacher that speaks from it gives.
    """

    kind: ClassVar[str]
    gives: ClassVar[Gives] = Gives.TOP_K
    vocabulary: int
    temperatures: tuple[float, ...]

    @property
    @abstractmethod
    def record_bytes(self) -> int:
        """See the class."""

    @abstractmethod
    def encode(self, output: Any, seeds: Sequence[int]) -> Records:
        """Records of the target tokens of some rows.

        Args:
            output: what the teacher says of the rows.
            seeds: one a row, for what is drawn: whatever else stands in the batch, a row is drawn the same again.
        """

    @abstractmethod
    def decode(
        self, records: Records, target_ids: Tensor, lengths: tuple[int, ...], temperature: float, device: torch.device
    ) -> Signal:
        """The signal that records stand for, at one of `temperatures`."""

    def describe(self) -> dict[str, Any]:
        """What the format is, JSON-able; two caches whose descriptions differ hold different targets."""
        return {"kind": self.kind, "vocabulary": self.vocabulary, "temperatures": list(self.temperatures)}

    def place_of(self, temperature: float) -> int:
        """Which of `temperatures` one is."""
        return self.temperatures.index(temperature)


class _Head:
    """The K likeliest tokens of a chunk of logits and what the others carry, at every temperature.

    Args:
        logits: `[N, V]`, used up.
        count: K.
        temperatures: each τ.

    Attributes:
        ids: `[N, K]`, ascending.
        gaps: `[N, K]` nats below the likeliest token of the row, at temperature 1.
        tails: for each τ `[N]` log-probability of all other tokens.
        entropies: for each τ `[N]`.
        drawn: for each τ what `draw` gives of e^(z/τ) `[N, V]` of all other tokens, 0 for the K tokens; empty without.
    """

    def __init__(
        self,
        logits: Tensor,
        count: int,
        temperatures: Sequence[float],
        draw: Callable[[int, Tensor], NDArray[np.int64]] | None = None,
    ) -> None:
        top, ids = logits.topk(count, dim=-1)
        self.ids, order = ids.sort(dim=-1)
        peak = top[:, :1]
        self.gaps = (peak - top.gather(1, order)).clamp_(0.0, DEEPEST)
        shifted = logits.sub_(peak)
        self.tails, self.entropies, self.drawn = [], [], []
        for place, temperature in enumerate(temperatures):
            tempered = shifted if temperature == 1 else shifted / temperature
            others = tempered.exp()
            whole = others.sum(-1)
            if draw is not None:
                # Σ e^z z: 0 · −∞ of a column without probability is 0.
                weighed = others.mul(tempered.masked_fill(others == 0, 0.0)).sum(-1)
                self.entropies.append(whole.log() - weighed / whole)
            # A sum over the others alone: 1 − Σ p_k would lose them where the K tokens have nearly everything.
            rest = others.scatter_(1, ids, 0.0).sum(-1)
            self.tails.append((rest / whole).log())
            if draw is not None:
                self.drawn.append(draw(place, others))


def _chunks(states: HeadStates) -> Any:
    """Logits of a few tokens at a time, in float32 or, of float64 states, in float64; the caller may overwrite them."""
    rows = max(1, _CHUNK_BYTES // (8 * states.columns))
    exact = torch.float64 if states.dtype == torch.float64 else torch.float32
    for piece in states.hidden.split(rows):
        yield states.head.logits(piece).to(exact)


@dataclass(frozen=True)
class TopKFormat(TargetFormat):
    """The K likeliest tokens, and the mass of all others for each τ.

    A record holds the sorted ids (`packing.SortedIds`), for each id how far it lies below the likeliest, and log-masses
    of the tail. With `bits` 8, 12 or 16 the distance g is stored as √(g / g_max) in so many bits, for small distances,
    which carry the probability, are to be the exact ones; g_max and the tails are half-precision numbers. With 32 bits
    log-probabilities are kept as they are. What the K tokens have together is 1 minus the tail, so a rounded head never
    adds up to more than it had. At another τ the distances are divided by it; its tail must have been stored.

    Attributes:
        count: K.
        bits: of a distance.
    """

    kind: ClassVar[str] = "topk"
    count: int
    bits: int = 8

    @property
    def _ids(self) -> SortedIds:
        return SortedIds(self.count, self.vocabulary)

    @property
    def _float(self) -> Any:
        return np.float32 if self.bits == 32 else np.float16

    @property
    def _num_floats(self) -> int:
        """Tails, and g_max or the K log-probabilities."""
        return len(self.temperatures) + (self.count if self.bits == 32 else 1)

    @property
    def record_bytes(self) -> int:
        """See the base class."""
        packed = self._ids.num_bits + (0 if self.bits == 32 else self.count * self.bits)
        return -(-packed // 8) + self._num_floats * np.dtype(self._float).itemsize

    def describe(self) -> dict[str, Any]:
        """See the base class."""
        return {**super().describe(), "k": self.count, "bits": self.bits}

    def encode(self, output: VocabularyOutput, seeds: Sequence[int]) -> Records:
        """See the base class."""
        pieces = [self._encode(_Head(logits, self.count, self.temperatures)) for logits in _chunks(output.states)]
        return np.concatenate(pieces) if pieces else np.zeros((0, self.record_bytes), np.uint8)

    def _encode(self, head: _Head) -> Records:
        ids, gaps = head.ids.cpu().numpy(), head.gaps.double().cpu().numpy()
        tails = torch.stack(head.tails, -1).cpu().numpy()
        bits = [self._ids.encode(ids)]
        if self.bits == 32:
            # The first temperature need not be 1; log p = c − gap, with c from what the head has at temperature 1.
            floats = np.concatenate([tails, gaps], axis=1)
        else:
            largest = _above(gaps.max(-1, keepdims=True))
            steps = (1 << self.bits) - 1
            shares = np.divide(gaps, largest, out=np.zeros_like(gaps), where=largest > 0)
            bits.append(fixed_width(np.rint(np.sqrt(shares) * steps).astype(np.int64), self.bits))
            floats = np.concatenate([tails, largest], axis=1)
        packed = np.packbits(np.concatenate(bits, axis=1), axis=1)
        raw = np.ascontiguousarray(floats.astype(self._float)).view(np.uint8)
        return np.concatenate([packed, raw], axis=1)

    def decode(
        self, records: Records, target_ids: Tensor, lengths: tuple[int, ...], temperature: float, device: torch.device
    ) -> TopK:
        """See the base class."""
        size = self._num_floats * np.dtype(self._float).itemsize
        packed, raw = records[:, : self.record_bytes - size], records[:, self.record_bytes - size :]
        floats = np.ascontiguousarray(raw).view(self._float).astype(np.float64)
        bits = np.unpackbits(packed, axis=1)
        ids = self._ids.decode(bits[:, : self._ids.num_bits])
        num = len(self.temperatures)
        if self.bits == 32:
            gaps = floats[:, num:]
        else:
            start = self._ids.num_bits
            codes = from_fixed_width(bits[:, start : start + self.count * self.bits], self.bits)
            gaps = floats[:, num:] * (codes / ((1 << self.bits) - 1)) ** 2
        tail = floats[:, self.place_of(temperature)]
        logp = _with_tail(-gaps / temperature, tail)
        tensors = (torch.from_numpy(values).to(device) for values in (ids, logp, tail))
        return TopK(*(next(tensors), next(tensors).float(), target_ids, lengths, next(tensors).float(), temperature))


def _above(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """The half-precision numbers at or above some numbers."""
    rounded = values.astype(np.float16)
    up = np.nextafter(rounded, np.float16(np.inf))
    return np.where(rounded < values, up, rounded).astype(np.float64)


def _with_tail(logits: NDArray[np.float64], tail: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-probabilities of a head whose tail has log-mass `tail`."""
    with np.errstate(divide="ignore"):
        inside = np.log(-np.expm1(np.minimum(tail, 0.0)))
    peak = logits.max(-1, keepdims=True)
    lse = peak[:, 0] + np.log(np.exp(logits - peak).sum(-1))
    return logits + (inside - lse)[:, None]


@dataclass(frozen=True)
class SampledFormat(TargetFormat):
    """The K likeliest tokens as they are, and a sample of the others that is right on average (arXiv 2503.16870).

    `draws` tokens are drawn from the tail, anew for each temperature, whose tail has other proportions; each stands for
    1/`draws` of its mass. One is drawn from each of as many equal slices of that mass, which leaves the expectation as
    it is and makes the variance smaller than that of independent draws. The head, the tails and the entropies H(p) are
    stored as `TopKFormat` stores them, so with `bits` 32 the target is unbiased, and with fewer it is so of a rounded
    head. The likeliest tokens are the same at every temperature and stand there once.

    Attributes:
        count: K.
        draws: tokens drawn from the tail.
        bits: of a distance of the head.
    """

    kind: ClassVar[str] = "sampled"
    count: int
    draws: int
    bits: int = 8

    @property
    def head(self) -> TopKFormat:
        """How the head is stored."""
        return TopKFormat(self.vocabulary, self.temperatures, self.count, self.bits)

    @property
    def _ids(self) -> SortedIds:
        return SortedIds(self.draws, self.vocabulary)

    @property
    def record_bytes(self) -> int:
        """See the base class."""
        return self.head.record_bytes + len(self.temperatures) * self._sample_bytes

    @property
    def _sample_bytes(self) -> int:
        """Of what was drawn at one temperature, and of the entropy there."""
        return -(-self._ids.num_bits // 8) + 4

    def describe(self) -> dict[str, Any]:
        """See the base class."""
        return {**super().describe(), "k": self.count, "draws": self.draws, "bits": self.bits}

    def encode(self, output: VocabularyOutput, seeds: Sequence[int]) -> Records:
        """See the base class."""
        sizes = zip(seeds, output.lengths, strict=True)
        shapes = [(seed, (len(self.temperatures), length, self.draws)) for seed, length in sizes]
        uniform = np.concatenate([np.random.default_rng(seed).random(shape) for seed, shape in shapes], axis=1)
        pieces, start = [], 0
        for logits in _chunks(output.states):
            pieces.append(self._encode(logits, uniform[:, start : start + len(logits)]))
            start += len(logits)
        return np.concatenate(pieces) if pieces else np.zeros((0, self.record_bytes), np.uint8)

    def _encode(self, logits: Tensor, uniform: NDArray[np.float64]) -> Records:
        head = _Head(
            logits, self.count, self.temperatures, draw=lambda place, others: draw_tail(others, uniform[place])
        )
        pieces = [self.head._encode(head)]
        for drawn, entropy in zip(head.drawn, head.entropies, strict=True):
            pieces.append(np.packbits(self._ids.encode(drawn), axis=1))
            pieces.append(entropy.float().cpu().numpy()[:, None].view(np.uint8))
        return np.concatenate(pieces, axis=1)

    def decode(
        self, records: Records, target_ids: Tensor, lengths: tuple[int, ...], temperature: float, device: torch.device
    ) -> Sampled:
        """See the base class."""
        size = self.head.record_bytes
        head = self.head.decode(records[:, :size], target_ids, lengths, temperature, device)
        start = size + self.place_of(temperature) * self._sample_bytes
        sample = records[:, start : start + self._sample_bytes]
        drawn = self._ids.decode(np.unpackbits(sample[:, :-4], axis=1)[:, : self._ids.num_bits])
        entropy = torch.from_numpy(np.ascontiguousarray(sample[:, -4:]).view(np.float32)[:, 0].copy()).to(device)
        share = (head.log_tail.exp() / self.draws)[:, None].expand(-1, self.draws)
        ids = torch.cat([head.ids, torch.from_numpy(drawn).to(device)], -1)
        return Sampled(ids, torch.cat([head.logp.exp(), share], -1), entropy, target_ids, lengths, temperature)


def draw_tail(weights: Tensor, uniform: NDArray[np.float64]) -> NDArray[np.int64]:
    """`[N, draws]` columns, ascending, drawn by `weights` `[N, V]`, one from each equal slice of their sum.

    `uniform` `[N, draws]` says where in its slice each lies, from 0 to 1. A row without any weight gets column 0; its
    tail has no mass.
    """
    draws = uniform.shape[1]
    cumulative = weights.double().cumsum(-1)
    slices = torch.from_numpy((np.arange(draws) + uniform) / draws).to(cumulative.device)
    places = torch.searchsorted(cumulative, slices * cumulative[:, -1:], right=True)
    # A number just below the whole may fall behind the last column that has weight.
    last = (weights > 0).int().cumsum(-1).argmax(-1, keepdim=True)
    return places.minimum(last).sort(-1).values.cpu().numpy()


@dataclass(frozen=True)
class StatesFormat(TargetFormat):
    """Hidden states under the teacher's head, from which everything else follows: for methods of two spaces.

    Attributes:
        width: D.
        dtype: `float32`, `bfloat16`, or `int8` with one scale a token.
    """

    kind: ClassVar[str] = "states"
    gives: ClassVar[Gives] = Gives.STATES | Gives.EMBEDDINGS
    width: int
    dtype: str = "bfloat16"

    @property
    def record_bytes(self) -> int:
        """See the base class."""
        return {"float32": 4, "bfloat16": 2, "int8": 1}[self.dtype] * self.width + (4 if self.dtype == "int8" else 0)

    def describe(self) -> dict[str, Any]:
        """See the base class."""
        return {**super().describe(), "width": self.width, "dtype": self.dtype}

    def encode(self, output: VocabularyOutput, seeds: Sequence[int]) -> Records:
        """See the base class."""
        states = output.hidden.detach()
        if self.dtype != "int8":
            stored = states.to(getattr(torch, self.dtype)).cpu().contiguous()
            return stored.view(torch.uint8).numpy().reshape(len(states), -1)
        scale = states.float().abs().amax(-1, keepdim=True) / 127
        codes = (states.float() / scale.clamp_min(torch.finfo(torch.float32).tiny)).round().to(torch.int8)
        pieces = (codes.cpu().numpy().view(np.uint8), scale.cpu().numpy().view(np.uint8))
        return np.concatenate(pieces, axis=1)

    def states(self, records: Records, device: torch.device) -> Tensor:
        """`[N, D]` the states of records, float32 or bfloat16."""
        if self.dtype != "int8":
            return torch.from_numpy(records.copy()).view(getattr(torch, self.dtype)).to(device)
        scale = torch.from_numpy(np.ascontiguousarray(records[:, -4:]).view(np.float32).copy())
        codes = torch.from_numpy(np.ascontiguousarray(records[:, :-4]).view(np.int8).copy())
        return (codes.float() * scale).to(device)

    def decode(
        self, records: Records, target_ids: Tensor, lengths: tuple[int, ...], temperature: float, device: torch.device
    ) -> Signal:
        """Not by itself: states need the head that lies beside the records.

        Raises:
            TypeError: always; see `cached.CachedStates`.
        """
        raise TypeError("hidden states are a signal only with their head")


@dataclass(frozen=True)
class CandidatesFormat(TargetFormat):
    """Logits of a row's options, of labels: few enough to be kept whole, so that they can be read at any temperature.

    A record holds `vocabulary` single-precision numbers; what is no candidate of a target is NaN.
    """

    kind: ClassVar[str] = "candidates"
    gives: ClassVar[Gives] = Gives.LOGPS

    @property
    def record_bytes(self) -> int:
        """See the base class."""
        return 4 * self.vocabulary

    def encode(self, output: VocabularyOutput | CandidateOutput, seeds: Sequence[int]) -> Records:
        """See the base class."""
        assert isinstance(output, CandidateOutput), "a model that writes has no candidates"
        logits = output.logits.detach().float().masked_fill(~output.mask, torch.nan)
        kept = torch.full((len(logits), self.vocabulary), torch.nan)
        kept[:, : logits.shape[1]] = logits.cpu()
        return kept.numpy().view(np.uint8)

    def decode(
        self, records: Records, target_ids: Tensor, lengths: tuple[int, ...], temperature: float, device: torch.device
    ) -> CandidateOutput:
        """See the base class; as many columns as the row with most candidates has."""
        logits = torch.from_numpy(np.ascontiguousarray(records).view(np.float32).copy()).to(device)
        mask = ~logits.isnan()
        columns = int(mask.any(0).nonzero().max()) + 1
        return CandidateOutput(target_ids, lengths, logits[:, :columns].nan_to_num(0.0), mask[:, :columns])


def row_seed(*hashes: int) -> int:
    """A seed for what is drawn of a row, from the numbers that name it."""
    return zlib.crc32(np.array(hashes, np.uint64).tobytes())
