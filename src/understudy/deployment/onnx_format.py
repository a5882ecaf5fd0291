"""ONNX by `torch.onnx`: causal models with their cache, encoder–decoders as two graphs, models that point as one.

`optimum` knows no `transformers` 5, so the graphs are made here, with the names that it gave them, which other engines
look for. A causal model reads `input_ids`, `attention_mask`, `position_ids` and `past_key_values.N.key/value`, and
gives `logits` and `present.N.key/value`; a first call has a past of length 0. Encoder–decoders are exported without a
cache: each new token reads again what was written, which is quadratic and, for answers of some tens of tokens, cheap.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.exc import Unsupported
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import BaseModelOutput

from understudy.deployment.runners import OnnxCausalRunner, OnnxSeq2SeqRunner, OnnxSpanModel, Runner
from understudy.distribution import install_command
from understudy.errors import ModelError
from understudy.models.kinds import kind_of
from understudy.models.load import first_line
from understudy.tokens.template import Template

MODEL, ENCODER, DECODER = "model.onnx", "encoder_model.onnx", "decoder_model.onnx"
_DYNAMIC: Any = torch.export.Dim.DYNAMIC


def check_onnx() -> None:
    """Whether what writes and runs such files is installed.

    Raises:
        ModelError: it is not.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ModelError(f"ONNX files need the package {error.name}", hint=install_command("export")) from error


def write_onnx(model: Any, template: Template, folder: Path) -> None:
    """Write the graphs of a model in 32 bits.

    Args:
        model: of `transformers`, in float32.
        template: tells what its decoder begins with.
        folder: where the files go.

    Raises:
        ModelError: `torch.onnx` cannot export it.
    """
    writers = {"causal": _write_causal, "seq2seq": _write_seq2seq, "span": _write_span}
    kind = kind_of(model.config).name
    if kind not in writers:
        raise ModelError(f"models of the kind {kind} are not exported to ONNX")
    implementation = model.config._attn_implementation
    try:
        with _quiet(), torch.no_grad():
            writers[kind](model.eval(), template, folder)
    except (torch.onnx.errors.OnnxExporterError, Unsupported) as error:
        raise ModelError(
            f"torch.onnx cannot export {type(model).__name__} ({implementation}): {first_line(error)}",
            hint="export to merged and serve it with an engine that reads safetensors",
        ) from error


def quantise(source: Path, target: Path) -> None:
    """Weights of all matrix products in 8 bits, activations as they come (dynamic), graph by graph.

    Embeddings and a head that is tied to them stay in 32 bits.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    for name in (MODEL, ENCODER, DECODER):
        if (source / name).is_file():
            with _quiet():
                quantize_dynamic(
                    source / name,
                    target / name,
                    weight_type=QuantType.QInt8,
                    per_channel=True,
                    op_types_to_quantize=["MatMul", "Gemm"],
                )


def onnx_runner(folder: Path, template: Template) -> Runner:
    """What writes with the graphs of a folder."""
    if (folder / ENCODER).is_file():
        return OnnxSeq2SeqRunner(_session(folder / ENCODER), _session(folder / DECODER), template.start_ids)
    return OnnxCausalRunner(_session(folder / MODEL))


def onnx_span_model(folder: Path, config: Any) -> OnnxSpanModel:
    """What points with the graph of a folder."""
    return OnnxSpanModel(_session(folder / MODEL), config)


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


# Causal ---------------------------------------------------------------------------------------------------------------


class _WithPast(nn.Module):
    """A causal model whose cache comes and goes as tensors."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, past: Sequence[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, ...]:
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=DynamicCache(list(past)),
            use_cache=True,
        )
        layers = output.past_key_values.layers
        return output.logits, *(side for layer in layers for side in (layer.keys, layer.values))


def _write_causal(model: Any, template: Template, folder: Path) -> None:
    batch, length, before = 2, 3, 4
    past = _past_of(model, batch, before)
    places = [f"{number}.{side}" for number in range(len(past)) for side in ("key", "value")]
    arguments = (
        torch.ones(batch, length, dtype=torch.long),
        torch.ones(batch, before + length, dtype=torch.long),
        torch.arange(before, before + length).expand(batch, length),
        past,
    )
    dynamic = {0: _DYNAMIC, 1: _DYNAMIC}
    cached = {0: _DYNAMIC, 2: _DYNAMIC}
    _export(
        _WithPast(model),
        arguments,
        (dynamic, dynamic, dynamic, tuple((cached, cached) for _ in past)),
        ["input_ids", "attention_mask", "position_ids", *(f"past_key_values.{place}" for place in places)],
        ["logits", *(f"present.{place}" for place in places)],
        folder / MODEL,
    )


