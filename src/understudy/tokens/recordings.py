"""Rows with a recording: the encoder reads what a feature extractor makes of it, the decoder writes what was said.

```text
inputs        input_features [B, mel, frames]    decoder_input_ids  <|startoftranscript|> … a0 a1
target_mask   of the decoder:                                                          1  1  1
target_ids                                                                            a0 a1 <|endoftext|>
```

Nothing of a row but its recording is read, so a question, a context or a system prompt has no place here. Features are
made once of each recording and kept in the package's cache, by what the recording and the extractor are.
"""

from __future__ import annotations

import functools
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from understudy.data.recordings import audio_name, samples, seconds
from understudy.errors import DataError, ModelError, RunError
from understudy.files import atomic, cache_folder, fingerprint
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.seq2seq_template import Seq2SeqTemplate
from understudy.types import Example, Tokens

MAX_CACHED_BYTES = 256 << 20
"""Features that a process keeps beside those on the disk."""
_VERSION = 1
"""Another way to read recordings than before would be another number."""


class FeatureReader:
    """Asks a feature extractor of `transformers` what it makes of one recording.

    Args:
        extractor: that of Whisper or one that is called alike.
        source: what it was read from, for messages.
    """

    def __init__(self, extractor: Any, source: str) -> None:
        self.extractor, self.source = extractor, source
        self._kept: OrderedDict[str, Tensor] = OrderedDict()
        self._bytes = 0

    @functools.cached_property
    def identity(self) -> str:
        """What tells it from an extractor that makes other features of a recording."""
        fields = json.loads(self.extractor.to_json_string())
        return fingerprint([_VERSION, {key: value for key, value in fields.items() if key != "processor_class"}])

    @property
    def longest(self) -> float:
        """Seconds that are heard at once."""
        return self.extractor.n_samples / self.extractor.sampling_rate

    @property
    def shape(self) -> tuple[int, int]:
        """Bands and frames of a recording, however long it is."""
        return self.extractor.feature_size, self.extractor.nb_max_frames

    def check(self, audio: str) -> None:
        """Refuse a recording that is longer than what is heard at once.

        Raises:
            DataError: it is, or it cannot be read.
        """
        if seconds(audio) > self.longest:
            raise DataError(
                f"the recording takes {seconds(audio):.1f} s, and the model hears {self.longest:g} s at once",
                hint="cut it, or leave the row out: data.on_bad_row=quarantine sets such rows aside",
            )

    def features(self, audio: str) -> Tensor:
        """`[mel, frames]` what the model hears of a recording.

        Raises:
            DataError: see `check`.
            ModelError: the extractor cannot read it.
        """
        name = audio_name(audio)
        if name not in self._kept:
            self._keep(name, self._from_disk(name, audio))
        self._kept.move_to_end(name)
        return self._kept[name]

    def inputs(self, rows: Sequence[str]) -> dict[str, Tensor]:
        """The recordings of a batch as arguments of the encoder."""
        return {"input_features": torch.stack([self.features(audio) for audio in rows])}

    def _keep(self, name: str, values: Tensor) -> None:
        self._kept[name] = values
        self._bytes += values.numel() * values.element_size()
        while self._bytes > MAX_CACHED_BYTES and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.numel() * dropped.element_size()

    def _from_disk(self, name: str, audio: str) -> Tensor:
        path = cache_folder("features") / self.identity / f"{name}.npy"
        with suppress(OSError, ValueError, EOFError):  # Absent, or no longer whole: it is made anew.
            stored = np.load(path, mmap_mode="r")
            if stored.shape == self.shape and stored.dtype == np.float32:
                return torch.from_numpy(np.array(stored))
        values = self._extracted(audio)
        with suppress(RunError), atomic(path, "wb") as file:  # A disk that is full costs time, and no run.
            np.save(file, values)
        return torch.from_numpy(values)

    def _extracted(self, audio: str) -> np.ndarray:
        self.check(audio)
        rate = self.extractor.sampling_rate
        try:
            made = self.extractor(samples(audio, rate), sampling_rate=rate, return_tensors="np")["input_features"][0]
        except (ValueError, TypeError, RuntimeError, KeyError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(f"the feature extractor of {self.source} cannot read a recording: {reason}") from error
        return np.ascontiguousarray(made, dtype=np.float32)


@dataclass(frozen=True)
class SpokenExample(TokenizedExample):
    """A recording and its words; `prompt_ids` is one token that nobody reads.

    Attributes:
        audio: the recording.
        reader: what turns it into features.
    """

    audio: str = ""
    reader: FeatureReader | None = None

    def reads_as(self, other: TokenizedExample) -> bool:
        """See the base class; recordings are the same where their bytes are, extractors where they do the same."""
        return (
            isinstance(other, SpokenExample)
            and audio_name(self.audio) == audio_name(other.audio)
            and (self.reader and self.reader.identity) == (other.reader and other.reader.identity)
            and super().reads_as(other)
        )

    @classmethod
    def batched(cls, rows: Sequence[TokenizedExample], pad_id: int) -> Tokens:
        """See the base class; features stand in place of the encoder's token ids."""
        spoken = [row for row in rows if isinstance(row, SpokenExample)]
        assert len(spoken) == len(rows), "rows of two kinds of models in one batch"
        reader = spoken[0].reader
        assert reader is not None, "a row without what hears it"
        tokens = TokenizedExample.batched(rows, pad_id)
        written = {name: value for name, value in tokens["inputs"].items() if name.startswith("decoder_")}
        tokens["inputs"] = {**reader.inputs([row.audio for row in spoken]), **written}
        tokens["audio"] = [audio_name(row.audio) for row in spoken]
        return tokens


@dataclass
class SpeechTemplate(Seq2SeqTemplate):
    """The tokenizer of a model that writes down what it hears, with its feature extractor.

    Attributes:
        processor: of the model.
        source: what it was read from.
    """

    reads_audio: ClassVar[bool] = True
    processor: Any = None
    source: str = ""

    def __post_init__(self) -> None:
        self.processor.tokenizer = self.tokenizer
        self.reader = FeatureReader(self.processor.feature_extractor, self.source)
        super().__post_init__()

    @property
    def audio_identity(self) -> str:
        """See the base class."""
        return self.reader.identity

    def save(self, folder: Path) -> None:
        """Tokenizer and feature extractor."""
        self.processor.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def prompt(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """Nothing: no text is read."""
        return ""

    def prompt_ids(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """One token that nobody reads."""
        return [self.start_ids[0]]

    def _learn_frames(self) -> None:
        """Find out what a decoder begins with, and what ends what it writes.

        Whisper's tokenizer puts before a text the very token that a decoder starts from; it stands there once.
        """
        before, after = self._around_target()
        self._end = after[-1] if after and self.tokenizer.eos_token_id not in after else self.tokenizer.eos_token_id
        self.stop_ids = tuple(dict.fromkeys([self._end, self.tokenizer.eos_token_id]))  # pyright: ignore
        if self.start_id is None:
            raise ModelError(
                f"nothing says what the decoder of {self.source} begins with",
                hint="its config.json needs decoder_start_token_id",
            )
        self.start_ids = (self.start_id, *(before[1:] if before[:1] == [self.start_id] else before))


@dataclass
class SpeechTokenizer(ExampleTokenizer):
    """For models that write down what they hear."""

    template: SpeechTemplate
    notes: dict[str, int] = field(default_factory=dict)

    def encode(
        self, example: Example, answer: str | None = None, *, token_ends: bool = False, num_forced_chars: int = 0
    ) -> TokenizedExample:
        """See the base class.

        Raises:
            DataError: the row has no recording.
        """
        row = super().encode(example, answer, token_ends=token_ends, num_forced_chars=num_forced_chars)
        return SpokenExample(
            row.prompt_ids,
            row.answer_ids,
            row.token_ends,
            row.answer_prefix,
            row.num_forced,
            row.start,
            audio=self.audio(example),
            reader=self.template.reader,
        )

    def check(self, example: Example, *, learned: bool) -> None:
        """See the base class.

        Raises:
            DataError: the row has no recording, or one that is longer than what is heard at once.
        """
        try:
            self.template.reader.check(self.audio(example))
        except DataError as error:
            raise DataError(_named(example, error.message), hint=error.hint) from error

    def audio(self, example: Example) -> str:
        """The recording of a row.

        Raises:
            DataError: it has none.
        """
        if example.audio is None:
            raise DataError(
                f"{example.id}: a model that writes down speech reads a recording, and the row has none",
                hint="give each row a WAV file in its field audio",
            )
        return example.audio

    def _messages(self, example: Example) -> list[dict[str, Any]]:
        """Nothing is read but the recording."""
        return []


def _named(example: Example, message: str) -> str:
    return message if message.startswith(f"{example.id}: ") else f"{example.id}: {message}"
