"""Which methods are sound for two tokenizers and their templates, and why: one judgement for `doctor` and for `run`.

Vocabularies are compared id by id, by what each id writes. Equal width is not equality: two heads of 32,000 columns
may mean 32,000 different things by them. No weights are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from understudy.errors import ModelError
from understudy.recipe import METHODS, MethodConfig
from understudy.tokens.template import Template
from understudy.tokens.template_checks import embedding_fault, open_thought, without_embedding
from understudy.tokens.vocabulary import token_bytes, vocabulary_of

MAX_EXTRA_TOKENS = 0.01
"""Share of the smaller vocabulary up to which tokens that only one side has are left out of the comparison."""
WEAK = 0.5
"""Share of the student's answer tokens below which an alignment is called weak."""

PROBE = "The quick brown fox (AMF, N2) costs 12,345.60 €; naïve\n\tcafé 漢字 🙂 x_1 != y"
Verdict = Literal["sound", "weak", "unsound"]
Cause = Literal["", "vocabulary", "template", "tokenizer", "head", "rows"]


@dataclass(frozen=True)
class Vocabularies:
    """What the ids of two tokenizers write.

    Attributes:
        tokens: entries of the student's vocabulary and of the teacher's.
        same: ids that write the same on both sides.
        moved: what both can write, under another id.
        student_only: (id, token) of what only the student writes.
        teacher_only: the same of the teacher.
        clashing: (id, student's token, teacher's token) where one id writes two things.
        renamed: the same for special tokens on both sides, which write nothing.
        cut_alike: whether a probing text becomes the same ids.
    """

    tokens: tuple[int, int]
    same: int
    moved: Sequence[str]
    student_only: Sequence[tuple[int, str]]
    teacher_only: Sequence[tuple[int, str]]
    clashing: Sequence[tuple[int, str, str]]
    renamed: Sequence[tuple[int, str, str]]
    cut_alike: bool

    @property
    def difference(self) -> str:
        """Why the two are not one vocabulary, in words; empty where they are."""
        num_student, num_teacher = self.tokens
        extra = len(self.student_only) + len(self.teacher_only)
        if self.moved or self.clashing or extra > MAX_EXTRA_TOKENS * min(num_student, num_teacher):
            sentence = (
                f"student {num_student:,} tokens, teacher {num_teacher:,}; "
                f"{len(self.student_only):,} only the student's, {len(self.teacher_only):,} only the teacher's, "
                f"{len(self.moved):,} under another id"
            )
            if self.clashing:
                place, student_token, teacher_token = self.clashing[0]
                sentence += f"; id {place} is {student_token!r} to the student and {teacher_token!r} to the teacher"
            return sentence
        if not self.cut_alike:
            return "equal vocabularies, but a text is cut differently (normaliser or merges differ)"
        return ""


def compare_vocabularies(student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase) -> Vocabularies:
    """Compare two vocabularies id by id."""
    (student_entries, student_names), (teacher_entries, teacher_names) = _entries(student), _entries(teacher)
    student_places, teacher_places = _places(student_entries), _places(teacher_entries)
    same, clashing, renamed = 0, [], []
    for i, (entry, teacher_entry) in enumerate(zip(student_entries, teacher_entries, strict=False)):
        if entry is None or teacher_entry is None:
            continue
        same += entry[1] == teacher_entry[1]
        if entry[1] != teacher_entry[1]:
            both_special = entry[0] and teacher_entry[0]
            (renamed if both_special else clashing).append((i, student_names[i], teacher_names[i]))
    written = [(i, entry[1]) for i, entry in enumerate(student_entries) if entry]
    teacher_written = [(i, entry[1]) for i, entry in enumerate(teacher_entries) if entry]
    return Vocabularies(
        tokens=(len(written), len(teacher_written)),
        same=same,
        moved=[student_names[i] for i, text in written if i not in teacher_places.get(text, {i})],
        student_only=[(i, student_names[i]) for i, text in written if text not in teacher_places],
        teacher_only=[(i, teacher_names[i]) for i, text in teacher_written if text not in student_places],
        clashing=clashing,
        renamed=renamed,
        cut_alike=_ids(student) == _ids(teacher),
    )


