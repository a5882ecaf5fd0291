"""A recipe's plan: every stage with memory by part, seconds, tokens and disk, and what follows from them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from understudy.errors import ConfigError
from understudy.inspection.time_estimate import StageEstimate, wall_time
from understudy.models.load import pick_device
from understudy.planning import measured, paper
from understudy.planning.advice import CacheCost, advise, cache_cost
from understudy.planning.energy import Meter
from understudy.planning.figures import StageFigures
from understudy.planning.hardware import Machine, named_gpu, this_machine
from understudy.planning.probe import Probed, probe
from understudy.planning.work import PlannedStage, Workload, workload
from understudy.recipe import Recipe

MEASURED, PAPER = "measured here", "planned on paper"


@dataclass(frozen=True)
class Plan:
    """All that a plan says.

    Attributes:
        recipe: its name.
        machine: where it is to run.
        stages: the stages that are planned.
        missing: stages that are not, with why.
        workers: stages that run side by side.
        peak: bytes of the largest stage, or of as many of the largest as run side by side on one memory.
        limit: bytes that there are; None: nobody says.
        seconds: wall time of all planned stages; None where some have no time.
        kept: bytes on disk at the end.
        disk: bytes on disk at the most.
        cache: whether a cache of the teacher pays; None: no teacher is read.
        watts: drawn; None: nobody says.
        watts_by: where that is from.
        advice: what to change, or that nothing need be.
        probe_seconds: that the probe took; None: nothing was measured.
    """

    recipe: str
    machine: Machine
    stages: Sequence[StageFigures]
    missing: Sequence[tuple[str, str]]
    workers: int
    peak: float
    limit: float | None
    seconds: float | None
    kept: float
    disk: float
    cache: CacheCost | None
    watts: float | None
    watts_by: str
    advice: Sequence[str]
    probe_seconds: float | None

    @property
    def fits(self) -> bool | None:
        """Whether the peak is within the memory; None where nobody says how much there is."""
        return None if self.limit is None else self.peak <= self.limit

    @property
    def joules(self) -> float | None:
        """Energy of the planned stages."""
        return None if self.watts is None or self.seconds is None else self.watts * self.seconds

    def to_json(self) -> dict[str, Any]:
        """As `--json` writes it."""
        row = asdict(replace(self, stages=(), missing=()))
        row["stages"] = [
            {**asdict(stage), "memory": {**asdict(stage.memory), "total": stage.memory.total}} for stage in self.stages
        ]
        row["missing"] = [{"stage": stage, "why": why} for stage, why in self.missing]
        return {**row, "fits": self.fits, "joules": self.joules}


def plan_recipe(
    recipe: Recipe,
    say: Callable[[str], None],
    *,
    gpu: str = "",
    num: int = 1,
    watts: float | None = None,
    measure: bool = True,
) -> Plan:
    """Plan a recipe.

    Args:
        recipe: the recipe.
        say: told of what is being measured.
        gpu: a GPU that need not be here; empty: this machine.
        num: how many of them train side by side.
        watts: that all of it draws; None: what a counter or a data sheet says.
        measure: whether a probe is run where it is this machine.

    Raises:
        ConfigError: an unknown GPU, or several of none.
        UnderstudyError: whatever `run` would refuse of data and models.
    """
    if num > 1 and not gpu:
        raise ConfigError("--num is of GPUs that are named", hint="--gpu h200 --num 8")
    machine = named_gpu(gpu, num) if gpu else this_machine(pick_device(recipe.device))
    load = workload(recipe, processes=machine.processes)
    found: dict[str, Probed] = {}
    meter, started = Meter(), time.monotonic()
    if machine.here and measure:
        with meter:
            found = probe(load, say)
    seconds = time.monotonic() - started if found else None
    sizes = paper.Sizes(recipe)
    planned = [stage for stage in load.stages if stage.work is not None]
    figures = [figures_of(stage, sizes, found.get(stage.stage.name), machine) for stage in planned]
    return _plan(load, machine, figures, found, sizes, _draw(watts, meter, machine), seconds)


def figures_of(planned: PlannedStage, sizes: paper.Sizes, found: Probed | None, machine: Machine) -> StageFigures:
    """What a stage takes: as it was measured, or by shapes and data sheets."""
    drawn = paper.stage_of(planned, sizes, machine)
    name, title = planned.stage.name, planned.title
    figures = StageFigures(name, title, memory=drawn.memory, seconds=drawn.seconds, by=PAPER, **drawn.rest)
    if found is None:
        return figures
    memory, row_bytes = measured.memory_of(planned, found, drawn.memory)
    return replace(
        figures,
        memory=memory,
        row_bytes=row_bytes,
        seconds=measured.seconds_of(planned, found),
        kept=measured.kept_bytes(planned, found, figures.kept),
        by=f"{MEASURED} ({machine.title})" if machine.on_gpu else MEASURED,
    )


def _draw(watts: float | None, meter: Meter, machine: Machine) -> tuple[float | None, str]:
    """Watts, and where they are from."""
    if watts is not None:
        return watts, "as stated"
    if meter.watts is not None:
        return meter.watts, f"measured by {meter.source} while the probe ran"
    if machine.gpu is not None and not machine.here:
        return machine.gpu.watts * machine.processes, "board power by the data sheet; host and cooling are not in it"
    return None, ""


def _plan(
    load: Workload,
    machine: Machine,
    figures: Sequence[StageFigures],
    found: Mapping[str, Probed],
    sizes: paper.Sizes,
    draw: tuple[float | None, str],
    probe_seconds: float | None,
) -> Plan:
    workers = load.recipe.workers
    at_once = sorted((stage.memory.total for stage in figures), reverse=True)[:workers]
    seconds = None
    if figures and all(stage.seconds is not None for stage in figures):
        order = [planned.stage for planned in load.stages]
        estimates = [StageEstimate(stage.stage, stage.title, 1, stage.seconds) for stage in figures]
        seconds = wall_time(order, estimates, workers)
    kept = sum(stage.kept for stage in figures)
    cache = cache_cost(load, found, sizes, machine)
    plan = Plan(
        recipe=load.recipe.name,
        machine=machine,
        stages=figures,
        missing=[(planned.stage.name, planned.why_not) for planned in load.stages if planned.work is None],
        workers=workers,
        peak=sum(at_once),
        limit=machine.memory,
        seconds=seconds,
        kept=kept,
        disk=kept + max((stage.meanwhile for stage in figures), default=0.0),
        cache=cache,
        watts=draw[0],
        watts_by=draw[1],
        advice=(),
        probe_seconds=probe_seconds,
    )
    return replace(plan, advice=advise(load, figures, machine.memory, workers, machine))
