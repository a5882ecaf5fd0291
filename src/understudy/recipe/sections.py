"""The sections of a recipe, one pydantic model each.

Every field has a default that works and a sentence that says what it does; `understudy init` writes those
sentences as comments. This module knows no torch, so that a recipe is checked in milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from understudy.errors import ConfigError
from understudy.files import fingerprint
from understudy.recipe.endpoint import HOW_ASKED, JudgeConfig, Section
from understudy.recipe.knowledge import GenerateConfig, TaskConfig, unlearnable

Device = Literal["auto", "cpu", "cuda", "mps"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
ContextOverflow = Literal["window", "refuse", "truncate"]
Method = Literal["kd", "dskd", "dskd_cma", "dskd_v2", "min_edit", "uld", "byte_aligned"]
Arm = Literal["sft", "seqkd", "kd_gold", "distilled", "explained"]

NEUTRAL = ("output", "workers", "report_to", "device")
"""Where and how fast a recipe is run: no part of what it is."""

METHODS: tuple[str, ...] = get_args(Method)
ARMS: tuple[str, ...] = get_args(Arm)


def main_arm(arms: Iterable[str]) -> str:
    """The arm that a run is about: `distilled`, or `explained` where there is no distilled student."""
    return "explained" if "explained" in arms and "distilled" not in arms else "distilled"


class DataConfig(Section):
    """Where the examples come from and how they are split."""

    source: str = "embedded:telecom"
    """A file (.jsonl, .json, .csv, .tsv, .parquet, .zip), hub id, `embedded:telecom` or `embedded:telecom-choices`."""
    format: str = "auto"
    """How to read it: auto, messages, prompt, qa, squad, teleqna, oran_bench, telco_long, telco_mcq, csqa, gsm8k."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Names of your own columns, for example `{question: Query, answer: Reply}`."""
    password_env: str = ""
    """The environment variable that holds the password of an encrypted zip (TeleQnA)."""
    hub_split: str = "train"
    """Which split of a hub data set to read."""
    hub_config: str | None = None
    """Which configuration of a hub data set to read."""
    dev_source: str | None = None
    """A file of your own for the development split; `dev` is then not cut from `source`."""
    test_source: str | None = None
    """A file of your own for the test split; `test` is then not cut from `source`."""
    unlabelled_source: str | None = None
    """A file of questions without answers; the teacher answers them for the student."""
    dev: float = Field(default=0.1, ge=0, lt=1)
    """Share of the rows for development: whatever is looked at while training."""
    test: float = Field(default=0.1, ge=0, lt=1)
    """Share of the rows held out for the final figures."""
    gold_share: float | None = Field(default=None, gt=0, le=1)
    """Share of the training rows that keep their answer; the rest become unlabelled questions. Default: all."""
    limit: int | None = Field(default=None, gt=0)
    """Read at most this many rows, for a quick try."""
    seed: int = 0
    """Seed of the split, independent of the training seed."""
    on_bad_row: Literal["error", "quarantine"] = "error"
    """Stop at a bad row, or put bad rows into `quarantine.jsonl` and go on."""
    context_overflow: ContextOverflow = "window"
    """A context too long for the model: best-matching window, refuse, or truncate with a count in the report."""
    max_length: int = Field(default=512, gt=0)
    """Longest prompt plus answer in tokens."""
    max_answer_tokens: int = Field(default=128, gt=0)
    """Longest answer in tokens, in training and in generation."""
    system: str = ""
    """A system prompt put before every question."""


