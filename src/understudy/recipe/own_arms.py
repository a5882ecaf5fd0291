"""Arms that a recipe declares itself: the recipe by which each of them is trained."""

from __future__ import annotations

from understudy.arms import INFORMED
from understudy.errors import ConfigError
from understudy.recipe import fields
from understudy.recipe.candidates import ASKED
from understudy.recipe.recipe import LIKE, Recipe


def for_arm(recipe: Recipe, arm: str) -> Recipe:
    """The recipe by which an arm is trained and evaluated: the run's own, with the fields in which the arm differs.

    Args:
        recipe: the run's.
        arm: any name; all but the arms of the recipe's own are trained by the recipe as it stands.

    Raises:
        ConfigError: the arm names a field that no recipe has.
        ValidationError: a field of the arm has a bad value.
    """
    if arm not in recipe.arms:
        return recipe
    value = recipe.model_dump(mode="json")
    for path, new in recipe.arms[arm].items():
        if path == LIKE:
            continue
        if not fields.is_known(path):
            near = fields.nearest(path)
            hint = f"did you mean `{near}`?" if near else "`understudy init --full` lists the fields"
            raise ConfigError(f"arms.{arm}: no field `{path}`", hint=hint)
        value = fields.put(value, path, new)
    return recipe.revised(value)


def has_own_student(recipe: Recipe, arm: str) -> bool:
    """Whether an arm starts from another student than the run's, which then needs its own fine-tuning."""
    return for_arm(recipe, arm).student != recipe.student


def has_own_answers(recipe: Recipe, arm: str) -> bool:
    """Whether an arm asks the teacher for other answers than the run does."""
    return for_arm(recipe, arm).seqkd != recipe.seqkd


def has_own_candidates(recipe: Recipe, arm: str) -> bool:
    """Whether an arm asks the teacher for other candidates than the run does."""
    own, run = for_arm(recipe, arm), recipe
    answers = [value.candidates and value.candidates.model_dump(include=set(ASKED)) for value in (own, run)]
    return answers[0] != answers[1] or (own.seqkd.keep_unfinished, run.seqkd.keep_unfinished).count(True) == 1


def is_informed(recipe: Recipe, arm: str) -> bool:
    """Whether an arm uses what is known of sessions, trained or not."""
    return (recipe.likes.get(arm, arm) if arm in recipe.arms else arm) == INFORMED.name
