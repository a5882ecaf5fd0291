"""Text from a model: answers in batches, greedy or sampled, and the likelihood of given choices.

Causal models and encoder–decoders are asked alike. The beginning of an answer may be given (a rationale after which the
answer is wanted): to a causal model it is a longer prompt, to an encoder–decoder what its decoder has written so far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from understudy.errors import ModelError
from understudy.models.decoding import Generated, decode
from understudy.models.head import base_model
from understudy.models.kinds import TextKind, kind_of
from understudy.models.sampling import Sampling
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.template import Template
from understudy.types import Example


def generate(
    model: nn.Module,
    template: Template,
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int,
    batch_size: int = 64,
    samplings: Sequence[Sampling] | None = None,
    prefixes: Sequence[list[int]] | None = None,
    grammars: Sequence[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Generated]:
    """Answer prompts; arguments and what is returned are those of `models.decoding.decode`.

    Raises:
        ModelError: the model does not write.
    """
    return decode(
        writing_kind(model),
        model,
        template,
        prompts,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        samplings=samplings,
        prefixes=prefixes,
        grammars=grammars,
        progress=progress,
    )


def writing_kind(model: nn.Module) -> TextKind:
    """The kind of a model that has to write.

    Raises:
        ModelError: it points at its answers.
    """
    kind = kind_of(base_model(model).config)
    if not isinstance(kind, TextKind):
        raise ModelError(f"a {kind.title} writes no text", hint="take a causal model or an encoder–decoder here")
    return kind


def answer_examples(
    model: nn.Module,
    tokenizer: ExampleTokenizer,
    examples: Sequence[Example],
    *,
    batch_size: int,
    grammars: Sequence[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Generated]:
    """Answer examples as the kind of the model does: by writing, or by pointing.

    Args:
        model: any model.
        tokenizer: of the same kind.
        examples: what is asked.
        batch_size: rows at once.
        grammars: a Lark grammar an example, whose texts alone can be written.
        progress: called with the number of rows just answered.

    Raises:
        ModelError: grammars for a model that points, or for a tokenizer that does not tell its bytes.
    """
    kind = kind_of(base_model(model).config)
    if grammars is None:
        return kind.answers(model, tokenizer, examples, batch_size=batch_size, progress=progress)
    prompts = [tokenizer.prompt_ids(example) for example in examples]
    longest = tokenizer.data.max_answer_tokens
    return generate(
        model,
        tokenizer.template,
        prompts,
        max_new_tokens=longest,
        batch_size=batch_size,
        grammars=grammars,
        progress=progress,
    )


Choice = TokenizedExample | tuple[list[int], list[int]]
"""A prompt with one choice as its answer; a pair of ids stands for one of a causal model of which nothing is given."""


@torch.no_grad()
def choice_scores(
    model: nn.Module, rows: Sequence[Sequence[Choice]], *, pad_id: int, batch_size: int = 64
) -> list[list[float]]:
    """Log-likelihood of each choice, per token of the choice.

    Args:
        model: of any kind.
        rows: for each question, prompt and answer of each choice, as `Template.encode` gives them. What is forced
            of an answer (`num_forced`) is read and not counted.
        pad_id: what pads.
        batch_size: sequences at once.

    Returns:
        For each question, one score a choice: mean natural-log probability of the choice's tokens (stop included).
    """
    flat = [
        choice if isinstance(choice, TokenizedExample) else TokenizedExample(*choice) for row in rows for choice in row
    ]
    assert all(choice.learned_ids for choice in flat), "a choice has no token to score"
    base = base_model(model)
    kind = kind_of(base.config)
    order = sorted(range(len(flat)), key=lambda i: -len(kind.read_ids(flat[i])))
    scores = [0.0] * len(flat)
    training = model.training
    model.eval()
    try:
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = [flat[i] for i in chosen]
            batch_scores = kind.choice_scores(model, base, batch, pad_id)
            for index, value in zip(chosen, batch_scores, strict=True):
                scores[index] = value
    finally:
        model.train(training)
    remaining = iter(scores)
    return [[next(remaining) for _ in row] for row in rows]
