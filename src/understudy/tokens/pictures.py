"""Rows with pictures: a picture stands in the prompt as tokens of its own, and as pixel values beside the ids.

```text
messages     <|user|> <image> Which modulation is this? <|assistant|>          as the chat template writes them
prompt_ids   <|user|>  i i … i  Which modulation is this? <|assistant|>        as many as the processor makes of it
inputs       input_ids, attention_mask, pixel_values
```

How many tokens a picture takes, and which, the model's own processor says: it is asked once for each picture. What is
learned is the answer behind them, as in every other row.
"""

from __future__ import annotations

import functools
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from understudy.data.pictures import image_name, open_image
from understudy.errors import ModelError
from understudy.files import fingerprint
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.template import Template
from understudy.types import Example, Tokens

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_CACHED_BYTES = 256 << 20
"""Pixel values that are kept, so that a later epoch does not decode small pictures again."""
_OF_TOKENS = ("input_ids", "attention_mask")


class PixelReader:
    """Asks an image processor of `transformers` what it makes of one picture.

    Args:
        processor: the image processor.
        source: what it was read from, for messages.
    """

    def __init__(self, processor: Any, source: str) -> None:
        self.processor, self.source = processor, source
        self._values: OrderedDict[str, dict[str, Tensor]] = OrderedDict()
        self._bytes = 0

    @property
    def image_processor(self) -> Any:
        """What makes pixel values."""
        return self.processor

    @functools.cached_property
    def identity(self) -> str:
        """What tells it from a processor that makes other pixel values of a picture."""
        return fingerprint(json.loads(self.image_processor.to_json_string()))

    def values(self, image: str) -> dict[str, Tensor]:
        """What the model reads of a picture beside its tokens: pixel values, and what goes with them."""
        name = image_name(image)
        if name not in self._values:
            self._look(image, name)
        self._values.move_to_end(name)
        return self._values[name]

    def processed(self, image: Image) -> Mapping[str, Any]:
        """What the processor makes of an opened picture."""
        return self.processor(images=[image], return_tensors="pt")

    def _look(self, image: str, name: str) -> Mapping[str, Any]:
        opened = open_image(image)
        try:
            made = self.processed(opened)
        except (ValueError, TypeError, ImportError, RuntimeError, AttributeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(f"the processor of {self.source} cannot read a picture: {reason}") from error
        values = {key: value for key, value in made.items() if key not in _OF_TOKENS}
        self._values[name] = values
        self._bytes += _size(values)
        while self._bytes > MAX_CACHED_BYTES and len(self._values) > 1:
            self._bytes -= _size(self._values.popitem(last=False)[1])
        return made

    def inputs(self, rows: Sequence[Sequence[str]]) -> dict[str, Tensor]:
        """The pictures of a batch as arguments of the model's forward; nothing where no row has one.

        Where the processor puts pictures and tiles of a row side by side (`[1, tiles, …]`, Idefics3), rows are padded
        to the most tiles with zeros, which such models leave out; else all pictures stand one behind the other.
        """
        values = [[self.values(image) for image in row] for row in rows]
        keys = dict.fromkeys(key for row in values for picture in row for key in picture)
        by_row = any(picture["pixel_values"].dim() == 5 for row in values for picture in row)
        inputs = {}
        for key in keys:
            pieces = [[picture[key] for picture in row] for row in values]
            if by_row:
                of_rows = [_joined([piece[0] for piece in row]) if row else None for row in pieces]
                shape = next(piece.shape[1:] for piece in of_rows if piece is not None)
                dtype = next(piece.dtype for piece in of_rows if piece is not None)
                filled = [torch.zeros(0, *shape, dtype=dtype) if piece is None else piece for piece in of_rows]
                inputs[key] = _stacked(filled)
            else:
                inputs[key] = _joined([piece for row in pieces for piece in row])
        return inputs


class PictureReader(PixelReader):
    """Asks a processor of pictures and text what it makes of one picture, in tokens and in pixels.

    Args:
        processor: with an image processor and a tokenizer.
        source: what it was read from, for messages.
    """

    def __init__(self, processor: Any, source: str) -> None:
        super().__init__(processor, source)
        token = getattr(processor, "image_token", None)
        if not isinstance(token, str):
            raise ModelError(f"the processor of {source} names no token that stands for a picture")
        self.image_token = token
        self.image_id: int = processor.tokenizer.convert_tokens_to_ids(token)
        self._ids: dict[str, list[int]] = {}

    @property
    def image_processor(self) -> Any:
        """See the base class."""
        return self.processor.image_processor

    def token_ids(self, image: str) -> list[int]:
        """The tokens that a picture takes in a prompt."""
        name = image_name(image)
        if name not in self._ids:
            self._look(image, name)
        return self._ids[name]

    def processed(self, image: Image) -> Mapping[str, Any]:
        """See the base class; the text is the token that stands for a picture."""
        return self.processor(text=self.image_token, images=[image], return_tensors="pt", add_special_tokens=False)

    def _look(self, image: str, name: str) -> Mapping[str, Any]:
        made = super()._look(image, name)
        if of_tokens := [key for key in made if key.endswith("token_type_ids")]:
            raise ModelError(
                f"the model of {self.source} reads {of_tokens[0]}, which say of every token what it is",
                hint="LLaVA, SmolVLM, Idefics3 and kin tell pictures by their tokens alone: take one of these",
            )
        self._ids[name] = made["input_ids"][0].tolist()
        return made


def _size(values: Mapping[str, Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in values.values())


def _joined(pieces: Sequence[Tensor]) -> Tensor:
    """Pieces one behind the other, those that are smaller than the largest padded with zeros."""
    sizes = [max(sides) for sides in zip(*(piece.shape[1:] for piece in pieces), strict=True)]
    whole = [piece.new_zeros(len(piece), *sizes) for piece in pieces]
    for target, piece in zip(whole, pieces, strict=True):
        target[(slice(None), *(slice(side) for side in piece.shape[1:]))] = piece
    return torch.cat(whole)


def _stacked(pieces: Sequence[Tensor]) -> Tensor:
    """Rows of several pictures as one tensor, padded with pictures of zeros."""
    return _joined([piece[None] for piece in pieces])


@dataclass(frozen=True)
class PictureExample(TokenizedExample):
    """A row with pictures.

    Attributes:
        images: its pictures, in the order in which their tokens stand in the prompt.
        reader: what turns them into pixel values.
    """

    images: tuple[str, ...] = ()
    reader: PictureReader | None = None

    def reads_as(self, other: TokenizedExample) -> bool:
        """See the base class; pictures are the same where their bytes are, processors where they do the same."""
        return (
            isinstance(other, PictureExample)
            and list(map(image_name, self.images)) == list(map(image_name, other.images))
            and (not self.images or _identity(self) == _identity(other))
            and super().reads_as(other)
        )

    def short(self, longest: int) -> TokenizedExample:
        """The row whole where it has a picture, whose tokens cannot be cut."""
        return self if self.images else super().short(longest)

    @classmethod
    def batched(cls, rows: Sequence[TokenizedExample], pad_id: int) -> Tokens:
        """See the base class; the pictures stand beside the tokens."""
        tokens = TokenizedExample.batched(rows, pad_id)
        images = [row.images if isinstance(row, PictureExample) else () for row in rows]
        reader = next((row.reader for row in rows if isinstance(row, PictureExample) and row.images), None)
        if reader is not None:
            tokens["inputs"] |= reader.inputs(images)
            tokens["images"] = [tuple(map(image_name, row)) for row in images]
        return tokens


def _identity(row: PictureExample) -> str:
    return row.reader.identity if row.reader else ""


@dataclass
class PictureTemplate(Template):
    """The tokenizer of a model that sees, with its processor; messages may name pictures under `images`.

    A chat template that takes parts (`{"type": "image"}`, `{"type": "text", …}`) gets parts; another one gets the
    token that stands for a picture before the text, with a line break between.

    Attributes:
        processor: of the model.
        source: what it was read from.
        shown: whether the model is shown pictures at all; else it reads the text alone.
    """

    processor: Any = None
    source: str = ""
    shown: bool = True

    def __post_init__(self) -> None:
        self.processor.tokenizer = self.tokenizer
        self.reader = PictureReader(self.processor, self.source)
        if not self.tokenizer.chat_template and getattr(self.processor, "chat_template", None):
            self.tokenizer.chat_template = self.processor.chat_template
        super().__post_init__()

    @property
    def reads_images(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether pictures are shown."""
        return self.shown

    @property
    def picture_identity(self) -> str:
        """See the base class."""
        return self.reader.identity if self.shown else ""

    def save(self, folder: Path) -> None:
        """Tokenizer and processor."""
        self.processor.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def prompt_ids(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """See the base class; pictures as the tokens that they take."""
        return self._with_pictures(super().prompt_ids(messages), _images_in(messages))

    def encode(
        self, messages: Sequence[Mapping[str, Any]], answer: str, *, token_ends: bool = False
    ) -> TokenizedExample:
        """See the base class."""
        row = super().encode(messages, answer, token_ends=token_ends)
        images = _images_in(messages)
        return PictureExample(
            self._with_pictures(row.prompt_ids, images),
            row.answer_ids,
            row.token_ends,
            row.answer_prefix,
            images=images,
            reader=self.reader,
        )

    def _with_pictures(self, ids: list[int], images: tuple[str, ...]) -> list[int]:
        places = ids.count(self.reader.image_id)
        if places != len(images):
            raise ModelError(
                f"the chat template of {self.source} leaves {places} places for {len(images)} pictures",
                hint="give the model a chat_template that writes one for each part of the type image",
            )
        remaining = iter(images)
        whole: list[int] = []
        for token in ids:
            whole += self.reader.token_ids(next(remaining)) if token == self.reader.image_id else [token]
        return whole

    def _render(self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = False) -> str:
        return super()._render([self._turn(turn) for turn in messages], add_generation_prompt=add_generation_prompt)

    def _turn(self, turn: Mapping[str, Any]) -> dict[str, Any]:
        """One turn as the chat template takes it."""
        images, content = turn.get("images", ()), turn["content"]
        if self._takes_parts:
            text = [{"type": "text", "text": content}]
            return {"role": turn["role"], "content": [{"type": "image"} for _ in images] + text}
        return {"role": turn["role"], "content": f"{self.reader.image_token}\n" * len(images) + content}

    @functools.cached_property
    def _takes_parts(self) -> bool:
        parts = [{"type": "image"}, {"type": "text", "text": "word"}]
        try:
            text = super()._render([{"role": "user", "content": parts}])
        except ModelError:
            return False
        return text.count(self.reader.image_token) == 1 and text.count("word") == 1 and "'type'" not in text

    def _written_around_turns(self) -> list[int]:
        return [*super()._written_around_turns(), self.reader.image_id]


def _images_in(messages: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(image for turn in messages for image in turn.get("images", ()))


@dataclass
class PictureTokenizer(ExampleTokenizer):
    """Examples with pictures to token ids; see `ExampleTokenizer`."""

    template: PictureTemplate
    notes: dict[str, int] = field(default_factory=dict)

    def _turns(self, example: Example, *, context: str | None = None) -> list[dict[str, Any]]:
        """See the base class; the pictures stand before the text of the last turn."""
        turns = super()._turns(example, context=context)
        if example.images and self.template.shown:
            turns[-1]["images"] = example.images
        return turns

    def images(self, example: Example) -> tuple[str, ...]:
        """The pictures that the model is shown of an example."""
        return example.images if self.template.shown else ()
