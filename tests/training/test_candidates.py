"""Several answers to a question as soft labels: hand-worked values, gradients, and what stays the same."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from support.tiny import DATA, examples, llama, tokenizer
from support.tiny_seq2seq import model, template
from understudy import build
from understudy.errors import ConfigError
from understudy.losses.heads import Head, HeadStates
from understudy.losses.token_logp import token_logp
from understudy.models.forward import forward
from understudy.models.generate import choice_scores
from understudy.models.output import VocabularyOutput
from understudy.recipe import CandidatesConfig, parse_recipe
from understudy.tokens.collate import Collator, ExampleTokenizer, encode_rows
from understudy.tokens.template import Template
from understudy.tokens.weighed import WeighedAnswer, WeighedQuestion, encode_distributions, encode_sequences
from understudy.training.objectives.candidates import CandidateDistribution
from understudy.types import Example

QUESTIONS = [
    WeighedQuestion(
        Example("a", "Which port does GTP-U use?", ("2152",)),
        (WeighedAnswer("2152", -0.5, 4, gold=True), WeighedAnswer("3868", -1.5, 4), WeighedAnswer("the AMF", -2.0, 6)),
    ),
    WeighedQuestion(
        Example("b", "Who selects a slice?"),
        (WeighedAnswer("NSSF", -0.7, 3), WeighedAnswer("the SMF and UDM", -0.9, 9)),
    ),
]


def side() -> ExampleTokenizer:
    return ExampleTokenizer(Template(tokenizer()), DATA)


def double(value: object) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize(("score", "τ", "d"), [("mean", 1.0, 0.5), ("sum", 2.0, 0.25), ("mean", 0.5, 1.0)])
def test_the_loss_is_its_formula_in_float64(score: str, τ: float, d: float) -> None:
    config = CandidatesConfig(score=score, temperature=τ, distribution_weight=d, gold_weight=0.25)  # pyright: ignore
    student, words = llama(300).double(), side()
    batch = Collator(1)(encode_distributions(QUESTIONS, words, config))
    objective = build.candidate_objective(config)
    result = objective(forward(student, batch["student"]), None, batch)
    expected = torch.zeros((), dtype=torch.float64)
    for question in QUESTIONS:
        logps = []
        for answer in question.encode(words):
            ids = torch.tensor([answer.ids])
            logits = student(ids).logits[0, len(answer.prompt_ids) - 1 : -1].log_softmax(-1)
            logps.append(logits.gather(1, torch.tensor(answer.answer_ids)[:, None])[:, 0])
        means = torch.stack([row.mean() for row in logps])
        own = means if score == "mean" else torch.stack([row.sum() for row in logps])
        teacher = double([a.logp * (a.tokens if score == "sum" else 1) for a in question.answers])
        p, log_q = (teacher / τ).softmax(0), (own / τ).log_softmax(0)
        gold = double([float(a.gold) for a in question.answers])
        share = 0.25 * gold + 0.75 * p if gold.any() else p
        expected = expected + d * (p * (p.log() - log_q)).sum() - (1 - d) * (share * means).sum()
    torch.testing.assert_close(result.total.double(), expected, rtol=1e-6, atol=1e-8)
    parameters = [p for p in student.parameters() if p.requires_grad]
    given = torch.autograd.grad(result.total, parameters)
    wanted = torch.autograd.grad(expected, parameters)
    for one, other in zip(given, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
    assert result.sums["tokens"] == 2


def test_by_hand_of_two_candidates() -> None:
    # Teacher −0.5 and −1.5: p = 0.731, 0.269; student −1 and −2 the other way round: q = 0.269, 0.731.
    config = CandidatesConfig(distribution_weight=1.0)
    head = Head(torch.zeros(4, 2))
    logits = torch.tensor([[-2.0, 0, 0, 0], [-1.0, 0, 0, 0]])
    states = VocabularyOutput(torch.tensor([0, 0]), (1, 1), torch.zeros(2, 2), head)

    class Fixed(CandidateDistribution):
        def means(self, student: object, batch: object) -> torch.Tensor:
            return logits[:, 0][None]

    objective = Fixed(build.divergence("forward_kl"), weight=config.distribution_weight)
    mask = torch.ones(1, 2, dtype=torch.bool)
    batch = {
        "student": {"candidates": mask},
        "scores": torch.tensor([[-0.5, -1.5]]),
        "shares": torch.tensor([[1.0, 0]]),
    }
    result = objective(states, None, batch)  # pyright: ignore
    assert result.total.item() == pytest.approx(0.7310586 * 1 - 0.2689414 * 1, abs=1e-6)


def test_scores_of_the_student_are_the_ones_by_which_choices_are_ranked() -> None:
    student, words = llama(300), side()
    batch = Collator(1)(encode_distributions(QUESTIONS, words, CandidatesConfig()))
    objective = CandidateDistribution(build.divergence("forward_kl"))
    with torch.no_grad():
        means = objective.means(forward(student, batch["student"]), batch)
    expected = choice_scores(student, [question.encode(words) for question in QUESTIONS], pad_id=1)
    torch.testing.assert_close(means[0], torch.tensor(expected[0]))
    torch.testing.assert_close(means[1], torch.tensor([*expected[1], 0.0]))


def test_an_encoder_decoder_learns_them_too() -> None:
    words = template("bart")
    student = model("bart", len(words.tokenizer))  # pyright: ignore
    batch = Collator(1)(encode_distributions(QUESTIONS, ExampleTokenizer(words, DATA), CandidatesConfig()))
    result = build.candidate_objective(CandidatesConfig())(forward(student, batch["student"]), None, batch)
    result.total.backward()
    assert torch.isfinite(result.total)


def test_nothing_depends_on_how_the_batch_is_cut() -> None:
    config, student, words = CandidatesConfig(), llama(300), side()
    rows, objective = encode_distributions(QUESTIONS, words, config), build.candidate_objective(CandidatesConfig())

    def total(some: list) -> torch.Tensor:
        batch = Collator(1)(some)
        return objective(forward(student, batch["student"]), None, batch).total

    torch.testing.assert_close(total(rows), total(rows[:1]) + total(rows[1:]))


def test_one_answer_alone_is_sequence_level_distillation() -> None:
    words = side()
    plain = [example for example in examples() if example.origin == "teacher"]
    questions = [
        WeighedQuestion(dataclasses.replace(e, answers=()), (WeighedAnswer(e.answers[0], -1.0, 3),)) for e in plain
    ]
    groups = encode_sequences(questions, words, CandidatesConfig(learn="sequences"))
    batch, expected = Collator(1)(groups), Collator(1)(encode_rows(plain, words))
    assert "weights" not in batch
    assert batch["student"]["target_ids"].tolist() == expected["student"]["target_ids"].tolist()
    assert batch["ids"] == expected["ids"]


def test_texts_weigh_as_the_teacher_finds_them_likely_with_a_mean_of_one() -> None:
    config = CandidatesConfig(learn="sequences", gold_weight=0.5, score="sum", temperature=2.0)
    first, second = QUESTIONS
    p = double([-0.5 * 4 / 2, -1.5 * 4 / 2, -2.0 * 6 / 2]).softmax(0)
    assert first.shares(config) == pytest.approx((0.5 * double([1, 0, 0]) + 0.5 * p).tolist())
    assert second.shares(config) == pytest.approx(double([-0.7 * 3 / 2, -0.9 * 9 / 2]).softmax(0).tolist())
    batch: Any = Collator(1)(encode_sequences(QUESTIONS, side(), config))
    assert batch["weights"].tolist() == pytest.approx(
        [2.5 * share for question in QUESTIONS for share in question.shares(config)]
    )
    assert batch["weights"].mean().item() == pytest.approx(1.0)
    # With all of it on the gold answer the others of that question are no texts.
    gold = encode_sequences(QUESTIONS, side(), config.model_copy(update={"gold_weight": 1.0}))
    assert [len(group.rows) for group in gold] == [1, 2]


@pytest.mark.parametrize("bias", [False, True])
def test_log_probabilities_come_with_their_gradient_and_without_logits_in_full(bias: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    hidden, weight = (torch.randn(n, 6, generator=generator, dtype=torch.float64) for n in (11, 9))
    offset = torch.randn(9, generator=generator, dtype=torch.float64) if bias else None
    ids = torch.randint(9, (11,), generator=generator)

    def chunked(h: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return token_logp(HeadStates(h, Head(w, offset, softcap=5.0, scale=0.5)), ids, chunk=4)

    expected = Head(weight, offset, softcap=5.0, scale=0.5).logits(hidden).log_softmax(-1).gather(1, ids[:, None])[:, 0]
    torch.testing.assert_close(chunked(hidden, weight), expected)
    assert torch.autograd.gradcheck(chunked, (hidden.requires_grad_(), weight.requires_grad_()))


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"evaluate": {"arms": ["candidates"]}}, "a section `candidates` says what it learns"),
        ({"candidates": {}, "evaluate": {"arms": ["sft"]}}, "put the arm `candidates` into evaluate.arms"),
        ({"candidates": {"source": "generate"}}, "put it into generate.steps"),
        (
            {"candidates": {}, "teacher": {"model": "m", "tokenizer": "t", "base_url": "http://x"}},
            "a teacher that is loaded here",
        ),
        ({"candidates": {}, "teacher": None, "evaluate": {"arms": ["candidates"]}}, "candidates needs one"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(section: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_recipe(section)
    assert "\n" not in caught.value.message


def test_a_recipe_with_the_section_trains_its_arm() -> None:
    recipe = parse_recipe({"candidates": {}, "arms": {"one": {"candidates.number": 1}}})
    assert {"candidates", "one", "seqkd"} <= {*recipe.evaluate.arms}
    assert recipe.arm("one").learns == "candidates"
    assert recipe.arm("one").against[0] == "candidates"
