"""From a recipe's model section to a live model and a tokenizer that is ready to use."""

from __future__ import annotations

import copy
import functools
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from understudy.distribution import install_command
from understudy.errors import ConfigError, ModelError
from understudy.files import fingerprint_file
from understudy.models.architecture import architecture_of, kind_at
from understudy.models.cut import choose, cut_model, cut_shape
from understudy.models.gguf import drop_unknown_tokens, forget_file, is_gguf, is_on_hub, unpacked
from understudy.models.kinds import ModelKind, kind_of
from understudy.models.sources import pretrained
from understudy.recipe import DataConfig, ModelConfig, StudentConfig, TeacherConfig
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.image_labels import blank_tokenizer
from understudy.tokens.template import Template
from understudy.tokens.unseen import sees

EMBEDDED = (
    *("telecom-teacher", "telecom-student", "telecom-student-other", "telecom-encoder"),
    *("bundles-teacher", "bundles-student", "picture-reader", "digit-reader", "speech-reader"),
)


@dataclass
class Loaded:
    """A model with the template that speaks to it."""

    model: PreTrainedModel
    template: Template


def resolve(name: str) -> str:
    """Turn `embedded:NAME` into the folder of the shipped weights; leave hub ids, folders and GGUF files alone.

    Raises:
        ModelError: no such embedded model, or a path that looks local and does not exist.
    """
    if name.startswith("embedded:"):
        short = name.removeprefix("embedded:")
        if short not in EMBEDDED:
            raise ModelError(
                f"no embedded model {name!r}", hint="there are " + ", ".join(f"embedded:{n}" for n in EMBEDDED)
            )
        return str(resources.files("understudy.models") / "embedded" / short)
    path = Path(name).expanduser()
    if is_gguf(name) and not path.is_dir():
        if path.is_file() or is_on_hub(name):
            return str(path) if path.is_file() else name
        raise ModelError(
            f"no such GGUF file: {name}", hint="give the path of a file, or org/name:file.gguf for one on the hub"
        )
    # A hub id has one slash too, but nobody keeps a local folder named like its organisation.
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1 or ("/" in name and path.parent.is_dir())
    if looks_local and not path.is_dir():
        raise ModelError(
            f"no such model folder: {name}",
            hint="give a folder that holds config.json, a GGUF file, or a hub id like org/name",
        )
    return str(path) if path.is_dir() else name


def pick_device(name: str) -> torch.device:
    """The device a recipe names; `auto` takes a GPU where there is one.

    Raises:
        ModelError: the named device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            "device: cuda was asked for, but PyTorch sees no GPU",
            hint="use device=auto, or install a CUDA build of torch",
        )
    # Each process of a launcher has a GPU of its own; without a launcher there is no LOCAL_RANK.
    return (
        torch.device(name, int(os.environ["LOCAL_RANK"]))
        if name == "cuda" and "LOCAL_RANK" in os.environ
        else torch.device(name)
    )


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The floating-point type a recipe names; `auto` is bfloat16 on a GPU that has it, else float32."""
    if name == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    return getattr(torch, name)


def _tokenizer(config: ModelConfig, weights: str | None) -> PreTrainedTokenizerBase:
    source = resolve(config.tokenizer or weights or config.model)
    try:
        with pretrained(config, source) as (name, arguments):
            tokenizer = AutoTokenizer.from_pretrained(name, **arguments)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"cannot load the tokenizer of {source}: {first_line(error)}", hint=_LOAD_HINT) from error
    if is_gguf(source):
        drop_unknown_tokens(tokenizer)
        tokenizer.name_or_path = source
    if config.chat_template:
        tokenizer.chat_template = config.chat_template
    tokenizer.padding_side = "right"
    # As `Template.decode` has it; whoever opens a saved student reads what its report shows.
    tokenizer.clean_up_tokenization_spaces = False
    return tokenizer


