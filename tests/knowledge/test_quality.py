"""Checks, filter and figures on texts counted by hand; near-duplicates against comparing every pair."""

import random
import subprocess
import sys

import pytest
from hypothesis import example as case
from hypothesis import given
from hypothesis import strategies as st

from understudy.knowledge.near_duplicates import NearDuplicates, grams
from understudy.knowledge.quality import REASONS, Filter, by_example, filtered, reasons, sift
from understudy.knowledge.store import read_step, write_step
from understudy.knowledge.text_checks import FUNCTION_WORDS, TextChecks, check_text, restated
from understudy.knowledge.text_statistics import figures, revision
from understudy.metrics.significance import Resampling, paired_bootstrap, randomisation_test
from understudy.recipe.knowledge import FilterConfig
from understudy.types import Example, Knowledge

POND = Example(
    "e", "Where do goldfish live?", ("fish pond",), choices=("aquarium", "fish pond", "pond", "sea (deep)", "Aquarium.")
)
KEEP_ALL = FilterConfig(restates=None)


def row(text, step="explain", name="e", **others):
    return Knowledge(name, step, text, **others)


def test_checks_of_one_text():
    """Content words: goldfish, need, still, water, sea, deep, rough, fish, pond, calm; three are given."""
    text = "Goldfish need still water: the sea (deep) is rough, a fish pond is calm. So the answer is: pond"
    assert check_text(row(text), POND) == TextChecks(
        words=14, restates=3 / 10, names_answer=True, distractors=1, leads_to_gold=False
    )


def test_a_counterfactual_argues_for_its_own_option():
    found = check_text(row("An aquarium, not a fish pond, not a pond.", "counterfactual", choice=0), POND)
    assert (found.names_answer, found.distractors) == (True, 2)
    assert found.restates == pytest.approx(1 / 4)


@pytest.mark.parametrize(
    ("text", "share"),
    [("Goldfish live in a fish pond", 1.0), ("They swim", 0.0), ("It is.", 1.0), ("", 1.0), ("GOLDFISH swim", 0.5)],
)
def test_restating(text, share):
    assert restated(text, POND.question, *POND.answers) == share


def test_function_words_are_words_of_lower_case():
    assert all(word == word.casefold().strip() for word in FUNCTION_WORDS)


@pytest.mark.parametrize(
    ("text", "config", "expected"),
    [
        ("Goldfish live in a fish pond", {}, ("restates: 1.00 of its words are the question's and the answer's",)),
        ("Still water is good", {}, ()),
        ("Still water", {"min_words": 3}, ("short: 2 words, fewer than 3",)),
        ("Still water is good", {"max_words": 3}, ("long: 4 words, more than 3",)),
        ("?!", {}, ("empty: there is no word in it",)),
        (
            "Still water. So the answer is: sea",
            {"leads_to_answer": True},
            ("answer: its own answer is not the gold one",),
        ),
        ("Still water. So the answer is: (b)", {"leads_to_answer": True}, ()),
        ("Still water.", {"leads_to_answer": True}, ()),
        ("Still water. So the answer is: sea", {}, ()),
    ],
)
def test_reasons(text, config, expected):
    assert reasons(row(text), POND, FilterConfig(**config)) == expected


def test_evidence_comes_from_the_own_answer_then_the_answers_then_the_blind_one():
    config = FilterConfig(leads_to_answer=True)
    blind_wrong = row("Hm. So the answer is: pond", "explain_blind")
    wrong = [row("pond", "answer", sample=n) for n in range(2)] + [row("fish pond", "answer", sample=2)]
    right = [row("fish pond", "answer")]
    text = row("Still water.")
    assert reasons(text, POND, config, [blind_wrong]) == (
        "answer: the teacher's answer without help is not the gold one",
    )
    assert reasons(text, POND, config, [blind_wrong, *right]) == ()
    assert reasons(text, POND, config, wrong) == ("answer: the teacher's answer is not the gold one",)
    own = row("Still water. So the answer is: fish pond")
    assert reasons(own, POND, config, wrong) == ()
    assert reasons(row("Salt water.", "counterfactual", choice=3), POND, config, wrong) == ()


def test_votes_reject_all_texts_of_an_example():
    config = FilterConfig(min_votes=0.5)
    rows = [row("pond", "answer"), row("sea", "answer", sample=1), row("fish pond", "answer", sample=2)]
    for text in (row("Still water."), row("Salt.", "counterfactual", choice=3)):
        assert reasons(text, POND, config, rows) == ("votes: 1 of 3 for the gold answer",)
        assert reasons(text, POND, config, rows[2:]) == ()
        assert reasons(text, POND, config) == ()


