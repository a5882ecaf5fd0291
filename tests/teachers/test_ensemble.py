"""Several teachers train a student through the same trainer and objectives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from support import tiny
from support.stopping import StopAt
from support.tiny_teachers import ensemble, second
from understudy.errors import RunError
from understudy.recipe import METHODS, TeachersConfig
from understudy.teachers.ensemble import Ensemble, shares_of
from understudy.teachers.local import LocalTeacher
from understudy.teachers.signals import Logps, TopK
from understudy.training.checkpoints import last_checkpoint
from understudy.types import Batch, Example, Gives

WEAK = [name for name, config in METHODS.items() if config.reads in Gives.LOGPS]
OTHER = {"model": "-"}


class Silent:
    """A teacher that nobody should ask."""

    gives = Gives.STATES

    def signal(self, batch: Batch) -> Any:
        raise AssertionError(f"asked about {batch['ids']}")


class Dense:
    """Routing written out: each row's log-probabilities are those of its own teacher, in full."""

    gives = Gives.LOGPS

    def __init__(self, even: Any, odd: Any) -> None:
        self.teachers = LocalTeacher(even), LocalTeacher(odd)

    def signal(self, batch: Batch) -> Logps:
        outputs = [teacher.signal(batch) for teacher in self.teachers]
        logps = [o.states.head.logits(o.states.hidden).log_softmax(-1) for o in outputs]  # pyright: ignore
        pieces = [logp.split(outputs[0].lengths) for logp in logps]
        rows = [pieces[int(name.removeprefix("fact-")) % 2][n] for n, name in enumerate(batch["ids"])]
        return Logps(torch.cat(rows), outputs[0].target_ids, outputs[0].lengths)


