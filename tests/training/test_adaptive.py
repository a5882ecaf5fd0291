"""Schedules, an interpolated teacher, weights and filters of rows, in float64 and by hand; resumed they go on."""

import math

import pytest
import torch

from support.stopping import StopAt
from support.tiny import method_config, pair, weights
from support.tiny_on_policy import trainer as on_policy_trainer
from support.tiny_teachers import ensemble
from understudy import build
from understudy.caching import check_new_answers
from understudy.errors import ConfigError
from understudy.losses.divergences import forward_kl, reverse_kl
from understudy.models.forward import forward
from understudy.recipe import parse_recipe
from understudy.recipe.on_policy import AdaptConfig, RampConfig, TaidConfig
from understudy.teachers.local import LocalTeacher
from understudy.training.checkpoints import last_checkpoint
from understudy.training.module import DistillationModule
from understudy.training.objectives.adaptive import Adaptive, Taid, interpolate, learns_as_it_goes, ramp

OWN = {"on_policy": {"share": 0.5}}


def test_ramps():
    line = RampConfig(start=4.0, end=1.0)
    assert [ramp(line, step, 4) for step in range(4)] == [4.0, 3.0, 2.0, 1.0]
    cosine = RampConfig(start=0.0, end=1.0, shape="cosine")
    assert [ramp(cosine, step, 5) for step in range(5)] == pytest.approx([0, 0.1464466, 0.5, 0.8535534, 1])
    assert ramp(line, 0, 1) == 4.0


def test_the_interpolated_teacher_is_that_of_the_logits():
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    mixed = interpolate(student.log_softmax(-1), teacher.log_softmax(-1), 0.3)
    torch.testing.assert_close(mixed, (0.7 * student + 0.3 * teacher).log_softmax(-1))
    torch.testing.assert_close(
        interpolate(student.log_softmax(-1), teacher.log_softmax(-1), 0.0), student.log_softmax(-1)
    )
    teacher[:, 2] = -math.inf
    mixed = interpolate(student.log_softmax(-1), teacher.log_softmax(-1), 0.3)
    assert bool((mixed[:, 2] == -math.inf).all())
    assert not bool(mixed.isnan().any())


def test_t_moves_as_published():
    taid = Taid(TaidConfig(rate=0.1, momentum=0.5))
    taid.update(2.0, 1, 100)
    # Nothing to compare with: m = 0, sigmoid(0) = 1/2.
    assert taid.t == pytest.approx(0.4 + 0.1 * 0.5 * 0.6)
    before = taid.t
    taid.update(1.0, 2, 100)
    m = 0.5 * (2.0 - 1.0) / 2.0
    assert taid.t == pytest.approx(before + 0.1 / (1 + math.exp(-m)) * (1 - before))
    for step in range(3, 101):
        taid.update(1.0, step, 100)
    assert taid.t == 1.0
    line = Taid(TaidConfig(rate=0.0))
    line.update(1.0, 30, 60)
    assert line.t == pytest.approx(0.7)


def test_the_gradient_of_taid_does_not_run_through_the_target():
    torch.manual_seed(0)
    logits = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(3, 5, dtype=torch.float64).log_softmax(-1)
    taid = Taid(TaidConfig())
    loss = taid.interpolated(forward_kl)(logits.log_softmax(-1), teacher).sum()
    target = interpolate(logits.detach().log_softmax(-1), teacher, 0.4)
    expected = logits.detach().softmax(-1) - target.exp()
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], expected)


def parts(made, fields, gold=True, **more):
    config = method_config("kd", adapt=fields, **more)
    objective = learns_as_it_goes(config, build.objective(config, made.student, made.teacher))
    batch = made.collator("kd")(made.rows("kd", num=3))
    if not gold:
        batch["gold_rows"] = torch.zeros(3, dtype=torch.bool)
    return objective, batch, LocalTeacher(made.teacher).signal(batch)