def test_the_filter_replaces_its_own_reasons_and_leaves_other_rows_alone():
    rows = [
        row("Goldfish live in a fish pond", reasons=("long: 9 words, more than 3", "offensive: by a reviewer")),
        row("Goldfish", "critique"),
        row(None, "revise", reasons=("server: 500",)),
        row("fish pond", "answer"),
    ]
    found = Filter(FilterConfig()).apply(POND, rows)
    assert found[0].reasons[0] == "offensive: by a reviewer"
    assert [reason.split(":")[0] for reason in found[0].reasons] == ["offensive", "restates"]
    assert found[1:] == rows[1:]
    (kept,) = Filter(KEEP_ALL).apply(POND, [row("Fish.", reasons=("short: 1 words, fewer than 3",))])
    assert kept.kept


def test_the_first_of_near_duplicates_stays_and_a_rejected_text_is_nobodys_original():
    examples = [Example(name, "Where?", ("here",)) for name in "abc"]
    text = "the water is still and clear in the morning"
    rows = [row(text, name="a"), row(text, "revise", "a"), row(text, name="b"), row(text + " too", name="c")]
    found = dict(filtered_rows(rows, examples, FilterConfig(near_duplicate=0.8)))
    assert found == {
        ("a", "explain"): (),
        ("a", "revise"): (),
        ("b", "explain"): ("near-duplicate: of a",),
        ("c", "explain"): ("near-duplicate: of a",),
    }
    short = FilterConfig(near_duplicate=0.8, max_words=9)
    long_first = [row(text + " too", name="a"), row(text, name="b"), row(text, name="c")]
    found = dict(filtered_rows(long_first, examples, short))
    assert [value[0].split(":")[0] if value else "" for value in found.values()] == ["long", "", "near-duplicate"]


def filtered_rows(rows, examples, config):
    for _, group in filtered(by_example(rows, examples), config):
        for each in group:
            yield (each.id, each.step), each.reasons


def test_sifting_a_folder_is_filtering_its_rows_and_can_be_done_again(tmp_path):
    examples = [POND, Example("f", "Who?", ("me",))]
    texts = [
        row("Still water is what they need"),
        row("Still water is what they need", name="f"),
        row("x", name="gone"),
    ]
    answers = [row("sea", "answer"), row("me", "answer", "f")]
    write_step(tmp_path, "explain", texts)
    write_step(tmp_path, "answer", answers)
    strict = FilterConfig(near_duplicate=0.9, min_votes=0.5)
    steps = ("explain", "revise", "answer")
    sift(tmp_path, steps, examples, strict)
    assert [each.reasons for each in read_step(tmp_path, "explain")] == [("votes: 0 of 1 for the gold answer",), (), ()]
    assert list(read_step(tmp_path, "answer")) == answers
    assert not (tmp_path / "revise.jsonl").exists()
    before = (tmp_path / "explain.jsonl").read_bytes()
    sift(tmp_path, steps, examples, strict)
    assert (tmp_path / "explain.jsonl").read_bytes() == before
    sift(tmp_path, steps, examples, KEEP_ALL)
    assert list(read_step(tmp_path, "explain")) == texts


WORDS = st.lists(st.sampled_from(["the", "water", "is", "still", "and", "clear"]), max_size=12).map(" ".join)


@given(st.lists(WORDS, max_size=12), st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.8, 1.0]))
@case(["a b c d e f g h i j l m", "a b c d e f g h i j k"], 0.7)
def test_near_duplicates_are_those_of_comparing_all_pairs(texts, threshold):
    seen, kept = NearDuplicates(threshold), []
    for place, text in enumerate(texts):
        own = grams(text)
        expected = next((str(n) for n, g in kept if own and len(own & g) / len(own | g) >= threshold), None)
        assert seen.add(str(place), text) == expected
        if expected is None and own:
            kept.append((place, own))
    assert len(seen) == len(kept)


def test_near_duplicates_by_hand():
    assert len(grams("One two three four")) == 2
    assert grams("one, two: THREE") == grams("one two three")
    assert len(grams("one two")) == 1
    assert grams("…") == frozenset()
    seen = NearDuplicates(0.5)
    assert seen.add("a", "one two three four") is None
    assert seen.add("a", "one two three four") is None
    assert seen.add("b", "one two three four five") == "a"  # 2 of 3
    assert seen.add("c", "one two three five") is None  # 1 of 3
    with pytest.raises(ValueError, match="threshold"):
        NearDuplicates(0)


