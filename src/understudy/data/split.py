"""Cutting a data set into its roles, so that no test question stands in training.

Rows that ask the same – the same question over the same context and conversation, letter case, spacing, punctuation,
invisible characters and the spelling of numbers apart – form a *group* and go into one split together. Larger groups
(a context, a document: `data.groups`) are cut by keys of their own. Where a group goes depends on its key and the seed
alone: not on the order of the rows, not on the other rows. A file that grows keeps every group where it was; the price
is that the shares are met on average, not to the row.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from understudy.data.pictures import image_name
from understudy.data.recordings import audio_name
from understudy.data.sessions import session_key
from understudy.errors import DataError, listed
from understudy.normal_form import plain_numbers
from understudy.types import Example

OF_THE_ANSWER = (
    *("answer_index", "answer_indices", "answer_start", "impossible", "plausible_answers"),
    "true_bundles",
)
"""What `meta` says of the answer; it goes where the answer goes."""

_LIGHT = str.maketrans(dict.fromkeys(".,;:!?¿¡…\"'`´‘’“”«»()[]{}", " "))
# Combining grapheme joiner, Hangul fillers, variation selectors.
_NO_ROOM = re.compile("[\u034f\u115f\u1160\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")


def question_key(example: Example) -> str:
    """What is asked, normalised: earlier turns (system prompt apart), context and question; pictures and
    recordings by their content.

    Choices do not count: the same question with other options is still the same question. Marks of punctuation become
    blanks, so `3.5` is `3, 5` but not `35`; to err to the same question is the safe side. Signs of numbers stay.
    Of a session it is its items, in whatever order.
    """
    if (key := session_key(example)) is not None:
        return key
    turns = [turn.content for turn in example.history if turn.role != "system"]
    texts = [normalised(text) for text in (*turns, example.context or "", example.question)]
    attached = [*map(image_name, example.images), *([audio_name(example.audio)] if example.audio else [])]
    return "\x1f".join([*texts, *attached])


@functools.lru_cache(maxsize=2**16)  # several passes over the same rows; `load_splits` empties it
def normalised(text: str) -> str:
    """The text without what makes no other question of it: letter case, spacing, punctuation, invisible characters."""
    visible = text if text.isascii() else "".join(filter(_is_visible, text))
    folded = plain_numbers(unicodedata.normalize("NFKC", visible).casefold())
    # Signs of arithmetic and of code stay: "3 + 4" and "3 - 4" are two questions.
    return " ".join(folded.translate(_LIGHT).split()) or " ".join(folded.split())


def _is_visible(character: str) -> bool:
    """Neither a format character (zero-width space, byte order mark, soft hyphen …) nor a mark that takes no room."""
    return unicodedata.category(character) != "Cf" and not _NO_ROOM.match(character)


def draw(seed: int, purpose: str, key: str) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    digest = hashlib.sha256(f"{seed}\x1f{purpose}\x1f{key}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def by_question(examples: Iterable[Example]) -> dict[str, list[Example]]:
    """The rows by `question_key`."""
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        groups[question_key(example)].append(example)
    return dict(groups)


def count_duplicates(examples: Iterable[Example]) -> dict[str, int]:
    """How many groups hold more than one row, and how many rows stand in them beyond the first."""
    sizes = [len(group) for group in by_question(examples).values() if len(group) > 1]
    return {"groups": len(sizes), "rows": sum(sizes) - len(sizes)}


def cut(
    examples: Sequence[Example],
    *,
    dev: float,
    test: float,
    seed: int,
    keys: Sequence[str] | None = None,
    noun: str = "question",
) -> tuple[tuple[Example, ...], tuple[Example, ...], tuple[Example, ...]]:
    """Training, development and test rows.

    A group with draw u goes to test where u < `test`, to development where u < `test` + `dev`, else to training.
    A share above 0 never comes out empty: it gets the group with the next larger draw.

    Args:
        examples: the rows; each split keeps their order.
        dev: share for development.
        test: share for test.
        seed: another seed, another cut.
        keys: what each row is drawn by; rows of one key stay together. Default: `question_key`.
        noun: what a key stands for, in the message.

    Raises:
        DataError: the shares leave nothing for training, or there are fewer different keys than splits.
    """
    if dev + test >= 1:
        raise DataError(
            f"data.dev {dev:g} and data.test {test:g} leave nothing for training", hint="their sum must be below 1"
        )
    keys = [question_key(example) for example in examples] if keys is None else keys
    draws = {key: draw(seed, "split", key) for key in dict.fromkeys(keys)}
    wanted = 1 + (dev > 0) + (test > 0)
    if len(draws) < wanted:
        raise DataError(
            f"{len(draws)} different {noun}{'s' if len(draws) != 1 else ''} cannot be cut into {wanted} splits",
            hint="give more rows, or set data.dev or data.test to 0"
            + ("" if noun == "question" else ", or data.group_by to none"),
        )
    order = sorted(draws, key=lambda key: (draws[key], key))
    num_test = max(sum(u < test for u in draws.values()), int(test > 0))
    num_dev = max(sum(u < test + dev for u in draws.values()) - num_test, int(dev > 0))
    num_dev = max(min(num_dev, len(order) - num_test - 1), int(dev > 0))
    num_test = min(num_test, len(order) - num_dev - 1)
    role = {
        key: "test" if n < num_test else "dev" if n < num_test + num_dev else "train" for n, key in enumerate(order)
    }
    rows: dict[str, list[Example]] = {"train": [], "dev": [], "test": []}
    for example, key in zip(examples, keys, strict=True):
        rows[role[key]].append(example)
    return tuple(rows["train"]), tuple(rows["dev"]), tuple(rows["test"])


def withhold(
    train: Sequence[Example], *, gold_share: float, seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Rows that keep their answer, and rows that become unlabelled: answers, rationales and answer place go.

    Decided per group by a draw of its own, so the rows of one question are all gold or all unlabelled. At least one
    group keeps its answers.
    """
    draws = {key: draw(seed, "gold", key) for key in by_question(train)}
    least = min(draws.values(), default=0.0)
    keeps = {key for key, u in draws.items() if u < gold_share or u == least}
    gold = tuple(example for example in train if question_key(example) in keeps)
    return gold, tuple(unlabel(example) for example in train if question_key(example) not in keeps)


