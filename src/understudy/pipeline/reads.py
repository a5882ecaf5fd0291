"""Which recipe fields can change a stage, beside those of the stages it is made from.

Two cells of a grid share a stage where these agree. Each field is declared once, here or beside its kind; a test
changes all *other* fields and sees that a stage gives the same bytes. The recipe that is passed in is that of the
stage's arm. A path that ends in `?` stands for whether there is something at it (`teacher.sft?`), whatever it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from understudy.recipe import DataConfig, ModelConfig, Recipe, TrainConfig
from understudy.recipe.candidates import ASKED
from understudy.recipe.own_arms import is_informed

ENCODE = (
    *("data.system", "data.max_length", "data.max_answer_tokens", "data.context_overflow"),
    *("data.stride", "data.null_threshold"),
)
"""How a row becomes token ids."""
ROWS = tuple(
    f"data.{name}" for name in DataConfig.model_fields if f"data.{name}" not in ENCODE and name != "password_env"
)
"""Which rows there are, and in which split."""
SEEN = {"teacher": ("teacher.hint", "teacher.from_student"), "student": ("student.context",)}
"""What a model reads of a row that the other does not."""
TEMPLATE = (
    "images",
    "embedding",
    "model",
    "tokenizer",
    "chat_template",
    "resize_embeddings",
    "revision",
    "trust_remote_code",
)
WEIGHTS = tuple(name for name in ModelConfig.model_fields if name not in ("pretrain", "sft"))
STEPS = tuple(f"distil.{name}" for name in TrainConfig.model_fields)
ANSWERS = (*ENCODE, "evaluate.batch_size", "evaluate.rows")
TEACH = tuple(f"generate.{name}" for name in ("demonstrations", "steps", "own_steps", "prompts", "seed"))
"""What decides which texts the teacher itself is fine-tuned on."""
EXPLAINED_FIELDS = ("tasks", "evaluate.simulatability", "evaluate.judge", "evaluate.embedding_model")


LEARNED = tuple(f"knowledge.{name}" for name in ("use", "formats", "thoughts", "weight", "folder"))
"""What a student that knows of sessions learns."""
SHOWN = tuple(f"knowledge.{name}" for name in ("tokens", "neighbours", "vectors"))
"""What of knowledge stands in its prompts."""


def weights(side: str) -> tuple[str, ...]:
    """Which weights a model has before its own training, and what it reads."""
    return (*raw_weights(side), *SEEN[side])


def raw_weights(side: str) -> tuple[str, ...]:
    """Which weights a model has before its own training."""
    shape = ("student.from_teacher",) if side == "student" else ()
    return (*(f"{side}.{name}" for name in WEIGHTS), *shape)


def teacher_weights(recipe: Recipe) -> tuple[str, ...]:
    """The same of the teacher, or what of a teacher on a server can change its answers."""
    return (*weights("teacher"), "teacher.remote") if recipe.served_teacher else weights("teacher")


def said(recipe: Recipe) -> tuple[str, ...]:
    """What decides on what is learned of the teacher's signal beside its weights."""
    of_server = ("teacher.k", "teacher.tail") if recipe.served_teacher else ()
    return (*teacher_weights(recipe), *of_server)


def method(recipe: Recipe) -> tuple[str, ...]:
    """All fields of the method of distillation."""
    return tuple(f"distil.{name}" for name in type(recipe.distil).model_fields)


def seed(recipe: Recipe, side: str) -> str:
    """The field with the seed that a stage of a model's own goes by."""
    model: ModelConfig | None = getattr(recipe, side)
    return f"{side}.seed" if model is not None and model.seed is not None else "seed"


def fresh_seed(recipe: Recipe, side: str) -> tuple[str, ...]:
    """The seed of random weights, where a stage that trains nothing loads them: a model without training of its own."""
    model: ModelConfig | None = getattr(recipe, side)
    if model is None or model.init != "fresh" or model.sft or model.pretrain:
        return ()
    return (seed(recipe, side),)


def data(recipe: Recipe, _: str) -> tuple[str, ...]:
    """Of the stage that reads the data; where rows that do not fit are set aside, whoever says so too."""
    if recipe.data.on_bad_row != "quarantine":
        return ROWS
    kinds = ("teacher.kind", "student.kind") if recipe.teacher else ("student.kind",)
    return (*ROWS, *ENCODE, *templates(recipe), *kinds, *_teachers(recipe), "evaluate.arms", "arms")


def templates(recipe: Recipe) -> tuple[str, ...]:
    """How the models of a recipe turn text into tokens."""
    sides = ("teacher", "student") if recipe.teacher else ("student",)
    seen = tuple(path for side in sides for path in SEEN[side])
    return (*(f"{side}.{name}" for side in sides for name in TEMPLATE), *seen)


def pair(recipe: Recipe, _: str) -> tuple[str, ...]:
    """Of the stage that checks whether data, models and method fit: of the method what it asks of the pair alone."""
    sides = ("teacher", "student") if recipe.teacher else ("student",)
    models = (*templates(recipe), *(f"{side}.{name}" for side in sides for name in ("kind", "config")))
    taught = ("teacher.sft?",) if recipe.teacher else ()
    taught += tuple(_trainings(recipe))
    asks = ("method", "divergence", "divergence_parameters", "on_policy", "adapt")
    asked = (f"distil.{name}" for name in asks if name in type(recipe.distil).model_fields)
    tasks = ("tasks?", "tasks.logits") if recipe.tasks else ("tasks?",)
    tasks += ("teacher.remote", "teacher.k", "teacher.tail") if recipe.served_teacher else ()
    models += ("student.from_teacher", "features")
    return (
        *ENCODE,
        *models,
        "teachers",
        *taught,
        *asked,
        *tasks,
        "candidates?",
        "seqkd.keep_gold",
        "evaluate.arms",
        "arms",
    )


