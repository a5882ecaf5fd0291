"""Multiple choice over the knowledge base, and what is composed about its rows."""

from __future__ import annotations

from collections import Counter
from importlib import resources
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from understudy.data.embedded import telecom
from understudy.data.embedded.telecom import explanations
from understudy.data.load import load_splits
from understudy.data.option_mentions import mentioned
from understudy.data.tasks import wrong_places
from understudy.errors import ConfigError
from understudy.files import fingerprint
from understudy.recipe import DataConfig
from understudy.types import Example, Splits

WEIGHTS = Path(str(resources.files("understudy.models"))) / "embedded"
STEPS = ["explain", "critique", "revise", "explain_blind", "answer", *["counterfactual"] * 3]


@pytest.fixture(scope="module")
def splits() -> Splits:
    return telecom.generate_choices()


@pytest.fixture(scope="module")
def facts() -> dict[str, telecom.Fact]:
    return {fact.id: fact for fact in telecom.core_facts()}


@pytest.fixture(scope="module")
def written(splits: Splits) -> list[tuple[Example, str, int | None, str]]:
    return [(row, *one) for row in splits.train for one in explanations.texts(row)]


def distractors_mentioned(text: str, row: Example) -> list[int]:
    return [place for place in mentioned(text, row.choices) if place in wrong_places(row)]


def test_sizes_phrasings_and_answers(splits):
    assert (len(splits.train), len(splits.unlabelled), len(splits.dev), len(splits.test)) == (1688, 0, 200, 600)
    phrasings = {name: {row.meta["phrasing"] for row in getattr(splits, name)} for name in ("train", "dev", "test")}
    assert phrasings == {"train": set(range(6)), "dev": {6}, "test": {7, 8}}
    asked = [row.question.casefold() for part in (splits.train, splits.dev, splits.test) for row in part]
    assert len(set(asked)) == len(asked)
    known = {row.meta["fact"][0] for row in splits.train}
    assert {row.meta["fact"][0] for row in (*splits.dev, *splits.test)} <= known
    assert len(known) == splits.notes["facts"] == len(telecom.choice_facts())


def test_every_option_is_the_answer_of_its_fact_and_one_is_right(splits, facts):
    relations = telecom.load_relations()
    places = Counter()
    for row in (*splits.train, *splits.dev, *splits.test):
        fact, options = facts[row.meta["fact"][0]], [facts[name] for name in row.meta["options"]]
        assert tuple(option.answer for option in options) == row.choices
        assert len({choice.casefold() for choice in row.choices}) == 4
        right = [place for place, option in enumerate(options) if option is fact]
        assert right == [row.meta["answer_index"]]
        assert row.answers == (fact.answer,) == (row.choices[right[0]],)
        for option in (option for option in options if option is not fact):
            assert {name.casefold() for name in option.answers}.isdisjoint(name.casefold() for name in fact.answers)
            assert relations[option.relation].answer_type == relations[fact.relation].answer_type
            assert option.subject != fact.subject
        places[right[0]] += 1
    assert min(places.values()) > 0.22 * sum(places.values())


def test_no_wrong_option_is_right_by_another_fact_of_the_whole_knowledge_base(splits):
    true = {(fact.relation, fact.subject): {a.casefold() for a in fact.answers} for fact in telecom.load_facts()}
    asked = {fact.id: (fact.relation, fact.subject) for fact in telecom.load_facts()}
    for row in (*splits.train, *splits.test):
        right = true[asked[row.meta["fact"][0]]]
        assert sum(choice.casefold() in right for choice in row.choices) == 1


def test_same_arguments_same_rows_in_any_process(splits):
    assert telecom.generate_choices() == splits
    other = telecom.generate_choices(seed=1)
    assert [row.id for row in other.train] != [row.id for row in splits.train]
    digest = fingerprint([[row.id, list(row.choices)] for row in (*splits.train, *splits.dev, *splits.test)])
    assert digest == DIGEST_OF_ROWS