def load_template(config: ModelConfig, *, weights: str | None = None) -> Template:
    """The tokenizer of a model, with the recipe's own chat template where it gives one, and a pad token it has.

    A process reads each tokenizer once, not in every stage: one of 262,144 tokens takes seconds. Folders that hold the
    same files hold the same tokenizer, so the students that several arms have trained share one. The tokenizer is
    shared, the template's notes are not.
    """
    folders = [Path(resolve(name)) for name in (config.tokenizer, weights, config.described_by) if name]
    # What a folder holds may be written anew; what a hub holds under a revision stays.
    key = (config.model_dump_json(include=set(ModelConfig.model_fields)), *(_contents(folder) for folder in folders))
    if key not in _TEMPLATES:
        if len(_TEMPLATES) >= _MAX_TEMPLATES:
            del _TEMPLATES[next(iter(_TEMPLATES))]
        _TEMPLATES[key] = _read_template(config, weights)
    prototype = _TEMPLATES[key]
    template = copy.copy(prototype)
    template.notes = list(prototype.notes)
    return template


_MAX_TEMPLATES = 8
_TEMPLATES: dict[tuple, Template] = {}
"""What was read last, by the recipe's section and what lies in its folders."""


def _contents(folder: Path) -> tuple:
    """Name and content of all that a folder may say of a tokenizer or an architecture; nothing of a hub id.

    A GGUF file holds the weights too, so its time and size stand for its content.
    """
    if folder.is_file():
        return ((str(folder), folder.stat().st_mtime_ns, folder.stat().st_size),)
    files = sorted(path for path in folder.glob("*") if path.suffix in (".json", ".jinja", ".model", ".txt", ".py"))
    return tuple((path.name, _digest(path, path.stat().st_mtime_ns, path.stat().st_size)) for path in files)


@functools.lru_cache(maxsize=256)
def _digest(path: Path, changed: int, size: int) -> str:
    return fingerprint_file(path)


def _read_template(config: ModelConfig, weights: str | None) -> Template:
    place = weights or resolve(config.described_by)
    tokenizer = _tokenizer(config, weights) if kind_at(config, place).reads_text else blank_tokenizer()
    try:
        architecture = architecture_of(config, place)
    except (OSError, ValueError, KeyError):
        return Template(tokenizer)  # What is missing is named when the weights are loaded.
    template = kind_at(config, place).template(tokenizer, config, architecture, place)
    columns = _columns(config, architecture)
    if columns is not None and not config.resize_embeddings:
        template.pad_within(columns)
    return template


def load_example_tokenizer(config: ModelConfig, data: DataConfig, *, weights: str | None = None) -> ExampleTokenizer:
    """What turns examples into the tokens of a model, by its kind.

    Args:
        config: the recipe's section.
        data: lengths and what to do with a context that is too long.
        weights: a folder that takes the place of `config.model`.

    Raises:
        ConfigError: a hint, or a context that is not to be read, for a model that reads no prompt.
    """
    kind = kind_at(config, weights or resolve(config.described_by))
    tokenizer = kind.example_tokenizer(load_template(config, weights=weights), data)
    seen = sees(config)
    if seen is not None and not kind.reads_prompts:
        what = "teacher.hint" if isinstance(config, TeacherConfig) else "student.context: false"
        raise ConfigError(f"{what} is for models that read a prompt, and this is a {kind.title}", hint="leave it out")
    return tokenizer if seen is None else replace(tokenizer, sees=seen)


def head_columns(config: ModelConfig) -> int | None:
    """Columns of a model's output head, as many as its embeddings; None where no config can be read.

    What counts is its config and what the recipe makes of it (`config`, `resize_embeddings`); no weight is read.
    """
    source = resolve(config.described_by)
    try:
        architecture = architecture_of(config, source)
    except (OSError, ValueError, KeyError):
        return None  # What is missing is named when the weights are loaded.
    columns = _columns(config, architecture)
    if columns is None or not config.resize_embeddings:
        return columns
    return max(columns, _vocabulary_size(load_template(config).tokenizer))


def _columns(config: ModelConfig, architecture: PreTrainedConfig) -> int | None:
    return config.config.get("vocab_size", getattr(architecture.get_text_config(), "vocab_size", None))


