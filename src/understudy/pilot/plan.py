"""How much of the data, how often, on how many test rows and seeds: what fits into the time.

Everything begins small. Rows, passes and test rows grow in turn for as long as the whole fits, and then seeds: what a
second seed would add to few rows, more rows add better. Three amounts are trained, a quarter, a half and all of the
chosen rows, each row as often at one amount as at another.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from understudy.errors import ConfigError
from understudy.inspection.time_estimate import in_time
from understudy.pilot.probe import Rates, Sizes
from understudy.recipe import Recipe, TrainConfig

FRACTIONS = (0.25, 0.5, 1.0)
NUM_ARMS = 3
EVALUATIONS = 3
"""Times that a training answers development rows."""
MOST_EPOCHS, MOST_SEEDS, DEV_ROWS = 3, 3, 50
LEAST_ROWS, LEAST_TEST = 64, 50
GROWTH = 1.5
SAFETY = 0.85
"""Share of the time that is planned for: steps and answers are measured for seconds and run for minutes."""


@dataclass(frozen=True)
class Design:
    """What is run: rows of the largest amount, passes over them, test rows, development rows, seeds."""

    rows: int
    epochs: int
    test_rows: int
    dev_rows: int
    seeds: int


@dataclass(frozen=True)
class Plan:
    """A design with what it is expected to take.

    Attributes:
        design: what is run.
        sizes: of the data.
        rates: as they were measured.
        batch_size: rows of a step.
        seconds: of all of it.
        parts: the same by kind of work.
    """

    design: Design
    sizes: Sizes
    rates: Rates
    batch_size: int
    seconds: float
    parts: dict[str, float]

    @property
    def share(self) -> float:
        """Share of the rows that the largest amount is."""
        return self.design.rows / self.sizes.learned

    @property
    def amounts(self) -> tuple[int, ...]:
        """Rows of each amount, on average."""
        return tuple(max(1, round(self.design.rows * fraction)) for fraction in FRACTIONS)

    @property
    def steps(self) -> tuple[int, ...]:
        """Optimiser steps at each amount."""
        return tuple(steps_of(rows, self.batch_size, self.design.epochs) for rows in self.amounts)

    def to_json(self) -> dict[str, Any]:
        """As `pilot_plan.json` has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Plan:
        """Read it back."""
        kinds = {"design": Design, "sizes": Sizes, "rates": Rates}
        return cls(**{name: kinds[name](**value) if name in kinds else value for name, value in row.items()})


def steps_of(rows: float, batch_size: int, epochs: float) -> int:
    """Optimiser steps of so many passes."""
    return max(1, math.ceil(math.ceil(rows / batch_size) * epochs))


def teacher_steps(config: TrainConfig | None, gold: float, share: float) -> int:
    """Steps of the teacher's fine-tuning on a share of the data: it too reads each row as often at every amount.

    Args:
        config: of the full run; None where the teacher stays as it came.
        gold: rows with an answer at that share.
        share: of the rows that there are.
    """
    if config is None:
        return 0
    if config.steps is not None:
        return max(1, math.ceil(config.steps * share))
    return steps_of(gold, config.batch_size, config.epochs)


def parts_of(design: Design, sizes: Sizes, rates: Rates, recipe: Recipe) -> dict[str, float]:
    """Seconds of a design by kind of work, shared out among the workers.

    With f an amount, S seeds and M test rows: training `S · Σ_f steps_f · (2 · sft + method)`; answers of students
    `S · 3 · 3 · (M + 3 · dev)` and of teacher and base student M an amount; the teacher's fine-tuning once an amount,
    for its seed stays; its answers to the questions of each amount.
    """
    batch, kinds = recipe.distil.batch_size, len(FRACTIONS)
    rows = [design.rows * fraction for fraction in FRACTIONS]
    steps = sum(steps_of(count, batch, design.epochs) for count in rows)
    gold, tuning = sizes.train / sizes.learned, recipe.local_teacher.sft
    asked = sum(rows) * (1 if not recipe.seqkd.keep_gold else 1 - gold)
    tuned = sum(teacher_steps(tuning, count * gold, count / sizes.learned) for count in rows)
    dev = EVALUATIONS * design.dev_rows
    trained = design.seeds * NUM_ARMS * kinds
    stages = kinds * (5 + bool(tuning)) + design.seeds * kinds * 2 * NUM_ARMS
    parts = {
        "training": design.seeds * steps * (2 * rates.sft_step + rates.method_step),
        "fine-tuning the teacher": tuned * rates.teacher_step + kinds * bool(tuning) * dev * rates.teacher_answer,
        "the teacher's answers": asked * rates.teacher_answer,
        "development": trained * dev * rates.student_answer,
        "test": design.test_rows * ((trained + kinds) * rates.student_answer + kinds * rates.teacher_answer),
        "starting stages": stages * rates.overhead,
    }
    return {name: seconds / recipe.workers for name, seconds in parts.items()}


