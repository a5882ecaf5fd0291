"""Answers with explanations, whether the answer follows them, and whether they help to foresee it."""

from __future__ import annotations

import math
from dataclasses import replace
from math import isnan
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM, T5Config, T5ForConditionalGeneration
from transformers.modeling_outputs import CausalLMOutputWithPast

from support.tiny import llama, tokenizer
from understudy.data.tasks import ANSWER_MARK, WithRationales, prompt_example
from understudy.errors import ConfigError
from understudy.evaluation.explanation_results import Faithfulness, NotMeasured, Simulatability
from understudy.evaluation.explanations import explanation_figures, option_scores, predict_explained, roles_of
from understudy.evaluation.faithfulness import NOT_READ, NOTHING_TO_SWAP, faithfulness, swapped_answers
from understudy.evaluation.predict import predict
from understudy.evaluation.simulatability import leakage_adjusted, observer_prompts, simulate
from understudy.metrics import Interval
from understudy.metrics.significance import Resampling
from understudy.models.generate import choice_scores
from understudy.recipe import DataConfig, TaskConfig
from understudy.records import ExplainedPrediction, Prediction, Swap
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.seq2seq_template import Seq2SeqTemplate
from understudy.tokens.template import Template
from understudy.types import Example

DATA = DataConfig(max_length=400, max_answer_tokens=24)
OPTIONS = ("AMF", "SMF", "UDM", "NSSF")
ROWS = [
    Example("n2", "Which function terminates N2?", ("AMF",), choices=OPTIONS, meta={"fact": ["n2"]}),
    Example("n4", "Which function terminates N4?", ("SMF",), choices=OPTIONS, meta={"fact": ["n4"]}),
    Example("sub", "Which function stores subscriptions?", ("UDM",), choices=OPTIONS, meta={"fact": ["sub"]}),
]
KINDS = ("answer", "rationale_answer", "multitask", "counterfactual", "multitask_counterfactual")


class Copier(LlamaForCausalLM):
    """Goes on as the text went on the last time that the same tokens stood there, two count before one; or ends."""

    def forward(self, input_ids, attention_mask=None, logits_to_keep=0, **_):  # pyright: ignore
        width = input_ids.shape[1]
        place = torch.arange(width)
        distance = place[:, None] - place[None, :]
        # What stood at place j is copied to t where the token before it is the token at t; near ones count more.
        before = input_ids.roll(1, 1)
        same = input_ids[:, :, None] == before[:, None, :]
        longer = same & (before[:, :, None] == before.roll(1, 1)[:, None, :])
        weight = (
            (same + 1e6 * longer) * 0.8 ** distance.clamp(min=0).double() * ((distance >= 0) & (place > 0)[None, :])
        )
        copied = weight @ torch.nn.functional.one_hot(input_ids, self.config.vocab_size).double()
        p = 0.9 * copied / copied.sum(-1, keepdim=True).clamp_min(1e-60) + 0.05 / self.config.vocab_size
        p[..., self.config.eos_token_id] += 0.05
        logits = p.log().float()
        return CausalLMOutputWithPast(logits=logits[:, -logits_to_keep:] if logits_to_keep else logits)


@pytest.fixture(scope="module")
def causal():
    template = Template(tokenizer(300))
    return SimpleNamespace(model=llama(len(template.tokenizer)), encoder=ExampleTokenizer(template, DATA))