def _trainings(recipe: Recipe) -> Iterator[str]:
    for side in ("teacher", "student"):
        for section in ("pretrain", "sft"):
            if getattr(getattr(recipe, side), section, None):
                yield f"{side}.{section}.lora"
                if section == "pretrain":
                    yield f"{side}.pretrain.max_length"
    yield "distil.lora"


def cut(recipe: Recipe, _: str) -> tuple[str, ...]:
    """Of a student that is cut from its teacher."""
    return ("student.from_teacher", *fresh_seed(recipe, "teacher"), *weights("teacher"), *ENCODE)


def pretrain(recipe: Recipe, argument: str) -> tuple[str, ...]:
    """Of continued pretraining."""
    side = side_of_model(argument)
    return (seed(recipe, side), *raw_weights(side), f"{side}.pretrain", "data.max_length")


def sft(recipe: Recipe, argument: str) -> tuple[str, ...]:
    """Of fine-tuning before distillation."""
    side = side_of_model(argument)
    taught: tuple[str, ...] = ("generate.teach",) if side == "teacher" and recipe.generate else ()
    taught += TEACH if taught and recipe.generate and recipe.generate.teach else ()
    return (seed(recipe, side), *weights(side), f"{side}.sft", *ENCODE, "evaluate.batch_size", *taught)


def generate(recipe: Recipe, _: str) -> tuple[str, ...]:
    """Of the texts that a teacher writes."""
    if not recipe.teacher_writes:
        return ("generate",)
    return ("generate", *fresh_seed(recipe, "teacher"), *teacher_weights(recipe), "evaluate.batch_size")


def answers(recipe: Recipe, _: str) -> tuple[str, ...]:
    """Of the teacher's own answers."""
    return (*fresh_seed(recipe, "teacher"), *teacher_weights(recipe), *ENCODE, "seqkd", "evaluate.batch_size")


def candidates(recipe: Recipe, _: str) -> tuple[str, ...]:
    """Of the answers that the teacher weighs."""
    asked = tuple(f"candidates.{name}" for name in ASKED)
    fresh = fresh_seed(recipe, "teacher")
    return (*asked, *fresh, *teacher_weights(recipe), *ENCODE, "seqkd.keep_unfinished", "evaluate.batch_size")


def cache(recipe: Recipe, _: str) -> tuple[str, ...]:
    """Of what the teacher says of the rows: of arms and method which rows these are, and at which temperature."""
    fields = ("teacher.cache", "evaluate.arms", "arms", "tasks", "seqkd.keep_gold", "distil.loss_temperature")
    student = (*(f"student.{name}" for name in TEMPLATE), *SEEN["student"])
    fresh = fresh_seed(recipe, "teacher")
    more = ("distil.method", *_teachers(recipe), *fresh)
    return (*fields, *more, *weights("teacher"), *student, "student.kind", *ENCODE)


def _teachers(recipe: Recipe) -> tuple[str, ...]:
    """Several teachers, where there are any: who is heard on which rows, and whose tokens rows have to fit."""
    return ("teachers",) if recipe.teachers else ()


def train(recipe: Recipe, argument: str) -> tuple[str, ...]:
    """Of the training of an arm."""
    arm = recipe.arm(argument)
    signal: tuple[str, ...] = STEPS
    if recipe.reads_signal(arm):
        signal = (*method(recipe), *said(recipe), "teacher.cache", "teachers", "features")
    tasks = ("tasks",) if arm.learns == "task_texts" else LEARNED if is_informed(recipe, argument) else ()
    tasks += ("candidates",) if arm.learns == "candidates" else ()
    if recipe.knowledge and is_informed(recipe, argument) and recipe.knowledge.in_prompt:
        tasks += SHOWN
    return ("seed", *weights("student"), *signal, *tasks, *ENCODE, "evaluate.batch_size")


def observer(recipe: Recipe, _: str) -> tuple[str, ...]:
    """Of the training of the observer."""
    return (
        *("seed", *weights("student"), *STEPS, "tasks.rationales", "generate.roles"),
        *(*ENCODE, "evaluate.batch_size"),
    )


def predict(recipe: Recipe, argument: str) -> tuple[str, ...]:
    """Of the answers to the held-out rows."""
    arm = recipe.arm(argument)
    if arm.learns == "task_texts":
        measured = (*EXPLAINED_FIELDS, "evaluate.resamples", "evaluate.confidence")
        return ("seed", *weights("student"), *ANSWERS, *measured)
    known: tuple[str, ...] = ("evaluate.constrained",)
    if is_informed(recipe, argument):
        known += ("knowledge",)
    side = arm.model or "student"
    # What a run trains for the arm has its weights; only untrained ones may be random here.
    if side == "student":
        fresh = ("seed",) if not arm.trained and recipe.student.init == "fresh" else ()
    else:
        fresh = fresh_seed(recipe, side)
    return (*fresh, *(teacher_weights(recipe) if side == "teacher" else weights(side)), *ANSWERS, *known)


def speed(recipe: Recipe, argument: str) -> tuple[str, ...]:
    """Of the measurement of time."""
    fresh = fresh_seed(recipe, "teacher") if argument == "teacher" else ()
    return (*fresh, *weights(argument), *ANSWERS, "evaluate.arms")


def side_of_model(argument: str) -> str:
    """Whose own training a stage is: an arm of a recipe's own has a student of its own."""
    return "teacher" if argument == "teacher" else "student"
