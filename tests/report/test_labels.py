"""Arms are declared in one place and drawn in another; both know the same ones."""

from __future__ import annotations

import pytest

from understudy.arms import ARMS, contrasts, main_arm, trained_arms
from understudy.report.labels import LABELS, label_of, labels


def test_every_arm_has_a_label_and_every_label_an_arm() -> None:
    assert LABELS.keys() == ARMS.keys()
    assert (
        len({label.colour for label in LABELS.values()})
        == len({label.marker for label in LABELS.values()})
        == len(ARMS)
    )
    assert all(label_of(arm).title for arm in trained_arms())


def test_what_an_arm_is_compared_with_is_an_arm() -> None:
    for arm in ARMS.values():
        assert arm.name not in arm.against
        assert set(arm.against) <= ARMS.keys()
        assert arm.equals_without_unlabelled in ("", *ARMS)


def test_arms_without_a_label_go_by_their_name_in_free_colours() -> None:
    label_of = labels(["sft", "reverse", "states"])
    assert [label.label for label in label_of.values()] == ["SFT-only", "reverse", "states"]
    assert len({label.colour for label in label_of.values()}) == 3
    assert not {label.colour for name, label in label_of.items() if name != "sft"} & {x.colour for x in LABELS.values()}


@pytest.mark.parametrize(
    ("arms", "main"),
    [
        (["sft", "distilled", "explained"], "distilled"),
        (["sft", "explained"], "explained"),
        (["sft", "distilled", "reverse"], "distilled"),
        (["sft", "reverse", "states"], "reverse"),
        (["sft"], "distilled"),
    ],
)
def test_a_run_is_about_one_arm(arms: list[str], main: str) -> None:
    assert main_arm(arms) == main


def test_an_arm_of_a_recipes_own_is_compared_with_the_one_it_is_like() -> None:
    pairs = list(contrasts(["sft", "seqkd", "distilled", "kept", "teacher"], {"kept": "seqkd"}))
    assert ("kept", "seqkd") in pairs
    assert ("kept", "sft") in pairs
    assert ("kept", "distilled") not in pairs
    assert pairs[0] == ("distilled", "sft")
    assert len(set(pairs)) == len(pairs)
