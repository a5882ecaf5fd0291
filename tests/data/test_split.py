"""Splits: the same whatever the order, no question on two sides, and hand-made splits that leak are refused."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from understudy.data.load import load_splits
from understudy.data.split import count_duplicates, cut, draw, question_key, refuse_leaks, unlabel, withhold
from understudy.errors import ConfigError, DataError
from understudy.recipe import DataConfig
from understudy.types import Example, Message

QUESTIONS = st.lists(st.text("ab c?", min_size=1), min_size=3, max_size=40)


def make(questions: Sequence[str]) -> list[Example]:
    return [Example(str(place), question, ("a",)) for place, question in enumerate(questions)]


def many(count: int) -> list[Example]:
    return make([f"question {n}" for n in range(count)])


def ids(*splits: Sequence[Example]) -> list[set[str]]:
    return [{example.id for example in rows} for rows in splits]


@given(questions=QUESTIONS, order=st.randoms(use_true_random=False), seed=st.integers(0, 9))
def test_the_cut_does_not_depend_on_the_order_of_the_rows(questions: list, order: random.Random, seed: int) -> None:
    rows = make(questions)
    shuffled = order.sample(rows, len(rows))
    if len({question_key(row) for row in rows}) < 3:
        with pytest.raises(DataError, match="cannot be cut into 3 splits"):
            cut(rows, dev=0.2, test=0.3, seed=seed)
        return
    one, other = cut(rows, dev=0.2, test=0.3, seed=seed), cut(shuffled, dev=0.2, test=0.3, seed=seed)
    assert ids(*one) == ids(*other)
    assert ids(*withhold(one[0], gold_share=0.5, seed=seed)) == ids(*withhold(other[0], gold_share=0.5, seed=seed))
    assert sorted(row.id for split in one for row in split) == sorted(row.id for row in rows)
    keys = [{question_key(row) for row in split} for split in one]
    assert all(keys)
    assert sum(map(len, keys)) == len(set.union(*keys))


def test_a_file_that_grows_keeps_every_row_where_it_was() -> None:
    before = ids(*cut(many(500), dev=0.1, test=0.1, seed=3))
    after = ids(*cut(many(1000), dev=0.1, test=0.1, seed=3))
    assert all(old <= new for old, new in zip(before, after, strict=True))


def test_another_seed_is_another_cut_and_shares_are_met() -> None:
    train, dev, test = cut(many(4000), dev=0.1, test=0.2, seed=0)
    assert len(dev) == pytest.approx(400, abs=95)  # five standard deviations
    assert len(test) == pytest.approx(800, abs=127)
    assert len(train) + len(dev) + len(test) == 4000
    assert ids(test) != ids(cut(many(4000), dev=0.1, test=0.2, seed=1)[2])


def test_a_draw_is_a_written_down_value() -> None:
    """A change of this value would move the rows of everybody's splits."""
    assert draw(0, "split", "question") == 0.2995065796687354


def test_no_share_above_zero_comes_out_empty() -> None:
    for seed in range(20):
        train, dev, test = cut(many(3), dev=0.01, test=0.01, seed=seed)
        assert len(train) == len(dev) == len(test) == 1
        assert all(map(len, cut(many(4), dev=0.45, test=0.45, seed=seed)))


def test_shares_of_zero_are_empty() -> None:
    train, dev, test = cut(many(5), dev=0, test=0, seed=0)
    assert (len(train), dev, test) == (5, (), ())


def test_shares_that_leave_nothing() -> None:
    with pytest.raises(DataError, match="leave nothing for training"):
        cut(many(9), dev=0.5, test=0.5, seed=0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What is N2?", "what  is n2", True),
        ("What is “N2”?", 'What is "N2" ?', True),
        ("Ｎ２？", "N2?", True),
        ("3 + 4?", "3 - 4?", False),
        ("TS 23.501", "TS 23501", False),
        ("?", "!", False),
    ],
)
def test_what_counts_as_the_same_question(one: str, other: str, same: bool) -> None:
    assert (question_key(Example("a", one)) == question_key(Example("b", other))) is same


def test_context_and_earlier_turns_make_another_question_and_a_system_prompt_does_not() -> None:
    plain = Example("a", "And then?")
    assert question_key(plain) != question_key(Example("b", "And then?", context="c"))
    assert question_key(plain) != question_key(Example("b", "And then?", history=(Message("user", "u"),)))
    assert question_key(plain) == question_key(Example("b", "And then?", history=(Message("system", "s"),)))


def test_duplicates_are_counted() -> None:
    assert count_duplicates(make(["a", "A?", "b", "a", "c", "b."])) == {"groups": 2, "rows": 3}


