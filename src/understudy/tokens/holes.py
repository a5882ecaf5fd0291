"""Plain text with holes, for pretraining an encoder: some tokens are hidden, and learned (Devlin et al., 2019).

Of the tokens of each row 15 in 100 are learned; of these 80 in 100 read `[MASK]`, 10 another token, 10 stay.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any

from understudy.errors import ModelError
from understudy.tokens.collate import EncodedRow
from understudy.tokens.encoders import EncoderTemplate
from understudy.tokens.labels import LabelledExample

SHARE, HIDDEN, OTHER = 0.15, 0.8, 0.1


def with_holes(template: EncoderTemplate, documents: Iterable[str], length: int, seed: int) -> list[EncodedRow]:
    """Documents one behind the other, `[SEP]` between them, cut into rows `[CLS] … [SEP]` of at most `length` tokens.

    Args:
        template: the encoder's tokenizer.
        documents: texts.
        length: of a row.
        seed: which tokens are hidden.

    Raises:
        ModelError: the tokenizer has no mask token.
    """
    tokenizer: Any = template.tokenizer
    if tokenizer.mask_token_id is None:
        raise ModelError("the tokenizer has no mask token, so nothing can be hidden", hint="leave out `pretrain`")
    first, *_, last = template.read("").ids
    ids: list[int] = []
    for text in documents:
        ids += [*template.read(text).ids[1:-1], last]
    room = length - 2
    pieces = [ids[start : start + room] for start in range(0, len(ids), room)]
    segments = bool(template.read("a").segments)
    return [
        EncodedRow(
            f"text-{number}", _row([first, *_closed(piece, last)], tokenizer, segments, seed, number), None, True
        )
        for number, piece in enumerate(pieces)
        if any(token != last for token in piece)
    ]


def _closed(piece: list[int], last: int) -> Iterator[int]:
    yield from piece
    if piece[-1] != last:
        yield last


def _row(ids: list[int], tokenizer: Any, segments: bool, seed: int, number: int) -> LabelledExample:
    draw = random.Random(f"holes:{seed}:{number}")
    special = set(tokenizer.all_special_ids)
    places = [place for place, token in enumerate(ids) if token not in special]
    hidden = sorted(draw.sample(places, max(1, round(SHARE * len(places))))) if places else []
    read = list(ids)
    for place in hidden:
        chance = draw.random()
        if chance < HIDDEN:
            read[place] = tokenizer.mask_token_id
        elif chance < HIDDEN + OTHER:
            read[place] = draw.randrange(len(tokenizer))
    return LabelledExample(
        read,
        [ids[place] for place in hidden],
        segment_ids=(0,) * len(ids) if segments else (),
        places=tuple(hidden),
    )