@pytest.fixture(scope="module")
def apart():
    template = Seq2SeqTemplate(tokenizer(300))
    end, pad = template.tokenizer.eos_token_id, template.tokenizer.pad_token_id
    config = T5Config(
        vocab_size=len(template.tokenizer),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        dropout_rate=0.0,
        pad_token_id=pad,
        eos_token_id=end,
        decoder_start_token_id=pad,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return SimpleNamespace(
            model=T5ForConditionalGeneration(config).eval(), encoder=ExampleTokenizer(template, DATA)
        )


@pytest.fixture(params=["causal", "encoder-decoder"])
def student(request, causal, apart):
    return causal if request.param == "causal" else apart


@pytest.fixture(scope="module")
def copier(causal):
    model = Copier(causal.model.config).eval()
    model.generation_config.use_cache = False
    return SimpleNamespace(model=model, encoder=causal.encoder)


def argued() -> list[WithRationales]:
    return [
        WithRationales(row, None, {n: f"What does it: {choice}." for n, choice in enumerate(row.choices)})
        for row in ROWS
    ]


def row(name, chosen, explanation, **fields):
    base = {
        "id": name,
        "group": None,
        "question": "Which?",
        "context": None,
        "choices": list(OPTIONS),
        "references": ["AMF"],
        "chosen": chosen,
        "answer_given": chosen is not None,
        "explanation": explanation,
        "explanation_finished": explanation is not None,
    }
    return ExplainedPrediction.from_json({"prediction": "", **base, **fields})


# what is asked


@pytest.mark.parametrize(
    ("tasks", "roles"),
    [
        ({"kind": "answer"}, ("answer", None, None)),
        ({"kind": "rationale_answer"}, ("rationale", "rationale", "rationale")),
        ({"kind": "multitask"}, ("predict", "explain", None)),
        ({"kind": "counterfactual"}, ("factual", "factual", "factual")),
        ({"kind": "multitask_counterfactual"}, ("predict", "explain", "factual")),
        ({"kind": "multitask", "predict_weight": 1.0}, ("predict", None, None)),
        ({"kind": "multitask_counterfactual", "multitask_weight": 0.0}, ("factual", "factual", "factual")),
        ({"kind": "multitask_counterfactual", "predict_weight": 0.0}, ("factual", "factual", "factual")),
        ({"kind": "multitask_counterfactual", "factual_weight": 0.0}, ("predict", "explain", None)),
    ],
)
def test_only_what_was_learned_is_asked(tasks, roles):
    form = roles_of(TaskConfig(**tasks))
    assert (form.answer, form.explanation, form.reading) == roles


def test_a_student_that_learned_no_answers_is_refused():
    with pytest.raises(ConfigError, match="no task answers, only explain"):
        roles_of(TaskConfig(kind="multitask", predict_weight=0.0))


# prediction rows


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_every_kind_from_both_forms_of_models(student, kind):
    tasks = TaskConfig(kind=kind)
    counted = []
    rows = predict_explained(student.model, student.encoder, ROWS, tasks, batch_size=2, progress=counted.append)
    plain = predict(student.model, student.encoder, ROWS, batch_size=2)
    assert [list(one.to_json())[:13] for one in rows] == [list(one.to_json()) for one in plain]
    two_texts = kind.startswith("multitask")
    assert sum(counted) == len(ROWS) * (2 if two_texts else 1)
    for one in rows:
        assert len(one.choice_scores) == 4
        assert one.prediction in one.raw
        assert one.answer_given == bool(one.prediction)
        assert (one.explanation is None) == (kind == "answer")
        assert (one.explanation_finished is None) == (kind == "answer")
        assert one.tokens <= DATA.max_answer_tokens * (2 if two_texts else 1)
    if kind == "answer":
        assert [Prediction.from_json({**one.to_json(), "seconds": 0}) for one in rows] == [
            replace(one, seconds=0) for one in plain
        ]


def test_options_are_scored_behind_the_rationale_as_by_hand(causal):
    """The likelihood of an option is that of its tokens behind prompt, rationale and mark, counted in one long text."""
    rationale = "N2 ends there."
    (scores,) = option_scores(causal.model, causal.encoder, ROWS[:1], "factual", rationales=[rationale], batch_size=3)
    template, put = causal.encoder.template, prompt_example(ROWS[0], "factual")
    prompt = causal.encoder.prompt_ids(put)
    for choice, value in zip(OPTIONS, scores, strict=True):
        before = template.tokenizer(f" {rationale} {ANSWER_MARK}", add_special_tokens=False)["input_ids"]
        tail = [*template.tokenizer(f" {choice}", add_special_tokens=False)["input_ids"], template.end_id]
        ids = torch.tensor([[*prompt, *before, *tail]])
        with torch.no_grad():
            logp = causal.model(ids).logits.double().log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None]).squeeze(1)
        assert value == pytest.approx(logp[-len(tail) :].mean().item(), abs=1e-5)


def test_without_a_rationale_the_scores_are_the_ordinary_ones(student):
    rows = [[student.encoder.encode(prompt_example(one, "predict"), choice) for choice in OPTIONS] for one in ROWS]
    plain = choice_scores(student.model, rows, pad_id=student.encoder.template.tokenizer.pad_token_id)
    scores = option_scores(student.model, student.encoder, ROWS, "predict", batch_size=64)
    behind = option_scores(student.model, student.encoder, ROWS, "predict", rationales=["so"] * 3, batch_size=64)
    for values, same, other in zip(plain, scores, behind, strict=True):
        assert same == pytest.approx(values, abs=1e-5)
        assert other != pytest.approx(values, abs=1e-3)


