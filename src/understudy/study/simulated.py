"""Raters that are no people: answers with a known bias, to try a study and its analysis before anybody is asked.

Ratings are those of `planning.rating_model`, with the spread and the habits of the explanation study's raters. A
rater's opinion of an explanation is common to all constructs in part, so that constructs hang together. Whatever is
made here says of itself, in every row and on every page, that it is simulated.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from understudy.errors import ConfigError, listed
from understudy.files import atomic, whole_folder
from understudy.study.config import HIGHEST, LOWEST
from understudy.study.folder import Study
from understudy.study.rating_model import RatingModel, rating_model

_MEAN, _SD, _RATER_SHARE = 3.9, 1.0, 0.33
_COMMON = 0.6
"""Share of a rater's habit, and of the opinion of one explanation, that all constructs have in common."""
_FORESEEN = 0.6
_SECONDS = 40.0


@dataclass(frozen=True, slots=True)
class Bias:
    """What simulated raters think.

    Attributes:
        effects: (method, construct) -> by how many points its ratings lie above the others'; construct `*` is all.
        length: points for each 100 characters more than the mean.
        inattentive: share of raters who give one value to everything and fail the checks.
        unfinished: share of raters who leave half way.
    """

    effects: Mapping[tuple[str, str], float] = field(default_factory=dict)
    length: float = 0.0
    inattentive: float = 0.0
    unfinished: float = 0.0


def parse_effects(texts: Sequence[str], study: Study) -> dict[tuple[str, str], float]:
    """`METHOD=POINTS` or `METHOD:CONSTRUCT=POINTS` -> effects.

    Raises:
        ConfigError: no such method or construct, or no number.
    """
    effects = {}
    constructs = [construct.name for construct in study.config.constructs]
    for text in texts:
        name, _, points = text.rpartition("=")
        method, _, construct = name.partition(":")
        if method not in study.config.methods or (construct and construct not in constructs):
            raise ConfigError(
                f"{text!r} names no method or construct of the study",
                hint=f"METHOD=POINTS or METHOD:CONSTRUCT=POINTS; methods: {listed(study.config.methods)}; "
                f"constructs: {listed(constructs)}",
            )
        try:
            effects[method, construct or "*"] = float(points)
        except ValueError:
            raise ConfigError(f"{text!r}: {points!r} is no number of points") from None
    return effects