def test_a_share_of_gold_withholds_the_answers_of_the_other_facts():
    splits = telecom.generate_choices(gold_share=0.25)
    known, unknown = ({row.meta["fact"][0] for row in part} for part in (splits.train, splits.unlabelled))
    assert known.isdisjoint(unknown)
    assert abs(len(known) / (len(known) + len(unknown)) - 0.25) < 0.01
    assert all(row.labelled and row.meta["gold_fact"] for row in splits.train)
    assert not any(row.labelled or "answer_index" in row.meta for row in splits.unlabelled)
    with pytest.raises(ConfigError, match="gold_share is 0"):
        telecom.generate_choices(gold_share=0)


def test_a_recipe_names_it_and_may_cap_it():
    splits = load_splits(DataConfig(source="embedded:telecom-choices", limit=10))
    assert splits.notes["sizes"] == {"train": 10, "unlabelled": 0, "dev": 10, "test": 10}
    with pytest.raises(ConfigError, match=r"embedded:telecom-choices has its own splits; data\.test"):
        load_splits(DataConfig(source="embedded:telecom-choices", test=0.5))
    with pytest.raises(ConfigError, match="unknown embedded data set") as refused:
        load_splits(DataConfig(source="embedded:telecom-choice"))
    assert "embedded:telecom-choices" in str(refused.value.hint)


def test_every_training_row_has_all_texts(splits, written):
    steps: dict[str, list[str]] = {}
    for row, step, choice, text in written:
        assert text == text.strip()
        assert text
        assert "\n" not in text
        assert (choice is not None) == (step == "counterfactual")
        steps.setdefault(row.id, []).append(step)
    assert len(steps) == len(splits.train)
    assert all(found == STEPS for found in steps.values())


def test_every_sentence_is_a_wording_of_a_fact_or_a_source(written):
    """Explanations and revisions state nothing but facts of the knowledge base, in its own words."""
    relations = telecom.load_relations()
    true = {
        wording.format(subject=fact.subject, answer=fact.answer)
        for fact in (*telecom.core_facts(), *telecom.seed_facts())
        for wording in relations[fact.relation].statements
    }
    sources = {one.format(spec=fact.spec) for fact in telecom.core_facts() for one in explanations.SOURCES}
    for row, step, _, text in written:
        if step == "explain":
            first, second = _two(text, true, true | sources)
            assert row.answers[0] in first
            assert second != first
        if step == "counterfactual":
            _, second = _two(text, None, true | sources | {explanations.NOTHING_ELSE})
            assert second


def _two(text: str, first: set[str] | None, second: set[str]) -> tuple[str, str]:
    """Cut a text into two sentences of the given kinds; wordings may have full stops inside."""
    cuts = [place for place in range(len(text)) if text.startswith(". ", place)]
    for cut in cuts:
        head, tail = text[: cut + 1], text[cut + 2 :]
        if (first is None or head in first) and tail in second:
            return head, tail
    raise AssertionError(text)


def test_an_explanation_says_more_than_question_and_answer_and_names_no_other_choice(written):
    for row, step, _, text in written:
        if step != "explain":
            continue
        known = set(f"{row.question} {row.answers[0]}".casefold().replace("?", "").split())
        words = text.casefold().replace(".", "").split()
        assert sum(word in known for word in words) / len(words) < 0.9
        assert mentioned(text, row.answers)
        assert not distractors_mentioned(text, row)


def test_a_counterfactual_argues_for_its_choice_and_never_for_gold(splits, written):
    for row, step, choice, text in written:
        if step == "counterfactual":
            assert choice != row.meta["answer_index"]
            assert mentioned(text, row.choices) == (choice,)
    row = splits.train[0]
    with pytest.raises(ValueError, match="is the right one"):
        explanations.counterfactual(row, row.meta["answer_index"])