def rows_by_hand(made, batch):
    """Per row: CE of the student, divergences, entropy of the teacher, share of right tokens, tokens."""
    tokens = batch["student"]
    with torch.no_grad():
        q, p = (
            model(**tokens["inputs"]).logits[tokens["target_mask"]].double().log_softmax(-1)
            for model in (made.student, made.teacher)
        )
    ids, lengths = tokens["target_ids"], tokens["target_mask"].sum(1).tolist()
    own = -q.gather(1, ids[:, None])[:, 0]
    entropy, right = -(p.exp() * p).sum(1), (p.argmax(1) == ids).double()
    values = zip(*(v.split(lengths) for v in (own, forward_kl(q, p), reverse_kl(q, p), entropy, right)), strict=True)
    return list(values), p.shape[1]


def test_rows_are_weighed_by_confidence_and_difficulty():
    made = pair("kd", lora=False)
    objective, batch, signal = parts(made, {"by_confidence": 2.0, "by_difficulty": 0.5}, gold_weight=0.25)
    expected = torch.zeros((), dtype=torch.float64)
    rows, columns = rows_by_hand(made, batch)
    for gold, (own, kl, _, entropy, _) in zip(batch["gold_rows"].tolist(), rows, strict=True):
        d = 1 - math.exp(-own.mean())
        c = 1 - entropy.mean() / math.log(columns)
        g = 0.25 if gold else 0.0
        expected += d**0.5 * (g * own.sum() + (1 - g) * c**2 * kl.sum())
    result = DistillationModule(made.student, objective)(batch, signal)
    torch.testing.assert_close(result.total.detach().double(), expected, rtol=1e-5, atol=1e-5)


def test_a_poor_teacher_is_not_heard_and_counted():
    made = pair("kd", lora=False)
    _, batch, _ = parts(made, {})
    rows, _ = rows_by_hand(made, batch)
    limit = sorted(row[3].mean().item() for row in rows)[1] + 1e-4
    objective, batch, signal = parts(made, {"max_teacher_entropy": limit}, gold_weight=0.25)
    expected, poor = torch.zeros((), dtype=torch.float64), 0
    for gold, (own, kl, _, entropy, _) in zip(batch["gold_rows"].tolist(), rows, strict=True):
        if entropy.mean() > limit:
            poor += 1
            expected += own.sum() if gold else 0.0
        else:
            g = 0.25 if gold else 0.0
            expected += g * own.sum() + (1 - g) * kl.sum()
    result = DistillationModule(made.student, objective)(batch, signal)
    torch.testing.assert_close(result.total.detach().double(), expected, rtol=1e-5, atol=1e-5)
    assert result.sums["filtered_entropy"].item() == poor == 1
    objective, batch, signal = parts(made, {"min_gold_agreement": 1.0})
    result = DistillationModule(made.student, objective)(batch, signal)
    rights = [row[4].mean().item() for row in rows]
    golds = batch["gold_rows"].tolist()
    assert result.sums["filtered_gold"].item() == sum(g and r < 1 for g, r in zip(golds, rights, strict=True))


SCHEDULES = [
    {"temperature": {"start": 3.0, "end": 1.0}},
    {"gold_weight": {"start": 1.0, "end": 0.0, "shape": "cosine"}},
    {"taid": {"rate": 0.3}},
    {"taid": {}, "temperature": {"start": 2.0, "end": 1.0}, "by_difficulty": 1.0, "max_teacher_entropy": 5.0},
]


