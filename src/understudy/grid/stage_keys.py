"""What a stage is: the recipe fields that can change it, the files they name, and the stages it is made from.

Two cells share a stage where these agree. Each field is declared once, here; a test changes all *other* fields and
sees that a stage gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from understudy.files import fingerprint, fingerprint_file, fingerprint_folder, fingerprint_tree
from understudy.pipeline.scheduler import Stage, side_of
from understudy.recipe import DataConfig, DistilConfig, ModelConfig, Recipe, TrainConfig

ENCODE = ("data.system", "data.max_length", "data.max_answer_tokens", "data.context_overflow")
"""How a row becomes token ids."""
ROWS = tuple(
    f"data.{name}" for name in DataConfig.model_fields if f"data.{name}" not in ENCODE and name != "password_env"
)
"""Which rows there are, and in which split."""
TEMPLATE = ("model", "tokenizer", "chat_template", "revision", "trust_remote_code")
WEIGHTS = tuple(name for name in ModelConfig.model_fields if name not in ("pretrain", "sft"))
STEPS = tuple(f"distil.{name}" for name in TrainConfig.model_fields)
METHOD = tuple(f"distil.{name}" for name in DistilConfig.model_fields)
ANSWERS = (*ENCODE, "evaluate.batch_size", "evaluate.rows")

TEACH = tuple(f"generate.{name}" for name in ("demonstrations", "steps", "own_steps", "prompts", "seed"))
"""What decides which texts the teacher itself is fine-tuned on."""
EXPLAINED = ("tasks", "evaluate.simulatability", "evaluate.judge", "evaluate.embedding_model")

FILES = (
    *("source", "dev_source", "test_source", "unlabelled_source", "model", "tokenizer"),
    *("recorded", "demonstrations", "prompts", "own_steps"),
)
"""Last parts of the fields that may name a file or a folder; what stands in it belongs to a stage's identity."""


def reads(stage: str, recipe: Recipe) -> tuple[str, ...]:
    """The fields that can change a stage, beside those of the stages it is made from.

    Args:
        stage: its name.
        recipe: decides for fresh weights alone: only they depend on the seed before anything is trained.
    """
    kind, _, arm = stage.partition("-")
    side = (
        "teacher" if stage.startswith("teacher") or arm == "teacher" or kind in ("answers", "generate") else "student"
    )
    weights = tuple(f"{side}.{name}" for name in WEIGHTS)
    model = getattr(recipe, side_of(stage) or "student")
    seed = f"{side}.seed" if side_of(stage) and model and model.seed is not None else "seed"
    fresh = (seed,) if _fresh(stage, side, recipe) else ()
    if kind == "data":
        return ROWS
    if kind == "pair":
        sides = ("teacher", "student") if recipe.teacher else ("student",)
        templates = (f"{model}.{name}" for model in sides for name in TEMPLATE)
        return (*ENCODE, *templates, *METHOD, "evaluate.arms", "tasks")
    if kind in ("teacher_pretrain", "student_pretrain"):
        return (seed, *weights, f"{side}.pretrain", "data.max_length")
    if kind in ("teacher_sft", "student_sft"):
        taught: tuple[str, ...] = ("generate.teach",) if side == "teacher" and recipe.generate else ()
        taught += TEACH if taught and recipe.generate and recipe.generate.teach else ()
        return (seed, *weights, f"{side}.sft", *ENCODE, "evaluate.batch_size", *taught)
    if kind == "generate":
        own = (*fresh, *weights, "evaluate.batch_size") if recipe.teacher_writes else ()
        return ("generate", *own)
    if kind == "answers":
        return (*fresh, *weights, *ENCODE, "seqkd", "evaluate.batch_size")
    if kind == "train":
        if arm in ("explained", "observer"):
            logits = recipe.tasks is not None and recipe.tasks.logits and arm == "explained"
            learned = (*METHOD, *(f"teacher.{name}" for name in WEIGHTS)) if logits else STEPS
            tasks = ("tasks",) if arm == "explained" else ("tasks.rationales", "generate.roles")
            return ("seed", *weights, *learned, *tasks, *ENCODE, "evaluate.batch_size")
        gold = arm in ("sft", "seqkd")
        teacher = () if gold else tuple(f"teacher.{name}" for name in WEIGHTS)
        return ("seed", *weights, *(STEPS if gold else METHOD), *teacher, *ENCODE, "evaluate.batch_size")
    if stage == "predict-explained":
        return ("seed", *weights, *ANSWERS, *EXPLAINED, "evaluate.resamples", "evaluate.confidence")
    if kind == "predict":
        return (*fresh, *weights, *ANSWERS)
    if kind == "speed":
        return (*fresh, *weights, *ANSWERS, "evaluate.arms")
    raise ValueError(f"no fields are declared for the stage {stage}")


def _fresh(stage: str, side: str, recipe: Recipe) -> bool:
    """Whether a stage that trains nothing loads random weights."""
    model: ModelConfig | None = getattr(recipe, side)
    if model is None:
        return False
    trained = model.sft or model.pretrain
    if stage == "predict-base_student":
        return model.init == "fresh"
    if side == "student":
        return False
    return model.init == "fresh" and not trained


def shared(stage: str) -> bool:
    """Whether a stage may belong to several cells; the report reads the whole recipe and is each cell's own."""
    return stage != "report"


def keys(recipe: Recipe, plan: Sequence[Stage], contents: Mapping[str, str], *, processes: int = 1) -> dict[str, str]:
    """Stage name → key, for every stage of a plan that may be shared.

    Args:
        recipe: of the cell.
        plan: its stages, in order of need.
        contents: what a file or folder holds, as `contents_of` gives it.
        processes: of a training stage; it multiplies the batch.
    """
    found: dict[str, str] = {}
    fields = recipe.identity()
    for stage in plan:
        if not shared(stage.name):
            continue
        values = {path: _at(fields, path) for path in reads(stage.name, recipe)}
        named = sorted({name for path, value in values.items() for name in _names(path, value) if name in contents})
        made = {"stage": stage.name, "fields": values, "files": {name: contents[name] for name in named}}
        if "extensions" in fields:
            made["extensions"] = fields["extensions"]
        made["needs"] = {need: found[need] for need in stage.needs}
        if stage.distributed and processes > 1:
            made["processes"] = processes
        found[stage.name] = fingerprint(made, length=12)
    return found


def _at(fields: Any, path: str) -> Any:
    for part in path.split("."):
        fields = fields[part]
    return fields


def _names(path: str, value: Any) -> Iterator[str]:
    """Files and folders that a field names, within a section too."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _names(f"{path}.{name}", inner)
    elif path.rpartition(".")[2] in FILES:
        yield from [value] if isinstance(value, str) else value if isinstance(value, list) else ()


def files_of(recipe: Recipe) -> set[str]:
    """Everything a recipe names that may be a file or a folder."""
    fields = recipe.model_dump(mode="json")
    parts = ("data", "teacher", "student", "generate")
    return {name for part in parts for name in _names(part, fields[part])} | set(recipe.extensions)


def contents_of(name: str) -> str | None:
    """A fingerprint of the file or folder; None where there is none (a hub id, an embedded model)."""
    path = Path(name).expanduser()
    if path.is_file():
        return fingerprint_file(path)
    if path.is_dir():
        return fingerprint_folder(path) if (path / "config.json").is_file() else fingerprint_tree(path)
    return None
