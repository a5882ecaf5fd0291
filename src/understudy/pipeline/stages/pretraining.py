"""The stages before fine-tuning: continued pretraining of a model on raw text of the domain."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from understudy import build
from understudy.data.documents import fingerprint_documents, read_documents
from understudy.errors import DataError, ModelError
from understudy.models.architecture import kind_at
from understudy.models.kinds import ModelKind
from understudy.models.load import load_template, resolve
from understudy.pipeline.stages.context import Context, untrained_weights
from understudy.pipeline.stages.jobs import model_named, session_of
from understudy.recipe import ModelConfig
from understudy.records import PretrainingNotes, Source
from understudy.tokens.collate import Collator, EncodedRow
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.encoders import EncoderTemplate
from understudy.tokens.holes import with_holes
from understudy.tokens.template import Template
from understudy.training.module import DistillationModule
from understudy.training.session import fit, save_student, trainable


def pretrain(context: Context, name: str) -> PretrainingNotes:
    """Let a model read raw text before it is fine-tuned or distilled."""
    recipe = context.recipe
    config = model_named(recipe, name)
    pretrain = config.pretrain
    assert pretrain is not None
    context.progress(0, 1, "load")
    documents = read_documents(pretrain.source, pretrain.text_field)
    template = load_template(config)
    kind = kind_at(config, resolve(config.model))
    if not (kind.reads_plain_text or kind.reads_with_holes):
        raise ModelError(
            f"{config.model} is an {kind.title}, and continued pretraining learns the next token of plain text",
            hint=f"leave out {'teacher' if name == 'teacher' else 'student'}.pretrain, or take a causal model",
        )
    length = pretrain.max_length or recipe.data.max_length
    if kind.reads_with_holes:
        config = _as_encoder(config, kind, name)
        assert isinstance(template, EncoderTemplate)
        rows = with_holes(template, documents, length, config.seed_or(recipe.seed))
    else:
        rows = packed(template, documents, length)
    if not rows:
        raise DataError(f"{pretrain.source}: the documents hold no text", hint="check pretrain.text_field")
    pad: Any = template.tokenizer.pad_token_id
    weights = untrained_weights(context.run, config, name)
    model, autocast = trainable(config, pretrain, context.device, weights, recipe.seed)
    module = DistillationModule(model, build.gold_objective().to(context.device))
    # No question is answered here, so nothing is evaluated on the way: the last weights are the ones that stay.
    session = session_of(context, config, weights, pretrain)
    figures, saves = fit(session, module, rows, Collator(pad), autocast=autocast)
    if saves:
        save_student(session, module, template)
    source = Source(pretrain.source, fingerprint_documents(pretrain.source))
    return PretrainingNotes(**vars(figures), rows=len(rows), documents=len(documents), source=source)


def _as_encoder(config: ModelConfig, kind: ModelKind, name: str) -> ModelConfig:
    """The section of an encoder as it is opened to fill holes.

    Raises:
        ModelError: its kind is known by its own head alone, which the pretrained weights will not have.
    """
    if config.kind is None:
        side = "teacher" if name == "teacher" else "student"
        raise ModelError(
            f"{side}.pretrain gives an encoder the head of a language model, and which head comes then is not said",
            hint=f"set {side}.kind: {kind.name}",
        )
    return config.model_copy(update={"kind": "masked"})


def packed(template: Template, documents: Iterable[str], length: int) -> list[EncodedRow]:
    """Documents one behind the other, cut into rows of `length` tokens; only the last row may be shorter.

    Each document has the start token before it, where there is one, and the end token behind it. A row begins with the
    last token of the row before, so that every token but the very first is learned exactly once. Within a row,
    attention reaches across the border of two documents. A document that holds the end token's name does not end there.
    """
    tokenizer: Any = template.tokenizer
    start = [] if tokenizer.bos_token_id in (None, tokenizer.eos_token_id) else [tokenizer.bos_token_id]
    ids: list[int] = []
    for text in documents:
        ids += [*start, *template.text_ids(text), tokenizer.eos_token_id]
    pieces = (ids[begin : begin + length] for begin in range(0, len(ids) - 1, length - 1))
    return [
        EncodedRow(f"text-{number}", TokenizedExample(piece[:1], piece[1:]), None, True)
        for number, piece in enumerate(pieces)
    ]