@pytest.mark.parametrize("adapt", SCHEDULES)
@pytest.mark.parametrize("method", ["kd", pytest.param("dskd_v2", marks=pytest.mark.slow)])
def test_a_schedule_goes_on_where_it_was(adapt, method, tmp_path):
    options = {"save_every": 1, "adapt": adapt, "lora": method == "dskd_v2", **OWN}
    unbroken = on_policy_trainer(tmp_path / "whole", method, **options)
    unbroken.train()
    short = on_policy_trainer(tmp_path / "cut", method, **options)
    short.add_callback(StopAt(2))
    short.train()
    rest = on_policy_trainer(tmp_path / "cut", method, **options)
    rest.train(resume_from_checkpoint=str(last_checkpoint(tmp_path / "cut")))
    for name, value in weights(unbroken).items():
        torch.testing.assert_close(weights(rest)[name], value, atol=0, rtol=0, msg=name)
    ours, theirs = (run.module.objective.progress_state() for run in (rest, unbroken))
    assert ours == pytest.approx(theirs)
    lines = [line for line in rest.state.log_history if "loss" in line]
    assert all(name in lines[-1] for name in unbroken.module.objective.scheduled)


def test_the_temperature_of_a_step_is_that_of_its_schedule():
    made = pair("kd", lora=False)
    adapt = {"temperature": {"start": 3.0, "end": 1.0}}
    objective, batch, signal = parts(made, adapt, gold=False, scale_by_temperature_squared=True)
    fixed = method_config("kd", loss_temperature=2.0, scale_by_temperature_squared=True)
    plain = build.objective(fixed, made.student, made.teacher)
    objective.begin_step(2, 5)
    ours = DistillationModule(made.student, objective)(batch, signal).total
    theirs = DistillationModule(made.student, plain)(batch, signal).total
    torch.testing.assert_close(ours, theirs)


def falling(scores):
    remaining = iter(scores)
    return lambda model: {"rougeL": next(remaining)}


def test_patience_ends_a_training(tmp_path):
    scores = [0.1, 0.4, 0.3, 0.4, 0.5, 0.6, 0.7]
    run = on_policy_trainer(tmp_path, steps=7, eval_every=1, patience=2, dev_score=falling(scores), **OWN)
    run.train()
    assert run.state.global_step == 4
    assert run.state.best_global_step == 4
    longer = on_policy_trainer(tmp_path / "x", steps=7, eval_every=1, patience=3, dev_score=falling(scores), **OWN)
    longer.train()
    assert longer.state.global_step == 7


def test_a_plateau_halves_the_rate(tmp_path):
    scores = [0.5, 0.4, 0.4, 0.4, 0.4, 0.4]
    run = on_policy_trainer(
        tmp_path, steps=6, eval_every=1, schedule="plateau", dev_score=falling(scores), learning_rate=0.01, **OWN
    )
    run.train()
    rates = [line["learning_rate"] for line in run.state.log_history if "loss" in line]
    assert rates[0] == pytest.approx(0.01)
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(0.0025)


