"""Pictures of a row: files named by it, or bytes that it holds. They are opened when the data are read, so that a
broken one is a bad row and no crash hours later.

A picture goes through the house as text: the absolute path of its file with a digest of its bytes behind it, or these
bytes as a `data:` address. Two are the same where their bytes are, wherever they lie.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.data import attachments
from understudy.data.rows import BadRow, as_text, missing, unpack
from understudy.errors import DataError
from understudy.types import Example

if TYPE_CHECKING:
    from PIL.Image import Image

FIELD = "images"
NOUN = "picture"
MAX_PIXELS = 100_000_000
"""Largest picture: beyond this nobody means a picture for a model; its file: `attachments.MAX_BYTES`."""
MAX_IMAGES = 64
"""Most pictures of a row."""


def images_of(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The pictures that a row's field `images` names or holds; none where it is absent or empty.

    A picture is a path, a `data:` address, bytes, a `{"bytes": …, "path": …}` object as Parquet files of `datasets`
    have it, or an opened picture as `datasets` itself gives it; one alone or a list of them.

    Raises:
        BadRow: something else stands there, or there are more than `MAX_IMAGES`.
    """
    value = fields.get(FIELD)
    if missing(value):
        return ()
    value = unpack(value, FIELD)
    items = list(value) if isinstance(value, list | tuple) else [value]
    if len(items) > MAX_IMAGES:
        raise BadRow(FIELD, f"{len(items):,} pictures; {MAX_IMAGES} are the most")
    one = not isinstance(value, list | tuple)
    return tuple(_as_address(item, FIELD if one else f"{FIELD}[{place}]") for place, item in enumerate(items))


def _as_address(item: Any, field: str) -> str:
    if isinstance(item, Mapping) and ("bytes" in item or "path" in item):
        item = item["path"] if item.get("bytes") is None else item["bytes"]
    if hasattr(item, "save") and hasattr(item, "convert"):  # A picture of PIL, which `datasets` opens by itself.
        buffer = io.BytesIO()
        item.save(buffer, format="PNG")  # pyright: ignore[reportAttributeAccessIssue]
        item = buffer.getvalue()
    return address_of(bytes(item)) if isinstance(item, bytes | bytearray) else as_text(item, field)


def located(example: Example, folder: Path) -> Example:
    """An example whose pictures are found and can be opened.

    Args:
        example: as its format gave it.
        folder: that relative paths start from.

    Raises:
        BadRow: a picture is absent, broken or too large.
    """
    if not example.images:
        return example
    images = []
    for place, image in enumerate(example.images):
        try:
            images.append(image if image.startswith("data:") else of_file(folder / Path(image).expanduser()))
            open_image(images[-1])
        except DataError as error:
            raise BadRow(f"{FIELD}[{place}]", error.message) from error
    return replace(example, images=tuple(images))


def of_file(path: Path) -> str:
    """The picture of a file; see `attachments.of_file`."""
    return attachments.of_file(path, NOUN)


def address_of(content: bytes) -> str:
    """The bytes of a picture's file as a text."""
    return attachments.address_of(content, "image")


def open_image(image: str) -> Image:
    """A picture in three colours, turned as its camera says, decoded whole.

    Raises:
        DataError: it is absent or another by now, cannot be decoded, or is larger than `MAX_PIXELS` or
            `attachments.MAX_BYTES`.
    """
    import PIL.Image
    import PIL.ImageOps

    content = image_bytes(image)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Blemishes of metadata; what cannot be decoded raises.
            with PIL.Image.open(io.BytesIO(content)) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    raise DataError(f"{_called(image)} has {opened.width:,} × {opened.height:,} points: too many")
                return PIL.ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        reason = "of no known format" if isinstance(error, PIL.UnidentifiedImageError) else str(error).splitlines()[0]
        raise DataError(f"{_called(image)} is no picture that can be read: {reason}") from error


def image_bytes(image: str) -> bytes:
    """The bytes of a picture's file; see `attachments.bytes_of`."""
    return attachments.bytes_of(image, NOUN)


def image_name(image: str) -> str:
    """What a picture is told from others by: 16 hexadecimal digits of its bytes."""
    return attachments.name_of(image)


def _called(image: str) -> str:
    return attachments.called(image, NOUN)