class LoraConfig(Section):
    """Low-rank adapters instead of full fine-tuning (Hu et al., 2021)."""

    r: int = Field(default=16, gt=0)
    """Rank."""
    lora_alpha: float | None = None
    """Scale numerator; default: 2 × r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""
    target_modules: str | list[str] = "all-linear"
    """Which layers get an adapter."""
    quantize_4bit: bool = False
    """QLoRA: hold the frozen weights in 4 bits while training (extra `understudy[qlora]`)."""


class TrainConfig(Section):
    """One stage of training."""

    epochs: float = Field(default=2.0, gt=0)
    """Passes over the data, unless `steps` is given."""
    steps: int | None = Field(default=None, gt=0)
    """Optimiser steps; wins over `epochs`."""
    batch_size: int = Field(default=32, gt=0)
    """Rows per optimiser step and process, accumulation included."""
    micro_batch_size: int | None = Field(default=None, gt=0)
    """Rows per forward; must divide `batch_size`. A step's rows are cut by length, so it also saves padding."""
    learning_rate: float = Field(default=5e-4, gt=0)
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Shape of the learning rate after warm-up."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps that warm up."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW weight decay."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this norm."""
    eval_every: int | None = Field(default=None, gt=0)
    """Answer the development rows every so many steps and keep the best ROUGE-L; default: 3 times a run."""
    eval_rows: int = Field(default=200, gt=0)
    """How many development rows to answer each time."""
    save_every: int | None = Field(default=None, gt=0)
    """Write a checkpoint every so many steps; default: as often as it evaluates."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    lora: LoraConfig | None = None
    """Train adapters instead of all weights."""


class PretrainConfig(TrainConfig):
    """Continued pretraining on raw text of the domain: the next token of every position is learned."""

    source: str
    """A file (.txt, .md: one document; .jsonl: one a line) or a folder of such files."""
    text_field: str = "text"
    """The field that holds the text in a .jsonl file."""
    max_length: int | None = Field(default=None, gt=1)
    """Documents are set one behind the other and cut into rows of so many tokens; default: `data.max_length`."""


class ModelConfig(Section):
    """A causal or encoder-decoder language model and what is done to it before distillation."""

    model: str
    """A hub id, a folder, or `embedded:NAME` with telecom-teacher, telecom-student or telecom-student-other."""
    tokenizer: str | None = None
    """A tokenizer of its own, where it does not lie beside the model."""
    init: Literal["pretrained", "fresh"] = "pretrained"
    """`fresh` takes the architecture and the tokenizer, but random weights."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Fields of the architecture to change, with `init: fresh` only, for example `{num_hidden_layers: 2}`."""
    dtype: Dtype = "auto"
    """Floating-point type of the weights; auto: bfloat16 on a GPU that has it, else float32."""
    chat_template: str | None = None
    """A Jinja chat template that replaces the tokenizer's own."""
    revision: str | None = None
    """Revision of a hub id."""
    trust_remote_code: bool = False
    """Run code that comes with a hub model. Leave it off unless you have read that code."""
    seed: int | None = None
    """Seed of its own training before distillation, so that runs of several seeds share it; default: the run's seed."""
    pretrain: PretrainConfig | None = None
    """Continued pretraining on raw text of the domain, before anything else."""
    sft: TrainConfig | None = None
    """Supervised fine-tuning on the gold answers before distillation."""


class SeqkdConfig(Section):
    """Sequence-level distillation: supervised fine-tuning on the teacher's own answers (Kim and Rush, 2016)."""

    keep_gold: bool = True
    """Where a question has a gold answer, learn that one; the teacher answers only the rest."""
    keep_unfinished: bool = False
    """Keep answers that reached `data.max_answer_tokens` (learned without a stop token); else drop and count them."""


