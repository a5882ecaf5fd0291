"""From explained examples to the texts of tasks, and which of their tokens are learned by real vocabularies."""

import dataclasses
import functools

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from support import SHARED
from support.tiny import FACTS, tokenizer
from understudy.data.tasks import (
    ANSWER_MARK,
    TaskRow,
    WithRationales,
    prompt_example,
    rows,
    rows_of_examples,
    split_answer,
    task_weights,
    with_answer,
    wrong_places,
)
from understudy.errors import DataError, ModelError
from understudy.models.load import load_template
from understudy.recipe import DataConfig, ModelConfig, TaskConfig
from understudy.tokens.collate import Collator, ExampleTokenizer
from understudy.tokens.prompts import render_question
from understudy.tokens.seq2seq_template import Seq2SeqTemplate
from understudy.tokens.task_rows import encode_groups
from understudy.tokens.template import Template
from understudy.types import Example

EXAMPLE = Example("q", "Who ends N2?", ("AMF",), choices=("SMF", "AMF", "UPF"), meta={"answer_index": 1})
WHOLE = WithRationales(EXAMPLE, "N2 ends there.", {0: "Sessions.", 2: "Packets."})
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)


def config(**fields):
    return TaskConfig.model_validate(fields)


def put(explained, **fields):
    """(task, question, target, weight, given text) of each row."""
    made = rows(explained, config(**fields), seed=0)
    return [
        (r.task, r.example.question, r.example.answers[0], r.weight, r.example.answers[0][: r.num_forced_chars])
        for r in made
    ]


# -- texts -----------------------------------------------------------------------------------------------------------

PREDICT = ("predict", "[predict] Who ends N2?", "AMF")
EXPLAIN = ("explain", "[explain] Who ends N2?", "N2 ends there.")
FACTUAL = ("factual", "[factual] Who ends N2?", "N2 ends there. So the answer is: AMF")
COUNTER = [
    ("counterfactual", "[counterfactual] Who ends N2?", "Sessions. So the answer is: SMF"),
    ("counterfactual", "[counterfactual] Who ends N2?", "Packets. So the answer is: UPF"),
]
GIVEN = ["Sessions. So the answer is:", "Packets. So the answer is:"]


def test_texts_and_weights_of_each_kind():
    assert put(WHOLE, kind="answer") == [("answer", "Who ends N2?", "AMF", 1.0, "")]
    assert put(WHOLE, kind="rationale_answer") == [("rationale", "Who ends N2?", FACTUAL[2], 1.0, "")]
    assert put(WHOLE, kind="multitask", predict_weight=0.25) == [(*PREDICT, 0.25, ""), (*EXPLAIN, 0.75, "")]
    contrast = put(WHOLE, kind="counterfactual", factual_weight=0.25)
    assert contrast == [(*FACTUAL, 0.25, ""), (*COUNTER[0], 0.75, GIVEN[0]), (*COUNTER[1], 0.75, GIVEN[1])]
    all_four = {"predict_weight": 0.25, "factual_weight": 0.125, "multitask_weight": 0.75}
    assert put(WHOLE, kind="multitask_counterfactual", **all_four) == [
        (*PREDICT, 0.1875, ""),
        (*EXPLAIN, 0.5625, ""),
        (*FACTUAL, 0.03125, ""),
        (*COUNTER[0], 0.21875, GIVEN[0]),
        (*COUNTER[1], 0.21875, GIVEN[1]),
    ]


def test_a_rationale_in_the_encoder_stands_behind_the_question_and_its_choice_alone_is_learned():
    found = rows(WHOLE, config(kind="counterfactual", rationale_in="encoder"), seed=0)[1]
    assert (found.example.answers, found.num_forced_chars) == (("SMF",), 0)
    asked = "[counterfactual] Who ends N2? Sessions.\nA. SMF\nB. AMF\nC. UPF"
    assert render_question(found.example) == asked
    assert prompt_example(EXAMPLE, "counterfactual", rationale=" Sessions. ").question == found.example.question


