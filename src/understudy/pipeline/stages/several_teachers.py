"""The gate of several teachers: what each gives and reads, and a teacher for every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from understudy.errors import ConfigError, VocabularyMismatch
from understudy.files import read_json
from understudy.models.architecture import kind_at
from understudy.models.load import load_template, resolve
from understudy.recipe import KdConfig, OtherTeacherConfig, Recipe
from understudy.recipe.teacher import CacheConfig
from understudy.recipe.teachers import FIRST
from understudy.teachers.cache.cached import check_temperature
from understudy.teachers.cache.identity import FILE, stored_format, tokenizer_identity
from understudy.teachers.ensemble import Ensemble, shares_of
from understudy.teachers.remote import RemoteTeacher
from understudy.tokens.compatibility import compare_vocabularies
from understudy.tokens.template import Template
from understudy.types import Example, Gives


def heard_together(recipe: Recipe, teacher: Template, rows: Mapping[str, Sequence[Example]], gives: Gives) -> Gives:
    """What `teacher` gives with those that are part of its mean; what it gives itself where nobody is.

    Args:
        recipe: of the run.
        teacher: tokenizer of the recipe's own, which all of them read by.
        rows: of each role.
        gives: what the recipe's own gives.

    Raises:
        ConfigError: one of them gives no distribution over a vocabulary, or less of it than this mean needs.
        VocabularyMismatch: one of them has another vocabulary.
        RunError: no teacher is heard on a row; it is named. Or a folder is no cache.
    """
    if recipe.teachers is None:
        return gives
    _check_answers(recipe, rows)
    learned = [example for role in ("train", "unlabelled") for example in rows.get(role, ())]
    shares_of(recipe.teachers, learned)([example.id for example in learned])
    if not recipe.teachers.averaged:
        return gives
    each = {FIRST: gives}
    for name, other in recipe.teachers.averaged.items():
        check = _check_cached if other.cache is not None else _check_served if other.remote else _check_model
        each[name] = check(recipe, f"teachers.others.{name}", other, teacher)
    partial = [name for name, own in each.items() if Gives.EVERY_COLUMN not in own]
    if partial:
        _check_partial(recipe, partial[0])
        return Gives.TOP_K
    return gives & Ensemble.can_give


def _check_partial(recipe: Recipe, name: str) -> None:
    """Refuse means, methods and temperatures where one teacher tells a part, wherever it stands."""
    method, gives = recipe.distil, f"teachers: {name} gives its likeliest tokens and the mass of all others"
    assert recipe.teachers is not None
    if why := recipe.teachers.why_not("topk"):
        raise ConfigError(f"{gives}, and {why}")
    if method.method != KdConfig.model_fields["method"].default:
        raise ConfigError(
            f"{gives}; which tokens of the mean are the likeliest is not known, and distil.method {method.method} "
            "needs to know",
            hint="take distil.method: kd, or states of every teacher",
        )
    if method.temperature != 1:
        raise ConfigError(
            f"{gives} at temperature 1, where the mean is taken; what lies in its tail at {method.temperature:g} does "
            "not follow",
            hint="take distil.loss_temperature: 1, or states of every teacher",
        )


def heard_alone(recipe: Recipe, name: str) -> tuple[Recipe, Gives]:
    """The recipe in which a teacher whose loss is added is the only one, and what that one gives.

    Args:
        recipe: of the run.
        name: of `recipe.teachers.added`.

    Raises:
        RunError: its folder is no cache, or has not the temperature of its method.
        VocabularyMismatch: its folder was written with another tokenizer.
    """
    assert recipe.teachers is not None
    other, alone = recipe.teachers.added[name], recipe.taught_by(name)
    teacher = alone.local_teacher
    if other.remote:
        _check_temperature_of_server(name, other, alone)
        return alone, RemoteTeacher.can_give
    folder = cache_of(other)
    if folder is None:
        return alone, kind_at(teacher, resolve(teacher.model)).gives
    targets = stored_format(folder)
    _check_tokenizer(f"the cache {folder}", folder, load_template(teacher), "its tokenizer")
    check_temperature(folder, targets, alone.distil.temperature)
    cache = CacheConfig.model_validate({"targets": targets.kind})
    return alone.model_copy(update={"teacher": teacher.model_copy(update={"cache": cache})}), targets.gives


def _check_temperature_of_server(name: str, other: OtherTeacherConfig, alone: Recipe) -> None:
    if other.tail == "bucket" and alone.distil.temperature != 1:
        raise ConfigError(
            f"distil.loss_temperature {alone.distil.temperature:g}: the server of teachers.others.{name} gives its "
            "likeliest tokens at temperature 1, and what the others have together at another does not follow",
            hint="leave it at 1, or set tail: renormalise, which leaves the others out and is biased",
        )


def _check_answers(recipe: Recipe, rows: Mapping[str, Sequence[Example]]) -> None:
    """Refuse a cache from elsewhere for answers that `teacher` writes in this run: it cannot hold them."""
    assert recipe.teachers is not None
    cached = [name for name, other in recipe.teachers.others.items() if other.cache is not None]
    arms = [arm.name for arm in recipe.trained_arms if arm.reads_signal and arm.learns == "gold_and_teacher_text"]
    if cached and arms and rows.get("unlabelled"):
        raise ConfigError(
            f"{arms[0]} learns answers that teacher writes in this run, and the cache of teachers.others.{cached[0]} "
            "holds gold answers",
            hint="give its model, or train the arm kd_gold alone, or a student on fully labelled data",
        )


def _check_model(recipe: Recipe, place: str, other: OtherTeacherConfig, teacher: Template) -> Gives:
    gives = kind_at(other.loaded_as, resolve(other.loaded_as.model)).gives
    own = load_template(other.loaded_as).candidates
    if own != teacher.candidates:
        raise ConfigError(
            f"{place} gives a distribution over {own}, and teacher one over {teacher.candidates}",
            hint="a mean is one of teachers of one kind",
        )
    _check_vocabulary(place, other, teacher)
    return gives


def _check_served(recipe: Recipe, place: str, other: OtherTeacherConfig, teacher: Template) -> Gives:
    assert recipe.teachers is not None
    if why := recipe.teachers.why_not("topk"):
        raise ConfigError(f"{place}: a server gives its likeliest tokens: {why}")
    _check_vocabulary(place, other, teacher)
    return RemoteTeacher.can_give


def _check_vocabulary(place: str, other: OtherTeacherConfig, teacher: Template) -> None:
    config = other.loaded_as
    vocabularies = compare_vocabularies(load_template(config).tokenizer, teacher.tokenizer)
    if vocabularies.difference:
        own, first = vocabularies.tokens
        raise VocabularyMismatch(
            f"{place} has another vocabulary than teacher: {own:,} and {first:,} tokens, {vocabularies.same:,} of them "
            "the same under the same id",
            hint="a mean needs one vocabulary; with a method of its own (`distil`) the teacher's loss is added",
        )


def _check_cached(recipe: Recipe, place: str, other: OtherTeacherConfig, teacher: Template) -> Gives:
    folder = cache_of(other)
    assert folder is not None
    assert recipe.teachers is not None
    targets = stored_format(folder)
    if why := recipe.teachers.why_not(targets.kind):
        raise ConfigError(f"{place}: the cache {folder} keeps targets {targets.kind}: {why}")
    _check_tokenizer(f"{place}: the cache {folder}", folder, teacher, "teacher")
    check_temperature(folder, targets, 1.0)
    return targets.gives


def _check_tokenizer(place: str, folder: Path, template: Template, whose: str) -> None:
    bound, own = read_json(folder / FILE)["teacher"], tokenizer_identity(template)
    other_than = [name for name in own if bound.get(name) != own[name]]
    if other_than:
        raise VocabularyMismatch(
            f"{place} was written with another {' and '.join(other_than)} than {whose} has",
            hint="a cache is found by the tokens that its teacher read",
        )


def cache_of(other: OtherTeacherConfig) -> Path | None:
    """The folder of a teacher that is read from disk."""
    return Path(other.cache).expanduser() if other.cache is not None else None


def other_teachers(recipe: Recipe) -> set[Path]:
    """Folders and files of the further teachers; of a cache what it is bound to, for rows may come to it."""
    others = list(recipe.teachers.others.values()) if recipe.teachers else []
    names = [name for o in others for name in (None if o.remote else o.model, o.tokenizer) if name is not None]
    models = {Path(resolve(name)) for name in names}
    return models | {folder / FILE for other in others if (folder := cache_of(other)) is not None}
