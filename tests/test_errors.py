"""The error tree: what the docstring draws is what there is, and an error survives the way between processes."""

import pickle
import re

import pytest

from understudy import errors
from understudy.errors import (
    DataError,
    RunError,
    TeacherError,
    UnderstudyError,
    VocabularyMismatch,
    did_you_mean,
    listed,
    unknown,
)


def classes() -> set[type[UnderstudyError]]:
    return {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, UnderstudyError)}


def drawn() -> dict[str, int]:
    """Name to depth, as the docstring draws them."""
    picture = (errors.__doc__ or "").split("```text\n")[1].split("```")[0]
    found = [re.match(r"([ │├└─]*)(\w+)", line) for line in picture.splitlines()]
    return {match[2]: len(match[1]) // 4 for match in found if match}


def test_the_docstring_draws_every_class_at_its_depth() -> None:
    depth = {kind.__name__: len(kind.__mro__) - len(UnderstudyError.__mro__) for kind in classes()}
    assert drawn() == depth


@pytest.mark.parametrize("kind", sorted(classes(), key=lambda kind: kind.__name__))
def test_an_error_comes_home_whole_from_another_process(kind: type[UnderstudyError]) -> None:
    error = kind("what [went] wrong", hint="what to do")
    home = pickle.loads(pickle.dumps(error))
    assert (type(home), home.message, home.hint, str(home)) == (kind, error.message, error.hint, str(error))


def test_retryable_comes_home_too() -> None:
    assert pickle.loads(pickle.dumps(TeacherError("slow down", retryable=True))).retryable is True


def test_text_has_the_hint_in_brackets_only_if_there_is_one() -> None:
    assert str(DataError("no rows")) == "no rows"
    assert str(RunError("no room", hint="make some")) == "no room (make some)"


def test_a_vocabulary_mismatch_is_a_model_error() -> None:
    assert issubclass(VocabularyMismatch, errors.ModelError)


def test_an_unknown_name_is_met_with_the_nearest_and_with_all() -> None:
    error = unknown("metric", "rougel", ["bleu", "rougeL"], where="evaluate.metrics", hint="or register yours")
    assert error.message == "evaluate.metrics: there is no metric 'rougel'"
    assert error.hint == "did you mean `rougeL`? known: bleu, rougeL; or register yours"
    assert unknown("metric", "zzz", ["bleu"]).hint == "known: bleu"


def test_advice_in_a_line_has_the_nearest_or_all() -> None:
    assert did_you_mean("temprature", ["steps", "loss_temperature"]) == "did you mean `loss_temperature`?"
    assert did_you_mean("zzz", ["steps", "epochs"]) == "known here: steps, epochs"


def test_a_list_of_a_users_names_is_cut() -> None:
    assert listed([]) == "none"
    assert listed(["a", "", 2]) == "a, 2"
    assert listed(["a", "b"], separator=" and ") == "a and b"
    assert listed("abcd", most=4) == "a, b, c, d"
    assert listed("abcde", most=4) == "a, b, c, d … and 1 more"
    assert listed(["x" * 61, "y" * 60]) == f"{'x' * 59}…, {'y' * 60}"
    names = [f"{'k' * 100}{n}" for n in range(10_000)]
    assert len(listed(names)) < 800
    assert len(str(unknown("field", "k" * 100_000, names))) < 5000
    assert len(did_you_mean("zzz", names)) < 3000
