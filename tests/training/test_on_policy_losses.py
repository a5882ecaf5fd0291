"""What is added up on answers of the student: hand-worked values on fixed rollouts, and identities in float64."""

import copy
import math
from typing import Any

import pytest
import torch

from support import tiny_summed
from support.tiny import examples, method_config, pair
from support.tiny_on_policy import SHORT
from support.tiny_summed import Trio
from support.tiny_teachers import ensemble
from understudy import build
from understudy.losses.divergences import forward_kl, reverse_kl, skew_forward_kl, skew_reverse_kl
from understudy.models.rollout import Rollout
from understudy.recipe import METHODS
from understudy.teachers.local import LocalTeacher
from understudy.teachers.signals import TopK
from understudy.tokens.collate import ExampleTokenizer, TeacherSide
from understudy.training.module import DistillationModule
from understudy.training.objectives.adaptive import learns_as_it_goes
from understudy.training.objectives.on_policy import (
    importance_weights,
    rewards_ahead,
    teacher_logp,
    top_k_reverse_kl,
)
from understudy.training.onpolicy import RolloutEncoder, credited, repetition

FIXED = [
    Rollout((17, 40, 41, 0), (-1.0, -2.0, -0.5, -0.25), finished=True),
    Rollout((60, 17), (-3.0, -0.125), finished=False),
    Rollout((0,), (-0.5,), finished=True),
]


# -- pieces ----------------------------------------------------------------------------------------------------------


def test_the_reward_of_a_token_is_what_follows_it():
    rewards = torch.tensor([1.0, 2.0, 6.0, 5.0, -1.0], dtype=torch.float64)
    assert rewards_ahead(rewards, (3, 2), normalised=False).tolist() == [8.0, 6.0, 0.0, -1.0, 0.0]
    assert rewards_ahead(rewards, (3, 2)).tolist() == [4.0, 6.0, 0.0, -1.0, 0.0]


def test_importance_weights_by_hand():
    ratio = torch.tensor([math.log(2), math.log(0.5), math.nan, math.log(4)], dtype=torch.float64)
    compared, followed = importance_weights(ratio, (3, 1), "token", 3.0)
    assert compared.tolist() == pytest.approx([2.0, 0.5, 1.0, 3.0])
    assert followed is compared
    compared, followed = importance_weights(ratio, (3, 1), "prefix", 3.0)
    assert compared.tolist() == pytest.approx([1.0, 2.0, 1.0, 1.0])
    assert followed.tolist() == pytest.approx([2.0, 1.0, 1.0, 3.0])
    assert importance_weights(ratio, (3, 1), "none", 3.0)[0].tolist() == [1.0] * 4


def test_importance_by_prefix_is_right_on_average():
    """Σ over all sequences of two tokens: E_then[w_t f(y_<t)] = E_now[f(y_<t)], cap aside."""
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(2, 3, generator=generator, dtype=torch.float64).softmax(-1)
    value = torch.tensor([1.0, 5.0, -2.0], dtype=torch.float64)
    then, now = first
    weighed = 0.0
    for token in range(3):
        ratio = torch.tensor([math.log(now[token] / then[token]), 0.0], dtype=torch.float64)
        weighed += then[token] * importance_weights(ratio, (2,), "prefix", 1e6)[0][1] * value[token]
    assert float(weighed) == pytest.approx(float((now * value).sum()))


def test_top_k_of_reverse_kl_keeps_the_whole_gradient_where_k_is_the_vocabulary():
    torch.manual_seed(0)
    logits = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(5, 7, dtype=torch.float64).log_softmax(-1)
    (whole,) = torch.autograd.grad(reverse_kl(logits.log_softmax(-1), teacher).sum(), logits)
    for stop in (True, False):
        value = top_k_reverse_kl(7, stop_gradient=stop)(logits.log_softmax(-1), teacher)
        torch.testing.assert_close(value, reverse_kl(logits.log_softmax(-1), teacher))
        torch.testing.assert_close(torch.autograd.grad(value.sum(), logits)[0], whole)