def test_both_go_by_the_score_by_which_weights_are_kept(tmp_path):
    """Of sessions: F1 of bundles stands still from the third evaluation on, ROUGE-L rises all the time."""
    f1 = iter([0.1, 0.3, 0.3, 0.2, 0.2, 0.2])
    rouge = iter([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    options = {"eval_every": 1, "best": "bundle_f1", "learning_rate": 0.01, "schedule": "plateau", **OWN}

    def score(model):
        return {"rougeL": next(rouge), "bundle_f1": next(f1)}

    run = on_policy_trainer(tmp_path, steps=6, patience=3, dev_score=score, **options)
    run.train()
    assert run.state.global_step == 5
    assert run.state.best_global_step == 3
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(0.005)


def test_both_need_development_rows(tmp_path):
    with pytest.raises(ConfigError, match="go by the scores of development rows"):
        on_policy_trainer(tmp_path, patience=2, **OWN)


@pytest.mark.parametrize(
    ("distil", "words"),
    [
        ({"adapt": {"temperature": {"start": 0, "end": 1}}}, "a temperature is above 0"),
        ({"adapt": {"gold_weight": {"start": 2, "end": 1}}}, "a share lies between 0 and 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(distil, words):
    with pytest.raises(ConfigError, match=words):
        parse_recipe({"distil": distil})


SECOND = {"others": {"second": {"model": "t2"}}}
ADDED = {"others": {"second": {"model": "t2", "distil": {"method": "uld"}}}}


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"teacher": {"model": "t", "cache": {}}, "distil": {"on_policy": {}}}, "new each time, and teacher is read"),
        (
            {"teacher": {"model": "t", "cache": {}}, "distil": {"adapt": {"temperature": {"start": 2, "end": 1}}}},
            "at one temperature alone",
        ),
        ({"distil": {"adapt": {"min_teacher_agreement": 0.5}}}, "needs several teachers"),
        ({"distil": {"adapt": {"taid": {"start": 0.9, "end": 0.5}}}}, "start 0.9 lies above end 0.5"),
        ({"distil": {"on_policy": {"loss": "contrastive"}, "batch_size": 3}}, "learns pairs"),
        ({"distil": {"on_policy": {"top_k": 5, "divergence": "js"}}}, "top_k is of reverse KL"),
        ({"distil": {"on_policy": {"top_k": 5, "loss": "contrastive"}}}, "top_k is of reverse KL"),
        ({"distil": {"on_policy": {"loss": "contrastive", "divergence": "js"}}}, "compares by skew_reverse_kl"),
        ({"teachers": SECOND, "distil": {"on_policy": {"teacher_mixed": 0.2}}}, "draws from one teacher"),
        ({"teachers": ADDED, "distil": {"on_policy": {"loss": "policy_gradient"}}}, "losses are added here"),
        ({"teachers": ADDED, "distil": {"adapt": {"by_difficulty": 1.0}}}, "losses are added here"),
    ],
)
def test_what_cannot_be_together_is_refused_before_anything_is_loaded(recipe, words):
    with pytest.raises(ConfigError, match=words):
        check_new_answers(parse_recipe(recipe))


def test_what_can_be_together_is_not_refused():
    check_new_answers(parse_recipe({"distil": {"on_policy": {"loss": "contrastive"}}}))
    check_new_answers(parse_recipe({"teachers": SECOND, "distil": {"adapt": {"min_teacher_agreement": 0.5}}}))
    # An arm that reads no teacher may stand beside a cache.
    recipe = {"teacher": {"model": "t", "cache": {}}, "distil": {"on_policy": {}}, "evaluate": {"arms": ["sft"]}}
    check_new_answers(parse_recipe(recipe))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"method": "uld", "on_policy": {"loss": "policy_gradient"}}, "has a comparison of its own"),
        ({"method": "min_edit", "on_policy": {"divergence": "reverse_kl"}}, "makes it infinite"),
        ({"method": "dskd_cma", "on_policy": {"teacher_mixed": 0.2}}, "two models of one vocabulary"),
        ({"method": "byte_aligned", "adapt": {"taid": {}}}, "interpolates two whole distributions"),
    ],
)
def test_a_method_that_has_no_use_for_it_says_so(fields, words):
    made = pair(fields["method"], lora=False)
    config = parse_recipe({"distil": fields}).distil
    with pytest.raises(ConfigError, match=words):
        build.check_learns_as_it_goes(config, made.template, LocalTeacher.can_give)


def test_averaged_teachers_that_disagree_are_not_heard():
    made = pair("kd", lora=False)
    batch = made.collator("kd")(made.rows("kd", num=3))
    signal = ensemble(made).signal(batch)
    objective = Adaptive(parts(made, {})[0], AdaptConfig(min_teacher_agreement=1.0))
    weighed, counts = objective.weighed(forward(made.student, batch["student"]), signal, batch)
    best = torch.stack([output.states.head.logits(output.hidden).argmax(1) for output in signal.outputs])
    agree = [(row[0] == row[1]).float().mean().item() for row in best.split(list(signal.lengths), 1)]
    assert counts["filtered_teachers"].item() == sum(share < 1 for share in agree) > 0
    assert weighed["use_teacher"].tolist() == [share == 1 for share in agree]
