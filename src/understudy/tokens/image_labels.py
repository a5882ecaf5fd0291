"""Pictures with one of a fixed set of labels: nothing is read but the picture, learned is a place in `data.labels`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from understudy.data.pictures import image_name
from understudy.errors import DataError
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.labels import LabelledExample, LabelTemplate, LabelTokenizer
from understudy.tokens.pictures import PixelReader
from understudy.types import Example, Tokens


def blank_tokenizer() -> PreTrainedTokenizerBase:
    """Stands where a model that reads no text has no tokenizer: three tokens, and none of any text."""
    tokens = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2}
    core = Tokenizer(models.WordLevel(tokens, unk_token="[PAD]"))
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]")


@dataclass(frozen=True)
class ImageLabelledExample(LabelledExample):
    """A picture; `prompt_ids` is one token that nobody reads, `answer_ids` the place of the label.

    Attributes:
        image: the picture.
        reader: what makes pixel values of it.
    """

    image: str = ""
    reader: PixelReader | None = None

    def reads_as(self, other: TokenizedExample) -> bool:
        """See the base class."""
        return (
            isinstance(other, ImageLabelledExample)
            and image_name(self.image) == image_name(other.image)
            and (self.reader and self.reader.identity) == (other.reader and other.reader.identity)
            and super().reads_as(other)
        )

    @classmethod
    def batched(cls, rows: Sequence[TokenizedExample], pad_id: int) -> Tokens:
        """Pictures one behind the other; `target_mask` is `[B, 1]`."""
        read = [row for row in rows if isinstance(row, ImageLabelledExample)]
        assert len(read) == len(rows), "rows of two kinds of models in one batch"
        reader = read[0].reader
        assert reader is not None, "a row without what reads its picture"
        return {
            "inputs": reader.inputs([[row.image] for row in read]),
            "target_mask": torch.ones(len(rows), 1, dtype=torch.bool),
            "target_ids": torch.tensor([place for row in rows for place in row.answer_ids]),
            "images": [(image_name(row.image),) for row in read],
        }


@dataclass
class ImageLabelTemplate(LabelTemplate):
    """The image processor of a model that gives a picture a label; its tokenizer is blank.

    Attributes:
        processor: of pictures.
        source: what it was read from.
    """

    what: ClassVar[str] = "classifies pictures"
    reads_images: ClassVar[bool] = True
    processor: Any = None
    source: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reader = PixelReader(self.processor, self.source)

    @property
    def picture_identity(self) -> str:
        """See the base class."""
        return self.reader.identity

    def save(self, folder: Path) -> None:
        """The image processor: there is no text that a tokenizer could be for."""
        self.processor.save_pretrained(folder)


@dataclass
class ImageLabelTokenizer(LabelTokenizer):
    """For models that give a picture a label."""

    template: ImageLabelTemplate
    notes: dict[str, int] = field(default_factory=dict)

    def read(self, example: Example) -> ImageLabelledExample:
        """See the base class.

        Raises:
            DataError: the row has no picture, or several.
        """
        if len(example.images) != 1:
            raise DataError(
                f"{example.id}: a model that classifies pictures reads one, and the row has {len(example.images)}",
                hint="give each row one picture in its field images",
            )
        return ImageLabelledExample([0], [0], image=example.images[0], reader=self.template.reader)

    def targets(self, example: Example, row: LabelledExample, answer: str) -> list[int]:
        """See the base class."""
        return [self.place_of(example, answer)]