def test_withheld_rows_say_nothing_of_their_answer() -> None:
    row = Example("1", "q", ("a",), choices=("a", "b"), rationales=("r",), meta={"answer_index": 0, "kind": "x"})
    bare = unlabel(row)
    assert (bare.answers, bare.rationales, bare.meta, bare.choices) == ((), (), {"kind": "x"}, ("a", "b"))
    gold, unlabelled = withhold(many(2000), gold_share=0.15, seed=0)
    assert len(gold) == pytest.approx(300, abs=80)
    assert not any(example.labelled for example in unlabelled)
    assert len(withhold(many(3), gold_share=1e-9, seed=0)[0]) == 1


def test_a_leak_is_refused_with_the_ids() -> None:
    train = make(["What is N2?", "What is N3?"])
    test = [Example("t1", "what is n2"), Example("t2", "What is N4?"), Example("1", "What is N3?")]
    with pytest.raises(DataError, match=r"^2 test questions also stand in training: t1 \(= 0\), 1 \("):
        refuse_leaks({"test": test}, train)
    with pytest.raises(DataError, match=r"^1 test question also stands in dev: t1 \(= d\)"):
        refuse_leaks({"dev": [Example("d", "What is N2?")], "test": test[:1]}, train[1:])
    refuse_leaks({"dev": [], "test": [test[1]]}, train)


def save(path: Path, questions: Sequence[str], **fields: Any) -> str:
    rows = [{"question": question, "answer": "a"} | fields for question in questions]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_files_of_ones_own_for_every_role(tmp_path: Path) -> None:
    config = DataConfig(
        source=save(tmp_path / "train.jsonl", "abcd"),
        dev_source=save(tmp_path / "dev.jsonl", "ef"),
        test_source=save(tmp_path / "test.jsonl", "gh"),
        unlabelled_source=save(tmp_path / "more.jsonl", "ijk"),
    )
    splits = load_splits(config)
    assert splits.notes["sizes"] == {"train": 4, "unlabelled": 3, "dev": 2, "test": 2}
    assert not any(example.labelled for example in splits.unlabelled)
    assert [source["role"] for source in splits.notes["sources"]] == ["source", "dev", "test", "unlabelled"]


@pytest.mark.parametrize("role", ["test_source", "dev_source", "unlabelled_source"])
def test_a_hand_made_split_that_leaks_is_refused(tmp_path: Path, role: str) -> None:
    source = save(tmp_path / "train.jsonl", [f"q{n}" for n in range(50)])
    config = DataConfig(source=source, **{role: save(tmp_path / "own.jsonl", [f"Q{n}?" for n in range(50)])})
    with pytest.raises(DataError, match="also stand") as caught:
        load_splits(config)
    assert "own-" in caught.value.message


def test_files_that_number_their_rows_alike_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    source, test = save(tmp_path / "qa.jsonl", "abcd"), save(tmp_path / "a" / "qa.jsonl", "efgh")
    splits = load_splits(DataConfig(source=source, test_source=test, dev=0))
    assert [example.id for example in splits.test] == ["test:qa-1", "test:qa-2", "test:qa-3", "test:qa-4"]
    assert splits.notes["ids_prefixed"] == ["test"]


def test_limit_and_gold_share(tmp_path: Path) -> None:
    source = save(tmp_path / "qa.jsonl", [f"q{n}" for n in range(300)])
    splits = load_splits(DataConfig(source=source, limit=200, gold_share=0.3))
    assert splits.notes["rows_read"] == 200
    assert splits.notes["answers_withheld"] == len(splits.unlabelled) > len(splits.train) > 0


def test_bad_rows_stop_or_go_into_a_file_with_their_reason(tmp_path: Path) -> None:
    rows = [{"question": f"q{n}", "answer": "a"} for n in range(6)] + [{"question": "q6", "answer": ""}]
    lines = [*map(json.dumps, rows), '{"question": "\\ud800", "answer": "a"}', "{broken"]
    path, quarantine = tmp_path / "qa.jsonl", tmp_path / "run" / "quarantine.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"^qa\.jsonl:7: answer: empty \(and 2 more bad rows\)"):
        load_splits(DataConfig(source=str(path)), quarantine_path=quarantine)
    assert not quarantine.exists()
    splits = load_splits(DataConfig(source=str(path), on_bad_row="quarantine"), quarantine_path=quarantine)
    kept = [json.loads(line) for line in quarantine.read_text("utf-8").splitlines()]
    assert [(fault["where"], fault["field"]) for fault in kept] == [
        ("qa.jsonl:7", "answer"),
        ("qa.jsonl:8", "question"),
        ("qa.jsonl:9", ""),
    ]
    assert [fault["row"] for fault in kept] == [rows[6], {"question": "\ud800", "answer": "a"}, "{broken"]
    assert splits.notes["rows_read"] == 9 == splits.notes["quarantined"] + sum(splits.notes["sizes"].values())


def test_a_file_of_bad_rows_only(tmp_path: Path) -> None:
    path = save(tmp_path / "qa.jsonl", ["", " "])
    with pytest.raises(DataError, match=r"^every row is bad \(2\); the first: qa\.jsonl:1: question: empty"):
        load_splits(DataConfig(source=path, on_bad_row="quarantine"))


