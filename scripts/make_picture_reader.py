"""Write `embedded:picture-reader`: the config of a small vision–language model, its processor and its tokenizer.

It is a LLaVA: an eye of SigLIP's kind sees a picture in squares, a projector makes a token of each, and a Llama reads
them with the question. It has no weights: recipes take it with `init: fresh`, smaller by `config`.

python scripts/make_picture_reader.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlavaConfig,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
)

from understudy.data.embedded.constellations import BITS, LEAST_SNR, SIZE, TURNS, WORDINGS
from understudy.files import fingerprint, write_json

FOLDER = Path(__file__).parents[1] / "src" / "understudy" / "models" / "embedded" / "picture-reader"
IMAGE = "<image>"
SPECIALS = ["<|begin|>", "<|end|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", IMAGE]
VOCABULARY = 400
PATCH = 12
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}" + IMAGE + "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def texts() -> list[str]:
    """Questions and answers of the constellations; nothing of their pictures."""
    ratios = sorted({least + 5 * step for least in LEAST_SNR.values() for step in range(4)})
    answers = [*BITS, *(f"{ratio} dB" for ratio in ratios), *TURNS, "none", "few", "many"]
    return [*(text for wordings in WORDINGS.values() for text in wordings), *answers]


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of these texts: it writes any other text too, byte by byte."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIALS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(texts(), trainer)
    own = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        extra_special_tokens=SPECIALS[3:],
        model_max_length=512,
    )
    own.chat_template = CHAT_TEMPLATE
    return own


def processor(own: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Pictures as they are drawn, black being 0 and white 5; a token for each square of `PATCH` points."""
    images = SiglipImageProcessorPil(
        size={"height": SIZE, "width": SIZE}, do_convert_rgb=True, image_mean=[0.0] * 3, image_std=[0.2] * 3
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=own,
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        image_token=IMAGE,
        chat_template=CHAT_TEMPLATE,
    )


def config(own: PreTrainedTokenizerFast) -> LlavaConfig:
    """An eye of three blocks and a reader of three, both of 128 channels."""
    eye = SiglipVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=SIZE,
        patch_size=PATCH,
        vision_use_head=False,
    )
    reader = LlamaConfig(
        vocab_size=len(own),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        bos_token_id=own.bos_token_id,
        eos_token_id=own.eos_token_id,
        pad_token_id=own.pad_token_id,
    )
    return LlavaConfig(
        vision_config=eye,
        text_config=reader,
        image_token_index=own.convert_tokens_to_ids(IMAGE),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_seq_length=(SIZE // PATCH) ** 2,
        architectures=["LlavaForConditionalGeneration"],
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