class DistilConfig(TrainConfig):
    """Distillation from logits or hidden states."""

    method: Method = "kd"
    """One vocabulary: kd, dskd, dskd_v2. Two: dskd_cma, dskd_v2, min_edit, uld, byte_aligned (docs/crossvocab.md)."""
    divergence: str = "forward_kl"
    """forward_kl, reverse_kl, js, generalized_js, skew_forward_kl, skew_reverse_kl, adaptive_kl, total_variation."""
    divergence_parameters: dict[str, float] = Field(default_factory=dict)
    """Parameters of the divergence, for example `{beta: 0.5}` or `{skew: 0.1}`."""
    loss_temperature: float | None = Field(default=None, gt=0)
    """Divides the logits of both sides before the divergence; default: 1 for kd, uld, byte_aligned, else 2."""
    scale_by_temperature_squared: bool = False
    """Multiply the divergence by the squared temperature (Hinton et al., 2015); kd and min_edit only."""
    gold_weight: float = Field(default=0.5, ge=0, le=1)
    """Weight of the gold cross-entropy, the divergence gets the rest; text the teacher wrote gets divergence only."""
    projector_learning_rate: float = Field(default=1e-3, gt=0)
    """Learning rate of the objective's own parameters (the projectors of DSKD)."""
    agreement_threshold: float = Field(default=1.0, gt=0, le=1)
    """dskd_v2: above this share of right tokens an example's whole answer is compared in the student's space."""
    merge: Literal["observed", "bayesian"] = "observed"
    """byte_aligned: a group speaks by its first token's distribution (observed), or by its last one's (bayesian)."""
    published: bool = False
    """dskd_cma: deviations over the whole micro-batch, for comparison with published figures."""

    @property
    def temperature(self) -> float:
        """`loss_temperature`, or the one its method is published with."""
        return self.loss_temperature or (1.0 if self.method in ("kd", "uld", "byte_aligned") else 2.0)


class EvaluateConfig(Section):
    """What is measured at the end."""

    metrics: tuple[str, ...] | Literal["all"] = (
        "exact_match",
        "token_f1",
        "bleu",
        "rouge1",
        "rouge2",
        "rougeL",
        "chrf",
    )
    """Metrics of written answers, names out of `understudy.metrics.METRICS`, or `all`."""
    embedding_model: str = "auto"
    """Sentence embeddings for answer_similarity: folder or hub id; auto: MiniLM of the extra `understudy[offline]`."""
    bertscore_model: str = "auto"
    """Encoder for bertscore_f1: a folder or hub id; auto: MiniLM of the extra `understudy[offline]`."""
    judge: JudgeConfig | None = None
    """The judge of the five judged metrics; without one they are reported as not measured."""
    arms: tuple[Arm, ...] = ("sft", "seqkd", "kd_gold", "distilled")
    """Students to train: sft, seqkd, kd_gold (the method on gold rows only), distilled; with `tasks` also explained."""
    batch_size: int = Field(default=64, gt=0)
    """Rows generated at once."""
    rows: int | None = Field(default=None, gt=0)
    """Evaluate only so many test rows."""
    resamples: int = Field(default=10_000, ge=100)
    """Resamples of the paired bootstrap."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Level of the intervals."""
    simulatability: bool = False
    """Train an observer and measure how much explanations help it to foresee the student's answers (arm explained)."""
    speed: bool = True
    """Time teacher and student at the end, each alone on the machine; best left off in a grid."""


