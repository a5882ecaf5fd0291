"""Vision–language models of a few thousand parameters, of two architectures, and rows with pictures of one colour."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

import PIL.Image
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForImageTextToText,
    Idefics3Config,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
)

from understudy.data.pictures import address_of
from understudy.models.kinds import KINDS
from understudy.recipe import DataConfig, ModelConfig
from understudy.tokens.pictures import PictureTokenizer
from understudy.types import Example

SIZE, PATCH = 8, 4
COLOURS = {"red": (255, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 255), "white": (250, 250, 250)}
IMAGE = "<image>"
SPECIALS = ["<|end|>", "<|pad|>", "<|user|>", "<|assistant|>", IMAGE, "<fake_token_around_image>", "<global-img>"]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for part in m['content'] %}{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{% if m['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
DATA = DataConfig(max_length=64, max_answer_tokens=16)
ARCHITECTURES = ("llava", "idefics3")
QUESTIONS = ("Which colour is it?", "Name the colour, please.")


def content(colour: str, size: int = SIZE, *, shade: int = 0) -> bytes:
    """A picture of one colour as a file; another shade is another picture."""
    buffer = io.BytesIO()
    shaded = tuple(max(0, value - shade) for value in COLOURS[colour])
    PIL.Image.new("RGB", (size, size), shaded).save(buffer, format="PNG")
    return buffer.getvalue()


def examples(num: int = 8) -> list[Example]:
    """Questions on the colour of one picture, of two, and one question without any."""
    rows = []
    names = list(COLOURS)
    for n in range(num):
        colour, other = names[n % 4], names[(n + 1) % 4]
        images = (address_of(content(colour)),) if n % 3 else (address_of(content(colour)), address_of(content(other)))
        answer = colour if n % 3 else f"{colour} and {other}"
        rows.append(Example(f"picture-{n}", QUESTIONS[n % 2], (answer,), images=images))
    rows[-1] = Example("no-picture", "Which colour is snow?", ("white",))
    return rows


def tokenizer() -> Any:
    """A byte-level BPE that has learned the rows."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator([*QUESTIONS, *COLOURS, "Which colour is snow?"], trainer)
    own = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|end|>", pad_token="<|pad|>", extra_special_tokens=SPECIALS[2:]
    )
    own.chat_template = CHAT_TEMPLATE
    return own


def processor(architecture: str, *, size: int = SIZE) -> Any:
    """Makes four tokens of a picture, in Idefics' case with three around them."""
    grey: dict[str, Any] = {"image_mean": [0.4] * 3, "image_std": [0.5] * 3}
    if architecture == "llava":
        images: Any = SiglipImageProcessorPil(size={"height": size, "width": size}, **grey)
        return LlavaProcessor(
            image_processor=images,
            tokenizer=tokenizer(),
            patch_size=PATCH,
            vision_feature_select_strategy="full",
            image_token=IMAGE,
        )
    edge = {"longest_edge": size}
    images = Idefics3ImageProcessorPil(size=edge, max_image_size=edge, do_image_splitting=False, **grey)
    return Idefics3Processor(image_processor=images, tokenizer=tokenizer(), image_seq_len=4)


def model(architecture: str, *, width: int = 16, seed: int = 0) -> Any:
    """An eye and a reader of one block each."""
    own = tokenizer()
    blocks = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 1, "num_attention_heads": 2}
    eye: dict[str, Any] = {**blocks, "image_size": SIZE, "patch_size": PATCH}
    reader: dict[str, Any] = {**blocks, "num_key_value_heads": 2, "vocab_size": len(own), "initializer_range": 0.2}
    reader["eos_token_id"] = 0
    image_id = own.convert_tokens_to_ids(IMAGE)
    if architecture == "llava":
        config: Any = LlavaConfig(
            vision_config=SiglipVisionConfig(**eye, vision_use_head=False),
            text_config=LlamaConfig(**reader, bos_token_id=None, pad_token_id=1),
            image_token_index=image_id,
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
        )
    else:
        text = {"model_type": "llama", **reader, "bos_token_id": None, "pad_token_id": 1}
        config = Idefics3Config(vision_config=eye, text_config=text, scale_factor=1, image_token_id=image_id)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = AutoModelForImageTextToText.from_config(config).eval()
    # What random eyes see differs little from picture to picture; what tests compare should differ.
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "projector" in name or "connector" in name or "patch_embedding" in name:
                weight.mul_(6)
    return made


def blind(*, width: int = 16, seed: int = 0) -> Any:
    """A Llama of the same vocabulary that sees nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(tokenizer()),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            initializer_range=0.2,
            bos_token_id=None,
            eos_token_id=0,
        )
        return LlamaForCausalLM(config).eval()


@functools.cache
def folder_of(architecture: str, root: Path, width: int = 16, seed: int = 0) -> Path:
    """A model with all that lies beside it, saved."""
    folder = root / f"{architecture}-{width}-{seed}"
    if architecture == "blind":
        blind(width=width, seed=seed).save_pretrained(folder)
        tokenizer().save_pretrained(folder)
    else:
        model(architecture, width=width, seed=seed).save_pretrained(folder)
        processor(architecture).save_pretrained(folder)
    return folder


def reader(folder: Path, *, images: bool = True) -> PictureTokenizer:
    """What turns examples into what the model of a folder reads."""
    config = ModelConfig(model=str(folder), images=images)
    kind = KINDS["image_text"]
    template = kind.template(tokenizer(), config, model_config(folder), str(folder))
    own = kind.example_tokenizer(template, DATA)
    assert isinstance(own, PictureTokenizer)
    return own


def model_config(folder: Path) -> Any:
    """The config of a folder."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder)
