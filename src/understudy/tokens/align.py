"""Which of the teacher's tokens stands for which of the student's, where the two cut one answer differently.

A token is known by the bytes of the answer that it covers (`TokenizedExample.token_ends`). Every alignment of an
example is computed once, when the rows are encoded; the collator only shifts it to its place in the batch.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from understudy.tokens.boundaries import UNKNOWN
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.template import Template
from understudy.tokens.vocabulary import VocabularyMap, vocabulary_map
from understudy.types import AlignmentKind

Ints = NDArray[np.int64]

_FAR = 1 << 30
_NONE = np.empty(0, np.int64)


@dataclass(frozen=True)
class RowAlignment:
    """The alignment of one example; indices count its own answer tokens, −1 is none.

    Attributes:
        partners: `[N_s]` the teacher's token that stands beside the student's. Of a group, one token a side has a
            partner: the first (or the last, where `CrossTokenizer.last`).
        student_groups: `[N_s]` that token of the student, for each token of its group; empty without groups.
        teacher_groups: `[N_t]` the same token of the *student*, for each of the teacher's tokens in the group.
    """

    partners: Ints
    student_groups: Ints = field(default_factory=lambda: _NONE)
    teacher_groups: Ints = field(default_factory=lambda: _NONE)


@dataclass(frozen=True)
class CrossTokenizer:
    """What lies between two tokenizers: which ids mean the same, and how answers are aligned.

    Attributes:
        kind: `exact` (equal bytes of the answer), `min_edit` (dynamic time warping over the tokens that were read),
            `start` (the n-th token beside the n-th), `groups` (runs of tokens between common boundaries).
        vocabulary: which of the student's ids stands for which of the teacher's.
        last: for groups, let the last tokens stand for the group, not the first.
    """

    kind: AlignmentKind
    vocabulary: VocabularyMap
    last: bool = False

    @classmethod
    def between(
        cls,
        kind: AlignmentKind,
        student: Template,
        teacher: Template,
        *,
        last: bool = False,
        only: Collection[int] | None = None,
    ) -> CrossTokenizer:
        """What lies between two tokenizers; the map of their vocabularies is computed once a pair (seconds to minutes).

        Args:
            kind: how answers are aligned.
            student: the student's template.
            teacher: the teacher's.
            last: for groups, let the last tokens stand for the group.
            only: ids of the teacher; no other one will be aligned, which saves looking for what is nearest to it.

        Raises:
            ModelError: one of them is not a tokenizer of the `tokenizers` library.
        """
        ends = student.end_id, teacher.end_id
        vocabulary = vocabulary_map(
            student.tokenizer, teacher.tokenizer, ends=ends, nearest=kind == "min_edit", only=only
        )
        return cls(kind, vocabulary, last)

    def align(self, student: TokenizedExample, teacher: TokenizedExample, answer: str) -> RowAlignment:
        """Align one answer.

        Args:
            student: the student's tokens, with the places where they end.
            teacher: the teacher's.
            answer: the text that both were made from.
        """
        if self.kind == "start":
            return by_position(len(student.answer_ids), len(teacher.answer_ids))
        if not student.token_ends or not teacher.token_ends:
            return _no_partners(len(student.answer_ids), len(teacher.answer_ids), groups=self.kind == "groups")
        student_ends, teacher_ends = np.array(student.token_ends), np.array(teacher.token_ends)
        if student.answer_prefix != teacher.answer_prefix:
            # What the templates put before the answer differs: no place in it is one that both know.
            student_ends[(student_ends < 0) & (student_ends != UNKNOWN)] -= _FAR
        if self.kind == "exact":
            return by_span(student_ends, teacher_ends)
        if self.kind == "groups":
            return by_groups(student_ends, teacher_ends, last=self.last)
        ids = np.array(student.answer_ids), np.array(teacher.answer_ids)
        return by_edit_distance(
            (student_ends, ids[0]), (teacher_ends, ids[1]), answer.strip().encode(), self.vocabulary.nearest
        )

    def without_partners(self, num_student: int, num_teacher: int) -> RowAlignment:
        """The alignment of an answer of which no token has a partner."""
        return _no_partners(num_student, num_teacher, groups=self.kind == "groups")


def by_position(num_student: int, num_teacher: int) -> RowAlignment:
    """The n-th token beside the n-th, as far as the shorter side goes (ULD)."""
    positions = np.arange(num_student)
    return RowAlignment(np.where(positions < num_teacher, positions, -1))


def by_span(student_ends: Ints, teacher_ends: Ints) -> RowAlignment:
    """Tokens that cover the same bytes of the answer; all others have no partner (exact token alignment, DSKDv2).

    Args:
        student_ends: where the student's tokens end (`TokenizedExample.token_ends`).
        teacher_ends: the same of the teacher.
    """
    partners = np.full(len(student_ends) - 1, -1)
    (student_spans, student_places), (teacher_spans, teacher_places) = _spans(student_ends), _spans(teacher_ends)
    _, in_student, in_teacher = np.intersect1d(student_spans, teacher_spans, assume_unique=True, return_indices=True)
    partners[student_places[in_student]] = teacher_places[in_teacher]
    return RowAlignment(partners)


def by_groups(student_ends: Ints, teacher_ends: Ints, *, last: bool = False) -> RowAlignment:
    """The shortest runs of tokens that begin and end at the same byte on both sides (GOLD).

    Tokens that cover nothing belong to no group, nor does anything behind the last common boundary, nor the first
    run where the templates put different things before the answer.
    """
    alignment = _no_partners(len(student_ends) - 1, len(teacher_ends) - 1, groups=True)
    student_places, teacher_places = _covering(student_ends), _covering(teacher_ends)
    common = np.intersect1d(student_ends[1:][student_places], teacher_ends[1:][teacher_places])
    common = common[common != UNKNOWN]
    if not len(common):
        return alignment
    # A run's number is how many common boundaries lie before its end; what lies behind the last one is no run.
    student_runs = np.searchsorted(common, _ends(student_ends)[student_places])
    teacher_runs = np.searchsorted(common, _ends(teacher_ends)[teacher_places])
    numbers = np.arange(len(common))
    if student_ends[student_places[0]] != teacher_ends[teacher_places[0]]:
        numbers = numbers[1:]
    student_anchors = student_places[_edge(student_runs, numbers, last=last)]
    teacher_anchors = teacher_places[_edge(teacher_runs, numbers, last=last)]
    alignment.partners[student_anchors] = teacher_anchors
    anchors = np.full(len(common) + 1, -1)
    anchors[numbers] = student_anchors
    alignment.student_groups[student_places] = anchors[student_runs]
    alignment.teacher_groups[teacher_places] = anchors[teacher_runs]
    return alignment


def by_edit_distance(
    student: tuple[Ints, Ints], teacher: tuple[Ints, Ints], answer: bytes, nearest: Ints
) -> RowAlignment:
    """Minimum edit distance alignment (MinED): dynamic time warping of the two sequences of tokens that were read.

    The cost of matching two tokens is the edit distance of the bytes they cover. A position has a partner where its
    match is one to one and the teacher's token maps to the student's own: then both have read the same. The end of
    the prompt, which predicts the first token, counts as one token that both share.

    Args:
        student: where the student's tokens end, and its answer tokens.
        teacher: the same of the teacher.
        answer: the stripped answer.
        nearest: `[V_t]` the student's id for each of the teacher's.
    """
    (student_ends, student_ids), (teacher_ends, teacher_ids) = student, teacher
    read = [_pieces(token_ends, answer)[:-1] for token_ends in (student_ends, teacher_ends)]
    same = np.zeros(len(student_ids), dtype=bool)
    partners = np.full(len(student_ids), -1)
    same[0] = student_ends[0] == teacher_ends[0]
    partners[0] = 0
    if all(read):
        rows, columns = warp(process.cdist(read[0], read[1], scorer=Levenshtein.distance, dtype=np.int32))
        single = (np.bincount(rows)[rows] == 1) & (np.bincount(columns)[columns] == 1)
        rows, columns = rows[single], columns[single]
        partners[rows + 1] = columns + 1
        same[rows + 1] = nearest[teacher_ids[columns]] == student_ids[rows]
    return RowAlignment(np.where(same, partners, -1))


def warp(cost: NDArray[np.integer]) -> tuple[Ints, Ints]:
    """The cheapest warping path through a matrix of costs: its rows and its columns, `[path]` each.

    D_ij = c_ij + min(D_(i−1)(j−1), D_(i−1)j, D_i(j−1)). A row of D is one scan: with C the running sum of c_i,
    D_ij = C_j + min_(k ≤ j) (m_k − C_(k−1)), where m_k = min(D_(i−1)k, D_(i−1)(k−1)). Of equally cheap steps the
    diagonal is taken.
    """
    total = np.empty(cost.shape, np.int64)
    total[0] = np.cumsum(cost[0])
    for i in range(1, len(cost)):
        above = total[i - 1]
        entered = above.copy()
        np.minimum(above[1:], above[:-1], out=entered[1:])
        running = np.cumsum(cost[i])
        total[i] = running + np.minimum.accumulate(entered - (running - cost[i]))
    return _walk_back(list(total.tolist()))  # pyright: ignore[reportArgumentType]


def _walk_back(total: list[Any]) -> tuple[Ints, Ints]:
    i, j = len(total) - 1, len(total[0]) - 1
    path = [(i, j)]
    while i or j:
        if i and j:
            diagonal, up, left = total[i - 1][j - 1], total[i - 1][j], total[i][j - 1]
            i, j = (i - 1, j - 1) if diagonal <= min(up, left) else (i - 1, j) if up <= left else (i, j - 1)
        else:
            i, j = max(i - 1, 0), max(j - 1, 0)
        path.append((i, j))
    steps = np.array(path[::-1])
    return steps[:, 0], steps[:, 1]


def _no_partners(num_student: int, num_teacher: int, *, groups: bool) -> RowAlignment:
    none = np.full(num_student, -1)
    return RowAlignment(none, none.copy(), np.full(num_teacher, -1)) if groups else RowAlignment(none)


def _spans(token_ends: Ints) -> tuple[Ints, Ints]:
    """One number for each pair of known, different cuts, and the tokens they belong to."""
    known = (token_ends[1:] != UNKNOWN) & (token_ends[:-1] != UNKNOWN) & (token_ends[1:] > token_ends[:-1])
    places = np.flatnonzero(known)
    return (token_ends[places] << 32) + token_ends[places + 1] + _FAR, places


def _edge(runs: Ints, numbers: Ints, *, last: bool) -> Ints:
    """The first (or last) place of each of some runs among tokens in order."""
    return np.searchsorted(runs, numbers, side="right") - 1 if last else np.searchsorted(runs, numbers)


def _ends(token_ends: Ints) -> Ints:
    """Where each token ends; one that ends inside a character, where the one that completes it does."""
    ends = token_ends[1:].copy()
    for i in range(len(ends) - 2, -1, -1):
        if ends[i] == UNKNOWN:
            ends[i] = ends[i + 1]
    return ends


def _covering(token_ends: Ints) -> Ints:
    """The tokens that cover something."""
    before = np.maximum.accumulate(token_ends)[:-1]  # UNKNOWN is smaller than any place
    ends = _ends(token_ends)
    return np.flatnonzero(ends > before)


def _pieces(token_ends: Ints, answer: bytes) -> list[bytes]:
    """The bytes that each token covers; tokens inside a character cover all of it."""
    before = np.maximum.accumulate(token_ends)[:-1]
    spans = zip(before.clip(0).tolist(), _ends(token_ends).clip(0).tolist(), strict=True)
    return [answer[start:end] for start, end in spans]
