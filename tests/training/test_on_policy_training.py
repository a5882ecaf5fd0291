"""Training on the student's own answers: which steps, how old, killed and resumed, by several processes, for all."""

import dataclasses
import json

import pytest
import torch

from support import tiny_seq2seq
from support.stopping import StopAt
from support.tiny import examples, method_config, pair, weights
from support.tiny_on_policy import source, trainer
from understudy.recipe import METHODS
from understudy.training.checkpoints import last_checkpoint
from understudy.training.onpolicy import RowStream
from understudy.training.session import filtered_counts, rollout_means


def rows_of(made, method="kd", process=0, processes=1, **fields):
    config = method_config(method, **{"batch_size": 4, "micro_batch_size": 2, **fields})
    return source(made, method, config, process=process, processes=processes)


def test_a_share_of_the_steps_learns_the_students_answers():
    for share, expected in [(0.5, [0, 1] * 4), (1.0, [1] * 8), (0.25, [0, 0, 0, 1] * 2)]:
        rows = rows_of(pair("kd", lora=False), on_policy={"share": share})
        assert [int(rows.is_drawn(step)) for step in range(8)] == expected
        assert rows.drawn_before(8) == sum(expected)
    third = rows_of(pair("kd", lora=False), on_policy={"share": 0.3})
    assert sum(third.is_drawn(step) for step in range(1000)) == 300


def test_an_epoch_reads_every_row_once():
    stream = RowStream(5, 3)
    assert sorted(stream(0, 5)) == sorted(stream(5, 10)) == [0, 1, 2, 3, 4]
    assert stream(0, 5) != stream(5, 10)
    assert RowStream(5, 3)(3, 8) == stream(3, 8)


def test_the_buffer_says_how_old_its_rows_are():
    made = pair("kd", lora=False)
    rows = rows_of(made, on_policy={"share": 0.5, "buffer": 2})
    ages = {}
    for step in range(8):
        drawn = [row.drawn for piece in rows.step_rows(step) for row in piece]
        ages[step] = {own.age for own in drawn if own}
    assert ages == {0: set(), 1: {0}, 2: set(), 3: {2}, 4: set(), 5: {0}, 6: set(), 7: {2}}
    strict = rows_of(made, on_policy={"share": 0.5, "buffer": 4, "max_age": 3})
    ages = [row.drawn.age for step in (1, 3, 5, 7) for piece in strict.step_rows(step) for row in piece]
    assert ages == [0] * 4 + [2] * 4 + [0] * 4 + [2] * 4
    assert strict.expired == 4


def test_processes_share_out_the_rows_of_one():
    made = pair("kd", lora=False)
    whole = rows_of(made, on_policy={"share": 0.5}, batch_size=4)
    halves = [rows_of(made, process=n, processes=2, on_policy={"share": 0.5}, batch_size=2) for n in range(2)]
    for step in range(4):
        expected = sorted((row.id, row.student.answer_ids) for piece in whole.step_rows(step) for row in piece)
        found = sorted(
            (row.id, row.student.answer_ids) for half in halves for piece in half.step_rows(step) for row in piece
        )
        assert found == expected


def test_pairs_are_two_answers_to_one_question():
    rows = rows_of(pair("kd", lora=False), on_policy={"share": 1.0, "loss": "contrastive"})
    given, own = rows.step_rows(0)
    assert [row.drawn for row in given] == [None, None]
    assert all(row.drawn for row in own)
    assert {row.id for row in given} == {row.id for row in own}


def test_questions_without_an_answer_are_learned_from():
    made = pair("kd", lora=False)
    config = method_config("kd", batch_size=4, on_policy={"share": 1.0})
    made_rows = source(made, "kd", config)
    bare = [dataclasses.replace(example, answers=()) for example in examples()]
    made_rows.prompts, made_rows.given = bare, []
    assert len(made_rows.step_rows(0)[0]) == 4


