"""A forward pass that stops before the head: last hidden states, and the head that would turn them into logits.

The logits of a whole batch, `[B, S, V]`, are the largest tensor of distillation and nearly all of it is thrown
away. Here they exist only when somebody asks (`Head.logits`). What lies between hidden state and logits – bias,
softcap, scale, an adapter on the head – is read off the model once (`models.head`), and `probe` checks at load that
nothing was missed. A model that chooses among a row's own candidates has few enough of them to hold their logits.

Of an encoder–decoder the states are the decoder's.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn
from transformers import PreTrainedModel

from understudy.models.features import taking
from understudy.models.head import base_model
from understudy.models.inner_states import WantedFeatures
from understudy.models.kinds import kind_of
from understudy.models.output import Output
from understudy.types import Tokens


def forward(
    model: nn.Module, tokens: Tokens, *, embeddings: bool = False, features: WantedFeatures | None = None
) -> Output:
    """What a model says of the targets of a batch.

    Args:
        model: a `PreTrainedModel` or a `PeftModel` around one.
        tokens: what it eats.
        embeddings: also gather the token embeddings (cross-model attention needs them).
        features: also take these of its inner states.
    """
    kind = kind_of(base_model(model).config)
    if features is None:
        return kind.output(model, tokens, embeddings=embeddings)
    with taking(model, features) as taken:
        output = kind.output(model, tokens, embeddings=embeddings)
    return replace(output, features=taken)


def probe(model: PreTrainedModel, inputs: dict[str, Tensor], *, name: str = "model") -> float:
    """Assert that `head(hidden)` is what the model itself computes, on a short real input.

    Args:
        model: the model, as it will be trained (adapters in place).
        inputs: the arguments of its forward, one row.
        name: how to call the model in the message.

    Returns:
        The largest difference, relative to the largest logit.

    Raises:
        ModelError: they differ: something between hidden state and logits is unknown to `head_of`.
    """
    return kind_of(base_model(model).config).probe(model, inputs, name)