def test_critique_names_what_is_missing_and_revision_supplies_it(written, facts):
    source_missed = False
    for row, step, _, text in written:
        if step == "critique":
            assert set(distractors_mentioned(text, row)) == set(wrong_places(row))
            source_missed = "source" in text
        if step == "revise":
            assert text.startswith(explanations.explanation(row))
            assert len(distractors_mentioned(text, row)) == 3
            for place in distractors_mentioned(text, row):
                assert mentioned(text, [facts[row.meta["options"][place]].subject])
            if source_missed and len(text) < 250:
                assert row.meta["spec"] in text
            assert explanations.critique(row, text) == explanations.NO_FAULT or len(text) > 250
            assert explanations.revision(row, text) == text or len(text) > 250


def test_critique_looks_at_the_rationale_it_is_given(splits):
    row = splits.train[0]
    wrong = [choice for choice in row.choices if choice != row.answers[0]]
    partly = f"It is {row.answers[0]}, not {wrong[0]}."
    assert distractors_mentioned(explanations.critique(row, partly), row) == sorted(map(row.choices.index, wrong[1:]))
    assert explanations.revision(row, partly).startswith(partly)


def test_texts_fit_tiny_models(written):
    """Counted by the shared vocabulary of teacher and student: 60 tokens, a revision 110 but for one."""
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / "telecom-teacher")
    limits = {"explain": 60, "counterfactual": 60, "critique": 80, "revise": 110, "explain_blind": 76, "answer": 20}
    lengths = [len(ids) for ids in tokenizer([text for *_, text in written])["input_ids"]]
    long = [text for (_, step, _, text), length in zip(written, lengths, strict=True) if length > limits[step]]
    assert len(long) <= 1, long
    assert max(lengths) <= 120


def test_texts_are_the_same_in_any_process(written):
    assert fingerprint([text for *_, text in written]) == DIGEST_OF_TEXTS


def test_demonstrations_are_of_some_facts_of_every_relation(splits, facts):
    rows = telecom.demonstrations(splits.train)
    by_id = {row.id: row for row in splits.train}
    shown = {by_id[row["id"]].meta["fact"][0] for row in rows}
    assert shown == telecom.demonstrated_facts()
    assert abs(len(shown) / splits.notes["facts"] - 0.4) < 0.02
    assert {facts[name].relation for name in shown} == {fact.relation for fact in telecom.choice_facts()}
    assert [row["step"] for row in rows] == STEPS * (len(rows) // len(STEPS))
    for row in rows:
        example = by_id[row["id"]]
        assert (row["question"], row["choices"], row["answers"]) == (
            example.question,
            list(example.choices),
            list(example.answers),
        )
        assert (row["choice"] is None) == (row["step"] != "counterfactual")
    assert len(telecom.demonstrated_facts(share=0.01)) == len({fact.relation for fact in telecom.choice_facts()})


def test_rows_without_an_answer_are_not_demonstrated_and_other_sets_are_refused():
    split = telecom.generate_choices(gold_share=0.2)
    assert telecom.demonstrations(split.unlabelled) == []
    other = next(row for row in telecom.generate().train if row.choices)
    with pytest.raises(ValueError, match="is no answered row of embedded:telecom-choices"):
        explanations.explanation(other)


@pytest.mark.parametrize(
    ("text", "options", "found"),
    [
        ("N1-MME is 28.5 long, see TS 25.467.", ["N1", "28", "MME", "28.5", "25", "467"], (3,)),
        ("a cat - or a dog. Then fish.", ["cat", "dog", "then", "fish"], (0, 1, 2, 3)),
        ("There are 2. 3 are left (10^-2).", ["2", "3", "10^-2", "10"], (0, 1, 2)),
    ],
)
def test_a_joined_name_or_number_names_no_part_of_itself(text, options, found):
    assert mentioned(text, options) == found


DIGEST_OF_ROWS = "af1fa74eaf41b93a"
DIGEST_OF_TEXTS = "19327ba2fd0c70d4"
