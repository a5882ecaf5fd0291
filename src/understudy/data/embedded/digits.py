"""Handwritten digits of 8 × 8 points that come with scikit-learn (Alpaydin and Kaynak, 1998), as pictures with labels.

Nothing of them is stored here: they are read out of that package.
"""

from __future__ import annotations

import io
import random

import numpy as np

from understudy.data.pictures import address_of
from understudy.distribution import install_command
from understudy.errors import ConfigError
from understudy.types import Example, Splits

LABELS = tuple("0123456789")
DEV, TEST = 0.1, 0.3
"""Shares of each digit for development and test."""


def generate(gold_share: float = 1.0, seed: int = 0) -> Splits:
    """The set, cut digit by digit; the same arguments give the same rows in the same order.

    Brightness 0 to 16 becomes 0 to 255, rounded down. `meta` of a row: `kind` (`digit`).

    Args:
        gold_share: share of the training rows that keep their label.
        seed: of the split and of the order.

    Raises:
        ConfigError: scikit-learn is not installed, or `gold_share` is not between 0 and 1.
    """
    if not 0 < gold_share <= 1:
        raise ConfigError(f"gold_share is {gold_share}; it is a share between 0 and 1")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ConfigError("embedded:digits comes with scikit-learn", hint=install_command("bundles")) from error
    images, digits = (np.asarray(part) for part in load_digits(return_X_y=True))
    draw = random.Random(f"digits:{seed}")
    parts: dict[str, list[int]] = {"test": [], "dev": [], "train": []}
    for digit in range(10):
        own = [int(place) for place in np.flatnonzero(digits == digit)]
        draw.shuffle(own)
        first, second = round(TEST * len(own)), round((TEST + DEV) * len(own))
        for name, places in zip(parts, (own[:first], own[first:second], own[second:]), strict=True):
            parts[name] += places
    rows = {}
    for name, places in parts.items():
        draw.shuffle(places)
        rows[name] = [_row(place, images[place], int(digits[place])) for place in places]
    num_gold = max(1, round(gold_share * len(rows["train"])))
    unlabelled = [Example(row.id, "", (), meta=row.meta, images=row.images) for row in rows["train"][num_gold:]]
    sizes = {"rows": len(digits), "source": "sklearn.datasets.load_digits"}
    return Splits(tuple(rows["train"][:num_gold]), tuple(unlabelled), tuple(rows["dev"]), tuple(rows["test"]), sizes)


def _row(number: int, image: np.ndarray, digit: int) -> Example:
    import PIL.Image

    buffer = io.BytesIO()
    brightness = (image.reshape(8, 8) * 255 / 16).astype(np.uint8)
    PIL.Image.fromarray(brightness).save(buffer, format="PNG")
    return Example(
        f"digit-{number}", "", (LABELS[digit],), meta={"kind": "digit"}, images=(address_of(buffer.getvalue()),)
    )