def _vocabulary_size(tokenizer: PreTrainedTokenizerBase) -> int:
    return max(tokenizer.get_vocab().values()) + 1


def load_model(
    config: ModelConfig, device: torch.device, *, weights: str | None = None, seed: int = 0, quantize: bool = False
) -> PreTrainedModel:
    """The model a recipe names, on its device.

    Args:
        config: the recipe's section.
        device: where it goes.
        weights: a folder that takes the place of `config.model` (an earlier stage's output).
        seed: for `init: fresh`.
        quantize: hold the weights in four bits (QLoRA).

    Raises:
        ModelError: the weights cannot be loaded, or are no finite numbers.
    """
    source = weights or resolve(config.model)
    dtype = pick_dtype(config.dtype, device)
    try:
        if isinstance(config, StudentConfig) and config.from_teacher and weights is None:
            model = _cut_unmeasured(config, source, dtype, seed)
        elif config.init == "fresh" and weights is None:
            model = fresh_model(config, source, seed)
        else:
            model = _pretrained(config, source, dtype, seed, quantize)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ModelError(f"cannot load {source}: {first_line(error)}", hint=_LOAD_HINT) from error
    _check_finite(model, source)
    if config.resize_embeddings:
        add_embeddings(model, _vocabulary_size(load_template(config, weights=weights).tokenizer))
    model.config.use_cache = True
    # What tells its kind from now on, as saving would write it.
    model.config.architectures = [type(model).__name__]
    kind_of(model.config).prepare_loaded(model)
    return model if is_quantized(model) else model.to(device=device, dtype=dtype)  # pyright: ignore


def _check_finite(model: PreTrainedModel, source: str) -> None:
    """Refuse weights that would make every loss and every answer NaN, hours later and as if the data were to blame."""
    for name, weight in model.named_parameters():
        if weight.is_floating_point() and weight.numel() and not weight.is_meta:
            # Least and largest value, without a mask as large as the weight; NaN is either.
            extremes = torch.stack(torch.aminmax(weight.detach()))
            if not torch.isfinite(extremes).all():
                what = "NaN" if torch.isnan(extremes).any() else f"infinite in {weight.dtype}".replace("torch.", "")
                raise ModelError(
                    f"the weights of {source} are {what}: {name}",
                    hint="the file is broken, or its training went wrong: take another copy, or dtype: float32",
                )


_LOAD_HINT = (
    "give a folder that holds config.json and weights, a GGUF file, or the id of a hub model this machine can reach"
)


def _pretrained(config: ModelConfig, source: str, dtype: torch.dtype, seed: int, quantize: bool) -> PreTrainedModel:
    if is_gguf(source) and quantize:
        raise ModelError(
            f"quantize_4bit takes no GGUF file: {source}",
            hint="leave out quantize_4bit, or give the folder or hub id that the file was made from",
        )
    extra: dict[str, Any] = {"quantization_config": quantization(dtype)} if quantize else {}
    if is_gguf(source):
        extra = unpacked()
    architecture = architecture_of(config, source)
    kind = kind_at(config, source)
    auto = kind.auto_class(architecture, source)
    extra |= _own_config(config, kind, architecture, source)
    if kind.makes_head and not kind.fits(architecture):
        extra["ignore_mismatched_sizes"] = True
    with (
        warnings.catch_warnings(),
        torch.random.fork_rng(devices=[]),
        pretrained(config, source) as (name, arguments),
    ):
        warnings.filterwarnings("ignore", message=".*torch_dtype.*")
        # A head that the weights lack comes out of the seed.
        torch.manual_seed(seed)
        model = auto.from_pretrained(name, dtype=dtype, use_safetensors=True, **arguments, **extra)
    if is_gguf(source):
        forget_file(model)
    return model