def trained(folder: Path, method: str, teacher: Any, **fields: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of two steps and the weights after them, in float64."""
    made = tiny.pair(method, lora=False)
    for model in (made.student, made.teacher):
        model.double()
    trainer = tiny.trainer(folder, method, made=made, teacher=teacher(made), steps=2, **fields)
    return trainer.train().training_loss, tiny.weights(trainer)


def assert_same(one: tuple, other: tuple) -> None:
    assert one[0] == pytest.approx(other[0], rel=1e-7)
    for name, value in one[1].items():
        torch.testing.assert_close(other[1][name], value, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("mean", ["probabilities", "log_probabilities"])
@pytest.mark.parametrize("method", WEAK)
def test_one_teacher_twice_is_that_teacher(tmp_path: Path, method: str, mean: str) -> None:
    alone = trained(tmp_path / "one", method, lambda made: None)
    twice = trained(tmp_path / "two", method, lambda made: ensemble(made, made.teacher, mean=mean))
    assert_same(alone, twice)


def test_each_row_learns_from_its_own_teacher(tmp_path: Path) -> None:
    others = {"second": {**OTHER, "where": {"category": "odd"}}}
    routed = trained(
        tmp_path / "ours",
        "kd",
        lambda made: ensemble(
            made, second(made).double(), where="otherwise", others=others, mean="probabilities", by_confidence=False
        ),
    )
    assert_same(routed, trained(tmp_path / "dense", "kd", lambda made: Dense(made.teacher, second(made).double())))
    alone = trained(tmp_path / "alone", "kd", lambda made: None)
    assert alone[0] != pytest.approx(routed[0], rel=1e-3)


def test_who_is_heard_on_no_row_of_a_batch_is_not_asked(tmp_path: Path) -> None:
    made = tiny.pair("kd", lora=False)
    config = TeachersConfig.model_validate({"others": {"second": {**OTHER, "where": {"category": "never"}}}})
    teacher = Ensemble([LocalTeacher(made.teacher), Silent()], shares_of(config, tiny.examples()))
    tiny.trainer(tmp_path, "kd", made=made, teacher=teacher, steps=1).train()


def test_micro_batches_change_nothing(tmp_path: Path) -> None:
    plain = {"schedule": "constant", "warmup": 0.0}
    whole = trained(tmp_path / "whole", "kd", lambda made: ensemble(made, second(made).double()), **plain)
    cut = trained(
        tmp_path / "cut", "kd", lambda made: ensemble(made, second(made).double()), micro_batch_size=1, **plain
    )
    assert_same(whole, cut)


def test_four_steps_are_two_and_two(tmp_path: Path) -> None:
    def trainer(folder: str) -> Any:
        made = tiny.pair("kd")
        return tiny.trainer(tmp_path / folder, "kd", made=made, teacher=ensemble(made), steps=4, save_every=2)

    unbroken, short = trainer("whole"), trainer("cut")
    unbroken.train()
    short.add_callback(StopAt(2))
    short.train()
    rest = trainer("cut")
    rest.train(resume_from_checkpoint=str(last_checkpoint(tmp_path / "cut")))
    ours = tiny.weights(rest)
    for name, value in tiny.weights(unbroken).items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-7)


class Few:
    """A local teacher that tells of its likeliest tokens and the mass of all others."""

    gives = Gives.TOP_K

    def __init__(self, model: Any, k: int) -> None:
        self.local, self.k = LocalTeacher(model), k

    def signal(self, batch: Batch) -> TopK:
        output: Any = self.local.signal(batch)
        logp = output.states.head.logits(output.states.hidden).log_softmax(-1)
        top = logp.topk(self.k)
        rest = logp.scatter(1, top.indices, -torch.inf).logsumexp(-1)
        return TopK(top.indices, top.values, output.target_ids, output.lengths, rest)


def mixed(made: tiny.Pair, k: int, **fields: Any) -> Ensemble:
    """One of this process, one that tells of `k` tokens; odd rows hear both, even ones the first."""
    whole = ensemble(made, second(made).double(), mean="probabilities", by_confidence=False, **fields)
    few = Few(whole.teachers[1].model, k)  # pyright: ignore[reportAttributeAccessIssue]
    return Ensemble([whole.teachers[0], few], whole.shares)


def test_all_the_tokens_of_one_that_tells_of_few_are_the_mean(tmp_path: Path) -> None:
    both: dict[str, Any] = {"others": {"second": OTHER}}

    def whole(made: tiny.Pair) -> Ensemble:
        return ensemble(made, second(made).double(), mean="probabilities", by_confidence=False, **both)

    expected = trained(tmp_path / "whole", "kd", whole)
    columns = len(tiny.pair("kd").template.tokenizer)  # pyright: ignore
    assert_same(trained(tmp_path / "every", "kd", lambda made: mixed(made, columns, **both)), expected)
    assert trained(tmp_path / "few", "kd", lambda made: mixed(made, 8, **both))[0] < expected[0]


def test_a_mean_of_few_tokens_is_cut_by_no_batch(tmp_path: Path) -> None:
    """Batches in which nobody tells of few tokens are of the same buckets as those in which somebody does."""
    plain = {"schedule": "constant", "warmup": 0.0}
    whole = trained(tmp_path / "whole", "kd", lambda made: mixed(made, 8), **plain)
    assert_same(whole, trained(tmp_path / "cut", "kd", lambda made: mixed(made, 8), micro_batch_size=1, **plain))


def test_a_mean_gives_what_the_weakest_of_it_gives() -> None:
    made = tiny.pair("kd", lora=False)
    assert ensemble(made).gives == Gives.LOGPS
    assert mixed(made, 3).gives == Gives.TOP_K


@pytest.mark.parametrize(
    ("where", "own", "fields", "expected"),
    [
        (None, None, {}, (0.75, 0.25)),
        ({"topic": "radio"}, None, {"topic": "radio"}, (0.75, 0.25)),
        ({"topic": "radio"}, None, {"topic": "core"}, (1.0, 0.0)),
        ({"topic": "radio"}, "otherwise", {"topic": "radio"}, (0.0, 1.0)),
        ({"topic": "radio"}, "otherwise", {}, (1.0, 0.0)),
        ({"topic": ["radio", "core"], "release": 18}, "otherwise", {"topic": "core", "release": "18"}, (0.0, 1.0)),
        ({"topic": ["radio", "core"], "release": 18}, "otherwise", {"topic": "core", "release": 17}, (1.0, 0.0)),
        ({"topic": "radio"}, {"topic": "core"}, {"topic": "other"}, (0.0, 0.0)),
    ],
)
def test_who_is_heard_on_a_row(where: Any, own: Any, fields: dict, expected: tuple) -> None:
    config = TeachersConfig.model_validate({"weight": 3, "where": own, "others": {"b": {**OTHER, "where": where}}})
    assert config.shares(fields) == expected


def test_a_row_without_a_teacher_is_named() -> None:
    config = TeachersConfig.model_validate({"where": {"topic": "core"}, "others": {"b": {**OTHER, "where": {"a": 1}}}})
    shares = shares_of(config, [Example("q1", "?", ("a",), meta={"topic": "core"}), Example("q2", "?", ("a",))])
    assert shares(["q1", "q1/paraphrase"]).tolist() == [[1.0, 0.0], [1.0, 0.0]]
    with pytest.raises(RunError, match="row q2: no teacher's `where` fits it"):
        shares(["q1", "q2"])


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"others": {"b": {}}}, "one of model and cache"),
        ({"others": {"b": {"model": "m", "cache": "c"}}}, "one of model and cache"),
        ({"others": {"teacher": OTHER}}, "name of the recipe's own"),
        ({"others": {"b": {**OTHER, "where": {}}}}, "name a field"),
        ({"others": {"b": {**OTHER, "weight": 0}}}, "greater than 0"),
    ],
)
def test_a_section_that_says_nothing_is_refused(section: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TeachersConfig.model_validate(section)


def test_without_others_the_teacher_is_heard_alone() -> None:
    assert TeachersConfig().shares({"category": "radio"}) == (1.0,)
