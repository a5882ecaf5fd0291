"""What an arm is called, and how it is drawn: the one place of the report that knows arms by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from understudy.arms import free_of


@dataclass(frozen=True)
class Label:
    """How an arm is shown.

    Attributes:
        label: in tables and plots.
        colour: of lines and marks, readable on white and on black.
        marker: Matplotlib's.
        title: what its training does, for the progress on the screen; empty where nothing is trained.
        student: its student, in a sentence.
        lesson: what it does, as the subject of a sentence.
        contrast: how a comparison of the main arm with it begins.
    """

    label: str
    colour: str
    marker: str
    title: str = ""
    student: str = ""
    lesson: str = ""
    contrast: str = ""


LABELS: dict[str, Label] = {
    "teacher": Label("Teacher", "#7c8594", "D"),
    "distilled": Label("Distilled", "#2b7fdb", "o", title="distil", student="distilled student", lesson="distillation"),
    "candidates": Label(
        "Candidates",
        "#c9a227",
        "d",
        title="train on answers as the teacher weighs them",
        student="student of weighed answers",
        lesson="learning several answers as the teacher weighs them",
    ),
    "explained": Label(
        "Explained",
        "#0e9aa7",
        "p",
        title="train on the teacher's texts",
        student="student taught by texts",
        lesson="learning from the teacher's texts",
    ),
    "informed": Label(
        "Informed",
        "#6f8f2f",
        "h",
        title="train on sessions with what is known of them",
        student="student that knows of sessions",
        lesson="knowledge of sessions",
    ),
    "seqkd": Label(
        "SeqKD",
        "#9a63d8",
        "s",
        title="train SeqKD student",
        contrast="Against SeqKD (the same steps on the teacher's own answers)",
    ),
    "kd_gold": Label(
        "KD on gold only",
        "#1f9d78",
        "^",
        title="distil on gold rows only",
        contrast="Against distillation on the gold rows only",
    ),
    "sft": Label("SFT-only", "#dd8423", "v", title="train SFT-only student"),
    "base_student": Label("Base student", "#a9906f", "P"),
    "majority": Label("Majority answer", "#c4536f", "X"),
    "first_option": Label("Always the first option", "#8d5a97", "8"),
}
"""In the order in which the run's report shows them."""

_SPARE_COLOURS = ("#3d5a99", "#b5651d", "#6b8e23", "#b0468e", "#5b6ee1", "#8a6d3b")
_SPARE_MARKERS = ("h", "*", "<", ">", "d", "H")


def label_of(name: str) -> Label:
    """How an arm is shown; one without a label goes by its name, with a colour that depends on nothing else."""
    base, is_constrained = free_of(name)
    if is_constrained and base in LABELS:
        return replace(LABELS[base], label=f"{LABELS[base].label}, constrained", marker="*", title="", contrast="")
    return LABELS.get(name) or _spare(name, sum(map(ord, name)))


def labels(names: Iterable[str]) -> dict[str, Label]:
    """How several arms are shown together: those without a label get one free colour after the other."""
    names = list(dict.fromkeys(names))
    spare = [name for name in names if free_of(name)[0] not in LABELS]
    return {name: _spare(name, spare.index(name)) if name in spare else label_of(name) for name in names}


def _spare(name: str, number: int) -> Label:
    colour = _SPARE_COLOURS[number % len(_SPARE_COLOURS)]
    marker = _SPARE_MARKERS[number % len(_SPARE_MARKERS)]
    return Label(name, colour, marker, title=f"train {name}", student=f"student {name}", lesson=name)