class Recipe(Section):
    """The whole of a run."""

    name: str = Field(default="understudy", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run folder."""
    seed: int = 0
    """Seed of the weights, the order of the rows and the dropout."""
    data: DataConfig = DataConfig()
    """Where the examples come from and how they are split."""
    teacher: ModelConfig | None = ModelConfig(model="embedded:telecom-teacher", sft=TrainConfig())
    """The large model; null where it is only reached through an endpoint (`generate.teacher`) or recorded texts."""
    student: ModelConfig = ModelConfig(model="embedded:telecom-student")
    """The small model. With `sft`, every arm starts from the fine-tuned student."""
    seqkd: SeqkdConfig = SeqkdConfig()
    """How the teacher's own answers are used."""
    distil: DistilConfig = DistilConfig()
    """How the student learns from the teacher; the other arms take the same steps, batch size and learning rate."""
    generate: GenerateConfig | None = None
    """Knowledge in words: what the teacher writes about the examples (`understudy generate`)."""
    tasks: TaskConfig | None = None
    """What the student of the arm `explained` learns of the teacher's texts."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """What is measured at the end."""
    output: str = "runs"
    """The folder under which run folders stand."""
    device: Device = "auto"
    """auto, cpu, cuda or mps."""
    workers: int = Field(default=1, gt=0)
    """Independent stages run side by side in so many processes, the cores shared out among them."""
    report_to: tuple[Literal["wandb", "tensorboard", "trackio"], ...] = ()
    """Trackers that get the training curves."""

    @property
    def own_teacher(self) -> ModelConfig:
        """The section of the teacher that is loaded here.

        Raises:
            ConfigError: there is none. A run that needs one is refused when its recipe is read.
        """
        if self.teacher is None:
            raise ConfigError("the recipe has no teacher that could be loaded", hint="it says teacher: null")
        return self.teacher

    @property
    def teacher_writes(self) -> bool:
        """Whether the texts of `generate` come from the recipe's own teacher."""
        return bool(self.generate and self.generate.teacher is None and self.generate.recorded is None)

    @model_validator(mode="before")
    @classmethod
    def _arms_by_default(cls, value: Any) -> Any:
        """A recipe that names no arms trains the one that learns its `tasks`, beside the others."""
        asked = value.get("evaluate", {}) if isinstance(value, dict) and value.get("tasks") is not None else None
        if not isinstance(asked, dict) or "arms" in asked:
            return value
        return {**value, "evaluate": {**asked, "arms": ARMS}}

    @model_validator(mode="after")
    def _explained(self) -> Recipe:
        """What belongs together where a student learns from texts."""
        explained, tasks, generate = "explained" in self.evaluate.arms, self.tasks, self.generate
        if explained and tasks is None:
            raise ValueError("evaluate.arms has the arm `explained`; a section `tasks` says what it learns")
        if tasks and not explained:
            raise ValueError("there is a section `tasks`; put the arm `explained` that learns it into evaluate.arms")
        if tasks and tasks.kind != "answer" and generate is None:
            raise ValueError(f"tasks.kind {tasks.kind} learns from texts; a section `generate` says who writes them")
        if tasks and (reason := unlearnable(tasks, generate)):
            raise ValueError(reason)
        if generate and generate.teacher and generate.recorded:
            raise ValueError("generate.teacher and generate.recorded exclude each other")
        if generate and generate.teach and not (self.teacher and self.teacher.sft and self.teacher_writes):
            raise ValueError("generate.teach fine-tunes the recipe's own teacher: it needs teacher.sft")
        if self.teacher is not None:
            return self
        needing = [arm for arm in self.evaluate.arms if arm in ("seqkd", "kd_gold", "distilled")]
        needing += ["tasks.logits"] if tasks and tasks.logits else []
        needing += ["generate without generate.teacher or generate.recorded"] if self.teacher_writes else []
        if needing:
            raise ValueError(f"teacher is null, and {needing[0]} needs one")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        stages: dict[str, TrainConfig | None] = {"distil": self.distil}
        models = {"teacher": self.teacher, "student": self.student}
        for name, model in models.items():
            stages |= {f"{name}.pretrain": model.pretrain, f"{name}.sft": model.sft} if model else {}
        for name, stage in stages.items():
            micro = stage.micro_batch_size if stage else None
            if stage and micro and stage.batch_size % micro:
                raise ValueError(f"{name}.micro_batch_size {micro} does not divide batch_size {stage.batch_size}")
        for name, model in models.items():
            if model and model.config and model.init != "fresh":
                raise ValueError(f"{name}.config changes the architecture, which needs {name}.init: fresh")
        if len(set(self.evaluate.arms)) < len(self.evaluate.arms):
            raise ValueError("evaluate.arms names an arm twice")
        return self

    def identity(self) -> dict[str, Any]:
        """The fields that can change a result: everything but where, how fast and at what cost it is computed."""
        asked = set(HOW_ASKED)
        nested = {"generate": {"teacher": asked}, "evaluate": {"judge": asked}}
        return self.model_dump(mode="json", exclude={**dict.fromkeys(NEUTRAL, True), **nested})

    def fingerprint(self) -> str:
        """Eight hexadecimal digits that name this recipe among others of the same name."""
        return fingerprint(self.identity(), length=8)
