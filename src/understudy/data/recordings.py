"""Recordings of a row: a WAV file that it names, or the bytes of one. They are opened when the data are read, so that a
broken one is a bad row and no crash hours later.

Through the house a recording goes as text (`attachments`). Channels are averaged, and another sampling rate than the
model's is changed to it by a polyphase filter.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.data import attachments
from understudy.data.rows import BadRow, as_text, missing, unpack
from understudy.errors import DataError
from understudy.types import Example

FIELD = "audio"
NOUN = "recording"
RATES = (4_000, 384_000)
"""Sampling rates in Hz that somebody could have recorded with."""

_BROKEN = (
    *(ValueError, EOFError, OSError, struct.error, ArithmeticError, LookupError, TypeError, AttributeError),
    *(MemoryError, RuntimeError, NameError),
)
"""What reading a broken header ends in."""


def audio_of(fields: Mapping[str, Any]) -> str | None:
    """The recording that a row's field `audio` names or holds; None where it is absent or empty.

    It is a path, a `data:` address, bytes, or a `{"bytes": …, "path": …}` object as Parquet files of `datasets` have
    it.

    Raises:
        BadRow: something else stands there.
    """
    value = fields.get(FIELD)
    if missing(value):
        return None
    value = unpack(value, FIELD)
    if isinstance(value, Mapping) and ("bytes" in value or "path" in value):
        value = value["path"] if value.get("bytes") is None else value["bytes"]
    if isinstance(value, bytes | bytearray):
        return address_of(bytes(value))
    return as_text(value, FIELD)


def located(example: Example, folder: Path) -> Example:
    """An example whose recording is found and can be opened.

    Args:
        example: as its format gave it.
        folder: that relative paths start from.

    Raises:
        BadRow: the recording is absent, broken, too large, or no WAV file.
    """
    if example.audio is None:
        return example
    try:
        own = example.audio
        audio = own if own.startswith("data:") else of_file(folder / Path(own).expanduser())
        seconds(audio)
    except DataError as error:
        raise BadRow(FIELD, error.message) from error
    return replace(example, audio=audio)


def of_file(path: Path) -> str:
    """The recording of a file; see `attachments.of_file`."""
    return attachments.of_file(path, NOUN)


def address_of(content: bytes) -> str:
    """The bytes of a recording's file as a text."""
    return attachments.address_of(content, "audio")


def audio_name(audio: str) -> str:
    """What a recording is told from others by: 16 hexadecimal digits of its bytes."""
    return attachments.name_of(audio)


@lru_cache(maxsize=2**16)
def seconds(audio: str) -> float:
    """How long a recording is.

    Raises:
        DataError: see `samples`.
    """
    rate, sound = _read(audio)
    return len(sound) / rate


def samples(audio: str, rate: int) -> NDArray[np.float32]:
    """A recording as `[samples]` between −1 and 1, of one channel, `rate` of them a second.

    Raises:
        DataError: it is absent or another by now, no WAV file that can be read, or holds nothing.
    """
    own, sound = _read(audio)
    mono = sound.mean(axis=1)
    if own == rate:
        return mono.astype(np.float32)
    from scipy.signal import resample_poly

    common = math.gcd(own, rate)
    return np.asarray(resample_poly(mono, rate // common, own // common), dtype=np.float32)


def _read(audio: str) -> tuple[int, NDArray[np.float64]]:
    """Sampling rate and `[samples, channels]` of a recording, as they stand in its file, between −1 and 1."""
    from scipy.io import wavfile

    content = attachments.bytes_of(audio, NOUN)
    called = attachments.called(audio, NOUN)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Chunks that say nothing of the sound.
            rate, sound = wavfile.read(io.BytesIO(content))
    except _BROKEN as error:
        raise DataError(
            f"{called} is no WAV file that can be read", hint="other formats: convert them, for example with ffmpeg"
        ) from error
    if sound.size == 0:
        raise DataError(f"{called} holds no sound")
    if not RATES[0] <= rate <= RATES[1]:
        raise DataError(f"{called} says that it has {rate:,} samples a second")
    scaled = _scaled(sound)
    if not np.isfinite(scaled).all():
        raise DataError(f"{called} holds samples that are no finite numbers")
    return int(rate), scaled[:, None] if scaled.ndim == 1 else scaled


def _scaled(sound: NDArray[Any]) -> NDArray[np.float64]:
    """Samples between −1 and 1; those of 8 bits are written from 0 to 255."""
    if sound.dtype == np.uint8:
        return (sound.astype(np.float64) - 128) / 128
    if np.issubdtype(sound.dtype, np.integer):
        return sound.astype(np.float64) / -float(np.iinfo(sound.dtype).min)
    return sound.astype(np.float64)