def test_a_rationale_longer_than_any_answer_leaves_the_options_whole(student):
    long = "because of this " * 40
    short_data = DATA.model_copy(update={"max_answer_tokens": 4})
    encoder = ExampleTokenizer(student.encoder.template, short_data)
    scores = option_scores(student.model, encoder, ROWS[:1], "factual", rationales=[long], batch_size=4)
    assert len(set(scores[0])) == 4
    assert all(math.isfinite(value) for value in scores[0])
    assert encoder.notes == {}


def test_a_rationale_is_cut_where_the_positions_of_a_model_end(causal):
    """GPT-2 looks its positions up in a table; the end of the rationale, the mark and the options stay."""
    config = GPT2Config(
        vocab_size=len(causal.encoder.template.tokenizer), n_positions=200, n_embd=8, n_layer=1, n_head=1
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = GPT2LMHeadModel(config).eval()
    encoder = ExampleTokenizer(causal.encoder.template, DATA)
    long, longer = ("the SMF does " * times for times in (60, 90))
    settings = {"batch_size": 4}
    [scores] = option_scores(model, encoder, ROWS[:1], "factual", rationales=[long], **settings)
    assert scores == option_scores(model, encoder, ROWS[:1], "factual", rationales=[longer], **settings)[0]
    assert scores != option_scores(model, encoder, ROWS[:1], "factual", rationales=["the SMF does"], **settings)[0]
    assert encoder.notes == {"rationales cut at their beginning, for the options behind them to fit": 2}


def test_rows_without_options_have_no_scores(causal):
    bare = Example("bare", "What does UPF mean?", ("User Plane Function",))
    (prediction,) = predict_explained(
        causal.model, causal.encoder, [bare], TaskConfig(kind="rationale_answer"), batch_size=1
    )
    assert prediction.choice_scores is None
    assert prediction.chosen is None


# faithfulness


def test_who_copies_the_option_named_in_the_rationale_follows_every_time(copier):
    tasks = TaskConfig(kind="counterfactual")
    swaps = swapped_answers(copier.model, copier.encoder, argued(), tasks, batch_size=4)
    # three wrong options each: the text for the gold one is not a counterfactual
    assert [(swap.id, swap.choice) for swap in swaps] == [
        *[("n2", n) for n in (1, 2, 3)],
        *[("n4", n) for n in (0, 2, 3)],
        *[("sub", n) for n in (0, 1, 3)],
    ]
    figures = faithfulness(swaps, tasks, resampling=Resampling(200))
    assert isinstance(figures, Faithfulness)
    assert (figures.task, figures.swaps, figures.examples) == ("factual", 9, 3)
    assert figures.follows == Interval(1.0, 1.0, 1.0, 9)
    assert figures.flips.value == 1.0
    assert figures.flips.n == sum(swap.before != swap.choice for swap in swaps) > 0
    assert figures.note == ""


def test_options_that_read_the_same_are_one_answer(copier):
    twice = Example("n2", "Which function terminates N2?", ("AMF",), choices=("AMF", "SMF", "SMF", "UDM"))
    texts = {n: f"What does it: {twice.choices[n]}." for n in (1, 2)}
    tasks = TaskConfig(kind="counterfactual")
    swaps = swapped_answers(copier.model, copier.encoder, [WithRationales(twice, None, texts)], tasks, batch_size=4)
    assert [(swap.choice, swap.after) for swap in swaps] == [(1, 1), (2, 2)]


def test_a_mark_without_a_rationale_swaps_nothing(causal):
    bare = [WithRationales(ROWS[0], None, {1: f"{ANSWER_MARK} SMF"})]
    assert swapped_answers(causal.model, causal.encoder, bare, TaskConfig(kind="counterfactual"), batch_size=4) == []


def test_an_untrained_student_is_measured_too(student):
    tasks = TaskConfig(kind="rationale_answer")
    swaps = swapped_answers(student.model, student.encoder, argued(), tasks, batch_size=4)
    assert len(swaps) == 9
    assert {swap.group for swap in swaps} == {"n2", "n4", "sub"}
    by_hand = sum(swap.after == swap.choice for swap in swaps) / 9
    assert faithfulness(swaps, tasks, resampling=Resampling(200)).follows.value == pytest.approx(by_hand)


def test_before_is_the_answer_behind_the_students_own_rationale(student):
    tasks = TaskConfig(kind="counterfactual")
    rows = predict_explained(student.model, student.encoder, ROWS, tasks, batch_size=4)
    scored = {one.id: max(range(4), key=one.choice_scores.__getitem__) for one in rows}
    swaps = swapped_answers(student.model, student.encoder, argued(), tasks, batch_size=4)
    assert all(swap.before == scored[swap.id] for swap in swaps)


@pytest.mark.parametrize("kind", ["answer", "multitask"])
def test_an_answer_that_reads_no_rationale_is_not_measured(causal, kind):
    tasks = TaskConfig(kind=kind)
    swaps = swapped_answers(causal.model, causal.encoder, argued(), tasks, batch_size=4)
    assert swaps == []
    assert faithfulness(swaps, tasks) == NotMeasured(NOT_READ)


def test_without_counterfactuals_there_is_nothing_to_measure(causal):
    tasks = TaskConfig(kind="counterfactual")
    bare = [WithRationales(one, "because") for one in ROWS]
    swaps = swapped_answers(causal.model, causal.encoder, bare, tasks, batch_size=4)
    assert faithfulness(swaps, tasks) == NotMeasured(NOTHING_TO_SWAP)


def test_multitask_with_counterfactuals_says_which_answers_were_measured(copier):
    tasks = TaskConfig(kind="multitask_counterfactual")
    figures = faithfulness(swapped_answers(copier.model, copier.encoder, argued(), tasks, batch_size=4), tasks)
    assert figures.task == "factual"
    assert "[predict] do not read" in figures.note


def test_shares_of_swaps_by_hand():
    tasks = TaskConfig(kind="counterfactual")
    swaps = [
        Swap("a", "a", choice=1, before=1, after=1),
        Swap("a", "a", choice=2, before=1, after=2),
        Swap("b", "b", choice=0, before=3, after=3),
        Swap("b", "b", choice=1, before=3, after=0),
    ]
    figures = faithfulness(swaps, tasks, resampling=Resampling(500))
    assert figures.follows.value == 0.5
    assert figures.flips.value == pytest.approx(1 / 3)
    assert figures.flips.n == 3
    assert figures.follows.low < 0.5 < figures.follows.high
    stubborn = faithfulness([swaps[0]], tasks, resampling=Resampling(500))
    assert isnan(stubborn.flips.value)


# simulatability

# x, e and x with e for eight items: four leak. Gains among them 0, 1, 0, 1; among the others 1, 0, −1, 1.
QUESTION = [True, False, True, False, False, True, True, False]
BOTH = [True, True, True, True, True, True, False, True]
ALONE = [True, True, True, True, False, False, False, False]


def test_leakage_adjusted_simulatability_of_eight_items_by_hand():
    figures = leakage_adjusted(BOTH, QUESTION, ALONE, resampling=Resampling(500))
    assert figures.question_alone.value == 4 / 8
    assert figures.both.value == 7 / 8
    assert figures.gain.value == pytest.approx(3 / 8)
    assert figures.leaking.value == 4 / 8
    assert figures.gain_leaking.value == pytest.approx(2 / 4)
    assert figures.gain_not_leaking.value == pytest.approx(1 / 4)
    assert figures.las.value == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert figures.las.low < figures.las.value < figures.las.high
    # strata of unequal size: seven items leak, and one that does not has a gain of its own
    unequal = leakage_adjusted([True] * 8, [False] * 7 + [True], [True] * 7 + [False], resampling=Resampling(500))
    assert unequal.gain.value == pytest.approx(7 / 8)
    assert unequal.las.value == pytest.approx((1 + 0) / 2)


def test_las_is_not_defined_where_everything_leaks():
    figures = leakage_adjusted(BOTH, QUESTION, [True] * 8, resampling=Resampling(200))
    assert figures.las.to_dict() == {"value": None, "low": None, "high": None, "n": 8, "missing": 0}
    assert isnan(figures.gain_not_leaking.value)
    assert figures.gain_leaking.value == figures.gain.value


hits = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=2, max_size=30)


