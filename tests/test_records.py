"""What stages write of themselves: the files keep their keys, and those of earlier releases are still read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from understudy.errors import DataError, RunError
from understudy.grid.records import CellFailure, GridPlan, PlannedCell, StageProgress
from understudy.records import (
    AnswersNotes,
    Contest,
    DataNotes,
    Environment,
    FigureLine,
    GenerationNotes,
    MetricInfo,
    ModelFolder,
    ModelSpeed,
    PairNotes,
    PredictionNotes,
    PretrainingNotes,
    RatedAnswer,
    RatedItem,
    RevisedFigure,
    Revision,
    RunSummary,
    Source,
    SpeedNotes,
    StageRecord,
    StepCounts,
    Swap,
    TextFigures,
    TrainingNotes,
    TrainSchedule,
    WritingNotes,
)
from understudy.run import Run

PLAN = TrainSchedule(600, 8, 4, 30, 200, 200, 12)
COUNTS = StepCounts(3, 2, 1, 21, 12, 1, {"short": 1}, {"server": 1}, 0.25, 4.0)
RECORDS = [
    CellFailure("train-sft", "out of memory", "lower it"),
    Contest(
        "distilled",
        "sft",
        1,
        2,
        (
            RatedItem(
                "q1", "context", None, "Which?", None, ("AMF",), ("AMF",), answers={"sft": RatedAnswer("SMF", 0.0)}
            ),
        ),
    ),
    Environment("0.1.0", "3.11.7", "Linux", 2, "understudy run", {"torch": "2"}),
    GridPlan("grid", ("method",), (PlannedCell({"method": "kd"}, 0, "grid-0123", {"data": "data-4567"}),)),
    MetricInfo(1.0, True, "rouge-score:0.1.2"),
    StageProgress(3, 10, "steps", 1.5, "here", 42),
    AnswersNotes(10, 7, {"empty": 1, "unfinished": 2}),
    DataNotes({"train": 5, "unlabelled": 0}),
    FigureLine("Words", 3.0, 2.0, None, 7, 1, "so"),
    FigureLine("Words", reason="not measured"),
    GenerationNotes(
        "large",
        9,
        8,
        1,
        "",
        {"explain": COUNTS},
        quality={"explain": TextFigures(3, 2, 1, {"short": 1}, 4.5)},
        sources=(Source("texts.jsonl", "0123"),),
        revision=Revision(2, restates=RevisedFigure(0.5, 0.25, -0.25)),
    ),
    PairNotes({"student tokenizer": ["no pad token"]}, (ModelFolder("/models/small", "0123"),)),
    PredictionNotes(4, {"cut": 1}),
    PredictionNotes(4, {}, (FigureLine("Words", 3.0, n=7),)),
    PretrainingNotes(PLAN, 2927, None, None, 4.5, rows=3, documents=1, source=Source("texts", "0123")),
    RunSummary(("rougeL",), {"sft": {"rougeL": 0.5}}, ("Yes.", "No.")),
    SpeedNotes(ModelSpeed(527136, 2108544, 8.1, 3726.2, 172.9)),
    Swap("q1", None, 1, 0, 1),
    TrainingNotes(PLAN, 2927, 0.33, 200, 43.25, rows=583, notes={"cut": 2}),
    WritingNotes("large", 9, 8, 1, "budget", {"explain": COUNTS}),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_what_is_written_is_what_is_read(record: Any) -> None:
    text = json.dumps(record.to_json())
    assert type(record).from_json(json.loads(text)) == record


# As release 0.1 wrote them.
TRAINED = """{
  "stage": "train-sft",
  "seconds": 44.396,
  "plan": {
    "steps": 600,
    "micro_batch_size": 8,
    "accumulation": 4,
    "warmup_steps": 30,
    "eval_every": 200,
    "save_every": 200,
    "log_every": 12
  },
  "target_tokens": 2927,
  "best_rougeL": 0.3346392496392497,
  "best_step": 200,
  "train_seconds": 43.2546,
  "rows": 583,
  "notes": {},
  "made": "b51b0609c9f9",
  "from": {
    "data": "3798b7a62176"
  }
}
"""
WROTE = """{
  "stage": "generate",
  "seconds": 0.243,
  "teacher": "large",
  "examples": 14,
  "finished": 14,
  "left": 0,
  "stopped": "",
  "steps": {
    "explain": {
      "asked": 14,
      "written": 14,
      "kept": 13,
      "input_tokens": 224,
      "output_tokens": 182,
      "cached": 13,
      "rejected": {
        "restates": 1
      },
      "missing": {},
      "cost": null,
      "seconds": 0.005
    }
  },
  "quality": {
    "explain": {
      "rows": 14,
      "written": 14,
      "kept": 13,
      "reasons": {
        "restates": 1
      },
      "words_mean": 1.25,
      "words_median": 1.0,
      "restates_mean": 0.5,
      "names_answer": 0.0,
      "distractors_mean": 0.5,
      "states_answer": 0.0,
      "leads_to_gold": null
    }
  },
  "sources": [],
  "revision": {
    "pairs": 1,
    "words": {
      "before": 2.0,
      "after": 3.0,
      "difference": 1.0,
      "low": null,
      "high": null,
      "p_value": null
    }
  },
  "made": "0a2b0609c9f9",
  "from": {}
}
"""
SCORES = """{
  "systems": [{"name": "sft", "origin": "run", "arm": "sft", "seeds": []}],
  "metrics": {"rougeL": {"maximum": 1.0, "higher_is_better": true, "signature": "rouge-score:0.1.2"}},
  "not_measured": {"faithfulness": "no judge"},
  "overall": {
    "items": 2,
    "groups": 2,
    "table": {"sft": {"rougeL": {"value": 0.25, "low": null, "high": null, "n": 2, "missing": 0}}}
  },
  "examples": [
    {
      "better": "distilled",
      "worse": "sft",
      "count": 1,
      "items": 2,
      "examples": [
        {
          "id": "q1",
          "kind": "context",
          "gold_fact": false,
          "question": "What is the SUL counterpart of band n66?",
          "context": null,
          "choices": [],
          "references": ["n86", "band n86"],
          "answers": {"sft": {"text": "n84", "quality": 0.0}, "distilled": {"text": "n86", "quality": 1.0}}
        }
      ]
    }
  ]
}
"""


def write(run: Run, stage: str, text: str) -> None:
    run.stage(stage).mkdir(parents=True)
    (run.stage(stage) / "done.json").write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("stage", "text", "kind"), [("train-sft", TRAINED, TrainingNotes), ("generate", WROTE, GenerationNotes)]
)
def test_a_run_of_an_earlier_release_is_read_and_keeps_its_keys(
    tmp_path: Path, stage: str, text: str, kind: type[Any]
) -> None:
    run = Run(tmp_path)
    write(run, stage, text)
    record, notes = run.record(stage), run.notes(stage, kind)
    assert record.stage == stage
    assert record.seconds > 0
    assert json.dumps(record.to_json(), indent=2) + "\n" == text
    assert json.dumps(notes.to_json()) == json.dumps(record.notes)


def test_the_figures_of_an_earlier_release(tmp_path: Path) -> None:
    run = Run(tmp_path)
    write(run, "train-sft", TRAINED)
    write(run, "data", '{"rows": {"train": 5, "unlabelled": 3}, "made": "3798b7a62176", "from": {}}')
    assert run.notes("train-sft", TrainingNotes).plan.steps == 600
    assert run.notes("data", DataNotes).has_unlabelled
    assert run.record("data") == StageRecord(
        notes={"rows": {"train": 5, "unlabelled": 3}}, version="3798b7a62176", input_versions={}
    )
    assert run.is_current("train-sft", ["data"])


def test_a_record_that_lacks_something_is_named(tmp_path: Path) -> None:
    run = Run(tmp_path)
    write(run, "answers", '{"asked": 3, "made": "3798b7a62176", "from": {}}')
    with pytest.raises(RunError, match=r"answers/done.json: a record has no field 'kept' \(AnswersNotes\)"):
        run.notes("answers", AnswersNotes)
    with pytest.raises(DataError, match="no field 'after'"):
        RevisedFigure.from_json({"before": 1.0})


def test_the_scores_of_an_earlier_release(tmp_path: Path) -> None:
    run = Run(tmp_path)
    (tmp_path / "scores.json").write_text(SCORES, encoding="utf-8")
    scores = run.scores
    assert scores["overall"]["table"]["sft"]["rougeL"]["value"] == 0.25
    assert MetricInfo.from_json(scores["metrics"]["rougeL"]) == MetricInfo(1.0, True, "rouge-score:0.1.2")
    [contest] = map(Contest.from_json, scores["examples"])
    assert contest.examples[0].answers["distilled"] == RatedAnswer("n86", 1.0)
    assert contest.to_json() == scores["examples"][0]
