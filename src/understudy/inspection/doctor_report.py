"""What the vocabulary doctor reports; `DoctorReport.to_json` is what `understudy doctor --json` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from understudy.inspection.server_report import ServerReport
from understudy.records.base import Record, json_value
from understudy.tokens.compatibility import AlignmentShares
from understudy.tokens.template_checks import Thinking


@dataclass(frozen=True)
class MethodReport(Record):
    """Whether a method is sound for the pair.

    Attributes:
        verdict: sound, weak or unsound.
        why: in a sentence.
        hint: what to do where it is unsound.
        aligned: share of the student's answer tokens that the method learns on; None where it aligns nothing.
    """

    verdict: str
    why: str
    hint: str
    aligned: float | None


@dataclass(frozen=True)
class SideReport(Record):
    """One of the two tokenizers, and its template.

    Attributes:
        model: as the recipe names it.
        tokens: entries of the vocabulary.
        columns: of the head; None without a config.
        padding_rows: columns beyond the vocabulary; None without a config.
        special: `bos`, `eos`, `pad`, `unk` → token.
        end: what an answer ends with.
        end_id: its id.
        thinking: what the template does about thoughts.
        lost: what does not come back when it is encoded and decoded.
        answers_altered: answers of the rows that do not come back as they were.
        notes: what had to be made up for.
    """

    model: str
    tokens: int
    columns: int | None
    padding_rows: int | None
    special: Mapping[str, str | None]
    end: str
    end_id: int
    thinking: Thinking
    lost: Sequence[str]
    answers_altered: int
    notes: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """JSON-able, with what the template does about thoughts in words too."""
        return {**super().to_json(), "thinking": {**vars(self.thinking), "text": self.thinking.text}}


@dataclass(frozen=True)
class VocabularyReport(Record):
    """How the two vocabularies differ.

    Attributes:
        difference: in words; empty where they are one vocabulary.
        same: ids that write the same on both sides.
        moved: number of tokens that both can write, under another id.
        student_only: number of tokens that only the student has.
        teacher_only: the same of the teacher.
        clashing: some of (id, student's token, teacher's token) where one id writes two things.
        renamed: the same for special tokens, which write nothing.
        cut_alike: whether a probing text becomes the same ids.
    """

    difference: str
    same: int
    moved: int
    student_only: int
    teacher_only: int
    clashing: Sequence[tuple[int, str, str]]
    renamed: Sequence[tuple[int, str, str]]
    cut_alike: bool


@dataclass(frozen=True)
class RenderedConversation(Record):
    """One conversation as both sides render it; the mappings are side → text.

    Attributes:
        id: of the example.
        same_prompt: whether both prompts are the same text.
        same_lead: whether the same stands before both answers.
        prompt: all that stands before the answer.
        lead: what the template puts between the two.
        answer_tokens: the answer, token by token.
    """

    id: str
    same_prompt: bool
    same_lead: bool
    prompt: Mapping[str, str]
    lead: Mapping[str, str]
    answer_tokens: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class DoctorReport:
    """All that the doctor finds out about a pair.

    Attributes:
        method: the recipe's.
        methods: method → whether it is sound.
        student: the student's tokenizer.
        teacher: the teacher's.
        vocabularies: how they differ.
        templates: one conversation as both render it.
        shares: what alignment gives on the rows.
        gold_rows: rows with an answer, of which `shares.rows` were looked at.
        notes: whatever else has to be known.
        refused: what `run` refuses of the rows whatever the method, in a sentence; empty where nothing.
        refused_hint: what to do then.
        server: what the conformance test found of a teacher on a server; None where it is here.
    """

    method: str
    methods: Mapping[str, MethodReport]
    student: SideReport
    teacher: SideReport
    vocabularies: VocabularyReport
    templates: RenderedConversation
    shares: AlignmentShares
    gold_rows: int
    notes: Sequence[str]
    refused: str = ""
    refused_hint: str = ""
    server: ServerReport | None = None

    @property
    def unsound(self) -> bool:
        """Whether the recipe's method is; `run` refuses it."""
        return self.methods[self.method].verdict == "unsound"

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "method": self.method,
            "unsound": self.unsound,
            "methods": json_value(self.methods),
            "student": self.student.to_json(),
            "teacher": self.teacher.to_json(),
            "vocabularies": self.vocabularies.to_json(),
            "templates": self.templates.to_json(),
            "rows": {**vars(self.shares), "of": self.gold_rows},
            "notes": list(self.notes),
            "refused": self.refused,
            "refused_hint": self.refused_hint,
            **({"server": self.server.to_json()} if self.server else {}),
        }