@given(
    st.sampled_from(["answer", "rationale_answer", "multitask", "counterfactual", "multitask_counterfactual"]),
    *[st.floats(0, 1)] * 3,
)
def test_weights_of_a_kind_add_up_to_one(kind, alpha, beta, gamma):
    found = task_weights(config(kind=kind, predict_weight=alpha, factual_weight=beta, multitask_weight=gamma))
    assert sum(found.values()) == pytest.approx(1.0)
    assert all(weight > 0 for weight in found.values())


def test_tasks_without_weight_give_no_rows():
    everything = {"kind": "multitask_counterfactual", "predict_weight": 0.3}
    assert put(WHOLE, **everything, multitask_weight=1.0) == put(WHOLE, kind="multitask", predict_weight=0.3)
    assert put(WHOLE, **everything, multitask_weight=0.0) == put(WHOLE, kind="counterfactual")
    assert put(WHOLE, kind="multitask", predict_weight=1.0) == [(*PREDICT, 1.0, "")]


@pytest.mark.parametrize(
    ("explained", "expected"),
    [
        (WithRationales(EXAMPLE, None, WHOLE.counterfactuals), ["predict"]),
        (WithRationales(EXAMPLE, "  ", {}), ["predict"]),
        (WithRationales(EXAMPLE, "N2 ends there.", {}), ["predict", "explain", "factual"]),
        (
            WithRationales(EXAMPLE, "N2 ends there.", {2: "x", 0: " "}),
            ["predict", "explain", "factual", "counterfactual"],
        ),
        (WithRationales(EXAMPLE, "N2 ends there.", {1: "x", 7: "x"}), ["predict", "explain", "factual"]),
    ],
)
def test_what_is_not_there_gives_no_row(explained, expected):
    assert [row[0] for row in put(explained, kind="multitask_counterfactual")] == expected
    if explained.rationale is None:
        assert put(explained, kind="rationale_answer") == put(explained, kind="counterfactual") == []
        assert [row[0] for row in put(explained, kind="answer")] == ["answer"]


def test_a_mark_that_the_rationale_ends_with_is_written_once():
    said = dataclasses.replace(WHOLE, rationale="N2 ends there. So the answer is: UPF")
    assert put(said, kind="multitask_counterfactual") == put(WHOLE, kind="multitask_counterfactual")


def test_an_unlabelled_example_learns_what_the_teacher_said():
    unlabelled = dataclasses.replace(EXAMPLE, answers=(), meta={})
    thought = WithRationales(unlabelled, "N2 ends there.", WHOLE.counterfactuals)
    assert [row[:3] for row in put(thought, kind="multitask_counterfactual")] == [EXPLAIN]
    answered = dataclasses.replace(thought, rationale="N2 ends there. So the answer is: AMF")
    assert [row[:3] for row in put(answered, kind="multitask_counterfactual")] == [PREDICT, EXPLAIN, FACTUAL]
    for explained in (thought, answered):
        made = rows(explained, config(kind="multitask"), seed=0)
        assert {row.example.origin for row in made} == {"teacher"}


def test_an_example_that_teaches_nothing_is_no_group_and_none_at_all_is_named():
    bare = WithRationales(EXAMPLE)
    assert [len(group) for group in rows_of_examples([bare, WHOLE], config(kind="counterfactual"), seed=0)] == [3]
    with pytest.raises(DataError, match="no example has the texts") as caught:
        rows_of_examples([bare], config(kind="counterfactual", rationales="revise"), seed=0)
    assert "revise" in caught.value.hint


# -- counterfactuals -------------------------------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from(["AMF", "amf", " AMF.", "AMF .", "SMF", "UPF", "UDM"]), min_size=2, max_size=6),
    st.data(),
    st.booleans(),
)
def test_a_counterfactual_is_never_the_gold_choice(choices, data, indexed):
    gold = data.draw(st.integers(0, len(choices) - 1))
    meta = {"answer_index": gold} if indexed else {}
    example = Example("q", "Who?", (choices[gold],), choices=tuple(choices), meta=meta)
    texts = {place: f"because {place}" for place in range(len(choices))}
    made = rows(WithRationales(example, "so", texts), config(kind="counterfactual", rationale_in="encoder"), seed=0)
    learned = [row.example.answers[0] for row in made if row.task == "counterfactual"]
    bare = choices[gold].strip(" .").lower()
    assert learned == [choice for choice in choices if choice.strip(" .").lower() != bare]


