"""Models that write down what they hear: the encoder reads features of a recording, the decoder writes its words."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING,
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
    GenerationConfig,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from understudy.errors import ModelError
from understudy.models.decoding import PLAIN, Generated, decode
from understudy.models.head import base_model, head_of
from understudy.models.kinds.seq2seq import Seq2Seq
from understudy.models.sources import pretrained
from understudy.recipe import DataConfig, ModelConfig
from understudy.tokens.collate import move
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.recordings import SpeechTemplate, SpeechTokenizer, SpokenExample
from understudy.tokens.template import Template
from understudy.types import Example

_HEARD = ("whisper",)
"""Architectures whose encoder reads features of a window of fixed length."""


class Speech(Seq2Seq):
    """Whisper."""

    name = "speech"
    title = "model that writes down speech"
    pipeline_tag = "automatic-speech-recognition"
    reads_prompts = False

    def fits(self, architecture: PreTrainedConfig) -> bool:
        """Whether `AutoModelForSpeechSeq2Seq` opens it, and it hears as Whisper does."""
        return type(architecture) in MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING and architecture.model_type in _HEARD

    def auto_class(self, architecture: PreTrainedConfig, name: str) -> Any:
        """`AutoModelForSpeechSeq2Seq`.

        Raises:
            ModelError: the model hears nothing, or hears in another way than Whisper.
        """
        if not self.fits(architecture):
            raise ModelError(
                f"{name} ({architecture.model_type}) cannot be a {self.title}",
                hint=f"take a Whisper, or leave out `kind: {self.name}`",
            )
        return AutoModelForSpeechSeq2Seq

    def template(
        self, tokenizer: PreTrainedTokenizerBase, config: ModelConfig, architecture: PreTrainedConfig, source: str
    ) -> Template:
        """The tokenizer with the feature extractor that lies beside it.

        Raises:
            ModelError: there is none, or it makes other features than the encoder reads.
        """
        try:
            with pretrained(config, source) as (name, arguments):
                processor = AutoProcessor.from_pretrained(name, **arguments)
        except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(f"cannot load the processor of {source}: {reason}", hint=_NEEDS) from error
        if not hasattr(processor, "feature_extractor"):
            raise ModelError(f"{source} has no feature extractor", hint=_NEEDS)
        start = config.config.get("decoder_start_token_id", getattr(architecture, "decoder_start_token_id", None))
        template = SpeechTemplate(tokenizer, start_id=start, processor=processor, source=source)
        _check_shape(template, config, architecture)
        return template

    def example_tokenizer(self, template: Template, data: DataConfig) -> ExampleTokenizer:
        """See the base class."""
        assert isinstance(template, SpeechTemplate)
        return SpeechTokenizer(template, data)

    def has_room(self, data: DataConfig) -> bool:
        """Always: no prompt is read."""
        return True

    def states(self, base: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """`[B, S, d]` the decoder's."""
        written = base.get_decoder()(
            input_ids=inputs["decoder_input_ids"],
            attention_mask=inputs["decoder_attention_mask"],
            encoder_hidden_states=_heard(base, inputs["input_features"]),
            use_cache=False,
            return_dict=True,
        )
        return written.last_hidden_state

    def write(self, base: Any, ids: Tensor, mask: Tensor, arguments: Mapping[str, Any]) -> Tensor:
        """See the base class.

        Whisper's own `generate` is that of long recordings, with time stamps and fallbacks; here each is one window.
        """
        plain: Any = GenerationMixin
        return plain.generate(base, **arguments)

    def answers(
        self,
        model: nn.Module,
        tokenizer: ExampleTokenizer,
        examples: Sequence[Example],
        *,
        batch_size: int,
        progress: Callable[[int], None] | None = None,
        confidence: bool = False,
    ) -> list[Generated]:
        """What the model writes of each recording, greedily."""
        assert isinstance(tokenizer, SpeechTokenizer), "the tokenizer belongs to another kind of model"
        reader, base = tokenizer.template.reader, base_model(model)

        def beside(places: Sequence[int]) -> Mapping[str, Any]:
            heard = reader.inputs([tokenizer.audio(examples[place]) for place in places])
            return {name: values.to(base.device, base.dtype) for name, values in heard.items()}

        return decode(
            self,
            model,
            tokenizer.template,
            [tokenizer.prompt_ids(example) for example in examples],
            max_new_tokens=tokenizer.data.max_answer_tokens,
            batch_size=batch_size,
            progress=progress,
            confidence=confidence,
            beside=beside,
        )

    @torch.no_grad()
    def choice_scores(self, model: nn.Module, base: Any, rows: list[TokenizedExample], pad_id: int) -> list[float]:
        """Mean natural-log probability of each row's learned tokens."""
        tokens = move(SpokenExample.batched(rows, pad_id), base.device)
        states = self.states(base, tokens["inputs"])[tokens["target_mask"]]
        logp = head_of(model).logits(states).float().log_softmax(dim=-1).gather(1, tokens["target_ids"][:, None])
        return [piece.mean().item() for piece in logp.squeeze(1).split(tokens["target_mask"].sum(dim=1).tolist())]

    def prepare_to_save(self, model: PreTrainedModel, template: Template) -> None:
        """Its generation config: by it Whisper's own `generate` writes what was measured, greedily.

        What the tokenizer puts before a text, language and task among it, is what the decoder begins with; tokens that
        published weights suppress are free.
        """
        own: Any = copy.deepcopy(model.generation_config) or GenerationConfig()
        for name, value in PLAIN.items():
            setattr(own, name, value)
        own._from_model_config = False  # Else what is said here is left aside when the folder is opened.
        begun = template.start_ids
        own.decoder_start_token_id = begun[0]
        own.bos_token_id = template.tokenizer.bos_token_id
        own.pad_token_id = template.tokenizer.pad_token_id
        own.eos_token_id = list(template.stop_ids)
        for name in _OF_THE_START:
            if hasattr(own, name):
                delattr(own, name)
        if len(begun) > 1:
            own.no_timestamps_token_id = begun[-1]
        named: Any = template.tokenizer
        if len(begun) > 2 and getattr(named, "language", None) and getattr(own, "lang_to_id", None):
            own.language, own.task, own.is_multilingual = named.language, named.task, True
        elif hasattr(own, "lang_to_id"):
            del own.lang_to_id  # By it the language would be looked for, and its token put before the text.
        if getattr(model.config, "forced_decoder_ids", None):
            model.config.forced_decoder_ids = None
        model.generation_config = own