def simulate(study: Study, bias: Bias, seed: int, folder: Path) -> list[Path]:
    """Write the answers of simulated raters, in the form of an export.

    Args:
        study: whose places are filled.
        bias: what the raters think.
        seed: of everything.
        folder: where the tables go; one of earlier simulated raters is replaced.

    Raises:
        ConfigError: an effect that would leave the scale.
        RunError: the folder cannot be written.
    """
    rng = np.random.default_rng([seed, 11])
    slots = list(study.slots)
    lazy = rng.random(len(slots)) < bias.inattentive
    leaves = rng.random(len(slots)) < bias.unfinished
    seats = [
        (rater, seat)
        for rater, slot in enumerate(slots)
        for seat in study.slots[slot][: -(-study.config.per_rater // 2) if leaves[rater] else None]
    ]
    tables = {"raters": _raters(slots, lazy, leaves, study)}
    if study.config.pairwise:
        tables["pairs"] = _pairs(seats, study, bias, rng)
    else:
        tables["ratings"] = _ratings(seats, lazy, study, bias, rng)
    if study.config.simulation:
        tables["simulation"] = _foresight(seats, study, rng)
    if folder.exists():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    with whole_folder(folder) as part:
        for name, rows in tables.items():
            _write(part / f"{name}.csv", rows)
    return [folder / f"{name}.csv" for name in tables]


def _raters(slots: Sequence[int], lazy: np.ndarray, leaves: np.ndarray, study: Study) -> list[dict[str, Any]]:
    return [
        {
            "rater": _name(number),
            "slot": slot,
            "status": "left" if leaves[number] else "finished",
            "excluded": False,
            "reason": "",
            "attention_passed": 0 if lazy[number] else study.config.attention_checks,
            "attention_failed": study.config.attention_checks if lazy[number] else 0,
        }
        for number, slot in enumerate(slots)
    ]


def _name(number: int) -> str:
    return f"simulated-{number:04d}"


def _ratings(
    seats: Sequence[tuple[int, Any]], lazy: np.ndarray, study: Study, bias: Bias, rng: np.random.Generator
) -> list[dict[str, Any]]:
    raters, n = np.array([rater for rater, _ in seats]), len(seats)
    lengths = np.array([study.items[seat.item].methods[seat.method].length for _, seat in seats], dtype=np.float64)
    habit, opinion = rng.standard_normal(len(lazy)), rng.standard_normal(n)
    one_value = rng.integers(LOWEST, HIGHEST + 1, len(lazy))
    seconds = rng.gamma(4.0, _SECONDS / 4, n)
    rows = []
    for construct in study.config.constructs:
        model = _model(study, bias, construct.name)
        own_habit, own_opinion = rng.standard_normal(len(lazy)), rng.standard_normal(n)
        latent = np.sqrt(model.latent_share) * _mixed(habit, own_habit)[raters]
        latent += np.sqrt(1 - model.latent_share) * _mixed(opinion, own_opinion)
        latent += np.array([model.shifts[model.methods.index(seat.method)] for _, seat in seats])
        latent += bias.length * (lengths - lengths.mean()) / 100 / _slope(model)
        ratings = np.where(lazy[raters], one_value[raters], model.rating_of(latent))
        for place, (rater, seat) in enumerate(seats):
            row = {"rater": _name(rater), "item": seat.item, "method": seat.method, "construct": construct.name}
            row |= {"rating": int(ratings[place]), "position": seat.position}
            rows.append(row | {"seconds": round(float(seconds[place]), 1), "length": int(lengths[place])})
    return rows


def _mixed(common: np.ndarray, own: np.ndarray) -> np.ndarray:
    return np.sqrt(_COMMON) * common + np.sqrt(1 - _COMMON) * own


def _model(study: Study, bias: Bias, construct: str) -> RatingModel:
    effects = [
        bias.effects.get((method, construct), bias.effects.get((method, "*"), 0.0)) for method in study.config.methods
    ]
    # A method alone is compared with itself, so that the model has two.
    means = [_MEAN + effect for effect in effects] + ([_MEAN] if len(effects) == 1 else [])
    if not all(LOWEST < mean < HIGHEST for mean in means):
        raise ConfigError(
            f"an effect takes the mean of {construct} out of {LOWEST} to {HIGHEST}", hint=f"means are near {_MEAN}"
        )
    names = [*study.config.methods, "-"][: len(means)]
    return rating_model(means, float(np.hypot(_SD, np.std(means))), _RATER_SHARE, methods=names)


def _slope(model: RatingModel, step: float = 0.05) -> float:
    """Points of the rating for one unit of the latent value, at its mean."""
    from scipy.special import ndtr

    up, down = (ndtr(shift - model.cuts).sum() for shift in (step, -step))
    return float((up - down) / (2 * step))


def _pairs(
    seats: Sequence[tuple[int, Any]], study: Study, bias: Bias, rng: np.random.Generator
) -> list[dict[str, Any]]:
    rows = []
    for rater, seat in seats:
        texts = study.items[seat.item].methods
        lead = bias.effects.get((seat.first, "*"), 0.0) - bias.effects.get((seat.second, "*"), 0.0)
        lead += bias.length * (texts[seat.first].length - texts[seat.second].length) / 100
        # A logistic choice between two opinions of the ratings' own spread.
        first = rng.random() < 1 / (1 + np.exp(-lead * np.pi / np.sqrt(6) / _SD))
        row = {"rater": _name(rater), "item": seat.item, "first": seat.first, "second": seat.second}
        rows.append(row | {"preferred": seat.first if first else seat.second, "position": seat.position, "seconds": ""})
    return rows


def _foresight(seats: Sequence[tuple[int, Any]], study: Study, rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for rater, seat in seats:
        item = study.items[seat.item]
        answer = item.methods[seat.method].answer
        right = bool(rng.random() < _FORESEEN)
        others = [choice for choice in item.choices if choice != answer] or ["something else"]
        predicted = answer if right else str(rng.choice(others))
        row = {"rater": _name(rater), "item": seat.item, "method": seat.method, "predicted": predicted}
        rows.append(row | {"model_answer": answer, "correct": right, "position": seat.position})
    return rows


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    out = io.StringIO()
    marked = [{**row, "simulated": True} for row in rows]
    writer = csv.DictWriter(out, list(marked[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(marked)
    with atomic(path) as handle:
        handle.write(out.getvalue())
