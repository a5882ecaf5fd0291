"""Answers of a student and its teacher to the development and the test rows, each with how sure its model was.

They are kept in the run's folder `calibration/answers/WHO-SPLIT/`, in pieces of a few batches each whole or absent, so
that work that was stopped goes on. A piece counts only while what it was made from is the same: weights, rows, lengths.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from understudy.confidence import Confidence
from understudy.evaluation.predict import answers_alone, row_of
from understudy.files import fingerprint, fingerprint_folder, read_json, read_jsonl, write_json, write_jsonl
from understudy.models.feature_input import check_alone
from understudy.models.generate import answer_examples, choice_scores
from understudy.models.load import load_example_tokenizer, load_model, pick_device, resolve
from understudy.pipeline.kinds import stage_of
from understudy.pipeline.stages.context import Context, as_row, rows_of
from understudy.pipeline.stages.evaluation import arm_model
from understudy.pipeline.stages.served import served_predictions
from understudy.recipe import Recipe
from understudy.records import Prediction
from understudy.records.base import Record
from understudy.run import Run
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.spans import SpanTokenizer
from understudy.types import Example

Split = Literal["dev", "test"]
Progress = Callable[[int, int, str], None]
_PIECE_BATCHES = 4


@dataclass(frozen=True)
class Answered(Record):
    """One row answered.

    Attributes:
        prediction: as a run writes it.
        confidence: of the model that answered; nothing where it is on a server that was asked for text alone.
        prompt_tokens: what the model read.
    """

    prediction: Prediction = field(metadata={"parse": Prediction.from_json})
    confidence: Confidence = field(metadata={"parse": Confidence.from_json})
    prompt_tokens: int


def split_rows(run: Run, recipe: Recipe, split: Split) -> list[Example]:
    """The labelled rows of a split that are answered; of the test split those that the run evaluates."""
    rows = rows_of(run, split)
    rows = rows[: recipe.evaluate.rows] if split == "test" else rows
    return [row for row in rows if row.answers]


@dataclass(frozen=True)
class Answerer:
    """Whoever answers: an arm of a run, its model loaded when a row is missing.

    Attributes:
        run: the run folder.
        recipe: its recipe.
        arm: `teacher`, or one with a student.
        batch_size: rows at once.
        progress: called with (done, total, note).
    """

    run: Run
    recipe: Recipe
    arm: str
    batch_size: int
    progress: Progress

    def answers(self, split: Split) -> list[Answered]:
        """All rows of a split, those that are missing answered first.

        Raises:
            UnderstudyError: a row cannot be answered; what was answered stays.
        """
        rows = split_rows(self.run, self.recipe, split)
        folder = self.run.folder / "calibration" / "answers" / f"{self.arm}-{split}"
        pieces = list(_pieces(rows, _PIECE_BATCHES * self.batch_size))
        _keep_only(folder, self._made_from(rows))
        missing = [number for number in range(len(pieces)) if not _piece(folder, number).is_file()]
        answer = self._answerer(split) if missing else None
        done = sum(len(piece) for number, piece in enumerate(pieces) if number not in missing)
        for number in missing:
            assert answer is not None
            write_jsonl(_piece(folder, number), [row.to_json() for row in answer(pieces[number])])
            done += len(pieces[number])
            self.progress(done, len(rows), f"answers of {self.arm} ({split})")
        return [Answered.from_json(row) for n in range(len(pieces)) for row in read_jsonl(_piece(folder, n))]

    def weights(self) -> str | None:
        """The folder of its weights; None of a teacher on a server."""
        if self._served is not None:
            return None
        config, weights = arm_model(self.run, self.recipe, self.arm)
        return weights or resolve(config.model)

    @property
    def _served(self) -> Any:
        return self.recipe.served_teacher if self.recipe.arm(self.arm).model == "teacher" else None

    def _made_from(self, rows: Sequence[Example]) -> dict[str, Any]:
        weights = self.weights()
        local = weights if weights is not None and Path(weights).exists() else None
        served = self._served and self._served.endpoint.model
        return {
            "weights": fingerprint_folder(local) if local else weights or served,
            "rows": fingerprint(json.loads(json.dumps([as_row(row) for row in rows]))),
            "data": fingerprint(self.recipe.data.model_dump(mode="json")),
            "batch_size": self.batch_size,
        }

    def _answerer(self, split: Split) -> Callable[[Sequence[Example]], list[Answered]]:
        if self._served is not None:
            return self._ask_server
        config, weights = arm_model(self.run, self.recipe, self.arm)
        check_alone(Path(weights or ""), self.arm)
        model = load_model(config, pick_device(self.recipe.device), weights=weights, seed=self.recipe.seed)
        tokenizer = load_example_tokenizer(config, self.recipe.data, weights=weights)
        return lambda rows: answered_here(model, tokenizer, rows, batch_size=self.batch_size)

    def _ask_server(self, rows: Sequence[Example]) -> list[Answered]:
        """A server's answers; of its confidence nothing is asked, for only a student's decides."""
        stage = stage_of("predict", self.arm)
        context = Context(self.run, self.recipe, lambda *_: None, stage, self.recipe)
        tokenizer = load_example_tokenizer(self._served, self.recipe.data)
        predictions = served_predictions(context, self._served, tokenizer, rows)
        lengths = [len(tokenizer.prompt_ids(row)) for row in rows]
        return [Answered(row, Confidence(), length) for row, length in zip(predictions, lengths, strict=True)]


def answered_here(
    model: Any, tokenizer: ExampleTokenizer, rows: Sequence[Example], *, batch_size: int
) -> list[Answered]:
    """Answer rows with a model of this process: text, confidence, likelihoods of options."""
    answers = answer_examples(model, tokenizer, rows, batch_size=batch_size, confidence=True)
    writes = tokenizer.template.candidates == "vocabulary"
    confidences = [answer.confidence or Confidence() for answer in answers]
    answers = answers_alone(answers, tokenizer) if writes else answers
    choices = _choice_scores(model, tokenizer, [row for row in rows if row.choices and writes], batch_size)
    return [
        Answered(
            row_of(row, answer, choices.get(row.id)),
            confidence.with_choices(choices.get(row.id, [])),
            prompt_tokens(tokenizer, row),
        )
        for row, answer, confidence in zip(rows, answers, confidences, strict=True)
    ]


def prompt_tokens(tokenizer: ExampleTokenizer, row: Example) -> int:
    """Tokens that a model reads of a row; all windows of one that points."""
    if isinstance(tokenizer, SpanTokenizer):
        return sum(len(window.prompt_ids) for window in tokenizer.windows(row))
    return len(tokenizer.prompt_ids(row))


def _choice_scores(
    model: Any, tokenizer: ExampleTokenizer, rows: Sequence[Example], batch_size: int
) -> Mapping[str, list[float]]:
    encoded = [[tokenizer.encode(row, choice) for choice in row.choices] for row in rows]
    pad: Any = tokenizer.template.tokenizer.pad_token_id
    scores = choice_scores(model, encoded, pad_id=pad, batch_size=batch_size) if rows else []
    return {row.id: values for row, values in zip(rows, scores, strict=True)}


def _pieces(rows: Sequence[Example], size: int) -> Iterator[Sequence[Example]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _piece(folder: Path, number: int) -> Path:
    return folder / f"{number:05}.jsonl"


def _keep_only(folder: Path, made_from: Mapping[str, Any]) -> None:
    """Sweep out answers that were made from something else."""
    marker = folder / "made_from.json"
    if not marker.is_file() or read_json(marker) != made_from:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(marker, dict(made_from))