def vocabulary_difference(student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase) -> str:
    """Why two tokenizers are not one vocabulary, in words; empty where they are."""
    return compare_vocabularies(student, teacher).difference


Entry = tuple[bool, bytes]


def _entries(tokenizer: PreTrainedTokenizerBase) -> tuple[list[Entry | None], list[str]]:
    """Of each id whether it is special, and the bytes it writes (a special one: its name); and the names."""
    vocabulary = vocabulary_of(tokenizer)
    names = [name or "" for name in vocabulary.names]
    try:
        spelled = token_bytes(tokenizer)
    except ModelError:  # A slow tokenizer does not say how it writes bytes; its names stand for them.
        spelled = [name.encode() for name in names]
    entries: list[Entry | None] = [
        None if name is None else (True, name.encode()) if text is None else (False, text)
        for name, text in zip(vocabulary.names, spelled, strict=True)
    ]
    return entries, names


def _places(entries: Sequence[Entry | None]) -> dict[bytes, set[int]]:
    ids_by_bytes: dict[bytes, set[int]] = {}
    for i, entry in enumerate(entries):
        if entry is not None:
            ids_by_bytes.setdefault(entry[1], set()).add(i)
    return ids_by_bytes


def _ids(tokenizer: PreTrainedTokenizerBase) -> Any:
    return tokenizer(PROBE, add_special_tokens=False)["input_ids"]


@dataclass(frozen=True)
class TokenizerPair:
    """Two tokenizers with their templates and the width of their heads.

    Attributes:
        vocabularies: what their ids write.
        columns: columns of the student's head and of the teacher's; None where no config tells.
        ends: (id, token) that ends an answer, student's and teacher's.
        slow: sides whose tokenizer does not tell where tokens stand.
        open_thought: whether the prompt ends inside a thought, student's and teacher's.
        without_embedding: (id, token) of what a model has no embedding for, student's and teacher's.
    """

    vocabularies: Vocabularies
    columns: tuple[int | None, int | None]
    ends: tuple[tuple[int, str], tuple[int, str]]
    slow: tuple[str, ...]
    open_thought: tuple[bool, bool]
    without_embedding: tuple[Sequence[tuple[int, str]], Sequence[tuple[int, str]]] = ((), ())

    @classmethod
    def of(
        cls, student: Template, teacher: Template, columns: tuple[int | None, int | None] = (None, None)
    ) -> TokenizerPair:
        """Look at two templates."""
        sides = {"student": student, "teacher": teacher}
        return cls(
            vocabularies=compare_vocabularies(student.tokenizer, teacher.tokenizer),
            columns=columns,
            ends=(_end(student), _end(teacher)),
            slow=tuple(name for name, side in sides.items() if not hasattr(side.tokenizer, "backend_tokenizer")),
            open_thought=(open_thought(student), open_thought(teacher)),
            without_embedding=(without_embedding(student, columns[0]), without_embedding(teacher, columns[1])),
        )


def _end(template: Template) -> tuple[int, str]:
    return template.end_id, str(template.tokenizer.convert_ids_to_tokens(template.end_id))


@dataclass(frozen=True)
class AlignmentShares:
    """What alignment gives on rows of the data; each a share of the student's answer tokens unless stated.

    Attributes:
        rows: rows looked at.
        same_targets: share of the *rows* whose answers are the same ids on both sides.
        exact: tokens with a partner that covers the same bytes.
        min_edit: tokens with a partner by minimum edit distance.
        groups: tokens in a group that both sides can write.
        by_position: n-th tokens that stand beside an n-th one covering the same bytes.
    """

    rows: int
    same_targets: float
    exact: float
    min_edit: float
    groups: float
    by_position: float


