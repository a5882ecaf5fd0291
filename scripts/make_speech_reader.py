"""Write `embedded:speech-reader`: the config of a small Whisper, its feature extractor and its tokenizer.

It hears four seconds at once in 200 frames of 40 bands, where published Whispers hear thirty in 3000 of 80, so that it
is trained on a processor in minutes. It has no weights: recipes take it with `init: fresh`, smaller by `config`.

python scripts/make_speech_reader.py [FOLDER]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperProcessor, WhisperTokenizer

from understudy.data.embedded.spoken import sentences, vocabulary
from understudy.files import fingerprint, write_json

FOLDER = Path(__file__).parents[1] / "src" / "understudy" / "models" / "embedded" / "speech-reader"
BANDS, HOP, SECONDS, RATE = 40, 320, 4, 16_000
SPECIALS = [
    *("<|endoftext|>", "<|startoftranscript|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>"),
    *("<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"),
]
"""Those of a Whisper of English alone, whose tokenizer puts the second and the last before a text."""


def texts() -> list[str]:
    """Sentences that embedded:spoken has under seed 0, and each of its words behind a blank."""
    return [*sentences(1000, 0), *(f" {word}" for word in vocabulary())]


def tokenizer() -> WhisperTokenizer:
    """A byte-level BPE of these texts: it writes any other text too, byte by byte."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=480, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator(texts(), trainer)
    made = json.loads(core.to_str())["model"]
    vocab = dict(made["vocab"])
    for token in SPECIALS:
        vocab[token] = len(vocab)
    return WhisperTokenizer(
        vocab=vocab,
        merges=[tuple(pair) for pair in made["merges"]],
        pad_token=SPECIALS[0],
        extra_special_tokens=SPECIALS[1:],
        model_max_length=64,
    )


def processor(own: WhisperTokenizer) -> WhisperProcessor:
    """Recordings as 40 bands, fifty frames a second."""
    extractor = WhisperFeatureExtractor(
        feature_size=BANDS, hop_length=HOP, chunk_length=SECONDS, sampling_rate=RATE, n_fft=640
    )
    return WhisperProcessor(extractor, own)


def config(own: WhisperTokenizer) -> WhisperConfig:
    """Three blocks that hear and two that write, of 128 channels."""
    ids: Any = own.convert_tokens_to_ids(SPECIALS)
    end, start = ids[:2]
    return WhisperConfig(
        vocab_size=len(own),
        num_mel_bins=BANDS,
        max_source_positions=SECONDS * RATE // HOP // 2,
        max_target_positions=64,
        d_model=128,
        encoder_layers=3,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=512,
        decoder_ffn_dim=512,
        dropout=0.1,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        architectures=["WhisperForConditionalGeneration"],
    )


def main(folder: Path) -> None:
    """Write it."""
    own = tokenizer()
    folder.mkdir(parents=True, exist_ok=True)
    processor(own).save_pretrained(folder)
    config(own).save_pretrained(folder)
    write_json(folder / "provenance.json", {"weights": None, "tokenizer_texts": fingerprint(texts())})


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
