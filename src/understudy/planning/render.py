"""A plan in words: a row a stage, a line a conclusion."""

from __future__ import annotations

from collections.abc import Sequence

from understudy.inspection.time_estimate import in_bytes, in_time
from understudy.planning.advice import cache_sentence
from understudy.planning.figures import StageFigures
from understudy.planning.hardware import BANDWIDTH_SHARE, LAUNCH, UTILISATION
from understudy.planning.plan import Plan

PARTS = ("process", "weights", "gradients", "optimiser", "logits", "activations", "answers")
TITLES = ("stage", "steps", "rows", "tokens", "time", "memory", *PARTS, "disk", "validated by")


def table_of(plan: Plan) -> list[tuple[str, ...]]:
    """Titles and rows of the table, every cell a text."""
    return [TITLES, *(_row(stage) for stage in plan.stages)]


def _row(stage: StageFigures) -> tuple[str, ...]:
    parts = (in_bytes(getattr(stage.memory, part)) if getattr(stage.memory, part) else "–" for part in PARTS)
    return (
        stage.stage,
        f"{stage.steps:,}" if stage.steps else "–",
        f"{stage.micro_batch:,}" if stage.micro_batch else "–",
        _count(stage.tokens),
        "–" if stage.seconds is None else in_time(stage.seconds),
        in_bytes(stage.memory.total),
        *parts,
        in_bytes(stage.kept),
        stage.by,
    )


def _count(number: float) -> str:
    for unit in ("", "k", "M", "G"):
        if number < 1000 or unit == "G":
            return f"{number:.0f}{unit}" if number >= 10 or not unit else f"{number:.1f}{unit}"
        number /= 1000
    raise AssertionError


def lines_of(plan: Plan) -> list[str]:
    """What follows from the table, a line each."""
    lines = [_where(plan), *_memory(plan), *_time(plan)]
    lines.append(f"disk: {in_bytes(plan.kept)} kept, up to {in_bytes(plan.disk)} meanwhile (checkpoints)")
    lines.append(_energy(plan))
    if plan.cache is not None:
        lines.append(cache_sentence(plan.cache))
    lines += _chunks(plan.stages)
    lines += [f"advice: {line}" for line in plan.advice]
    for why in dict.fromkeys(why for _, why in plan.missing):
        names = ", ".join(stage for stage, other in plan.missing if other == why)
        lines.append(f"not planned: {names}{': ' if why else ''}{why}")
    return lines


def _where(plan: Plan) -> str:
    if plan.probe_seconds is not None:
        return f"on {plan.machine.title}, measured by a probe of {in_time(plan.probe_seconds)}"
    if plan.machine.here:
        return f"on {plan.machine.title}, from configs and rows alone: nothing was measured, so no time is told"
    return (
        f"for {plan.machine.title}, on paper: nothing was run there. Memory by shapes; time by {UTILISATION:.0%} of "
        f"the published bfloat16 peak, {BANDWIDTH_SHARE:.0%} of the bandwidth, and {LAUNCH * 1e6:.0f} µs a kernel"
    )


def _memory(plan: Plan) -> list[str]:
    most = f"{in_bytes(plan.peak)} at the peak"
    if plan.workers > 1 and not plan.machine.on_gpu:
        most += f" ({plan.workers} stages side by side, the largest ones)"
    if plan.limit is None:
        return [f"memory: {most}; how much there is, nobody says"]
    each = " a GPU, each process with the whole model" if plan.machine.processes > 1 else ""
    lines = [f"memory: {most} of {in_bytes(plan.limit)}{each}: {'fits' if plan.fits else 'DOES NOT FIT'}"]
    if not plan.fits:
        lines.append(
            "warning: on a GPU a training goes on with half the rows at once; a process that the kernel kills on a CPU "
            "cannot catch it"
        )
    return lines


def _time(plan: Plan) -> list[str]:
    if plan.seconds is None:
        return []
    beside = f", {plan.workers} stages side by side" if plan.workers > 1 else ""
    return [f"time: {in_time(plan.seconds)} for the stages of the table{beside}; what is not planned comes on top"]


def _energy(plan: Plan) -> str:
    if plan.watts is None:
        return "energy: no wattage is known here; --watts states one"
    if plan.joules is None:
        return f"energy: {plan.watts:.0f} W ({plan.watts_by}), and no time to multiply it by"
    return f"energy: {plan.joules / 3.6e6:.3g} kWh at {plan.watts:.0f} W ({plan.watts_by})"


def _chunks(stages: Sequence[StageFigures]) -> list[str]:
    """What of the logits is there at once, as the losses choose it."""
    chunks = sorted({stage.chunk for stage in stages if stage.chunk})
    if not chunks:
        return []
    size = f"{chunks[0]:,}" if len(chunks) == 1 else f"{chunks[0]:,} to {chunks[-1]:,}"
    return [f"logits chunk: {size} target tokens at once, by vocabulary and device; the losses choose it"]