def test_near_duplicates_do_not_depend_on_the_process():
    code = "from understudy.knowledge.near_duplicates import grams; print(sorted(grams('the water is still')))"
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == str(sorted(grams("the water is still")))


def test_figures_of_steps():
    rows = [
        row("Still water, no aquarium.", reasons=("restates: x", "votes: y")),
        row("A fish pond is still", name="f"),
        row(None, name="g", reasons=("server: 500",)),
        row("sea", "answer"),
        row("fish pond", "answer", "f"),
        row("nobody's", name="z"),
    ]
    examples = [POND, *(Example(name, POND.question, POND.answers, choices=POND.choices) for name in "fg")]
    found = figures(rows, examples)
    assert found["explain"].to_json() == {
        "rows": 3,
        "written": 2,
        "kept": 1,
        "reasons": {"restates": 1, "votes": 1, "server": 1},
        "words_mean": 4.5,
        "words_median": 4.5,
        "restates_mean": pytest.approx((0 + 2 / 3) / 2),
        "names_answer": 0.5,
        "distractors_mean": 0.5,
        "states_answer": 0.0,
        "leads_to_gold": None,
    }
    assert found["answer"].leads_to_gold == 0.5
    assert figures([row(None)], [POND])["explain"].words_mean is None
    assert figures([], [POND]) == {}


def test_revisions_are_compared_pair_by_pair():
    generator = random.Random(3)
    examples = [Example(str(n), "Where?", ("pond",), choices=("pond", "sea", "zoo")) for n in range(30)]
    before = [row("water " * generator.randint(2, 9), name=str(n)) for n in range(30)]
    after = [row("water " * generator.randint(5, 20) + "not the sea", "revise", str(n)) for n in range(29)]
    after.append(row(None, "revise", "29", reasons=("server: 500",)))
    found = revision(before, after[::-1], examples, seed=5)
    assert found.pairs == 29
    words, distractors = found.words, found.distractors
    assert words is not None
    assert distractors is not None
    lengths = [[float(len(each.text.split())) for each in side[:29]] for side in (after, before)]
    expected = paired_bootstrap(*lengths, resampling=Resampling(seed=5))
    test = randomisation_test(*lengths, resampling=Resampling(seed=5))
    assert words.p_value == test.p_value
    assert words.before == expected.mean_b
    assert words.difference == expected.difference
    assert (words.low, words.high) == (expected.low, expected.high)
    assert words.low > 0
    assert (distractors.before, distractors.after) == (0, 1)
    assert revision(before, [], examples).to_json() == {"pairs": 0}
    alone = revision(before[:1], after[:1], examples).words
    assert alone is not None
    assert alone.low is None


@given(
    st.none() | st.text(max_size=80),
    st.text(max_size=30),
    st.lists(st.text(min_size=1, max_size=10), max_size=5),
    st.sampled_from(["explain", "explain_blind", "revise", "counterfactual", "answer", "own_step"]),
    st.integers(0, 5),
)
@case("a.b*c (x) [", "a.b*c", ["(", "[x", "a.b", "a.b*c", "\\"], "explain", 0)
def test_any_text_can_be_checked(text, question, choices, step, place):
    answers = (choices[0],) if choices else ()
    asked = Example("e", question, answers, choices=tuple(choices))
    made = row(text, step, choice=place if step == "counterfactual" else None)
    found = check_text(made, asked)
    assert 0 <= found.restates <= 1
    assert 0 <= found.distractors <= len(choices)
    config = FilterConfig(leads_to_answer=True, min_words=2, max_words=8, near_duplicate=0.5, min_votes=0.5)
    (judged,) = Filter(config).apply(asked, [made])
    assert judged.text == text
    assert {reason.split(":")[0] for reason in judged.reasons} <= set(REASONS)
    assert figures([judged], [asked])[step].rows == 1


def test_checks_need_no_torch():
    code = (
        "import sys, understudy.knowledge.quality, understudy.knowledge.recorded\n"
        "sys.exit(bool({'torch', 'transformers', 'openai'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_texts_with_other_numbers_are_no_near_duplicates():
    assert grams("at −85 dBm") == grams("at -85 dBm") != grams("at 85 dBm")
    assert grams("from 1,000 Hz") == grams("from 1000 Hz")
    assert grams("at 3.5 GHz") not in (grams("at 35 GHz"), grams("at 3 5 GHz"))
    assert grams("5–10 ms") == grams("5-10 ms") != grams("5 -10 ms")