# The others differ from these in what they compare alone, which other tests look at.
SLOW = [
    pytest.param(method, {"share": 0.5}, marks=pytest.mark.slow)
    for method in METHODS
    if method not in ("kd", "dskd_cma")
]
ALL = [
    ("dskd_cma", {"share": 0.5}),
    *SLOW,
    ("kd", {"share": 1.0, "loss": "policy_gradient", "teacher_mixed": 0.2, "importance": "token"}),
    ("kd", {"share": 0.5, "buffer": 2, "importance": "prefix", "max_age": 3}),
    ("dskd", {"share": 1.0, "loss": "contrastive"}),
    ("min_edit", {"share": 1.0, "loss": "policy_gradient", "divergence": "skew_reverse_kl"}),
]


@pytest.mark.parametrize(("method", "fields"), ALL)
def test_four_steps_are_two_and_two_in_the_middle_of_a_buffer(method, fields, tmp_path):
    options = {"save_every": 1, "micro_batch_size": 2, "on_policy": {"buffer": 3, **fields}}
    unbroken = trainer(tmp_path / "whole", method, **options)
    unbroken.train()
    short = trainer(tmp_path / "cut", method, **options)
    short.add_callback(StopAt(2))
    short.train()
    checkpoint = last_checkpoint(tmp_path / "cut")
    rest = trainer(tmp_path / "cut", method, **options)
    rest.train(resume_from_checkpoint=str(checkpoint))
    ours, theirs = weights(rest), weights(unbroken)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=0, rtol=0, msg=name)
    assert rest.maker.state() == unbroken.maker.state()


def test_the_buffer_stands_in_the_checkpoint(tmp_path):
    run = trainer(tmp_path, steps=2, save_every=1, on_policy={"share": 0.5, "buffer": 3})
    run.train()
    state = json.loads((tmp_path / "checkpoint-2" / "progress-0.json").read_text())["rows"]
    assert sorted(state["held"]) == ["1", "2"]
    again = trainer(tmp_path / "again", steps=2, on_policy={"share": 0.5, "buffer": 3})
    again.maker.load_state(state)
    assert again.maker.state() == run.maker.state()
    assert again.maker._held == run.maker._held


def test_adapters_learn_from_what_they_write(tmp_path):
    made = pair("kd", lora=True)
    run = trainer(tmp_path, made=made, steps=2, on_policy={"share": 1.0})
    before = weights(run)
    run.train()
    assert any(not torch.equal(value, before[name]) for name, value in weights(run).items())


def test_so_does_an_encoder_decoder(tmp_path):
    made = tiny_seq2seq.pair("t5")
    run = trainer(tmp_path, made=made, steps=2, on_policy={"share": 1.0})
    before = weights(run)
    run.train()
    assert any(not torch.equal(value, before[name]) for name, value in weights(run).items())


def test_accumulation_changes_nothing(tmp_path):
    both = []
    for micro in (4, 2):
        run = trainer(tmp_path / str(micro), steps=2, micro_batch_size=micro, on_policy={"share": 0.5})
        run.train()
        both.append(weights(run))
    for name, value in both[0].items():
        torch.testing.assert_close(both[1][name], value, atol=2e-5, rtol=1e-4, msg=name)


def test_the_log_says_how_the_students_answers_are(tmp_path):
    run = trainer(tmp_path, steps=4, on_policy={"share": 0.5, "buffer": 2})
    run.train()
    lines = [line for line in run.state.log_history if "loss" in line]
    assert [("rollout_length" in line, "gold" in line) for line in lines] == [(False, True), (True, False)] * 2
    for line in lines[1::2]:
        assert 0 <= line["rollout_finished"] <= 1
        assert 0 <= line["rollout_repetition"] <= 1
        assert 0 <= line["rollout_overlap"] <= 1
        assert line["rollout_teacher_logp"] < 0
        assert 1 <= line["rollout_length"] <= 12
    assert [line["rollout_age"] for line in lines[1::2]] == [0, 2]
    means = rollout_means(run.state.log_history)
    assert means["rollout_age"] == 1
    assert (means["rollout_age_first"], means["rollout_age_last"]) == (0, 2)
    assert filtered_counts(run.state.log_history) is None
