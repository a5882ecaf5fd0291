"""Trackers get the curves that `metrics.jsonl` holds."""

import pytest

from support.tiny import trainer
from understudy.errors import ConfigError
from understudy.pipeline.preflight import check_trackers
from understudy.recipe import parse_recipe


@pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard", "ignore::DeprecationWarning:google")
def test_tensorboard_gets_every_loss_term(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = trainer(tmp_path, "kd", lora=False, steps=3, report_to=("tensorboard",))
    run.train()
    events = list(tmp_path.rglob("events.out.tfevents.*"))
    assert len(events) == 1
    written = accumulator.EventAccumulator(str(events[0].parent)).Reload()
    logged = [row for row in run.state.log_history if "loss" in row]
    for term in ("loss", "gold", "divergence", "agreement", "student_entropy", "teacher_entropy"):
        curve = [(event.step, event.value) for event in written.Scalars(f"train/{term}")]
        assert curve == [(row["step"], pytest.approx(row[term], rel=1e-6)) for row in logged]


def test_a_tracker_that_is_not_installed_is_named_before_anything_runs(monkeypatch):
    monkeypatch.setattr("understudy.pipeline.preflight.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="wandb, which is not installed"):
        check_trackers(parse_recipe({"report_to": ["wandb"]}))