def test_a_top_k_without_stopped_gradient_moves_a_student_that_is_its_teacher():
    """At q = p the whole KL has no gradient. That of a plain top-k pushes mass out of it: Σ_K ∇q ≠ 0."""
    torch.manual_seed(1)
    logits = torch.randn(3, 9, dtype=torch.float64, requires_grad=True)
    teacher = logits.detach().log_softmax(-1)
    biased = top_k_reverse_kl(2, stop_gradient=False)(logits.log_softmax(-1), teacher).sum()
    assert torch.autograd.grad(biased, logits)[0].abs().max() > 0.05
    right = top_k_reverse_kl(2)(logits.log_softmax(-1), teacher).sum()
    assert torch.autograd.grad(right, logits)[0].abs().max() < 1e-12


def test_a_teacher_that_tells_its_likeliest_gives_others_no_more_than_they_can_have():
    logp = torch.tensor([[0.6, 0.3], [0.6, 0.3], [0.5, 0.2]]).log()
    signal = TopK(torch.tensor([[4, 2], [4, 2], [1, 3]]), logp, torch.tensor([2, 7, 7]), (3,))
    assert teacher_logp(signal).exp().tolist() == pytest.approx([0.3, 0.1, 0.2])


def test_teachers_tokens_count_where_they_end():
    assert credited([2, 5, 6], [1, 2, 6]) == (0, 0, 2)
    assert credited([3, 6, 7], [2, 4, 6, 7]) == (0, 1, 1, 2)
    assert credited([2], [2, 3]) == (0, 0)


def test_repetition():
    assert repetition([1, 2, 3, 4]) == 0.0
    assert repetition([1, 2, 3, 1, 2, 3]) == pytest.approx(0.25)
    assert repetition([1]) == 0.0


# -- rows ------------------------------------------------------------------------------------------------------------


def encoder(made: Any, method: str, **options: Any) -> RolloutEncoder:
    own, theirs = (ExampleTokenizer(template, SHORT) for template in (made.template, made.teacher_template))
    one = METHODS[method].one_vocabulary
    return RolloutEncoder(own, theirs, made.cross_tokenizer(method), same_ids=one, **options)


def batch_of(made: Any, method: str, age: int = 0, **options: Any) -> Any:
    encode = encoder(made, method, **options)
    return made.collator(method)([encode(e, r, age) for e, r in zip(examples(3), FIXED, strict=True)])


def test_the_student_learns_neither_padding_nor_anything_behind_its_end():
    made = pair("kd", lora=False)
    batch = batch_of(made, "kd")
    assert batch["student"]["target_ids"].tolist() == [17, 40, 41, 0, 60, 17, 0]
    assert batch["student"]["target_mask"].sum(1).tolist() == [4, 2, 1]
    # What follows a target is the next of its row; padding is never attended to at a target.
    for row, drawn in enumerate(FIXED):
        kept = batch["student"]["inputs"]["attention_mask"][row].bool()
        ids = batch["student"]["inputs"]["input_ids"][row][kept].tolist()
        assert ids[len(ids) - len(drawn.ids) + 1 :] == list(drawn.ids[:-1])
        assert bool(kept[batch["student"]["target_mask"][row]].all())
    torch.testing.assert_close(batch["rollouts"]["logp"], torch.tensor([v for r in FIXED for v in r.logp]))
    assert batch["rollouts"]["finished"].tolist() == [True, False, True]
    assert batch["teacher"]["target_ids"].tolist() == batch["student"]["target_ids"].tolist()


