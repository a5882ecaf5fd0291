"""A model without its layers: config, embeddings and head, all that a method asks of a teacher beside its states."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig

from understudy.errors import RunError
from understudy.files import whole_folder
from understudy.models.head import base_model
from understudy.models.kinds import kind_of

FOLDER, FILE = "head", "head.safetensors"


def write_bare(model: nn.Module, folder: Path) -> None:
    """Write config, embeddings and head of a model into `folder/head`, whole or not at all."""
    base = base_model(model)
    tensors, seen = {}, {}
    for name, tensor in _tensors(base).items():
        if tensor.data_ptr() in seen:
            continue  # A tied head is written once.
        seen[tensor.data_ptr()] = name
        tensors[name] = tensor.detach().cpu().contiguous()
    with whole_folder(folder / FOLDER) as part:
        base.config.save_pretrained(part)
        save_file(tensors, part / FILE)


def load_bare(folder: Path, device: torch.device) -> Any:
    """The model that `write_bare` wrote: its layers have no weights and cannot be run.

    Raises:
        RunError: it is not there.
    """
    path = folder / FOLDER
    if not (path / FILE).is_file():
        raise RunError(
            f"the cache {folder} has no teacher's head", hint="run the same command again: it writes it anew"
        )
    config = AutoConfig.from_pretrained(path)
    with torch.device("meta"):
        model = kind_of(config).auto_class(config, str(path)).from_config(config)
    tensors = load_file(path / FILE, device=str(device))
    for name in _tensors(model):
        module, _, leaf = name.partition(".")
        owner = _owners(model)[module]
        tensor = tensors.get(name, tensors.get(f"input.{leaf}"))
        assert tensor is not None, f"{name} was not written"
        if leaf in owner._parameters:
            owner._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)
        else:
            owner._buffers[leaf] = tensor
    return model.eval()


def _owners(base: Any) -> dict[str, nn.Module]:
    return {"input": base.get_input_embeddings(), "output": base.get_output_embeddings(), "model": base}


def _tensors(base: Any) -> dict[str, Tensor]:
    """Parameters and buffers of embeddings and head, and the bias that BART's kin keep beside it."""
    owners = _owners(base)
    named = {
        f"{name}.{leaf}": tensor
        for name in ("input", "output")
        for leaf, tensor in chain(owners[name].named_parameters(), owners[name].named_buffers())
    }
    bias = base._buffers.get("final_logits_bias")
    return named if bias is None else named | {"model.final_logits_bias": bias}
