"""What a plan advises: rows at once that fit, and whether what the teacher says is better written down once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from understudy.inspection.time_estimate import in_bytes, in_time
from understudy.planning import paper
from understudy.planning.figures import StageFigures
from understudy.planning.hardware import Machine
from understudy.planning.probe import IF_CACHED, Probed
from understudy.planning.work import CacheWork, TrainingWork, Workload

ROOM = 0.9
"""Share of a memory that a plan fills: a peak is predicted, not promised."""
DISK = 1e9
"""Bytes a second at which a cache is taken to be read, where nothing was measured."""


@dataclass(frozen=True)
class CacheCost:
    """What hearing the teacher costs, live and from disk.

    Attributes:
        exists: whether the recipe writes a cache.
        epochs: times that all trainings together read a target of the cache, on average.
        pays_after: passes after which a cache has cost less; None: never, or nobody can tell.
        live: seconds of the teacher in all passes.
        cached: seconds of one pass, of writing and of all reading.
        bytes: of the cache on disk.
        by: what validated it.
        why_not: why there is no saying.
    """

    exists: bool
    epochs: float
    pays_after: float | None
    live: float | None
    cached: float | None
    bytes: float
    by: str
    why_not: str = ""

    @property
    def pays(self) -> bool | None:
        """Whether a cache takes less time in this recipe."""
        return None if self.live is None or self.cached is None else self.cached < self.live


def cache_cost(load: Workload, found: Mapping[str, Probed], sizes: paper.Sizes, machine: Machine) -> CacheCost | None:
    """Whether a cache of the teacher pays; None where no planned training reads one."""
    reading = load.signal
    if not reading:
        return None
    own = next((stage for stage in load.stages if isinstance(stage.work, CacheWork)), None)
    planned = own or load.if_cached
    if planned is None or not isinstance(planned.work, CacheWork):
        return CacheCost(own is not None, 0.0, None, None, None, 0.0, "", load.no_cache)
    work = planned.work
    heard = sum(training.heard for training in reading)
    epochs = heard / work.tokens
    probed = found.get(planned.stage.name if own else IF_CACHED)
    if probed is not None:
        teacher, record, read = probed.whole.teacher
        size, by = work.tokens * probed.whole.record_bytes, "measured here"
    else:
        seconds = paper.live_seconds_per_target(reading[0], sizes.of(work.recipe.local_teacher), machine)
        size, by = paper.cached_bytes(work), "planned on paper"
        if seconds is None:
            return CacheCost(own is not None, epochs, None, None, None, size, by, "without a probe no time is known")
        teacher, record, read = seconds, 0.0, size / work.tokens / DISK
    saved = teacher - read
    pays_after = (teacher + record) / saved if saved > 0 else None
    cached = work.tokens * (teacher + record) + heard * read
    return CacheCost(own is not None, epochs, pays_after, heard * teacher, cached, size, by)


def advise(
    load: Workload, figures: Sequence[StageFigures], limit: float | None, workers: int, machine: Machine
) -> list[str]:
    """What to change so that all fits; what could be read at once where it does."""
    if limit is None:
        return []
    lines: list[str] = []
    room = ROOM * limit / (1 if machine.on_gpu else workers)
    works = {planned.stage.name: planned.work for planned in load.stages}
    said: set[str] = set()
    for stage in figures:
        work = works[stage.stage]
        if isinstance(work, TrainingWork):
            line = _training_advice(stage, work, room, machine)
        else:
            over = stage.memory.total > room
            line = _answers_advice(stage) if over else ""
        if line and line not in said:
            said.add(line)
            lines.append(line)
    together = sum(sorted((stage.memory.total for stage in figures), reverse=True)[:workers])
    if workers > 1 and together > limit >= max(stage.memory.total for stage in figures):
        lines.append(f"workers=1: {workers} stages side by side take up to {in_bytes(together)}")
    return lines


def fitting_micro_batch(stage: StageFigures, batch_size: int, room: float) -> int | None:
    """The most rows at once that fit, a divisor of the batch; None where one does not, or nobody can tell."""
    if stage.row_bytes is None:
        return None if stage.memory.total > room else stage.micro_batch
    fixed = stage.memory.total - stage.row_bytes * stage.micro_batch
    fitting = [n for n in range(1, batch_size + 1) if batch_size % n == 0 and fixed + n * stage.row_bytes <= room]
    return max(fitting, default=None)


def _training_advice(stage: StageFigures, work: TrainingWork, room: float, machine: Machine) -> str:
    section = _section(stage.stage, work)
    rows = fitting_micro_batch(stage, work.training.batch_size, room)
    if stage.memory.total > room:
        if rows is not None:
            return f"{section}.micro_batch_size={rows}: {stage.micro_batch} rows at once take {_of(stage)}"
        ways = [] if work.training.gradient_checkpointing else [f"{section}.gradient_checkpointing=true"]
        ways += [] if work.training.lora else [f"{section}.lora={{}}"]
        ways += ["teacher.cache={}"] if work.signal and work.recipe.local_teacher.cache is None else []
        return f"{stage.stage} takes {_of(stage)}, whatever the micro-batch: {', or '.join(ways) or 'a smaller model'}"
    if machine.on_gpu and rows is not None and rows > stage.micro_batch:
        return f"{section}.micro_batch_size={rows} fits too, and fills the GPU better than {stage.micro_batch}"
    return ""


def _section(stage: str, work: TrainingWork) -> str:
    if stage.endswith("_sft"):
        return f"{'teacher' if stage.startswith('teacher') else 'student'}.sft"
    return "distil"


def _answers_advice(stage: StageFigures) -> str:
    return f"evaluate.batch_size below {stage.micro_batch}: {stage.stage} takes {_of(stage)}"


def _of(stage: StageFigures) -> str:
    return in_bytes(stage.memory.total)


def cache_sentence(cost: CacheCost) -> str:
    """Whether a cache of the teacher pays, in a sentence."""
    if cost.why_not:
        return f"cache of the teacher: {cost.why_not}"
    if cost.pays_after is None or cost.live is None or cost.cached is None:
        return "cache of the teacher: reading it takes as long as the teacher, so it never pays in time"
    verdict = "pays" if cost.pays else "does not pay"
    return (
        f"cache of the teacher{'' if cost.exists else ' (teacher.cache={})'}: {verdict}: from {cost.pays_after:.1f} "
        f"passes over the rows on, and the trainings read them {cost.epochs:.1f} times: {in_time(cost.live)} live, "
        f"{in_time(cost.cached)} cached, {in_bytes(cost.bytes)} on disk ({cost.by})"
    )
