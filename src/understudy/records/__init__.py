"""Rows that go over a boundary – from a stage to a file, from a file to the scores – each a class of its own."""

from understudy.records.comparisons import Contest, MetricInfo, RatedAnswer, RatedItem
from understudy.records.predictions import ExplainedPrediction, FigureLine, Prediction, Swap
from understudy.records.stages import (
    AnswersNotes,
    DataNotes,
    Environment,
    ModelFolder,
    ModelSpeed,
    PairNotes,
    PredictionNotes,
    PretrainingNotes,
    RunSummary,
    Source,
    SpeedNotes,
    StageRecord,
    TrainingFigures,
    TrainingNotes,
    TrainSchedule,
)
from understudy.records.texts import GenerationNotes, RevisedFigure, Revision, StepCounts, TextFigures, WritingNotes

__all__ = [
    "AnswersNotes",
    "Contest",
    "DataNotes",
    "Environment",
    "ExplainedPrediction",
    "FigureLine",
    "GenerationNotes",
    "MetricInfo",
    "ModelFolder",
    "ModelSpeed",
    "PairNotes",
    "Prediction",
    "PredictionNotes",
    "PretrainingNotes",
    "RatedAnswer",
    "RatedItem",
    "RevisedFigure",
    "Revision",
    "RunSummary",
    "Source",
    "SpeedNotes",
    "StageRecord",
    "StepCounts",
    "Swap",
    "TextFigures",
    "TrainSchedule",
    "TrainingFigures",
    "TrainingNotes",
    "WritingNotes",
]
