"""Groups: rows of one context, document or field in one split, what straddles given splits counted, all of it said."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.data.groups import Grouping, cut_by_groups, cut_keys, grouping_of
from understudy.data.load import load_splits
from understudy.data.split import question_key
from understudy.errors import ConfigError, DataError
from understudy.evaluation.predict import group_of
from understudy.recipe import DataConfig, parse_recipe
from understudy.types import Example

HELD_OUT = ("dev", "test")
ROWS = st.lists(st.tuples(st.sampled_from("pqrstu"), st.sampled_from("cdefghi"), st.sampled_from("xyz ")), min_size=1)


def squad(path: Path, paragraphs: Sequence[int], *, start: int = 0, title: str = "Article") -> str:
    """A SQuAD file: paragraphs from number `start` on, each with so many questions; two paragraphs an article."""
    articles = [
        {
            "title": f"{title} {(start + n) // 2}",
            "paragraphs": [
                {
                    "context": f"In paragraph {start + n} word{start + n} stands.",
                    "document_id": start + n,
                    "qas": [
                        {
                            "id": f"{path.stem}-{start + n}-{k}",
                            "question": f"What stands there, asked for the time {path.stem} {k}?",
                            "answers": [{"text": f"word{start + n}", "answer_start": 13}],
                            "is_impossible": False,
                        }
                        for k in range(count)
                    ],
                }
            ],
        }
        for n, count in enumerate(paragraphs)
    ]
    path.write_text(json.dumps({"version": "v2.0", "data": articles}))
    return str(path)


def table(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    names = list(rows[0])
    lines = [",".join(names), *(",".join(str(row[name]) for name in names) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def parts(splits: Any) -> dict[str, tuple[Example, ...]]:
    return {name: getattr(splits, name) for name in ("train", "unlabelled", *HELD_OUT)}


def straddling(rows: dict[str, Sequence[Example]], value: Any) -> set[Any]:
    """What stands in training (unlabelled rows are learned) and in a held-out split, or in both of these."""
    learned = {value(row) for name in rows if name not in HELD_OUT for row in rows[name]}
    dev, test = ({value(row) for row in rows[name]} for name in HELD_OUT)
    return (learned & dev) | (learned & test) | (dev & test)


# -- no group in two splits --------------------------------------------------------------------------------------------


@given(rows=ROWS, seed=st.integers(0, 9), wanted=st.sampled_from(["auto", "context", "none", "doc"]), data=st.data())
def test_neither_a_group_nor_a_question_stands_in_two_splits(rows, seed, wanted, data) -> None:
    """Rows of few questions, contexts and documents, so that documents share questions without a context."""
    examples = [
        Example(str(n), question, ("a",), None if wanted == "doc" else context, meta={"doc": doc} if doc != " " else {})
        for n, (question, context, doc) in enumerate(rows)
    ]
    if wanted == "doc" and not any(row.meta for row in examples):
        with pytest.raises(ConfigError, match="there is no field 'doc'"):
            grouping_of(wanted, examples)
        return
    grouping = grouping_of(wanted, examples)
    keys = map(question_key, examples) if wanted == "auto" else cut_keys(examples, grouping)
    if len(set(keys)) < 3:
        with pytest.raises(DataError, match="cannot be cut into 3 splits"):
            cut_by_groups(examples, grouping, dev=0.2, test=0.3, seed=seed)
        return
    cut = cut_by_groups(examples, grouping, dev=0.2, test=0.3, seed=seed).splits
    splits = dict(zip(("train", *HELD_OUT), cut, strict=True))
    assert all(splits.values())
    assert sorted(row.id for split in splits.values() for row in split) == sorted(row.id for row in examples)
    assert not straddling(splits, question_key)
    if wanted == "context" or (wanted == "auto" and grouping.kind == "context" and len({c for _, c, _ in rows}) > 2):
        assert not straddling(splits, lambda row: row.context)
    if wanted == "doc":
        named = {name: [row for row in split if row.meta] for name, split in splits.items()}
        assert not straddling(named, lambda row: row.meta["doc"])
    shuffled = data.draw(st.permutations(examples))
    again = cut_by_groups(shuffled, grouping, dev=0.2, test=0.3, seed=seed).splits
    assert [{row.id for row in split} for split in again] == [{row.id for row in split} for split in cut]


def test_paragraphs_of_squad_stay_whole_without_a_word_in_the_recipe(tmp_path: Path) -> None:
    source = squad(tmp_path / "train.json", [5] * 60)
    splits = load_splits(DataConfig(source=source, dev=0.2, test=0.2, gold_share=0.5))
    assert not straddling(parts(splits), lambda row: row.context)
    assert splits.notes["group_by"] == "context: 60 groups of 300 rows, the largest of 5"
    assert "remarks" not in splits.notes
    by_row = load_splits(DataConfig(source=source, dev=0.2, test=0.2, group_by="none"))
    shared = sum(row.context in {other.context for other in by_row.train} for row in by_row.test)
    assert shared > 0.9 * len(by_row.test)
    assert (
        f"{shared} of {len(by_row.test)} test questions share their context with a training question."
        in by_row.notes["remarks"]
    )


def test_articles_stay_whole_by_document_or_by_the_name_of_a_field(tmp_path: Path) -> None:
    source = squad(tmp_path / "train.json", [3] * 40)
    cuts = [
        load_splits(DataConfig(source=source, dev=0.2, test=0.2, group_by=name))
        for name in ("title", "Title", "document")
    ]
    assert not straddling(parts(cuts[0]), lambda row: row.meta["title"])
    assert [row.id for row in cuts[0].test] == [row.id for row in cuts[1].test]
    # `document_id` is the likelier name of a document, and every paragraph has one of its own here.
    assert cuts[2].notes["group_by"].startswith("document_id: 40 groups")
    assert {row.group for row in cuts[0].test} == {row.meta["title"] for row in cuts[0].test}


def test_where_contexts_do_not_repeat_the_split_is_that_of_the_questions(tmp_path: Path) -> None:
    rows = [{"context": f"Text {n}.", "question": f"Q{n}?", "answer": "a"} for n in range(80)]
    source = table(tmp_path / "rows.csv", rows)
    auto, none = (load_splits(DataConfig(source=source, group_by=name)) for name in ("auto", "none"))
    assert [[row.id for row in part] for part in parts(auto).values()] == [
        [row.id for row in part] for part in parts(none).values()
    ]
    assert "group_by" not in auto.notes
    assert all(row.group is None for row in auto.test)


def test_a_row_moves_by_default_only_where_its_context_repeats(tmp_path: Path) -> None:
    rows = [{"context": f"Text {n}.", "question": f"Q{n}?", "answer": "a"} for n in range(200)]
    before = load_splits(DataConfig(source=table(tmp_path / "rows.csv", rows)))
    more = [*rows, {"context": "Text 0.", "question": "Another?", "answer": "a"}]
    after = load_splits(DataConfig(source=table(tmp_path / "rows.csv", more)))
    role = [{row.question: name for name, part in parts(s).items() for row in part} for s in (before, after)]
    assert {q for q in role[0] if role[0][q] != role[1][q]} <= {"Q0?"}
    assert role[1]["Q0?"] == role[1]["Another?"]


def test_one_context_for_all_rows_is_a_preamble_and_no_group(tmp_path: Path) -> None:
    rows = [{"context": "Answer briefly.", "question": f"Q{n}?", "answer": "a"} for n in range(60)]
    splits = load_splits(DataConfig(source=table(tmp_path / "rows.csv", rows)))
    assert min(map(len, (splits.train, splits.dev, splits.test))) > 0
    assert "remarks" not in splits.notes
    assert len({group_of(row) for row in splits.test}) == len(splits.test)


def test_too_few_contexts_are_split_by_question_and_said(tmp_path: Path) -> None:
    rows = [{"context": f"Text {n % 2}.", "question": f"Q{n}?", "answer": "a"} for n in range(60)]
    source = table(tmp_path / "rows.csv", rows)
    splits = load_splits(DataConfig(source=source))
    few, counted, *_ = splits.notes["remarks"]
    assert few == "The rows have too few contexts (2) to be split by them: they are split by question."
    assert (
        counted
        == f"{len(splits.test)} of {len(splits.test)} test questions share their context with a training question."
    )
    with pytest.raises(DataError, match="2 different contexts cannot be cut into 3 splits") as caught:
        load_splits(DataConfig(source=source, group_by="context"))
    assert "data.group_by to none" in str(caught.value.hint)


def test_a_group_larger_than_a_share_is_said(tmp_path: Path) -> None:
    rows = [{"spec": "big" if n < 70 else f"s{n}", "question": f"Q{n}?", "answer": "a"} for n in range(100)]
    source = table(tmp_path / "rows.csv", rows)
    seen = set()
    for seed in range(12):
        splits = load_splits(DataConfig(source=source, dev=0.1, test=0.1, seed=seed, group_by="spec"))
        share = len(splits.test) / 100
        assert not straddling(parts(splits), lambda row: row.meta["spec"])
        said = " ".join(splits.notes.get("remarks", ()))
        assert (f"test holds {share:.0%} of the rows, not 10%" in said) is not (0.05 <= share <= 0.2)
        assert not said or "31 to draw from, the largest of 70 rows" in said
        seen.add(share > 0.5)
    assert seen == {True, False}


# -- given splits ------------------------------------------------------------------------------------------------------


def test_given_splits_stay_and_what_they_share_is_counted(tmp_path: Path) -> None:
    train = squad(tmp_path / "train.json", [4] * 10)
    test = squad(tmp_path / "test.json", [1, 2, 3, 4], start=8)
    splits = load_splits(DataConfig(source=train, test_source=test, dev=0.2))
    # Paragraphs 8 and 9 stand in both files, with 1 and 2 test questions; of each, training may have lost it to dev.
    learned = {row.context for row in splits.train}
    shared = sum(row.context in learned for row in splits.test)
    assert len(splits.test) == 10
    assert 0 < shared <= 3
    assert f"{shared} of 10 test questions share their context with a training question." in splits.notes["remarks"]
    assert not {row.context for row in splits.dev} & learned
    more = load_splits(
        DataConfig(source=train, test_source=test, dev=0.2, unlabelled_source=squad(tmp_path / "u.json", [1], start=11))
    )
    assert f"{shared + 4} of 10 test questions" in more.notes["remarks"][0]


# -- what a recipe may say ---------------------------------------------------------------------------------------------


def test_a_field_that_no_row_has_is_named_with_those_there_are(tmp_path: Path) -> None:
    source = table(tmp_path / "r.csv", [{"question": f"Q{n}?", "answer": "a", "Series": n % 4} for n in range(9)])
    with pytest.raises(ConfigError, match=r"^data\.group_by: there is no field 'serie'") as caught:
        load_splits(DataConfig(source=source, group_by="serie"))
    assert "did you mean `Series`?" in str(caught.value.hint)
    with pytest.raises(DataError, match="no row has a context"):
        load_splits(DataConfig(source=source, group_by="context"))
    with pytest.raises(DataError, match="no row names its document; the rows have: Series"):
        load_splits(DataConfig(source=source, group_by="document"))
    with pytest.raises(ConfigError, match=r"has its own splits; data\.group_by does not apply"):
        load_splits(DataConfig(group_by="context"))


def test_rows_without_the_field_go_by_their_question_and_are_counted(tmp_path: Path) -> None:
    rows = [{"question": f"Q{n}?", "answer": "a", "spec": f"s{n % 9}" if n % 3 else ""} for n in range(90)]
    splits = load_splits(DataConfig(source=table(tmp_path / "r.csv", rows), group_by="spec"))
    assert splits.notes["group_by"].endswith("; 30 rows have none and go by their question")
    assert not straddling(
        {name: [row for row in part if "spec" in row.meta] for name, part in parts(splits).items()},
        lambda row: row.meta["spec"],
    )


def test_items_are_resampled_by_what_they_are_kept_together_by() -> None:
    one = Example("a", "Q?", ("x",), "Text.", meta={"doc": "D1", "fact": "n2"})
    other = Example("b", "R?", ("x",), "Other.", meta={"doc": "D1", "fact": "n4"})
    by_doc = Grouping("field", "doc")
    assert group_of(by_doc.with_name(one)) == group_of(by_doc.with_name(other)) == "D1"
    assert group_of(one) == "n2"
    by_question = grouping_of("none", [one, other])
    twin = Example("c", "S?", ("x",), "Text.")
    assert group_of(by_question.with_name(twin)) != group_of(by_question.with_name(one))
    assert group_of(Grouping("context").with_name(twin)) == group_of(Grouping("context").with_name(one))


def test_the_default_is_no_other_recipe_and_another_grouping_is() -> None:
    plain = parse_recipe({}).fingerprint()
    assert parse_recipe({"data": {"group_by": "auto"}}).fingerprint() == plain
    assert parse_recipe({"data": {"group_by": "none"}}).fingerprint() != plain


def test_a_context_beside_most_rows_binds_none() -> None:
    """An instruction that most rows begin with: they are drawn and resampled by their questions, others by context."""
    common = [Example(f"a{n}", f"question {n}", ("x",), "Answer in one word.") for n in range(30)]
    shared = [Example(f"b{n}", f"other {n}", ("x",), f"paragraph {n // 2}") for n in range(10)]
    grouping = grouping_of("auto", [*common, *shared])
    keys = cut_keys([*common, *shared], grouping)
    assert len(set(keys)) == 30 + 5
    named = [grouping.with_name(example) for example in (*common, *shared)]
    assert len({group_of(example) for example in named}) == 30 + 5
