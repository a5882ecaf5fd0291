"""Rows come from a list, or are made while training: the same rows in the same steps teach the same."""

import pytest
import torch
from torch.utils.data import IterableDataset

from support.tiny import EVERY, method_config, pair, trainer, weights
from support.tiny_tasks import encoded
from understudy.errors import ConfigError
from understudy.training.schedule import train_schedule
from understudy.training.step_order import StepSampler


class Made(IterableDataset):
    """Rows that nobody can count beforehand, in the order in which the trainer would draw listed ones."""

    lengths = None

    def __init__(self, rows, step_rows, seed, tasks=()):
        self.rows, self.tasks = rows, tasks
        self.order = StepSampler([row.length for row in rows], step_rows, seed)
        self.made = 0

    def __iter__(self):
        for index in self.order:
            self.made += 1
            yield self.rows[index]


@pytest.mark.parametrize("method", EVERY)
def test_made_rows_teach_what_listed_ones_do(tmp_path, method):
    options = {"steps": 3, "batch_size": 4, "micro_batch_size": 2, "seed": 5}
    listed = trainer(tmp_path / "listed", method, made=pair(method), **options)
    listed.train()
    made = pair(method)
    source = Made(made.rows(method), 4, 5)
    streamed = trainer(tmp_path / "streamed", method, made=made, source=source, **options)
    streamed.train()
    assert source.made >= 12
    ours, theirs = weights(streamed), weights(listed)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=0, msg=name)


def test_made_rows_of_tasks_are_weighed_by_the_tokens_of_their_step(tmp_path):
    options = {"steps": 3, "batch_size": 2, "micro_batch_size": 1, "seed": 5}
    made = pair("sft")
    rows = encoded(made, kind="multitask")
    listed = trainer(tmp_path / "listed", "sft", made=made, rows=rows, **options)
    listed.train()
    source = Made(rows, 2, 5, tasks=listed.tasks)
    streamed = trainer(tmp_path / "streamed", "sft", made=pair("sft"), source=source, **options)
    streamed.train()
    ours, theirs = ([row["loss"] for row in run.state.log_history if "loss" in row] for run in (streamed, listed))
    assert ours == theirs


def test_rows_that_are_not_counted_need_a_number_of_steps():
    assert train_schedule(method_config("kd", steps=7), None).steps == 7
    with pytest.raises(ConfigError, match="have no epochs"):
        train_schedule(method_config("kd"), None)