def test_wrong_places_of_a_row_without_a_gold_answer_are_not_known():
    assert wrong_places(EXAMPLE) == (0, 2)
    assert wrong_places(dataclasses.replace(EXAMPLE, answers=())) == ()


def test_drawn_counterfactuals_are_the_same_again_and_differ_between_examples_and_seeds():
    choices = tuple("abcdefgh")

    def drawn(identifier, seed, count=3, order=1):
        texts = {place: f"why {place}" for place in range(1, 8)[::order]}
        example = Example(identifier, "Which?", ("a",), choices=choices)
        fields = config(kind="counterfactual", counterfactuals=count, rationale_in="encoder")
        return "".join(r.example.answers[0] for r in rows(WithRationales(example, "so", texts), fields, seed=seed)[1:])

    many = {drawn(f"q-{n}", seed) for n in range(20) for seed in range(2)}
    assert len(many) > 15
    assert all(len(set(places)) == 3 and list(places) == sorted(places) for places in many)
    assert set("".join(many)) == set("bcdefgh")
    assert drawn("q-1", 0) == drawn("q-1", 0, order=-1)
    assert drawn("q-1", 0, count=7) == drawn("q-1", 0, count=99) == "bcdefgh"


# -- the mark ----------------------------------------------------------------------------------------------------------


@given(TEXT, TEXT)
def test_a_rationale_and_its_answer_come_apart_again(rationale, answer):
    assume(answer.strip() and split_answer(answer)[1] is None and "answer" not in answer.lower())
    assert split_answer(with_answer(rationale, answer)) == (rationale.strip(), answer.strip())
    nested = with_answer(with_answer(rationale, "no"), answer)
    assert split_answer(nested) == (with_answer(rationale, "no"), answer.strip())


def test_texts_without_an_answer():
    assert split_answer("It is so. ") == ("It is so.", None)
    assert split_answer(f"It is so. {ANSWER_MARK} ") == ("It is so.", None)
    assert split_answer(f"{ANSWER_MARK} AMF") == ("", "AMF")
    assert split_answer("") == ("", None)


def test_a_vocabulary_without_case_or_spaces_keeps_the_mark():
    assert split_answer("it is so. so the answer is : amf") == ("it is so.", "amf")
    assert split_answer("itisso.Sotheansweris:AMF") == ("itisso.", "AMF")


# -- what is given -----------------------------------------------------------------------------------------------------

ALPHABET = "abdeinorstw AMFN24.,:"
CORPUS = [*(f"{question} {answer}" for question, answer in FACTS), ANSWER_MARK, ALPHABET] * 3


def unigram():
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    letters = sorted({c for text in [*CORPUS, "[]"] for c in text})
    trainer = trainers.UnigramTrainer(
        vocab_size=150,
        special_tokens=["</s>", "<unk>"],
        unk_token="<unk>",
        initial_alphabet=letters,
        show_progress=False,
    )
    core.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", unk_token="<unk>", pad_token="</s>")


@functools.cache
def template(name, apart=False):
    if name == "unigram":
        return (Seq2SeqTemplate if apart else Template)(unigram())
    if name == "byte-level":
        return (Seq2SeqTemplate if apart else Template)(tokenizer(300))
    if name.startswith("embedded:"):
        return load_template(ModelConfig(model=name))
    if name in ("stories260k", "babyllama-char105"):
        return Template(AutoTokenizer.from_pretrained(SHARED / "models" / name))
    loaded = PreTrainedTokenizerFast(tokenizer_file=str(SHARED / "tokenizers" / name / "tokenizer.json"))
    loaded.eos_token = "</s>" if name == "tinyllama" else "<|endoftext|>"
    return Template(loaded)


ROOM = DataConfig(max_length=1200, max_answer_tokens=600)
BYTES = ["byte-level", "embedded:telecom-student", "embedded:telecom-student-other", "gpt2", "pythia"]
PIECES = ["tinyllama", "stories260k", "unigram", "babyllama-char105"]
LETTERS = st.text(st.sampled_from(ALPHABET), min_size=1, max_size=30)
QUICK = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def counterfactual(name, rationale, choice, *, apart=False):
    """(what each answer token spells, how many are given, the given text, the whole text) of a row."""
    example = dataclasses.replace(EXAMPLE, choices=("AMF", choice), answers=("AMF",), meta={"answer_index": 0})
    made = rows(WithRationales(example, "so", {1: rationale}), config(kind="counterfactual"), seed=0)
    row = made[-1]
    assert row.task == "counterfactual"
    encoded = encode_groups([[row]], ExampleTokenizer(template(name, apart), ROOM))[0].rows[0].student
    pieces = template(name, apart).tokenizer.convert_ids_to_tokens(encoded.answer_ids)
    return pieces[:-1], encoded.num_forced, row.example.answers[0][: row.num_forced_chars], row.example.answers[0]