@dataclass(frozen=True)
class Judgement:
    """Whether a method is sound for a pair.

    Attributes:
        verdict: `sound`; `weak`, where it can be used and little comes of it; `unsound`, which `run` refuses.
        why: in a sentence.
        cause: what is at fault, where it is unsound.
        hint: what to do then.
    """

    verdict: Verdict
    why: str
    cause: Cause = ""
    hint: str = ""


def assess_method(method: str, pair: TokenizerPair, shares: AlignmentShares | None = None) -> Judgement:
    """Judge one method.

    Args:
        method: as in `distil.method`; what it asks of a pair stands on its class.
        pair: what is known of the two sides.
        shares: what alignment gives on rows, where somebody looked.
    """
    fault = _fault_of_pair(pair)
    if fault is not None:
        return fault
    config = METHODS[method]
    if config.one_vocabulary:
        return _column_by_column(pair, shares)
    same = not pair.vocabularies.difference
    if config.alignment is None:
        why = "attention aligns the answers; neither ids nor places need to agree"
        return Judgement("sound", f"{why}, though one vocabulary also allows kd and dskd" if same else why)
    if pair.slow:
        side = " and ".join(pair.slow)
        hint = "give the model a tokenizer.json, or use method: dskd_cma"
        return Judgement("unsound", f"{side}: a slow tokenizer does not tell where tokens stand", "tokenizer", hint)
    return _aligned(config, shares)


def _fault_of_pair(pair: TokenizerPair) -> Judgement | None:
    for side, columns, (place, name) in zip(("student", "teacher"), pair.columns, pair.ends, strict=True):
        if columns is not None and place >= columns:
            why = f"the {side}'s answers end with {name!r}, id {place}, and its head has {columns:,} columns"
            return Judgement("unsound", why, "head", "take the tokenizer that belongs to the model")
    for side, columns, tokens in zip(("student", "teacher"), pair.columns, pair.without_embedding, strict=True):
        if tokens:
            why, hint = embedding_fault(side, tokens, columns)
            return Judgement("unsound", why, "head", hint)
    if pair.open_thought[0] != pair.open_thought[1]:
        side = "student" if pair.open_thought[0] else "teacher"
        why = f"the {side}'s prompt ends inside a thought and the other's does not: one thinks where the other answers"
        return Judgement("unsound", why, "template", f"give {side}.chat_template one that closes or leaves out <think>")
    return None


def _column_by_column(pair: TokenizerPair, shares: AlignmentShares | None) -> Judgement:
    difference = pair.vocabularies.difference
    if difference:
        names = [name for name, c in METHODS.items() if not c.one_vocabulary and _usable(name, pair)]
        hint = (
            f"distil.method={' or '.join(names)} works across vocabularies; or take a student of the teacher's family"
        )
        return Judgement("unsound", f"needs one vocabulary, and the two differ: {difference}", "vocabulary", hint)
    hint = "give both the same chat_template in the recipe, or use method: dskd_v2 or dskd_cma"
    (student_end, student_name), (teacher_end, teacher_name) = pair.ends
    if student_end != teacher_end:
        why = f"compares position by position, and answers end differently: {student_name!r} and {teacher_name!r}"
        return Judgement("unsound", why, "template", hint)
    if shares is not None and shares.same_targets < 1:
        unequal = f"{1 - shares.same_targets:.1%} of {shares.rows} answers become different tokens"
        return Judgement("unsound", f"compares position by position, and {unequal}", "rows", hint)
    return Judgement("sound", "every id writes the same on both sides, and answers are cut alike")


def _usable(method: str, pair: TokenizerPair) -> bool:
    return assess_method(method, pair).verdict != "unsound"


def _aligned(config: type[MethodConfig], shares: AlignmentShares | None) -> Judgement:
    if shares is None or config.share is None:
        return Judgement("sound", "aligns answers by the bytes that tokens cover")
    share = getattr(shares, config.share)
    why = f"{share:.1%} {config.share_means}"
    if share == 0 and config.needs_partners:
        hint = "use method: dskd_cma, or give both a chat_template that starts alike"
        return Judgement("unsound", why, "rows", hint)
    return Judgement("weak" if share < WEAK else "sound", why)