_OF_THE_START = (
    *("forced_decoder_ids", "no_timestamps_token_id", "language", "task", "is_multilingual", "return_timestamps"),
)
"""What a generation config says of how a text begins."""
_NEEDS = "its folder needs processor_config.json or preprocessor_config.json"


def _heard(base: Any, features: Tensor) -> Tensor:
    """`[B, positions, d]` what the encoder makes of features."""
    return base.get_encoder()(features.to(base.dtype), return_dict=True).last_hidden_state


def _check_shape(template: SpeechTemplate, config: ModelConfig, architecture: Any) -> None:
    """Refuse a feature extractor that does not fit the encoder.

    Raises:
        ModelError: bands or frames differ.
    """
    bands, frames = template.reader.shape
    names = ("num_mel_bins", "max_source_positions")
    own = {name: config.config.get(name, getattr(architecture, name)) for name in names}
    read = own["num_mel_bins"], 2 * own["max_source_positions"]  # The second convolution halves the frames.
    if (bands, frames) != read:
        raise ModelError(
            f"the feature extractor of {template.source} makes {bands} bands and {frames} frames of a recording, and "
            f"the encoder reads {read[0]} and {read[1]}",
            hint="feature_size must be num_mel_bins, and chunk_length × sampling_rate / hop_length twice "
            "max_source_positions",
        )