def usable(rationale, choice):
    assume(rationale.strip() and choice.strip() and choice.strip(" .").lower() != "amf")
    assume(split_answer(rationale)[1] is None and "answer" not in rationale + choice)


def needs(name):
    if name not in ("unigram", "byte-level") and not name.startswith("embedded:") and not SHARED.is_dir():
        pytest.skip("the folder of real data (../shared/data) is not here")


@pytest.mark.parametrize("name", BYTES)
@QUICK
@given(rationale=TEXT, choice=TEXT)
def test_given_bytes(name, rationale, choice):
    """A token of a byte-level vocabulary is spelled with one letter a byte: no offsets are needed to count them."""
    needs(name)
    usable(rationale, choice)
    pieces, num, prefix, whole = counterfactual(name, rationale, choice)
    lead = sum(map(len, pieces)) - len(whole.encode())
    assert lead in (0, 1)  # the space of the template
    border = lead + len(prefix.encode())
    assert sum(map(len, pieces[:num])) <= border < sum(map(len, pieces[: num + 1]))


@pytest.mark.parametrize(("name", "apart"), [*((name, False) for name in PIECES), ("unigram", True)])
@QUICK
@given(rationale=LETTERS, choice=LETTERS)
def test_given_pieces(name, apart, rationale, choice):
    """Of a vocabulary that marks spaces inside its pieces; letters that each of them spells."""
    needs(name)
    usable(rationale, choice)
    pieces, num, prefix, whole = counterfactual(name, rationale, choice, apart=apart)
    spelled = ["".join(pieces[:count]).replace("▁", " ").lstrip() for count in range(len(pieces) + 1)]
    assert spelled[-1] == whole
    assert prefix.startswith(spelled[num])
    assert len(spelled[num + 1]) > len(prefix)


