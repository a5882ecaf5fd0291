"""Each verdict on comparisons made for it, and the doctor's method for pairs of one and of two vocabularies."""

import random
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from understudy.errors import ConfigError
from understudy.metrics import score
from understudy.metrics.significance import Resampling, compare_many
from understudy.pilot.setup import choice_of, mapping_of, name_of
from understudy.pilot.verdict import Paired, judge, larger_student, more_rows, more_steps, paired_of

ALL = (400, 400)
SOME = (100, 400)


def paired(difference: float, half: float, items: int = 500) -> Paired:
    """A difference with an interval of so many points to either side."""
    low, high = difference - half, difference + half
    return Paired(difference, low, high, 1 if low > 0 else -1 if high < 0 else 0, items, 2000)


LEARNED = paired(30, 3)


def kind(gain: Paired, **others: Any) -> str:
    told = {"ahead": paired(20, 3), "learned": LEARNED, "rise": paired(0, 3), "rows": ALL, "least": 1.0, **others}
    return judge(gain=gain, **told).kind


@pytest.mark.parametrize(
    ("gain", "others", "expected"),
    [
        (paired(8, 3), {}, "worth it"),
        (paired(8, 3), {"rise": paired(9, 2), "rows": SOME}, "worth it"),
        (paired(0.4, 0.3), {}, "not worth it"),
        (paired(0.1, 0.6), {}, "not worth it"),
        (paired(-6, 2), {}, "not worth it"),
        (paired(2, 4), {"ahead": paired(-5, 2)}, "not worth it"),
        (paired(2, 4), {"ahead": paired(-1, 1.5)}, "not worth it"),
        (paired(2, 4), {}, "cannot tell"),
        (paired(-2, 4), {"ahead": paired(0, 5)}, "cannot tell"),
        # Nothing was learned, so nothing is known of what could be.
        (paired(0, 0.5), {"learned": paired(0, 0.5)}, "cannot tell"),
        # What would be a no at all rows is none while the student still rises with them.
        (paired(0, 0.5), {"rise": paired(6, 2), "rows": SOME}, "cannot tell"),
        (paired(-6, 2), {"rise": paired(6, 2), "rows": SOME}, "cannot tell"),
        (paired(0, 0.5), {"rise": paired(6, 2), "rows": ALL}, "not worth it"),
        # Too few items for an interval.
        (replace(paired(3, 1), low=None, high=None, sign=0), {}, "cannot tell"),
    ],
)
def test_the_verdict(gain: Paired, others: dict, expected: str) -> None:
    assert kind(gain, **others) == expected


def test_what_could_tell_is_named() -> None:
    by_items = judge(gain=paired(2, 4), ahead=paired(20, 3), learned=LEARNED, rise=None, rows=ALL, least=1.0)
    assert by_items.items_needed == 2000
    by_rows = judge(gain=paired(0, 0.5), ahead=paired(20, 3), learned=LEARNED, rise=paired(6, 2), rows=SOME, least=1.0)
    assert by_rows.rows_needed == 400


def test_items_that_could_tell_come_from_the_paired_differences() -> None:
    draws = random.Random(0)

    def answers(right: float, count: int) -> dict:
        texts = ["yes" if draws.random() < right else "no" for _ in range(count)]
        return {"exact_match": score(texts, [["yes"]] * count, metrics=["exact_match"])["exact_match"]}

    scores = {"distilled": answers(0.52, 200), "sft": answers(0.5, 200)}
    compared = compare_many(scores, contrasts=[("distilled", "sft")], resampling=Resampling(500))
    figures = paired_of(compared.tests[0], compared.settings, 5.0, 1)
    assert figures.sign == 0
    # With differences of variance 0.5, 5 points take about (2.8 / 0.05)² · 0.5 ≈ 1,570 items.
    size = max(5.0, abs(figures.difference)) / 100
    assert figures.items_needed == pytest.approx((2.8 / size) ** 2 * 0.5, rel=0.25)


def test_advice_rests_on_figures() -> None:
    assert more_rows(paired(6, 2), (50, 100), 1.0).answer == "yes"
    assert more_rows(paired(-1, 1.5), (50, 100), 1.0).answer == "no"
    assert more_rows(paired(2, 3), (50, 100), 1.0).answer == "cannot tell"
    assert more_rows(None, (50, 50), 1.0).answer == "cannot tell"
    assert "2,000 test items could tell" in more_rows(paired(2, 3), (50, 100), 1.0).why
    assert more_steps([[(10, 20.0), (20, 30.0)], [(10, 20.0), (20, 25.0)]], 1.0).answer == "yes"
    assert more_steps([[(10, 20.0), (20, 20.5)]], 1.0).answer == "no"
    assert more_steps([[(10, 20.0), (20, 30.0)], [(10, 20.0), (20, 19.0)]], 1.0).answer == "cannot tell"
    assert more_steps([], 1.0).answer == "cannot tell"
    assert larger_student(paired(9, 2), 1.0).answer == "yes"
    assert larger_student(paired(-9, 2), 1.0).answer == "no"
    assert larger_student(paired(2, 4), 1.0).answer == "cannot tell"


def judged(**verdicts: str) -> Any:
    names = ("kd", "byte_aligned", "dskd_v2", "min_edit", "uld", "dskd_cma")
    methods = {n: SimpleNamespace(verdict=verdicts.get(n, "unsound"), why=f"{n} is so", hint="other") for n in names}
    return SimpleNamespace(methods=methods)


def test_the_method_is_kd_for_one_vocabulary_and_else_the_first_sound_one() -> None:
    assert choice_of(judged(kd="sound", byte_aligned="sound")).method == "kd"
    assert choice_of(judged(byte_aligned="weak", min_edit="sound", uld="sound")).method == "min_edit"
    assert choice_of(judged(uld="weak", dskd_cma="sound")).method == "uld"
    with pytest.raises(ConfigError, match="no method suits this pair"):
        choice_of(judged(dskd_cma="sound"))
    with pytest.raises(ConfigError, match="min_edit is unsound for this pair"):
        choice_of(judged(kd="sound"), "min_edit")


def test_what_the_pilot_decides_itself_cannot_be_set_and_names_are_names_of_folders() -> None:
    with pytest.raises(ConfigError, match=r"data\.train_share is what the pilot decides itself"):
        mapping_of("qa.jsonl", "t", "s", ["data.train_share=0.5"])
    assert name_of("some where/my data.v2.jsonl") == "my-data"
    assert name_of("embedded:telecom") == "embedded-telecom"
    assert name_of("org/data-set") == "data-set"
