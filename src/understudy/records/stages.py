"""What a stage writes down of itself when it is done, and what a run says at its end.

`done.json` of a stage is one flat object: `stage`, `seconds`, then what stages of its kind say (the classes `…Notes`),
then `made` and `from`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from understudy.records.base import Record, list_of, parsed_by
from understudy.records.predictions import FigureLine


@dataclass(frozen=True)
class StageRecord:
    """`done.json`: what a finished stage says of itself.

    Attributes:
        stage: its name; empty in records that do not hold it.
        seconds: how long it took.
        notes: what stages of its kind say besides, as JSON; `Run.notes` reads it into the kind's own class.
        version: random id of this run of the stage (key `made`), noted by the stages that read its files; None in old
            records.
        input_versions: stage → `version` of the stages whose files it read (key `from`).
    """

    stage: str = ""
    seconds: float = 0.0
    notes: Mapping[str, Any] = field(default_factory=dict)
    version: str | None = None
    input_versions: Mapping[str, str | None] | None = None

    def to_json(self) -> dict[str, Any]:
        """The flat object."""
        head = {"stage": self.stage, "seconds": self.seconds}
        return {**head, **self.notes, "made": self.version, "from": self.input_versions}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> StageRecord:
        """Read the flat object; whatever is not common to all stages becomes `notes`."""
        notes = {key: value for key, value in row.items() if key not in ("stage", "seconds", "made", "from")}
        return cls(row.get("stage", ""), row.get("seconds", 0.0), notes, row.get("made"), row.get("from"))


@dataclass(frozen=True)
class Source(Record):
    """A file or folder that something was made from.

    Attributes:
        name: as the recipe names it.
        fingerprint: of its content at that time.
    """

    name: str
    fingerprint: str


@dataclass(frozen=True)
class ModelFolder(Record):
    """A model folder, or GGUF file, that a run reads.

    Attributes:
        folder: its path.
        fingerprint: of its content when the run was begun.
    """

    folder: str
    fingerprint: str


@dataclass(frozen=True)
class DataNotes(Record):
    """Of the stage that reads and splits.

    Attributes:
        rows: role → number of rows.
        group_by: what stays in one split, and how many of it there are; None where only rows of one question do.
        remarks: sentences that a reader of the figures has to know: held-out questions whose context stands in
            training, shares that were missed.
    """

    rows: Mapping[str, int]
    group_by: str | None = field(default=None, metadata=parsed_by(str, omit=True))
    remarks: tuple[str, ...] | None = field(default=None, metadata=parsed_by(tuple, omit=True))

    @property
    def has_unlabelled(self) -> bool:
        """Whether there are questions without a gold answer."""
        return self.rows["unlabelled"] > 0


@dataclass(frozen=True)
class PairNotes(Record):
    """Of the stage that checks whether the models fit.

    Attributes:
        tokenizers: `student tokenizer`, `teacher tokenizer` → what had to be made up for.
        models: the folders that models come from; a model of the hub has none.
        warnings: sentences about what can be run, and should be known before it is.
    """

    tokenizers: Mapping[str, Sequence[str]]
    models: tuple[ModelFolder, ...] = field(metadata=parsed_by(list_of(ModelFolder)))
    warnings: tuple[str, ...] = field(default=(), metadata=parsed_by(tuple))


@dataclass(frozen=True)
class CutNotes(Record):
    """Of the stage that cuts a student from its teacher.

    Attributes:
        blocks: of each stack, numbers of the teacher's blocks that stay.
        shape: width, heads and neurons that stay, where they were cut.
        num_parameters: of the student.
        teacher_parameters: of the teacher.
        perplexity: of the student on the target tokens of rows that importance was not measured on.
        teacher_perplexity: the teacher's on the same.
        agreement: share of these tokens at which both find the same token likeliest.
        target_tokens: that were looked at.
    """

    blocks: Mapping[str, Sequence[int]]
    shape: Mapping[str, int]
    num_parameters: int
    teacher_parameters: int
    perplexity: float
    teacher_perplexity: float
    agreement: float
    target_tokens: int


@dataclass(frozen=True)
class CacheNotes(Record):
    """Of the stage that writes down what the teacher says.

    Attributes:
        folder: of the cache.
        targets: kind of targets, and what of them is kept.
        rows: rows that the arms of the run read.
        written: how many of them were not there yet.
        target_tokens: of these rows.
        bytes_per_token: of all files of the folder, index included.
        pays_after_epochs: passes over the rows after which the cache has cost less than a teacher that is asked anew.
        repaired: what was found damaged and written anew; empty where nothing was.
    """

    folder: str
    targets: Mapping[str, Any]
    rows: int
    written: int
    target_tokens: int
    bytes_per_token: float
    pays_after_epochs: float
    repaired: str = ""


@dataclass(frozen=True)
class TrainSchedule(Record):
    """The numbers of a training stage, worked out from its configuration and the sizes of its data and its model.

    Attributes:
        learning_rate: at its peak; None in records that do not tell.
    """

    steps: int
    micro_batch_size: int
    accumulation: int
    warmup_steps: int
    eval_every: int
    save_every: int
    log_every: int
    learning_rate: float | None = field(default=None, metadata=parsed_by(float, omit=True))


@dataclass(frozen=True)
class TrainingFigures(Record):
    """What every training says.

    Attributes:
        plan: steps, batches, intervals.
        target_tokens: learned in one pass over the rows.
        best_rougeL: of the weights that were kept; None where nothing was evaluated on the way.
        best_step: whose weights they are.
        train_seconds: without loading and saving; of a resumed training, since it was resumed.
        stopped_at: the step at which patience was over; None: all steps were taken, and absent from the file.
        rollouts: means over the training of what the student wrote itself, by their names in the log; None: it learned
            given answers alone, and absent from the file.
        filtered: why the teacher was not heard → on how many rows, each as often as it was read.
        trained_tokens: read and written over all steps, by the mean length of the rows; None in older records.
        parameters: of the student; None in older records.
        best_bundle_f1: as `best_rougeL`, of sessions; None where rows are none.
        best_of_kind: as `best_rougeL`, by the metric of the kind of model, under its name; None where that is ROUGE-L,
            and absent from the file.
        cut_to: rows at once since the device last ran out of memory; None: it never did, and absent from the file.
    """

    plan: TrainSchedule = field(metadata=parsed_by(TrainSchedule.from_json))
    target_tokens: int
    best_rougeL: float | None
    best_step: int | None
    train_seconds: float
    stopped_at: int | None = field(default=None, metadata=parsed_by(int, omit=True), kw_only=True)
    rollouts: Mapping[str, float] | None = field(default=None, metadata=parsed_by(dict, omit=True), kw_only=True)
    filtered: Mapping[str, int] | None = field(default=None, metadata=parsed_by(dict, omit=True), kw_only=True)
    trained_tokens: int | None = field(default=None, kw_only=True, metadata=parsed_by(int, omit=True))
    parameters: int | None = field(default=None, kw_only=True, metadata=parsed_by(int, omit=True))
    best_bundle_f1: float | None = field(default=None, kw_only=True, metadata=parsed_by(float, omit=True))
    best_of_kind: Mapping[str, float] | None = field(default=None, kw_only=True, metadata=parsed_by(dict, omit=True))
    cut_to: int | None = field(default=None, kw_only=True, metadata=parsed_by(int, omit=True))


@dataclass(frozen=True)
class TrainingNotes(TrainingFigures):
    """Of a stage that trains on questions and answers.

    Attributes:
        rows: number of examples it learned from.
        notes: what was cut or shortened → how often.
    """

    rows: int
    notes: Mapping[str, int]


@dataclass(frozen=True)
class PretrainingNotes(TrainingFigures):
    """Of continued pretraining on raw text.

    Attributes:
        rows: pieces of equal length.
        documents: that they were cut from.
        source: where the documents come from.
    """

    rows: int
    documents: int
    source: Source = field(metadata=parsed_by(Source.from_json))


@dataclass(frozen=True)
class AnswersNotes(Record):
    """Of the stage in which the teacher answers.

    Attributes:
        asked: number of questions.
        kept: number of answers kept.
        dropped: `empty`, `unfinished` → number of answers dropped.
    """

    asked: int
    kept: int
    dropped: Mapping[str, int]


@dataclass(frozen=True)
class CandidatesNotes(Record):
    """Of the stage in which the teacher weighs several answers to each question.

    Attributes:
        questions: how many were looked at.
        rows: those that have a candidate.
        candidates: of all rows.
        several: rows with more than one.
        gold_rows: rows whose gold answer is a candidate beside others.
        gold_likeliest: of these, those where it is the teacher's likeliest.
        dropped: `empty`, `unfinished`, `equal` → number of answers dropped.
    """

    questions: int
    rows: int
    candidates: int
    several: int
    gold_rows: int
    gold_likeliest: int
    dropped: Mapping[str, int]


@dataclass(frozen=True)
class AnswerCost(Record):
    """What it took to answer the held-out rows.

    Attributes:
        rows: number of answers.
        input_tokens: read, knowledge and template included.
        output_tokens: written, the end of each answer included.
        seconds: over all answers, each its share of its batch, or from sending to answer.
        parameters: of the model; None where that is not known.
        peak_memory_mb: the most memory at once, in MiB, above what stood there before; None of a server.
        money: by the prices of the endpoint; None without prices.
    """

    rows: int
    input_tokens: int
    output_tokens: int
    seconds: float
    parameters: int | None = None
    peak_memory_mb: float | None = None
    money: float | None = None


@dataclass(frozen=True)
class PredictionNotes(Record):
    """Of a stage that answers the held-out rows.

    Attributes:
        rows: number of answers.
        notes: what was cut or shortened → how often.
        explanations: how good the explanations are; None where the arm gives none, and absent from the file.
        cost: of the answers to sessions; None and absent for other rows.
        constrained_cost: of constrained answers beside free ones; None and absent where there are none.
    """

    rows: int
    notes: Mapping[str, int]
    explanations: tuple[FigureLine, ...] | None = field(
        default=None, metadata=parsed_by(list_of(FigureLine), omit=True)
    )
    cost: AnswerCost | None = field(default=None, metadata=parsed_by(AnswerCost.from_json, omit=True))
    constrained_cost: AnswerCost | None = field(default=None, metadata=parsed_by(AnswerCost.from_json, omit=True))


@dataclass(frozen=True)
class ModelSpeed(Record):
    """Size and speed of a model; None where that is not known.

    Attributes:
        parameters: their number.
        bytes: size of the weights.
        latency_ms: median time of one answer, in milliseconds.
        tokens_per_second: throughput in batches.
        peak_memory_mb: the most memory at once, in MiB.
    """

    parameters: float | None = None
    bytes: float | None = None
    latency_ms: float | None = None
    tokens_per_second: float | None = None
    peak_memory_mb: float | None = None


@dataclass(frozen=True)
class SpeedNotes(Record):
    """Of a stage that times a model.

    Attributes:
        speed: what was measured.
    """

    speed: ModelSpeed = field(metadata=parsed_by(ModelSpeed.from_json))


@dataclass(frozen=True)
class Environment(Record):
    """`environment.json`: where and by what a run is made.

    Attributes:
        understudy: its version.
        python: version of the interpreter.
        platform: the system.
        processors: their number; None where that is not known.
        command: the command line.
        packages: package → version.
    """

    understudy: str = ""
    python: str = ""
    platform: str = ""
    processors: int | None = None
    command: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunSummary(Record):
    """`summary.json`: what the terminal shows at the end of a run.

    Attributes:
        metrics: the columns.
        arms: arm → metric → value.
        headline: the outcome, in sentences.
    """

    metrics: tuple[str, ...] = field(metadata=parsed_by(tuple))
    arms: Mapping[str, Mapping[str, float]]
    headline: tuple[str, ...] = field(metadata=parsed_by(tuple))
