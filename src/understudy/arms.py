"""The arms of a run, each declared once: what it learns, whose signal it reads, what it is compared with.

An *arm* is one line of the comparison: the teacher, the student as it came, a student trained in one way, the
majority answer, always the first option. Whatever a run does with an arm – its stages, its rows, its differences –
follows from what stands here.
Label, colour, marker and title stand in `report.labels`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from understudy.extensions import claim

Learns = Literal["gold", "teacher_text", "gold_and_teacher_text", "candidates", "task_texts", "knowledge"]
"""Gold answers; the teacher's answers in their place; gold where there is some and the teacher's elsewhere; several
answers, as the teacher weighs them; the texts of `tasks`; gold with what `knowledge` says of sessions."""
_CONSTRAINED = "_constrained"


@dataclass(frozen=True)
class Arm:
    """One line of the comparison.

    Attributes:
        name: as in `evaluate.arms`, in stage names and in files.
        learns: what it is trained on; None where this run trains nothing for it.
        model: whose model answers; None where no model does.
        reads_signal: whether the teacher's logits or states are in its loss, so that method and pair have to fit; an
            arm that learns the texts of tasks reads them with `tasks.logits` alone.
        flagship: whether it is what a run is about: its student is kept, its gap is measured. The first one counts.
        equals_without_unlabelled: the arm that it is the same as where every question has a gold answer, and the gold
            is kept (`seqkd.keep_gold`).
        against: the arms that it is compared with, in the order of the report: this one minus each of these.
    """

    name: str
    learns: Learns | None = None
    model: Literal["teacher", "student"] | None = "student"
    reads_signal: bool = False
    flagship: bool = False
    equals_without_unlabelled: str = ""
    against: tuple[str, ...] = ()

    @property
    def trained(self) -> bool:
        """Whether a run trains a student for it."""
        return self.learns is not None


DISTILLED = Arm(
    "distilled",
    learns="gold_and_teacher_text",
    reads_signal=True,
    flagship=True,
    against=("sft", "seqkd", "kd_gold", "explained", "base_student", "majority", "first_option"),
)
EXPLAINED = Arm(
    "explained",
    learns="task_texts",
    flagship=True,
    against=("sft", "seqkd", "base_student", "majority", "first_option"),
)
INFORMED = Arm("informed", learns="knowledge", flagship=True, against=("sft", "base_student", "majority"))
CANDIDATES = Arm(
    "candidates",
    learns="candidates",
    flagship=True,
    against=("sft", "seqkd", "distilled", "base_student", "majority", "first_option"),
)
SEQKD = Arm("seqkd", learns="teacher_text", equals_without_unlabelled="sft", against=("sft",))
KD_GOLD = Arm("kd_gold", learns="gold", reads_signal=True, equals_without_unlabelled="distilled")
SFT = Arm("sft", learns="gold")
TEACHER = Arm("teacher", model="teacher", against=("distilled", "explained", "sft"))
BASE_STUDENT = Arm("base_student")
MAJORITY = Arm("majority", model=None)
FIRST_OPTION = Arm("first_option", model=None)

ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        *(TEACHER, BASE_STUDENT, SFT, SEQKD, KD_GOLD, DISTILLED),
        *(CANDIDATES, EXPLAINED, INFORMED, MAJORITY, FIRST_OPTION),
    )
}
"""All arms by name, in the order in which tables show them."""


def register(arm: Arm) -> Arm:
    """Add an arm of one's own, so that recipes can name it in `evaluate.arms`; they name its file in `extensions`.

    Raises:
        ConfigError: there is one of this name already.
    """
    claim("arm", arm.name, ARMS)
    ARMS[arm.name] = arm
    return arm


def constrained(name: str) -> str:
    """The name under which an arm's constrained answers stand beside its free ones."""
    return f"{name}{_CONSTRAINED}"


def free_of(name: str) -> tuple[str, bool]:
    """The arm whose answers go by a name, and whether they are its constrained ones beside free ones."""
    return name.removesuffix(_CONSTRAINED), name.endswith(_CONSTRAINED)


def trained_arms() -> tuple[str, ...]:
    """Names of the arms that a recipe may ask for."""
    return tuple(name for name, arm in ARMS.items() if arm.trained)


def main_arm(names: Iterable[str], arms: Mapping[str, Arm] = ARMS) -> str:
    """The arm that a run is about: the first flagship among `names`, else one declared by the recipe, else `distilled`.

    Args:
        names: the arms of a run; those of the recipe's own are not in `arms`.
        arms: the declared ones.
    """
    names = list(names)
    flagships = [name for name, arm in arms.items() if arm.flagship and name in names]
    declared_by_recipe = [name for name in names if name not in arms]
    return next(iter((*flagships, *declared_by_recipe)), DISTILLED.name)


def contrasts(names: Iterable[str], likes: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The differences that are reported for some arms, as (arm, other arm): first minus second.

    An arm that a recipe declares is compared with the arm it is like, and with all that this one is compared with.

    Args:
        names: the arms that were evaluated.
        likes: arm of a recipe's own -> the declared arm that it is like; a name that is neither is like `distilled`.
    """
    names = list(dict.fromkeys(names))
    # What a run is about comes first, what is only a bound last.
    order = [DISTILLED.name, *(n for n in names if n not in ARMS), SEQKD.name, EXPLAINED.name, *ARMS]
    for name in sorted(names, key=lambda name: order.index(name)):
        yield from ((name, other) for other in _against(name, likes) if other in names)


def _against(name: str, likes: Mapping[str, str]) -> tuple[str, ...]:
    if name in ARMS:
        return ARMS[name].against
    base = ARMS[likes.get(name, DISTILLED.name)]
    return (base.name, *base.against)
