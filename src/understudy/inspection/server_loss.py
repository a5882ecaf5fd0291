"""The end of the conformance test: the student's loss through the server against that with the model here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import Tensor

from understudy import build
from understudy.completers.capabilities import Open
from understudy.completers.openai_completer import ApiCompleter
from understudy.inspection.server_report import Check
from understudy.models.load import load_model, pick_device
from understudy.recipe import ModelConfig, Recipe
from understudy.teachers.local import LocalTeacher
from understudy.teachers.remote import RemoteTeacher
from understudy.teachers.signals import TopK
from understudy.tokens.collate import encode_rows, move
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.training.module import DistillationModule
from understudy.training.session import collator, trainable
from understudy.types import Batch, Example, Gives

ROWS = 8
CLOSE = 1e-3
"""Nats: a model of the same weights in the same precision."""
FAR_LOSS = 0.05
"""A share of the loss beyond which it is another model, or another precision than one would learn from knowingly."""
FAR_TARGET = 0.02
"""Nats of KL between the two targets beyond which the same holds."""


def compare_losses(
    recipe: Recipe,
    interface: Open,
    student: ExampleTokenizer,
    teacher: ExampleTokenizer,
    examples: Sequence[Example],
    against: str,
) -> Check:
    """Compute the first micro-batch's loss both ways, on the same likeliest tokens of the same rows.

    Args:
        recipe: names the server, the student and the method.
        interface: by which the server scores prompts.
        student: the student's tokenizer.
        teacher: the teacher's.
        examples: gold rows.
        against: the weights that the server is said to serve: a folder, a hub id or a GGUF file.

    Raises:
        TeacherError: the server says nothing of a row.
        ModelError: the weights cannot be loaded.
    """
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    config, method, device = recipe.local_teacher, recipe.distil, pick_device(recipe.device)
    if method.reads not in Gives.TOP_K:
        return Check("loss", "not measured", f"distil.method {method.method} reads {method.reads.words}")
    between = build.cross_tokenizer(method, student.template, teacher.template)
    rows = encode_rows(examples[:ROWS], student, teacher, between)
    batch: Batch = move(collator(student.template, teacher, method)(rows), device)
    weights: Any = load_model(ModelConfig(model=against), device)
    asked = ApiCompleter(config.endpoint, interface=interface)
    served = RemoteTeacher(asked, config.k, tail=config.tail, temperature=method.temperature).signal(batch)
    whole = _log_probabilities(weights, batch)
    here = _likeliest(whole, served, config.tail)
    own, said = whole.gather(1, served.ids), _untouched(served, whole)
    model, _ = trainable(recipe.student, method, device, None, recipe.seed)
    # Gold would hide what the teacher says.
    alone = method.model_copy(update={"gold_weight": 0.0})
    module = DistillationModule(model, build.objective(alone, model, weights, between).to(device))
    return _verdict(_loss(module, batch, served), _loss(module, batch, here), own, said)


def _verdict(served: float, here: float, own: Tensor, said: Tensor) -> Check:
    """By the losses, and by how far the targets themselves lie apart: of a poor student's loss both may be large."""
    difference, divergence = abs(served - here), _divergence(own, said)
    finding = (
        f"{served:.5f} through the server, {here:.5f} in this process ({difference:.1e} apart); KL {divergence:.1e} "
        f"nats between the targets, {own.numel():,} log-probabilities within {float((own - said).abs().max()):.1e} nats"
    )
    if difference <= CLOSE and divergence <= CLOSE:
        return Check("loss", "good", finding)
    far = difference > FAR_LOSS * max(abs(here), CLOSE) or divergence > FAR_TARGET
    return Check("loss", "bad" if far else "note", finding)


def _divergence(own: Tensor, said: Tensor) -> float:
    """KL of what the model here says from what the server says, over the named tokens and the bucket of all others."""
    p, q = (_with_rest(logp.double().exp()) for logp in (own, said))
    return float((p * (p / q).clamp_min(1e-30).log()).sum(-1).mean())


def _with_rest(probabilities: Tensor) -> Tensor:
    rest = (1 - probabilities.sum(-1, keepdim=True)).clamp_min(1e-9)
    return torch.cat([probabilities.clamp_min(1e-30), rest], -1)


def _log_probabilities(weights: Any, batch: Batch) -> Tensor:
    """`[N, V]` of the model in this process, at temperature 1."""
    states: Any = LocalTeacher(weights).signal(batch).states
    return states.head.logits(states.hidden).float().log_softmax(-1)


def _likeliest(whole: Tensor, served: TopK, tail: str) -> TopK:
    """The same number of tokens of the model in this process, as the teacher's section has them."""
    top = whole.topk(served.ids.shape[1])
    if tail == "bucket":
        return TopK(top.indices, top.values, served.target_ids, served.lengths)
    logp = (top.values / served.temperature).log_softmax(-1)
    nothing = torch.full_like(logp[:, 0], -torch.inf)
    return TopK(top.indices, logp, served.target_ids, served.lengths, nothing, served.temperature)


def _untouched(served: TopK, whole: Tensor) -> Tensor:
    """What the server said; of renormalised tokens up to what scaled them, which is taken from the model here."""
    if served.tail is None:
        return served.logp
    own = whole.gather(1, served.ids)
    scaled = served.logp * served.temperature
    return scaled + (own.logsumexp(-1, keepdim=True) - scaled.logsumexp(-1, keepdim=True))


@torch.no_grad()
def _loss(module: DistillationModule, batch: Batch, signal: TopK) -> float:
    """A target token's."""
    return float(module(batch, signal).total) / len(batch["student"]["target_ids"])