@given(hits)
@settings(max_examples=40, deadline=None)
def test_gain_is_the_weighted_mean_of_its_halves_and_las_the_plain_one(table):
    both, question, alone = zip(*table, strict=True)
    figures = leakage_adjusted(both, question, alone, resampling=Resampling(100))
    share = figures.leaking.value
    halves = [figures.gain_leaking.value, figures.gain_not_leaking.value]
    weighted = sum((weight * half for weight, half in zip((share, 1 - share), halves, strict=True) if not isnan(half)))
    assert figures.gain.value == pytest.approx(weighted)
    assert figures.gain.value == pytest.approx(figures.both.value - figures.question_alone.value)
    if any(map(isnan, halves)):
        assert isnan(figures.las.value)
    else:
        assert figures.las.value == pytest.approx(sum(halves) / 2)
        assert -1 <= figures.las.value <= 1


def test_items_of_one_group_are_drawn_together():
    alone = leakage_adjusted(BOTH * 6, QUESTION * 6, ALONE * 6, resampling=Resampling(500))
    tied = leakage_adjusted(BOTH * 6, QUESTION * 6, ALONE * 6, clusters=[*range(8)] * 6, resampling=Resampling(500))
    assert tied.las.value == alone.las.value
    assert tied.las.high - tied.las.low > 1.5 * (alone.las.high - alone.las.low)