def take_share(
    train: Sequence[Example], unlabelled: Sequence[Example], *, share: float, seed: int, keys: Sequence[str]
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """A share of what is learned from: of the training rows and of the unlabelled questions.

    A group with draw u is in every share above u, so the rows of a smaller share lie within those of a larger one. At
    least one group with a training row stays.

    Args:
        train: rows with answers.
        unlabelled: questions without.
        share: 0 to 1; met on average, not to the row.
        seed: another seed, other rows.
        keys: the group of each row, `train` first; rows of one key stay together.
    """
    draws = {key: draw(seed, "share", key) for key in dict.fromkeys(keys)}
    least = min((draws[key] for key in keys[: len(train)]), default=0.0)
    keeps = {key for key, u in draws.items() if u < share or u == least or share == 1}
    kept = [example for example, key in zip((*train, *unlabelled), keys, strict=True) if key in keeps]
    num_train = sum(key in keeps for key in keys[: len(train)])
    return tuple(kept[:num_train]), tuple(kept[num_train:])


def unlabel(example: Example) -> Example:
    """The question alone: without answers, rationales and what `meta` says of the answer."""
    meta = {name: value for name, value in example.meta.items() if name not in OF_THE_ANSWER}
    return replace(example, answers=(), rationales=(), meta=meta)


def refuse_leaks(held_out: Mapping[str, Sequence[Example]], learned: Sequence[Example]) -> None:
    """Check a split that the user made.

    Args:
        held_out: the rows of `dev` and `test`.
        learned: the rows of training and the unlabelled ones, whose answers the teacher will write.

    Raises:
        DataError: a held-out question also stands in training, or one of `test` in `dev`; the ids are named.
    """
    places = [("training", learned), *((name, rows) for name, rows in held_out.items() if name != "test")]
    for name, rows in held_out.items():
        for place, others in places:
            if place != name:
                _refuse_shared(name, rows, place, others)


def _refuse_shared(name: str, rows: Sequence[Example], place: str, others: Sequence[Example]) -> None:
    known = {key: group[0].id for key, group in by_question(others).items()}
    shared = [(row.id, known[key]) for row in rows if (key := question_key(row)) in known]
    if not shared:
        return
    named = (row_id if row_id == known_id else f"{row_id} (= {known_id})" for row_id, known_id in shared)
    raise DataError(
        f"{len(shared)} {name} question{'s' if len(shared) > 1 else ''} also stand{'' if len(shared) > 1 else 's'} "
        f"in {place}: {listed(named, most=10)}",
        hint="take these rows out of one of the files, or let data.test and data.dev cut the splits",
    )
