"""GGUF files: which names are one, and what is set right of a model and a tokenizer that came out of one.

`transformers` reads them. Weights are unpacked into ordinary ones, for packed ones are neither trained nor saved.
"""

from __future__ import annotations

import json
import re
from typing import Any

import transformers
from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.hub import cached_file
from transformers.utils.import_utils import is_gguf_available

from understudy.distribution import install_command
from understudy.errors import ModelError

_ON_HUB = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+):(?P<file>.+\.gguf)", re.IGNORECASE)
_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)


def is_gguf(name: str) -> bool:
    """Whether a name is that of a GGUF file, here (`folder/file.gguf`) or on the hub (`org/name:file.gguf`)."""
    return name.lower().endswith(".gguf")


def is_on_hub(name: str) -> bool:
    """Whether a name is `org/name:file.gguf`."""
    return _ON_HUB.fullmatch(name) is not None


def hub_file(name: str, revision: str) -> str | None:
    """The path here of a file of the hub, fetched where it is not here yet; None for any other name.

    Raises:
        OSError: it cannot be had.
    """
    match = _ON_HUB.fullmatch(name)
    return cached_file(match["repository"], match["file"], revision=revision) if match else None


def check_gguf(name: str) -> None:
    """Whether such a file can be read at all.

    Raises:
        ModelError: the package `gguf` is missing, or the file is a part of one that was split.
    """
    if not is_gguf_available():
        raise ModelError(f"{name}: GGUF files need the package gguf", hint=install_command("gguf"))
    if _PART.search(name):
        raise ModelError(
            f"{name} is a part of a GGUF file that was split", hint="join the parts (llama-gguf-split --merge)"
        )


def unpacked() -> dict[str, Any]:
    """Argument of `from_pretrained` that gives ordinary weights where they could stay packed."""
    config = getattr(transformers, "GgufConfig", None)
    return {"quantization_config": config(dequantize=True)} if config else {}


def forget_file(model: PreTrainedModel) -> None:
    """Take out of a model's config what is of the file: it is an ordinary model from now on."""
    for name in ("quantization_config", "_model_name_or_path"):
        vars(model.config).pop(name, None)


def drop_unknown_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """Take out of a tokenizer the tokens that it was given beyond the file's vocabulary.

    `transformers` builds the tokenizer of a byte-level vocabulary as GPT-2's, with `<|endoftext|>` whether the file
    has one or not. The model has no embedding for it.
    """
    core: Any = tokenizer.backend_tokenizer  # pyright: ignore[reportAttributeAccessIssue]
    last = max(core.get_vocab(with_added_tokens=False).values())
    described = json.loads(core.to_str())
    used = set(tokenizer.all_special_tokens)
    kept = [token for token in described["added_tokens"] if token["id"] <= last or token["content"] in used]
    if len(kept) < len(described["added_tokens"]):
        described["added_tokens"] = kept
        tokenizer._tokenizer = Tokenizer.from_str(json.dumps(described))  # pyright: ignore[reportAttributeAccessIssue]