def test_an_observer_that_copies_foresees_what_explanations_name(copier):
    """An explanation that names the answer gains all there is to gain, and leaks each time: LAS is not defined."""
    rows = [row(str(n), n % 4, f"What does it: {OPTIONS[n % 4]}.") for n in range(8)]
    figures = simulate(copier.model, copier.encoder, rows, batch_size=8, resampling=Resampling(200))
    assert isinstance(figures, Simulatability)
    assert (figures.items, figures.left_out) == (8, 0)
    assert figures.question_alone.value == 2 / 8
    assert figures.both.value == figures.leaking.value == 1
    assert figures.gain.value == figures.gain_leaking.value == 6 / 8
    assert isnan(figures.las.value)
    silent = [replace(one, explanation="No reason.") for one in rows[:4]]
    mixed = simulate(copier.model, copier.encoder, rows[4:] + silent, batch_size=8, resampling=Resampling(200))
    assert mixed.leaking.value == (4 + 1) / 8
    assert mixed.gain_not_leaking.value == 0
    assert mixed.las.value == pytest.approx((3 / 5 + 0) / 2)


def test_rows_that_cannot_be_foreseen_are_left_out_and_counted(causal):
    usable = row("a", 1, "why")
    unusable = [row("b", None, "why"), row("c", 1, None), row("d", 1, ""), row("e", None, "why", choices=[])]
    figures = simulate(causal.model, causal.encoder, [usable, *unusable], batch_size=8, resampling=Resampling(100))
    assert (figures.items, figures.left_out) == (1, 4)
    nothing = simulate(causal.model, causal.encoder, unusable, batch_size=8)
    assert isinstance(nothing, NotMeasured)
    assert nothing.left_out == 4
    assert "not measured" in nothing.reason


def test_the_observer_sees_the_explanation_before_the_question_and_alone():
    example = Example("a", "Which?", ("AMF",), context="A passage.", choices=OPTIONS)
    seen = observer_prompts(example, "Because.")
    assert seen["question"] is example
    assert (seen["both"].context, seen["both"].question) == ("A passage.\n\nBecause.", "Which?")
    assert seen["explanation"].context == "Because."
    assert "Which?" not in seen["explanation"].question
    assert all(one.choices == OPTIONS for one in seen.values())


# figures


def test_figures_of_explanations_by_hand():
    rows = [
        row("a", 0, "The AMF does it, not the SMF."),
        row("b", 1, "The AMF does it, UDM and NSSF do not", explanation_finished=False),
        row("c", None, "No idea"),
        row("d", 2, None),
    ]
    figures = explanation_figures(rows, resampling=Resampling(200))
    assert (figures.items, figures.explained) == (4, 3)
    assert figures.answer_given.value == 3 / 4
    assert figures.names_no_option.value == 1 / 4
    assert figures.words.value == pytest.approx((7 + 9 + 2) / 3)
    assert figures.distractors.value == pytest.approx((1 + 2 + 0) / 3)
    assert (figures.names_own_answer.value, figures.names_own_answer.n) == (1 / 2, 2)
    assert figures.unfinished.value == pytest.approx(1 / 3)


def test_figures_of_a_student_that_explains_nothing():
    figures = explanation_figures([row("a", 0, None), row("b", 1, None)], resampling=Resampling(100))
    assert (figures.items, figures.explained) == (2, 0)
    assert isnan(figures.words.value)
    assert figures.names_no_option.value == 0
