"""Whispers of a few thousand parameters, and recordings in which each word is a tone of its own."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.io import wavfile
from transformers import AutoConfig, AutoProcessor, WhisperForConditionalGeneration

from understudy.data.recordings import address_of
from understudy.models.kinds import KINDS
from understudy.models.load import resolve
from understudy.recipe import DataConfig, ModelConfig
from understudy.tokens.recordings import SpeechTokenizer
from understudy.types import Example

RATE = 16_000
TONES = {"raise": 400, "lower": 900, "gain": 1600, "noise": 2600}
"""Words of embedded:spoken, each with its frequency in Hz."""
DATA = DataConfig(max_length=64, max_answer_tokens=8)
SMALL = {
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "dropout": 0.0,
    "init_std": 0.2,
}


def sound(words: str, *, rate: int = RATE, loud: float = 0.5) -> np.ndarray:
    """`[samples]` the tones of some words, a quarter of a second each."""
    seconds = np.arange(rate // 4) / rate
    return np.concatenate([loud * np.sin(2 * np.pi * TONES[word] * seconds) for word in words.split()])


def wav(values: np.ndarray, rate: int = RATE, *, kind: Any = np.int16) -> bytes:
    """A WAV file of samples between −1 and 1."""
    buffer = io.BytesIO()
    if kind == np.uint8:
        values = np.round(values * 127 + 128)
    elif np.issubdtype(kind, np.integer):
        values = np.round(values * np.iinfo(kind).max)
    wavfile.write(buffer, rate, values.astype(kind))
    return buffer.getvalue()


def content(words: str, *, loud: float = 0.5) -> bytes:
    """A recording of some words as a file."""
    return wav(sound(words, loud=loud))


def words_of(number: int) -> str:
    """Two words for each number from 0 to 15."""
    names = list(TONES)
    return f"{names[number % 4]} {names[number // 4 % 4]}"


def examples(num: int = 8) -> list[Example]:
    """Recordings of two words."""
    return [Example(f"spoken-{n}", "", (words_of(n),), audio=address_of(content(words_of(n)))) for n in range(num)]


def model(*, width: int = 16, seed: int = 0) -> Any:
    """A block that hears and one that writes."""
    config: Any = AutoConfig.from_pretrained(resolve("embedded:speech-reader"))
    for name, value in SMALL.items():
        setattr(config, name, value)
    config.d_model, config.encoder_ffn_dim, config.decoder_ffn_dim = width, 2 * width, 2 * width
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return WhisperForConditionalGeneration(config).eval()


@functools.cache
def folder_of(root: Path, width: int = 16, seed: int = 0) -> Path:
    """A model with all that lies beside it, saved."""
    folder = root / f"whisper-{width}-{seed}"
    model(width=width, seed=seed).save_pretrained(folder)
    AutoProcessor.from_pretrained(resolve("embedded:speech-reader")).save_pretrained(folder)
    return folder


def reader(folder: Path) -> SpeechTokenizer:
    """What turns examples into what the model of a folder hears and writes."""
    from transformers import AutoTokenizer

    kind = KINDS["speech"]
    architecture = AutoConfig.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = "right"
    template = kind.template(tokenizer, ModelConfig(model=str(folder)), architecture, str(folder))
    own = kind.example_tokenizer(template, DATA)
    assert isinstance(own, SpeechTokenizer)
    return own