def _past_of(model: Any, batch: int, length: int) -> tuple[tuple[Tensor, Tensor], ...]:
    """A cache of the model's own shape.

    Raises:
        ModelError: its layers keep something else than keys and values of all positions.
    """
    ids = torch.ones(batch, length, dtype=torch.long)
    layers = model(input_ids=ids, use_cache=True).past_key_values.layers
    past = tuple((getattr(layer, "keys", None), getattr(layer, "values", None)) for layer in layers)
    if any(side is None or side.dim() != 4 or side.shape[2] != length for pair in past for side in pair):
        raise ModelError(
            f"the cache of {type(model).__name__} is no list of keys and values, so it is not exported to ONNX",
            hint="export to merged and serve it with an engine that reads safetensors",
        )
    return past  # pyright: ignore[reportReturnType]


# Encoder–decoders -----------------------------------------------------------------------------------------------------


class _Encoder(nn.Module):
    """What reads the prompt."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.get_encoder()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask, return_dict=True).last_hidden_state


class _Decoder(nn.Module):
    """What writes the answer, from its beginning each time."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, decoder_input_ids: Tensor, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor
    ) -> Tensor:
        return self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoder_hidden_states),
            attention_mask=encoder_attention_mask,
            decoder_input_ids=decoder_input_ids,
            use_cache=False,
        ).logits


def _write_seq2seq(model: Any, template: Template, folder: Path) -> None:
    ids = torch.ones(2, 5, dtype=torch.long)
    dynamic = {0: _DYNAMIC, 1: _DYNAMIC}
    reads = ["input_ids", "attention_mask"]
    encoder = _Encoder(model)
    _export(encoder, (ids, ids.clone()), (dynamic, dynamic), reads, ["last_hidden_state"], folder / ENCODER)
    _export(
        _Decoder(model),
        (torch.ones(2, 3, dtype=torch.long), encoder(ids, ids), ids),
        (dynamic, dynamic, dynamic),
        ["decoder_input_ids", "encoder_hidden_states", "encoder_attention_mask"],
        ["logits"],
        folder / DECODER,
    )


# Models that point ----------------------------------------------------------------------------------------------------


class _Pointer(nn.Module):
    """A model that points, its two rows of logits as a pair."""

    def __init__(self, model: Any, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        output = self.model(**dict(zip(self.names, inputs, strict=True)), return_dict=True)
        return output.start_logits, output.end_logits


def _write_span(model: Any, template: Template, folder: Path) -> None:
    segments = "token_type_ids" in template.tokenizer.model_input_names
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if segments else [])]
    ids = torch.ones(2, 5, dtype=torch.long)
    inputs = (ids, ids.clone(), *([torch.zeros_like(ids)] if segments else []))
    dynamic = tuple({0: _DYNAMIC, 1: _DYNAMIC} for _ in inputs)
    _export(_Pointer(model, names), inputs, (dynamic,), names, ["start_logits", "end_logits"], folder / MODEL)


# What all have in common ----------------------------------------------------------------------------------------------


def _export(module: nn.Module, arguments: tuple, dynamic: Any, reads: list[str], gives: list[str], path: Path) -> None:
    program = torch.onnx.export(
        module.eval(),
        arguments,
        dynamic_shapes=dynamic,
        dynamo=True,
        input_names=reads,
        output_names=gives,
        verbose=False,
    )
    assert program is not None
    # Beyond the largest size of one such file the weights lie beside it.
    size = sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())
    program.save(path, external_data=size > 1_500_000_000)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says to those who develop it."""
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnxscript", "onnx_ir", "root")}
    root, before = logging.getLogger(), logging.getLogger().level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for name in levels:
                logging.getLogger(name).setLevel(logging.ERROR)
            root.setLevel(logging.ERROR)
            yield
        finally:
            root.setLevel(before)
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
