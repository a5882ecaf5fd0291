"""Embedded data sets: written by the project, generated deterministically, usable offline.

| name                       | what it holds                                                        |
|----------------------------|----------------------------------------------------------------------|
| `embedded:telecom`         | questions of four kinds, few with answers                            |
| `embedded:telecom-choices` | multiple choice with answers, to be explained                        |
| `embedded:telecom-spans`   | questions on passages that hold the answer, or do not                |
| `embedded:telecom-passages`| questions, and the passages that are to be found for them           |
| `embedded:constellations`  | pictures of symbols that were received, with questions on them       |
| `embedded:digits`          | handwritten digits that come with scikit-learn, with their labels    |
| `embedded:spoken`          | commands that espeak-ng speaks, to be written down                   |
| `embedded:bundles`         | sessions of two invented shops, with bundles                         |
| `embedded:bundles-office`  | those of the one                                                     |
| `embedded:bundles-outdoor` | those of the other                                                   |
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from understudy.errors import ConfigError
from understudy.recipe import DataConfig
from understudy.types import Splits

PREFIX = "embedded:"
NAMES = (
    "telecom",
    "telecom-choices",
    "telecom-spans",
    "telecom-passages",
    *("constellations", "digits", "spoken"),
    "bundles",
    "bundles-office",
    "bundles-outdoor",
)
_FIELDS = ("dev", "test", "format", "group_by", "catalogue", "published_split")


def load_embedded(config: DataConfig) -> Splits:
    """The rows of an embedded set.

    Raises:
        ConfigError: there is no such set, or the recipe wants to cut or read it in a way of its own.
    """
    name = config.source.removeprefix(PREFIX)
    if name not in NAMES:
        known = ", ".join(f"{PREFIX}{name_of_set}" for name_of_set in NAMES)
        raise ConfigError(f"unknown embedded data set {config.source!r}", hint=f"known: {known}")
    own = DataConfig()
    moved = [field for field in _FIELDS if getattr(config, field) != getattr(own, field)]
    moved += [f"{role}_source" for role in ("dev", "test", "unlabelled") if getattr(config, f"{role}_source")]
    if moved:
        raise ConfigError(
            f"{config.source} has its own splits; data.{moved[0]} does not apply to it",
            hint="leave the field out, or bring your own data.source",
        )
    make = _generator(name, config.limit)
    # Each generator has a gold share of its own, made for its facts; the recipe's default would override it.
    share = config.gold_share
    splits = make(seed=config.seed) if share is None else make(gold_share=share, seed=config.seed)
    if config.limit is None:
        return splits
    limit = config.limit
    return Splits(
        splits.train[:limit], splits.unlabelled[:limit], splits.dev[:limit], splits.test[:limit], splits.notes
    )


def _generator(name: str, limit: int | None) -> Callable[..., Splits]:
    """What makes a set of this name out of `gold_share` and `seed`; what takes time to make is made up to `limit`."""
    if name.startswith("bundles"):
        from understudy.data.embedded import bundles

        shop = name.removeprefix("bundles").removeprefix("-")
        return partial(bundles.generate, domains=(shop,)) if shop else bundles.generate
    if name == "digits":
        from understudy.data.embedded import digits

        return digits.generate
    if name == "spoken":
        from understudy.data.embedded import spoken

        return partial(spoken.generate, limit=limit)
    if name == "constellations":
        from understudy.data.embedded import constellations

        return constellations.generate
    from understudy.data.embedded.telecom import generate, generate_choices, generate_passages, generate_spans

    return {
        "telecom": generate,
        "telecom-choices": generate_choices,
        "telecom-spans": generate_spans,
        "telecom-passages": generate_passages,
    }[name]