def test_a_token_across_the_border_is_learned():
    """`: ` and `AMF` may be one token of a vocabulary that was trained on nothing else."""
    core = Tokenizer(models.BPE(unk_token="?"))
    core.train_from_iterator(["is: A"] * 9, trainers.BpeTrainer(special_tokens=["</s>", "?"], show_progress=False))
    core.pre_tokenizer = pre_tokenizers.Split("is: A", "isolated")
    made = Template(PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", pad_token="</s>"))
    assert "is: A" in made.tokenizer.get_vocab()
    row = TaskRow(Example("q", "A", ("so is: A",)), "counterfactual", num_forced_chars=len("so is:"))
    encoded = encode_groups([[row]], ExampleTokenizer(made, ROOM))[0].rows[0].student
    learned = made.tokenizer.convert_ids_to_tokens(encoded.learned_ids)
    assert learned == ["is: A", "</s>"]
    assert encoded.num_forced == len(encoded.answer_ids) - 2


def test_what_is_given_and_of_no_use_is_left_out_and_counted():
    encoder = ExampleTokenizer(template("byte-level"), DataConfig(max_length=200, max_answer_tokens=30))
    long = dataclasses.replace(WHOLE, counterfactuals={0: "x y z " * 9, 2: "p"})
    made = rows_of_examples([long], config(kind="multitask_counterfactual"), seed=0)
    (group,) = encode_groups(made, encoder)
    assert [row.task for row in group.rows] == ["predict", "explain", "factual", "counterfactual"]
    assert encoder.notes["texts left out: what is given fills max_answer_tokens"] == 1
    with pytest.raises(DataError, match="no text has a token left"):
        encode_groups([[row for row in made[0] if "x y z" in row.example.answers[0]]], encoder)


def test_a_template_that_rewrites_answers_cannot_give_a_part_of_them():
    spoken = tokenizer(300)
    spoken.chat_template = "{% for m in messages %}{{ m['content'] | upper }}{{ eos_token }}{% endfor %}"
    made = rows_of_examples([WHOLE], config(kind="counterfactual"), seed=0)
    with pytest.raises(ModelError, match="rewrites the answer") as caught:
        encode_groups(made, ExampleTokenizer(Template(spoken), ROOM))
    assert "rationale_in: encoder" in caught.value.hint


# -- batches -----------------------------------------------------------------------------------------------------------


def test_a_batch_of_groups_says_which_rows_are_what():
    encoder = ExampleTokenizer(template("byte-level"), ROOM)
    made = encode_groups(rows_of_examples([WHOLE], config(kind="multitask_counterfactual"), seed=0), encoder)
    batch = Collator(0)(made)
    assert batch["tasks"] == ["predict", "explain", "factual", "counterfactual", "counterfactual"]
    assert batch["ids"] == ["q"] * 5
    assert batch["use_teacher"].tolist() == [True, True, True, False, False]
    assert batch["weights"].tolist() == [0.25] * 5
    decode = encoder.template.tokenizer.decode
    targets = batch["student"]["target_ids"].split(batch["student"]["target_mask"].sum(1).tolist())
    assert [decode(ids) for ids in targets] == [
        " AMF</s>",
        " N2 ends there.</s>",
        " N2 ends there. So the answer is: AMF</s>",
        " SMF</s>",
        " UPF</s>",
    ]
    flat = Collator(0)([row for group in made for row in group.rows])
    assert all((flat["student"]["inputs"][k] == v).all() for k, v in batch["student"]["inputs"].items())
    plain = Collator(0)([dataclasses.replace(row, task="", weight=1.0) for row in made[0].rows])
    assert not {"tasks", "weights", "use_teacher"} & plain.keys()
    weighed = Collator(0)([dataclasses.replace(row, task="") for row in made[0].rows])
    assert weighed["weights"].tolist() == [0.25] * 5
    assert not {"tasks", "use_teacher"} & weighed.keys()


# -- paraphrases and new questions -----------------------------------------------------------------------------------

NEW = Example("q/new_questions", "Who starts N1?", ("UE",), origin="teacher")


@pytest.mark.parametrize(
    "kind", ["answer", "rationale_answer", "multitask", "counterfactual", "multitask_counterfactual"]
)
def test_a_paraphrase_gives_once_more_what_the_question_gives(kind):
    fields = {"kind": kind, "counterfactuals": 1}
    plain = put(WHOLE, **fields)
    reworded = put(dataclasses.replace(WHOLE, paraphrases=("Where does N2 end?",)), **fields)
    assert reworded[: len(plain)] == plain
    assert reworded[len(plain) :] == [
        (task, question.replace("Who ends N2?", "Where does N2 end?"), *rest) for task, question, *rest in plain
    ]


def test_a_new_question_is_learned_by_the_tasks_that_learn_an_answer_alone():
    explained = dataclasses.replace(WHOLE, new_questions=(NEW,))
    for kind, task, question in (
        ("answer", "answer", "Who starts N1?"),
        ("multitask", "predict", "[predict] Who starts N1?"),
    ):
        made = rows(explained, config(kind=kind), seed=0)
        assert [(row.task, row.example.question, row.example.answers) for row in made if row.example.id == NEW.id] == [
            (task, question, ("UE",))
        ]
        assert made[-1].weight == next(row.weight for row in made if row.task == task)
        assert made[-1].example.origin == "teacher"
    assert rows(explained, config(kind="counterfactual"), seed=0) == rows(WHOLE, config(kind="counterfactual"), seed=0)


def test_weights_of_tasks_stay_and_texts_of_an_example_stay_together():
    explained = dataclasses.replace(WHOLE, paraphrases=("Where does N2 end?",), new_questions=(NEW,))
    made = rows(explained, config(kind="multitask", predict_weight=0.7), seed=0)
    assert {(row.task, round(row.weight, 2)) for row in made} == {("predict", 0.7), ("explain", 0.3)}
    [group] = encode_groups([made], ExampleTokenizer(template("byte-level"), ROOM))
    assert [row.id for row in group.rows] == ["q", "q", "q/paraphrase", "q/paraphrase", "q/new_questions"]
