"""What the entries of a vocabulary stand for, and which entry of one vocabulary is nearest to one of another.

Tokens are compared by the bytes they write, with the space that begins a word: `Ġthe`, `▁the` and a WordPiece `the`
are all the bytes of " the".
"""

from __future__ import annotations

import functools
import json
import re
import weakref
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein
from transformers import PreTrainedTokenizerBase

from understudy.errors import ModelError, RunError
from understudy.files import atomic, cache_folder, fingerprint

_VERSION = 1
_ROLES = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "cls_token_id")
_PAIRS_AT_ONCE = 1 << 25
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class VocabularyMap:
    """Which of the student's entries stands for which of the teacher's; −1 where none does.

    Attributes:
        nearest: `[V_t]` the student's id with the smallest edit distance to the teacher's token; several of the
            teacher's ids may share one.
        exact: `[V_t]` the student's id that writes the same bytes; one to one.
    """

    nearest: NDArray[np.int64]
    exact: NDArray[np.int64]


@dataclass(frozen=True)
class Vocabulary:
    """What a tokenizer says of itself, read once: with 250,000 tokens each question takes a second and more.

    Attributes:
        names: `[V]` the token of each id as the tokenizer spells it; None where nothing stands.
        special: ids that write nothing.
        added: added id → what it writes.
        parts: the description in the JSON of the `tokenizers` library; empty of a tokenizer that is not of it.
    """

    names: Sequence[str | None]
    special: frozenset[int]
    added: Mapping[int, str]
    parts: Mapping[str, Any]

    @functools.cached_property
    def spelled(self) -> list[bytes | None]:
        """`[V]` the bytes that each id writes; None for special tokens and for ids that nothing stands at."""
        spell = _speller(self.parts)
        return [
            None if name is None or i in self.special else self.added[i].encode() if i in self.added else spell(name)
            for i, name in enumerate(self.names)
        ]


_VOCABULARIES: weakref.WeakKeyDictionary[PreTrainedTokenizerBase, tuple[Any, Vocabulary]] = weakref.WeakKeyDictionary()