@pytest.mark.parametrize("method", [name for name in METHODS if not METHODS[name].one_vocabulary])
def test_across_vocabularies_the_teacher_reads_the_text(method):
    made = pair(method, lora=False)
    encode = encoder(made, method, credited=True)
    end = made.template.end_id
    ids = [*made.template.encode([{"role": "user", "content": "why"}], "CHF").answer_ids]
    assert ids[-1] == end
    row = encode(examples(1)[0], Rollout(tuple(ids), (-1.0,) * len(ids), finished=True), 3)
    assert row.student.answer_ids == ids
    assert row.drawn.logp == (-1.0,) * len(ids)
    assert made.teacher_template.decode(row.teacher.answer_ids[:-1]) == "CHF"
    assert row.teacher.answer_ids[-1] == made.teacher_template.end_id
    assert row.drawn.credit[-1] == len(ids) - 1
    assert len(row.drawn.credit) == len(row.teacher.answer_ids)
    cut = encode(examples(1)[0], Rollout(tuple(ids[:-1]), (-1.0,) * (len(ids) - 1), finished=False), 0)
    assert cut.student.answer_ids == ids[:-1]
    assert made.teacher_template.end_id not in cut.teacher.answer_ids


def test_an_answer_that_is_cut_otherwise_is_counted():
    made = pair("dskd_cma", lora=False)
    encode = encoder(made, "dskd_cma")
    # Byte by byte: the tokenizer itself would write longer tokens.
    ids = [made.template.text_ids(letter)[0] for letter in "NGAP"]
    row = encode(examples(1)[0], Rollout((*ids, made.template.end_id), (-1.0,) * 5, finished=True), 0)
    assert row.student.answer_ids != [*ids, made.template.end_id]
    assert row.drawn.logp == ()
    assert sum(encode.student.notes.values()) == 1
    batch = made.collator("dskd_cma")([row])
    assert bool(batch["rollouts"]["logp"].isnan().all())


# -- losses ----------------------------------------------------------------------------------------------------------