def _cut_unmeasured(config: StudentConfig, source: str, dtype: torch.dtype, seed: int) -> PreTrainedModel:
    """A student cut from its teacher without a row to measure on: of the right shape, for whoever needs no more."""
    assert config.from_teacher is not None
    if config.init == "fresh":
        teacher = fresh_model(config, source, seed)
        return cut_shape(teacher, choose(teacher, config.from_teacher, ()), seed)
    teacher = _pretrained(config, source, dtype, seed, quantize=False)
    return cut_model(teacher, choose(teacher, config.from_teacher, ()))


def fresh_model(config: ModelConfig, source: str, seed: int) -> PreTrainedModel:
    """A model of random weights: its architecture, with the fields that the recipe changes.

    Raises:
        ModelError: the architecture has no such field.
    """
    architecture = architecture_of(config, source)
    _change(architecture, config.config, source)
    kind = kind_at(config, source)
    auto = kind.auto_class(architecture, source)
    _own_config(config, kind, architecture, source)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return auto.from_config(architecture, trust_remote_code=config.trust_remote_code)


def _change(architecture: Any, fields: Mapping[str, Any], source: str) -> None:
    """Set fields of an architecture, of its parts too, and what follows from them.

    Raises:
        ModelError: it has no such field.
    """
    for key, value in fields.items():
        if not hasattr(architecture, key):
            raise ModelError(f"the architecture of {source} has no field {key!r}", hint="see its config.json")
        part = getattr(architecture, key)
        if isinstance(part, PreTrainedConfig) and isinstance(value, Mapping):
            _change(part, value, f"{source} ({key})")
        else:
            setattr(architecture, key, value)
    if "hidden_size" in fields and "head_dim" not in fields and hasattr(architecture, "head_dim"):
        architecture.head_dim = architecture.hidden_size // architecture.num_attention_heads
    if "num_hidden_layers" in fields and getattr(architecture, "layer_types", None):
        architecture.layer_types = architecture.layer_types[: architecture.num_hidden_layers]


def _own_config(
    config: ModelConfig, kind: ModelKind, architecture: PreTrainedConfig, source: str
) -> dict[str, PreTrainedConfig]:
    """Put into an architecture what its kind takes from the recipe; the argument by which it is then opened."""
    fields = kind.config_fields(config, architecture, source)
    for name, value in fields.items():
        setattr(architecture, name, value)
    return {"config": architecture} if fields else {}


def add_embeddings(model: PreTrainedModel, size: int) -> None:
    """Give a model embeddings, and columns of its head, for so many tokens; one that has as many is left alone.

    What is new is the mean of what was there (Hewitt, 2021): it draws no probability to itself before it is trained,
    and nothing of it is random.
    """
    num_before: Any = model.get_input_embeddings().num_embeddings
    if num_before >= size:
        return
    with torch.random.fork_rng(devices=[]):  # What the library draws for the new rows is replaced.
        model.resize_token_embeddings(size, mean_resizing=False)
    layers: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    with torch.no_grad():
        for parameter in (getattr(layer, name, None) for layer in layers for name in ("weight", "bias")):
            if parameter is not None and len(parameter) == size:
                parameter[num_before:] = parameter[:num_before].float().mean(dim=0).to(parameter.dtype)


def quantization(dtype: torch.dtype) -> Any:
    """Four-bit NormalFloat loading for QLoRA (Dettmers et al., 2023).

    Raises:
        ModelError: bitsandbytes is missing.
    """
    from transformers import BitsAndBytesConfig
    from transformers.utils.import_utils import is_bitsandbytes_available

    if not is_bitsandbytes_available():
        raise ModelError("quantize_4bit needs bitsandbytes", hint=install_command("qlora"))
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def num_parameters(model: Any) -> int:
    """Parameters of a model, adapters on it not counted, four-bit weights by what they stand for."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return base.num_parameters() - sum(p.numel() for name, p in base.named_parameters() if "lora_" in name)


def is_quantized(model: PreTrainedModel) -> bool:
    """Whether the weights are held in few bits."""
    return getattr(model, "quantization_method", None) is not None


def first_line(error: Exception) -> str:
    """What an error says, in a line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