def vocabulary_of(tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
    """The vocabulary of a tokenizer; read again only where tokens were added to it since."""
    added = tokenizer.added_tokens_decoder
    special = frozenset({i for i, token in added.items() if token.special} | set(tokenizer.all_special_ids))
    state = len(tokenizer), special, tuple(added)
    if tokenizer in _VOCABULARIES and _VOCABULARIES[tokenizer][0] == state:
        return _VOCABULARIES[tokenizer][1]
    entries = tokenizer.get_vocab()
    names: list[str | None] = [None] * (max(entries.values(), default=-1) + 1)
    for name, i in entries.items():
        names[i] = name
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts = {} if backend is None else json.loads(backend.to_str())
    vocabulary = Vocabulary(names, special, {i: token.content for i, token in added.items()}, parts)
    _VOCABULARIES[tokenizer] = state, vocabulary
    return vocabulary


def token_bytes(tokenizer: PreTrainedTokenizerBase) -> Sequence[bytes | None]:
    """The bytes that each id writes; None for special tokens and for ids that nothing stands at.

    Raises:
        ModelError: the tokenizer is not one of the `tokenizers` library.
    """
    description(tokenizer)
    return vocabulary_of(tokenizer).spelled


def description(tokenizer: PreTrainedTokenizerBase) -> Mapping[str, Any]:
    """What the `tokenizers` library says of itself, as its own JSON; nobody may change it.

    Raises:
        ModelError: the tokenizer is not one of that library.
    """
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ModelError(
            f"{type(tokenizer).__name__} is a slow tokenizer, which does not tell where in the text a token stands",
            hint="give the model a tokenizer.json (transformers converts most tokenizers when asked for a fast one)",
        )
    return vocabulary_of(tokenizer).parts


def _speller(parts: Mapping[str, Any]) -> Any:
    """How this kind of tokenizer writes bytes as tokens, read backwards."""
    kinds = set(_types(parts.get("decoder"))) | set(_types(parts.get("pre_tokenizer")))
    if "ByteLevel" in kinds:
        table = {character: byte for byte, character in byte_characters().items()}
        return lambda token: bytes(table[c] for c in token) if all(c in table for c in token) else token.encode()
    if parts["model"].get("type") == "WordPiece":
        return lambda token: _word_piece(token, parts["model"].get("continuing_subword_prefix") or "##")
    return _sentence_piece


def _sentence_piece(token: str) -> bytes:
    byte = _BYTE_TOKEN.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()


def _word_piece(token: str, prefix: str) -> bytes:
    if token.startswith(prefix) and len(token) > len(prefix):
        return token[len(prefix) :].encode()
    # A word begins after a space; signs do so too seldom.
    return (" " + token if token[:1].isalnum() else token).encode()


def _types(part: Any) -> Iterable[str]:
    if isinstance(part, dict):
        if "type" in part:
            yield part["type"]
        for value in part.values():
            yield from _types(value)
    elif isinstance(part, list):
        for value in part:
            yield from _types(value)


def byte_characters() -> dict[int, str]:
    """The printable character that byte-level tokenizers write for each byte."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {b: chr(b) for b in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


def vocabulary_map(
    student: PreTrainedTokenizerBase,
    teacher: PreTrainedTokenizerBase,
    *,
    ends: tuple[int, int] | None = None,
    nearest: bool = True,
    only: Collection[int] | None = None,
) -> VocabularyMap:
    """The map from the teacher's vocabulary to the student's, computed once for a pair and kept on the disk.

    Equal bytes come first; then what the student's own normaliser makes of the teacher's token (lower case, accents
    stripped); then the smallest edit distance over the bytes, of equals the lowest id. A token that has no byte in
    common with any of the student's has no counterpart, and a special token only one of the same role or name.

    Args:
        student: the student's tokenizer.
        teacher: the teacher's.
        ends: the ids that end an answer, student's and teacher's; they are taken for one and the same.
        nearest: also look for the nearest where there is no exact one, which takes seconds to minutes; else `nearest`
            is `exact`.
        only: look for the nearest of these of the teacher's ids alone; what is nearest to any other is not said.

    Raises:
        ModelError: one of them is not a tokenizer of the `tokenizers` library.
    """
    sides = [(token_bytes(tokenizer), vocabulary_of(tokenizer).names) for tokenizer in (student, teacher)]
    roles = _roles(student, teacher, ends)
    normaliser = json.dumps(description(student).get("normalizer"))
    # A list of 100,000 tokens is named by its bytes, not by a JSON of them.
    key = fingerprint([_VERSION, nearest, normaliser, sorted(roles.items()), [_digest(*side) for side in sides]])
    path = cache_folder("vocabulary-maps") / f"{key}.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            return VocabularyMap(stored["nearest"], stored["exact"])
    except (OSError, ValueError, KeyError):
        pass
    computed = _map(sides[0], sides[1], roles, _normalise(student), nearest=nearest, only=only)
    if nearest and only is not None:
        return computed  # A part must not pass for the whole.
    try:
        with atomic(path, "wb") as handle:
            np.savez(handle, nearest=computed.nearest, exact=computed.exact)
    except RunError:
        pass  # A cache that cannot be written costs time, nothing else.
    return computed


def _digest(spelled: Sequence[bytes | None], names: Sequence[str | None]) -> str:
    return fingerprint(repr((spelled, names)))


def _normalise(tokenizer: PreTrainedTokenizerBase) -> Any:
    backend: Any = getattr(tokenizer, "backend_tokenizer")  # noqa: B009 - a property of fast tokenizers only
    normaliser = backend.normalizer
    return None if normaliser is None else normaliser.normalize_str


def _roles(
    student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase, ends: tuple[int, int] | None
) -> dict[int, int]:
    """Teacher's id → student's id for what ends an answer and for special tokens of one role."""
    ids: dict[int, int] = {} if ends is None else {ends[1]: ends[0]}
    for role in _ROLES:
        student_id, teacher_id = getattr(student, role, None), getattr(teacher, role, None)
        if (
            student_id is not None
            and teacher_id is not None
            and teacher_id not in ids
            and student_id not in ids.values()
        ):
            ids[teacher_id] = student_id
    return ids


def _map(
    student: tuple,
    teacher: tuple,
    roles: dict[int, int],
    normalise: Any,
    *,
    nearest: bool,
    only: Collection[int] | None,
) -> VocabularyMap:
    (student_bytes, student_names), (teacher_bytes, teacher_names) = student, teacher
    exact = np.full(len(teacher_bytes), -1, np.int64)
    same_name = {name: i for i, name in enumerate(student_names) if name is not None}
    by_bytes: dict[bytes, int] = {}
    for i, spelled in enumerate(student_bytes):
        # Of several that write the same bytes, a spare for single bytes comes last.
        if spelled is not None and (spelled not in by_bytes or _BYTE_TOKEN.fullmatch(student_names[by_bytes[spelled]])):
            by_bytes[spelled] = i
    matched: set[int] = set()

    def pair(i: int, student_id: int | None) -> None:
        if student_id is not None and exact[i] < 0 and student_id not in matched:
            exact[i] = student_id
            matched.add(student_id)

    for i, student_id in roles.items():
        pair(i, student_id)
    for i, (spelled, name) in enumerate(zip(teacher_bytes, teacher_names, strict=True)):
        student_id = same_name.get(name)  # The same name of the same kind of token, and where both are special.
        if student_id is not None and student_bytes[student_id] == spelled:
            pair(i, student_id)
    for i, spelled in enumerate(teacher_bytes):
        if spelled is not None:
            pair(i, by_bytes.get(spelled))
    if not nearest:
        return VocabularyMap(exact, exact)
    wanted = range(len(teacher_bytes)) if only is None else sorted(only)
    return VocabularyMap(_nearest(wanted, teacher_bytes, exact, by_bytes, normalise), exact)


def _nearest(
    wanted: Iterable[int],
    teacher_bytes: Sequence[bytes | None],
    exact: NDArray[np.int64],
    by_bytes: dict[bytes, int],
    normalise: Any,
) -> NDArray[np.int64]:
    nearest = exact.copy()
    unmatched: dict[bytes, list[int]] = {}
    for i in wanted:
        spelled = teacher_bytes[i]
        if spelled and nearest[i] < 0:
            nearest[i] = by_bytes.get(spelled, _normalised(spelled, by_bytes, normalise))
            if nearest[i] < 0:
                unmatched.setdefault(spelled, []).append(i)
    for spelled, student_id in _by_distance(list(unmatched), by_bytes).items():
        nearest[unmatched[spelled]] = student_id
    return nearest


def _normalised(spelled: bytes, by_bytes: dict[bytes, int], normalise: Any) -> int:
    """The student's id for what its normaliser makes of a teacher's token, with or without the space before it."""
    try:
        text = spelled.decode()
    except UnicodeDecodeError:
        return -1
    forms = [text, text.lstrip(" ")]
    if normalise is not None:
        forms += [(" " if text.startswith(" ") else "") + normalise(text.strip(" ")).replace("▁", " ").strip(" ")]
        forms += [forms[-1].lstrip(" ")]
    return next((by_bytes[form.encode()] for form in forms if form and form.encode() in by_bytes), -1)


def _by_distance(wanted: list[bytes], by_bytes: dict[bytes, int]) -> dict[bytes, int]:
    """The nearest by edit distance: within 1, then 2, 4, …, each time among tokens of about the same length."""
    choices = sorted((spelled for spelled in by_bytes if spelled), key=len)
    lengths = np.array([len(spelled) for spelled in choices])
    ids = np.array([by_bytes[spelled] for spelled in choices])
    nearest: dict[bytes, int] = {}
    unmatched, cutoff = sorted(wanted, key=len), 1
    while unmatched and choices:
        for queries in _equal_length_runs(unmatched):
            length = len(queries[0])
            low, high = np.searchsorted(lengths, [length - cutoff, length + cutoff + 1])
            if low == high:
                continue
            distances = process.cdist(
                queries, choices[low:high], scorer=Levenshtein.distance, score_cutoff=cutoff, dtype=np.uint16
            )
            for query, row in zip(queries, distances, strict=True):
                best = row.min()
                if best <= cutoff and best < max(length, 1):
                    nearest[query] = int(ids[low:high][row == best].min())
        # Beyond its own length a token keeps no byte.
        unmatched = [query for query in unmatched if query not in nearest and len(query) > cutoff]
        cutoff *= 2
    return nearest


def _equal_length_runs(ordered: list[bytes]) -> Iterable[list[bytes]]:
    """Runs of one length, and no longer than memory likes."""
    start = 0
    for stop in range(1, len(ordered) + 1):
        last = stop == len(ordered)
        if last or len(ordered[stop]) != len(ordered[start]) or stop - start >= _PAIRS_AT_ONCE >> 17:
            yield ordered[start:stop]
            start = stop