def logps(made: Any, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of student and teacher at the target tokens, by the models' own logits, in float64."""
    sides = []
    for model, tokens in ((made.student, batch["student"]), (made.teacher, batch["teacher"])):
        logits = model(**tokens["inputs"]).logits[tokens["target_mask"]]
        sides.append(logits.double().log_softmax(-1))
    return sides[0], sides[1].detach()


def result_of(made: Any, method: str, batch: Any, fields: dict[str, Any], **more: Any) -> Any:
    config = method_config(method, on_policy=fields, **more)
    objective = build.objective(config, made.student, made.teacher, made.cross_tokenizer(method))
    module = DistillationModule(made.student, learns_as_it_goes(config, objective))
    made.student.zero_grad()
    signal = LocalTeacher(made.teacher, embeddings=objective.embeddings).signal(batch)
    result = module(batch, signal)
    result.total.backward()
    return result, {n: p.grad.clone() for n, p in made.student.named_parameters() if p.grad is not None}


def gradients(made: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    made.student.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in made.student.named_parameters() if p.grad is not None}


def assert_equal(result: Any, expected: torch.Tensor, made: Any) -> None:
    found, ours = result
    torch.testing.assert_close(found.total.double(), expected.detach(), rtol=1e-5, atol=1e-5)
    for name, value in gradients(made, expected).items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize(("name", "function"), [("forward_kl", forward_kl), ("reverse_kl", reverse_kl)])
def test_gkd_is_the_divergence_alone(name, function):
    made = pair("kd", lora=False)
    batch = batch_of(made, "kd")
    q, p = logps(made, batch)
    fields = {"divergence": name, "rollout_weight": 0.5}
    assert_equal(result_of(made, "kd", batch, fields), 0.5 * function(q, p).sum(), made)


def test_the_policy_gradient_of_minillm():
    made = pair("kd", lora=False)
    batch = batch_of(made, "kd")
    q, p = logps(made, batch)
    ids = batch["student"]["target_ids"][:, None]
    own, theirs = q.gather(1, ids)[:, 0], p.gather(1, ids)[:, 0]
    r = (theirs - own).detach()
    ahead = torch.stack([(r[1] + r[2] + r[3]) / 3, (r[2] + r[3]) / 2, r[3], 0 * r[0], r[5], 0 * r[0], 0 * r[0]])
    expected = reverse_kl(q, p).sum() - (ahead * own).sum()
    result = result_of(made, "kd", batch, {"loss": "policy_gradient"})
    assert_equal(result, expected, made)
    assert result[0].sums["rollout_reward"].item() == pytest.approx(float(r.sum()), rel=1e-5)


def test_the_whole_gradient_of_sequence_level_reverse_kl():
    """Over all answers of two tokens of a tiny alphabet: E_q of the estimate is the gradient of KL(q‖p) itself."""
    torch.manual_seed(0)
    first = torch.randn(3, dtype=torch.float64, requires_grad=True)
    second = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    p1, p2 = torch.randn(3, dtype=torch.float64).log_softmax(-1), torch.randn(3, 3, dtype=torch.float64).log_softmax(-1)
    q1, q2 = first.log_softmax(-1), second.log_softmax(-1)
    joint_q, joint_p = q1[:, None] + q2, p1[:, None] + p2
    exact = torch.autograd.grad((joint_q.exp() * (joint_q - joint_p)).sum(), (first, second), retain_graph=True)
    estimate = torch.zeros((), dtype=torch.float64)
    for a in range(3):
        for b in range(3):
            rewards = torch.stack([p1[a] - q1[a], p2[a, b] - q2[a, b]]).detach()
            ahead = rewards_ahead(rewards, (2,), normalised=False)
            loss = reverse_kl(q1, p1) + reverse_kl(q2[a], p2[a]) - ahead[0] * q1[a] - ahead[1] * q2[a, b]
            estimate = estimate + joint_q[a, b].exp().detach() * loss
    for ours, theirs in zip(torch.autograd.grad(estimate, (first, second)), exact, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_stale_answers_are_weighed():
    made = pair("kd", lora=False)
    batch = batch_of(made, "kd", age=2)
    q, p = logps(made, batch)
    own = q.gather(1, batch["student"]["target_ids"][:, None])[:, 0].detach()
    ratio = own - batch["rollouts"]["logp"].double()
    weights, _ = importance_weights(ratio, (4, 2, 1), "prefix", 1.5)
    expected = (weights * forward_kl(q, p)).sum()
    fields = {"importance": "prefix", "importance_cap": 1.5}
    assert_equal(result_of(made, "kd", batch, fields), expected, made)
    fresh = batch_of(made, "kd")
    assert_equal(result_of(made, "kd", fresh, fields), forward_kl(*logps(made, fresh)).sum(), made)


def test_contrastive_is_skewed_forward_on_given_and_skewed_reverse_on_own_answers():
    made = pair("kd", lora=False)
    own = batch_of(made, "kd")
    assert_equal(
        result_of(made, "kd", own, {"loss": "contrastive", "skew": 0.2}),
        skew_reverse_kl(*logps(made, own), skew=0.2).sum(),
        made,
    )
    given = made.collator("kd")(made.rows("kd", SHORT, 3))
    given["gold_rows"] = torch.zeros(3, dtype=torch.bool)
    assert_equal(
        result_of(made, "kd", given, {"loss": "contrastive", "skew": 0.2}),
        skew_forward_kl(*logps(made, given), skew=0.2).sum(),
        made,
    )


def test_rewards_across_vocabularies_add_up_to_those_of_the_texts():
    method = "min_edit"
    made = pair(method, lora=False)
    encode = encoder(made, method, credited=True)
    row = made.template.encode([{"role": "user", "content": "why"}], "NSSF")
    ids = tuple(row.answer_ids)
    batch = made.collator(method)([encode(examples(1)[0], Rollout(ids, (-1.0,) * len(ids), finished=True), 0)])
    result, _ = result_of(made, method, batch, {"loss": "policy_gradient", "divergence": "skew_reverse_kl"})
    q, p = logps(made, batch)
    own = q.detach().gather(1, batch["student"]["target_ids"][:, None]).sum()
    theirs = p.gather(1, batch["teacher"]["target_ids"][:, None]).sum()
    assert result.sums["rollout_reward"].item() == pytest.approx((theirs - own).item(), rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_the_students_answers(method):
    made = pair(method, lora=False)
    result, grads = result_of(
        made, method, batch_of(made, method, age=1), {"importance": "token"}, loss_temperature=1.0
    )
    assert torch.isfinite(result.total)
    assert any(value.abs().max() > 0 for value in grads.values())
    assert result.sums["rollout_rows"].item() == 3


def top_of(made: Any, batch: Any, k: int) -> TopK:
    """What a server would say of a batch."""
    signal = LocalTeacher(made.teacher).signal(batch)
    logp, ids = signal.head.logits(signal.hidden).log_softmax(-1).topk(k, -1)
    return TopK(ids, logp, signal.target_ids, signal.lengths)


@pytest.mark.parametrize("loss", ["divergence", "policy_gradient"])
def test_a_teacher_that_tells_its_likeliest_tokens_judges_them_too(loss):
    made = pair("kd", lora=False)
    batch = batch_of(made, "kd")
    config = method_config("kd", on_policy={"loss": loss, "divergence": "reverse_kl"})
    objective = learns_as_it_goes(config, build.objective(config, made.student, None))
    objective.statistics = True
    module = DistillationModule(made.student, objective)
    whole = module(batch, LocalTeacher(made.teacher).signal(batch))
    # With all columns but one, the tail is that one: nothing is lost.
    most = module(batch, top_of(made, batch, made.student.config.vocab_size - 1))
    torch.testing.assert_close(most.total, whole.total, rtol=1e-3, atol=1e-3)
    few = module(batch, top_of(made, batch, 8))
    assert torch.isfinite(few.total)
    assert few.sums["rollout_overlap"].item() == pytest.approx(whole.sums["rollout_overlap"].item())
    assert few.sums["rollout_teacher_logp"] <= 0


def test_the_likelihood_by_a_mean_of_teachers():
    made = pair("kd", lora=False)
    batch = batch_of(made, "kd")
    signal = ensemble(made, mean="probabilities", by_confidence=False).signal(batch)
    p = torch.stack([output.head.logits(output.hidden).softmax(-1) for output in signal.outputs], 1)
    mean = (signal.shares.to(p)[:, :, None] * p).sum(1)
    expected = mean.gather(1, signal.target_ids[:, None])[:, 0].log()
    torch.testing.assert_close(teacher_logp(signal), expected, rtol=1e-4, atol=1e-4)


def test_teachers_of_two_vocabularies_judge_one_answer():
    trio = Trio("min_edit")
    own = ExampleTokenizer(trio.template, SHORT)
    side = TeacherSide(ExampleTokenizer(trio.other, SHORT), trio.cross_tokenizer)
    encode = RolloutEncoder(own, own, None, {"second": side}, same_ids=True)
    batch = trio.collator([encode(e, r, 0) for e, r in zip(tiny_summed.examples()[:3], FIXED, strict=True)])
    assert "rollouts" in batch
    objective = learns_as_it_goes(method_config("kd", on_policy={"divergence": "js"}), trio.objective())
    with torch.no_grad():
        result = DistillationModule(trio.student, objective)(batch, trio.teacher().signal(batch))
    assert torch.isfinite(result.total)
    assert {"rollout_teacher_loss", "rollout_second_loss"} <= result.sums.keys()


def test_likely_tokens_of_equal_models_are_the_same():
    made = pair("kd", lora=False)
    made.teacher = made.student
    config = method_config("kd", on_policy={})
    objective = learns_as_it_goes(config, build.objective(config, made.student, made.teacher))
    objective.statistics = True
    batch = batch_of(made, "kd")
    result = DistillationModule(made.student, objective)(batch, LocalTeacher(copy.deepcopy(made.student)).signal(batch))
    assert (result.sums["rollout_overlap"] / result.sums["rollout_compared_tokens"]).item() == pytest.approx(1.0)
    assert result.sums["rollout_agreement"].item() == 7
