"""Ratings from anywhere: what is read, and what is refused in one line."""

import csv
from pathlib import Path

import numpy as np
import pytest

from understudy.errors import DataError
from understudy.study.attention import RaterRow, inattentive, same_rating_shares
from understudy.study.config import ExclusionConfig
from understudy.study.ratings import read_foresight, read_preferences, read_ratings

COLUMNS = ["rater", "item", "method", "construct", "rating"]
ROWS = [
    ["r1", "q1", "a", "clear", 4],
    ["r1", "q1", "a", "full", 2],
    ["r1", "q2", "b", "clear", 5],
    ["r1", "q2", "b", "full", ""],
    ["r2", "q1", "b", "clear", 1],
    ["r2", "q1", "b", "full", 3],
]


def table(path: Path, columns, rows) -> Path:
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([columns, *rows])
    return path


def test_a_row_an_explanation_and_a_column_a_construct(tmp_path) -> None:
    found = read_ratings(table(tmp_path / "ratings.csv", COLUMNS, ROWS))
    assert found.constructs == ("clear", "full")
    assert found.outcomes == ("clear", "full", "quality")
    assert list(zip(found.rater, found.item, found.method, strict=True)) == [
        *(("r1", "q1", "a"), ("r1", "q2", "b"), ("r2", "q1", "b"))
    ]
    np.testing.assert_array_equal(found.values, [[4, 2], [5, np.nan], [1, 3]])
    np.testing.assert_array_equal(found.of("quality"), [3, np.nan, 2])
    assert np.isnan(found.length).all()


def test_columns_of_another_tool_and_parquet(tmp_path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    names = ["Participant", "Q", "System", "Scale", "Score"]
    path = table(tmp_path / "survey.csv", names, ROWS)
    found = read_ratings(path, dict(zip(COLUMNS, names, strict=True)))
    rows = [row for row in ROWS if row[4] != ""]
    parquet.write_table(
        pa.table({name: [row[k] for row in rows] for k, name in enumerate(COLUMNS)}), tmp_path / "r.parquet"
    )
    again = read_ratings(tmp_path / "r.parquet")
    np.testing.assert_array_equal(found.values, again.values)
    with pytest.raises(DataError, match="no column rater") as error:
        read_ratings(path)
    assert "--columns rater=COLUMN" in error.value.hint


def test_names_that_an_export_hid_from_spreadsheets_come_back(tmp_path) -> None:
    found = read_ratings(table(tmp_path / "ratings.csv", COLUMNS, [["'=1+1", "'-q", "'@m", "clear", 3]]))
    assert (found.rater[0], found.item[0], found.method[0]) == ("=1+1", "-q", "@m")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*ROWS, ["r1", "q1", "a", "clear", 5]], "row 7: r1 rated clear of q1 .a. twice"),
        ([["r1", "q1", "a", "clear", "good"]], "row 1: rating is 'good', no number"),
        ([["r1", "q1", "a", "clear", "inf"]], "no number"),
        ([["r1", "q1", "a", "clear", ""]], "holds no rating"),
        ([["r1", "q1", "a", "clear"]], "4 cells under a header of 5"),
    ],
)
def test_tables_that_are_refused(tmp_path, rows, message) -> None:
    with pytest.raises(DataError, match=message):
        read_ratings(table(tmp_path / "ratings.csv", COLUMNS, rows))


def test_preferences_name_a_method_or_a_side(tmp_path) -> None:
    columns = ["rater", "item", "first", "second", "preferred"]
    rows = [["r1", "q1", "a", "b", "b"], ["r1", "q2", "b", "a", "first"], ["r2", "q1", "a", "b", "tie"]]
    found = read_preferences(table(tmp_path / "pairs.csv", columns, rows))
    assert [choice.outcome for choice in found] == [0.0, 1.0, 0.5]
    with pytest.raises(DataError, match="preferred is 'c'"):
        read_preferences(table(tmp_path / "bad.csv", columns, [["r1", "q1", "a", "b", "c"]]))


def test_guesses_without_an_answer_are_left_out(tmp_path) -> None:
    columns = ["rater", "item", "method", "predicted", "correct"]
    rows = [["r1", "q1", "a", "x", "true"], ["r1", "q2", "b", "y", "False"], ["r2", "q1", "a", "", ""]]
    found = read_foresight(table(tmp_path / "simulation.csv", columns, rows))
    assert found.of("foresight").tolist() == [1.0, 0.0]
    with pytest.raises(DataError, match="correct is 'perhaps'"):
        read_foresight(table(tmp_path / "bad.csv", columns, [["r1", "q1", "a", "x", "perhaps"]]))


def test_inattention_by_each_rule_and_by_none(tmp_path) -> None:
    columns = [*COLUMNS, "seconds"]
    rows = []
    for number in range(10):
        rows += [["flat", f"q{number}", "a", "clear", 3, 30], ["quick", f"q{number}", "a", "clear", number % 5 + 1, 2]]
        rows += [
            ["good", f"q{number}", "b", "clear", number % 4 + 1, 30],
            ["failed", f"q{number}", "b", "clear", number % 5 + 1, 30],
        ]
    ratings = read_ratings(table(tmp_path / "ratings.csv", columns, rows))
    assert same_rating_shares(ratings)["flat"] == 1.0
    raters = {"failed": RaterRow("failed", attention_failed=2), "good": RaterRow("good")}
    seen = ("flat", "quick", "good", "failed")
    strict = ExclusionConfig(attention_failed=2, same_rating_share=0.8, median_seconds=5)
    found = inattentive(ratings, raters, strict, seen)
    assert set(found.left_out) == {"flat", "quick", "failed"}
    assert found.by_reason == {
        "one rating for nearly everything": 1,
        "too fast": 1,
        "failed attention checks": 1,
    }
    nothing = ExclusionConfig(attention_failed=None)
    assert inattentive(ratings, raters, nothing, seen).left_out == {}
    by_hand = {**raters, "good": RaterRow("good", excluded=True, reason="knew the methods")}
    assert inattentive(ratings, by_hand, nothing, seen).left_out == {"good": "excluded by hand: knew the methods"}
