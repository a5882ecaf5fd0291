"""What the report says of a student that learned its own answers, with a warning where its figures show a fault."""

import dataclasses

from understudy.pipeline.learning_report import learning_sentences
from understudy.recipe import parse_recipe
from understudy.records import TrainingNotes, TrainSchedule

NOTES = TrainingNotes(TrainSchedule(9, 4, 1, 0, 3, 3, 1), 100, 0.5, 9, 1.0, rows=8, notes={})
FIGURES = {
    "rollout_length": 7.0,
    "rollout_finished": 0.9,
    "rollout_repetition": 0.05,
    "rollout_age": 1.5,
    "rollout_overlap": 0.6,
    "rollout_teacher_logp": -2.0,
}
GOOD = {f"{name}{when}": value for name, value in FIGURES.items() for when in ("", "_first", "_last")}


def said(recipe=None, **fields):
    notes = dataclasses.replace(NOTES, **fields)
    assert TrainingNotes.from_json(notes.to_json()) == notes
    return learning_sentences("distilled", notes, parse_recipe(recipe or {"distil": {"on_policy": {}}}))


def test_nothing_is_said_of_what_did_not_happen():
    assert said() == []
    assert not {"rollouts", "filtered", "stopped_at"} & NOTES.to_json().keys()


def test_good_answers_are_described_and_not_warned_of():
    (line,) = said(rollouts=GOOD)
    assert line.startswith("distilled learned its own answers too: 7.0 tokens each, 90% finished, 5% of their trigrams")


def test_each_fault_has_its_figure_and_its_remedy():
    lines = said(rollouts={**GOOD, "rollout_overlap_first": 0.1})
    assert "10% of the likeliest tokens in common" in lines[1]
    assert "student.sft" in lines[1]
    assert "came to repeat themselves (5% of their trigrams at first, 40% at last)" in " ".join(
        said(rollouts={**GOOD, "rollout_repetition_last": 0.4})
    )
    assert "only 20% of the last answers" in " ".join(said(rollouts={**GOOD, "rollout_finished_last": 0.2}))
    biased = {"distil": {"on_policy": {"top_k": 4, "stop_gradient": False}}}
    assert "which is biased" in " ".join(said(biased, rollouts=GOOD))


def test_rows_without_the_teacher_are_counted():
    (line,) = said(filtered={"entropy": 12, "gold": 0, "teachers": 0})
    assert line.endswith(
        "without the teacher on rows where it was no guide (its entropy was high: 12; each time it was read)."
    )
    assert "on no row by its filters" in said(filtered={"entropy": 0})[0]
    assert said(stopped_at=4) == ["distilled stopped after 4 steps: its development score rose no more."]