def plan(recipe: Recipe, sizes: Sizes, rates: Rates, minutes: float, spent: float = 0.0) -> Plan:
    """The largest design that fits.

    Args:
        recipe: of the full run.
        sizes: of the data.
        rates: of the machine.
        minutes: for everything.
        spent: seconds that are gone already.

    Raises:
        ConfigError: not even the smallest design fits.
    """

    def planned(design: Design) -> Plan:
        parts = parts_of(design, sizes, rates, recipe)
        return Plan(design, sizes, rates, recipe.distil.batch_size, sum(parts.values()), parts)

    limit = (60 * minutes - spent) * SAFETY
    first = Design(min(LEAST_ROWS, sizes.learned), 1, min(LEAST_TEST, sizes.test), min(DEV_ROWS, sizes.dev), seeds=1)
    best = planned(first)
    if best.seconds > limit:
        enough = math.ceil((best.seconds / SAFETY + spent) / 60)
        raise ConfigError(
            f"the smallest pilot takes about {in_time(best.seconds)} on this machine, more than --minutes {minutes:g} "
            f"leaves; most of it is {max(best.parts, key=lambda name: best.parts[name])}",
            hint=f"--minutes {enough}; or shorter rows (data.max_length, data.max_answer_tokens), or fewer steps of "
            "teacher.sft",
        )
    for turns in (("rows", "passes", "rows", "test rows"), ("seeds",)):
        grows = True
        while grows:
            grows = False
            for turn in turns:
                larger = _grown(best.design, sizes, turn)
                if larger is not None and planned(larger).seconds <= limit:
                    best, grows = planned(larger), True
    return best


def _grown(design: Design, sizes: Sizes, turn: str) -> Design | None:
    """The design with more of one thing; None where there is no more of it."""
    if turn == "rows" and design.rows < sizes.learned:
        return replace(design, rows=min(sizes.learned, math.ceil(design.rows * GROWTH)))
    if turn == "passes" and design.epochs < MOST_EPOCHS:
        return replace(design, epochs=design.epochs + 1)
    if turn == "test rows" and design.test_rows < sizes.test:
        return replace(design, test_rows=min(sizes.test, math.ceil(design.test_rows * GROWTH)))
    if turn == "seeds" and design.seeds < MOST_SEEDS:
        return replace(design, seeds=design.seeds + 1)
    return None


def lines_of(plan: Plan) -> list[str]:
    """The plan in words."""
    design, sizes = plan.design, plan.sizes
    amounts = ", ".join(f"{rows:,}" for rows in plan.amounts)
    steps = ", ".join(f"{count:,}" for count in plan.steps)
    return [
        f"data: {sizes.train:,} rows with an answer, {sizes.unlabelled:,} without; {sizes.dev:,} development, "
        f"{sizes.test:,} test",
        f"amounts: {amounts} of {sizes.learned:,} rows, {design.epochs} pass{'es' * (design.epochs > 1)} over each: "
        f"{steps} steps of {plan.batch_size}",
        f"judged on {design.test_rows:,} test rows, {design.seeds} seed{'s' * (design.seeds > 1)}",
        f"about {in_time(plan.seconds)}: "
        + ", ".join(f"{name} {in_time(seconds)}" for name, seconds in plan.parts.items() if seconds >= 1),
    ]
