"""Pictures of a row: files named by it, or bytes that it holds. They are opened when the data are read, so that a
broken one is a bad row and no crash hours later.

A picture goes through the house as text: the absolute path of its file with a digest of its bytes behind it, or these
bytes as a `data:` address. Two are the same where their bytes are, wherever they lie.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import io
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.data.rows import BadRow, as_text, missing, unpack
from understudy.errors import DataError
from understudy.types import Example

if TYPE_CHECKING:
    from PIL.Image import Image

FIELD = "images"
MAX_BYTES = 50_000_000
MAX_PIXELS = 100_000_000
"""Largest file and largest picture: beyond these nobody means a picture for a model."""
MAX_IMAGES = 64
"""Most pictures of a row."""
_LONGEST_PATH = 80
_PREFIX = "data:image/*;base64,"


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
    """The picture of a file: its absolute path, and what tells it from another that may come to lie there.

    Raises:
        DataError: it cannot be read, or is larger than `MAX_BYTES`.
    """
    path = path.resolve()
    return f"{path}#{_digest(_read(path))}"


def address_of(content: bytes) -> str:
    """The bytes of a picture's file as a text."""
    return _PREFIX + base64.b64encode(content).decode("ascii")


def open_image(image: str) -> Image:
    """A picture in three colours, turned as its camera says, decoded whole.

    Raises:
        DataError: it is absent or another by now, cannot be decoded, or is larger than `MAX_BYTES` or `MAX_PIXELS`.
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
    """The bytes of a picture's file.

    Raises:
        DataError: it is absent, too large or another by now, or no `data:` address of base64.
    """
    if not image.startswith("data:"):
        path, _, digest = image.rpartition("#")
        content = _read(Path(path))
        if _digest(content) != digest:
            raise DataError(
                f"the picture {_called(image)} is not the one that the data were read with",
                hint="put it back, or start a run of its own with the new one",
            )
        return content
    head, _, text = image.partition(",")
    try:
        if not head.endswith(";base64"):
            raise ValueError
        content = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise DataError(f"{_called(image)} is no data: address of base64") from error
    if len(content) > MAX_BYTES:
        raise DataError(f"{_called(image)} takes {len(content):,} bytes; {MAX_BYTES:,} are the most")
    return content


def image_name(image: str) -> str:
    """What a picture is told from others by: 16 hexadecimal digits of its bytes."""
    return _name_of_address(image) if image.startswith("data:") else image.rpartition("#")[2]


@functools.lru_cache(maxsize=2**16)
def _name_of_address(image: str) -> str:
    return _digest(image_bytes(image))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{_end_of(path)} takes {path.stat().st_size:,} bytes; {MAX_BYTES:,} are the most")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no path of a file"
        raise DataError(f"cannot read the picture {_end_of(path)}: {reason}") from error


def _called(image: str) -> str:
    return "a picture in the row" if image.startswith("data:") else _end_of(image.rpartition("#")[0])


def _end_of(path: Path | str) -> str:
    """A path as messages have it: of a long one the end, for there the picture's name stands."""
    text = str(path)
    return text if len(text) <= _LONGEST_PATH else f"…{text[-_LONGEST_PATH:]}"