def test_a_quarantine_of_an_earlier_run_does_not_stay(tmp_path: Path) -> None:
    quarantine = tmp_path / "quarantine.jsonl"
    quarantine.write_text("old\n")
    load_splits(DataConfig(source=save(tmp_path / "qa.jsonl", "abcd")), quarantine_path=quarantine)
    assert not quarantine.exists()


def test_the_fingerprint_follows_the_file(tmp_path: Path) -> None:
    prints = []
    for questions in ("abcd", "abcd", "abce"):
        splits = load_splits(DataConfig(source=save(tmp_path / "qa.jsonl", questions)))
        prints.append(splits.notes["sources"][0]["fingerprint"])
    assert prints[0] == prints[1] != prints[2]


def test_an_unknown_embedded_set() -> None:
    with pytest.raises(ConfigError, match="unknown embedded data set"):
        load_splits(DataConfig(source="embedded:nothing"))


def test_the_embedded_set_keeps_its_own_gold_share_unless_told() -> None:
    own, told = load_splits(DataConfig()), load_splits(DataConfig(gold_share=0.5))
    assert 0 < len(own.train) < len(told.train)
    assert len(own.unlabelled) > len(told.unlabelled) > 0
    assert own.notes["sizes"]["test"] == len(own.test) > 400
    assert load_splits(DataConfig(limit=7)).notes["sizes"] == dict.fromkeys(("train", "unlabelled", "dev", "test"), 7)


@pytest.mark.parametrize(
    "spelled",
    [
        "What is\u200b −85 dBm in W at 1,000 Hz?",
        "What is \u2060–85 dBm in W at 1000 Hz?",
        "\ufeffWh\u00adat is -85 dBm in W at 1,000 H\u200dz?\ufe0f",
    ],
)
def test_invisible_characters_and_the_spelling_of_numbers_hide_no_leak(spelled: str) -> None:
    learned = [Example("t", "What is -85 dBm in W at 1000 Hz?", ("a",))]
    with pytest.raises(DataError, match="1 test question also stands in training: x"):
        refuse_leaks({"test": [Example("x", spelled, ("a",))]}, learned)


def test_another_sign_or_point_is_another_question() -> None:
    keys = {question_key(Example("x", f"What is {n} dBm in W?", ("a",))) for n in ("85", "-85", "8.5", ".85", "-8.5")}
    assert len(keys) == 5


def test_composed_and_decomposed_letters_ask_the_same() -> None:
    assert question_key(Example("x", "caf\u00e9?", ("a",))) == question_key(Example("x", "cafe\u0301?", ("a",)))


@given(
    contexts=st.lists(st.integers(0, 12), min_size=8, max_size=60),
    shares=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)),
    seed=st.integers(0, 5),
)
def test_a_smaller_share_lies_within_a_larger_one_and_groups_stay_whole(
    tmp_path_factory: pytest.TempPathFactory, contexts: list[int], shares: tuple[float, float], seed: int
) -> None:
    rows = [
        {"id": f"r{n}", "question": f"what is {n}?", "answer": "x", "place": f"place {context}"}
        for n, context in enumerate(contexts)
    ]
    path = tmp_path_factory.mktemp("share") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    small, large = sorted(shares)
    told = {"source": str(path), "group_by": "place", "gold_share": 0.5, "seed": seed}
    try:
        whole = load_splits(DataConfig(**told))
    except DataError:
        assume(False)  # Fewer groups than splits.
        return
    some, more = (load_splits(DataConfig(**told, train_share=share)) for share in (small, large))
    assert (some.dev, some.test) == (more.dev, more.test) == (whole.dev, whole.test)
    assert some.train, "no training row is left"
    for role in ("train", "unlabelled"):
        smaller, larger, all_of_it = (getattr(splits, role) for splits in (some, more, whole))
        assert set(ids(smaller)[0]) <= set(ids(larger)[0]) <= set(ids(all_of_it)[0])
    for splits in (some, more):
        kept = {row.group for row in (*splits.train, *splits.unlabelled)}
        left = [row for row in (*whole.train, *whole.unlabelled) if row.group not in kept]
        assert len(splits.train) + len(splits.unlabelled) + len(left) == len(whole.train) + len(whole.unlabelled)


def test_a_share_is_met_on_average_and_all_of_it_is_what_was_there_before() -> None:
    whole, half = load_splits(DataConfig()), load_splits(DataConfig(train_share=0.5))
    assert load_splits(DataConfig(train_share=1.0)) == whole
    assert 0.45 < len(half.train) / len(whole.train) < 0.55
    assert 0.45 < len(half.unlabelled) / len(whole.unlabelled) < 0.55
    assert half.notes["rows_left_out"] == len(whole.train) + len(whole.unlabelled) - len(half.train) - len(
        half.unlabelled
    )
