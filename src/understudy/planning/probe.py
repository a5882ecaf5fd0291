"""What is measured for a plan: each kind of stage does a little of its work in a process of its own, as in a run.

A training is probed by the trainer itself, on rows of the data with the longest among them, for a few steps, one look
at development rows, a checkpoint and the saved model. Steps, answers and the rest are timed apart, and the process's
own high-water mark is read. A second process does the same with half the rows at once, for what a row more takes.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from understudy.evaluation.predict import predict
from understudy.models.generate import answer_examples
from understudy.models.load import load_example_tokenizer, load_model, pick_device
from understudy.pipeline import processes
from understudy.pipeline.stages import seed_all
from understudy.pipeline.stages.jobs import distillation_job, gold_job
from understudy.planning.work import AnswerWork, CacheWork, PlannedStage, TrainingWork, Workload
from understudy.teachers.cache.identity import teacher_identity, write_identity
from understudy.teachers.cache.store import Index
from understudy.teachers.cache.write import fill, rows_to_read, time_costs
from understudy.teachers.local import LocalTeacher
from understudy.tokens.collate import EncodedRow
from understudy.training.session import Session, TrainingJob, train_model
from understudy.types import Example

SECONDS = 6.0
"""So long the steps of one training are timed."""
LEAST_STEPS, MOST_STEPS = 3, 48
FIRST_STEPS = 3
SHORT, LONG = 2, 12
"""Tokens of answers that are cut short, to tell reading a prompt from writing a token."""
CACHED_ROWS = 128
"""Rows of which a teacher's targets are written."""
SINGLE = 3
"""Rows that are answered one by one."""


@dataclass(frozen=True)
class Answering:
    """What a batch of answers takes.

    Attributes:
        rows: that were answered at once.
        seconds: of the batch; of development rows with all that is done beside answering.
        longest: tokens of its longest answer.
        token: seconds that a token more takes of the batch; 0 where nothing is written.
        single: seconds of one row alone.
        choices: seconds that the batch takes besides where the options of its rows are scored.
    """

    rows: int
    seconds: float
    longest: int
    token: float
    single: float = 0.0
    choices: float = 0.0

    def batch(self, longest: float) -> float:
        """Seconds of such a batch of which the longest answer has so many tokens."""
        return max(0.1 * self.seconds, self.seconds - self.token * (self.longest - longest))


@dataclass(frozen=True)
class Measured:
    """What one probe found.

    Attributes:
        peak: bytes at the highest: of the process, or allocated on its GPU.
        before: of the process before it loaded anything of its own.
        start: seconds until the first step or answer, without encoding rows.
        steps: optimiser steps that were timed.
        step: seconds of one.
        step_peak: bytes at the highest until the last step, before anything is answered or saved.
        rest: seconds of a checkpoint and of the saved model together.
        answering: of answers.
        teacher: of a cache: seconds a target token of the teacher, of writing and of reading records.
        record_bytes: of a cache: bytes a target token, index included.
        saved: bytes of the saved model.
    """

    peak: float
    before: float
    start: float
    steps: int = 0
    step: float = 0.0
    step_peak: float = 0.0
    rest: float = 0.0
    answering: Answering | None = None
    teacher: tuple[float, float, float] = (0.0, 0.0, 0.0)
    record_bytes: float = 0.0
    saved: int = 0

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Measured:
        """Read back what a probe's process wrote."""
        answering = Answering(**row["answering"]) if row["answering"] else None
        return cls(**{**row, "answering": answering, "teacher": tuple(row["teacher"])})


@dataclass(frozen=True)
class Probed:
    """A stage's measurements: as it will run, and with half the rows at once where that was measured."""

    whole: Measured
    half: Measured | None = None


Say = Callable[[str], None]


IF_CACHED = "if cached"
"""The name under which stands what a cache would take that the recipe has not."""


def probe(load: Workload, say: Say) -> dict[str, Probed]:
    """Stage → what was measured of its kind; stages that do the same on the same model share a probe.

    Where a teacher is read that no cache keeps, what one would take stands under `IF_CACHED`.

    Raises:
        UnderstudyError: whatever a stage would fail with.
    """
    found: dict[str, Probed] = {}
    done: dict[str, Probed] = {}
    with tempfile.TemporaryDirectory(prefix="understudy-plan-") as name:
        prober = _Prober(load, Path(name), say)
        for planned in sorted(load.stages, key=lambda planned: not isinstance(planned.work, CacheWork)):
            if planned.work is None:
                continue
            key = _kind_of(planned)
            if key not in done:
                done[key] = prober.probe(planned)
            found[planned.stage.name] = done[key]
        if load.if_cached is not None:
            found[IF_CACHED] = prober.probe(load.if_cached)
    return found


def _kind_of(planned: PlannedStage) -> str:
    """Stages that have one are measured once."""
    work = planned.work
    if isinstance(work, TrainingWork):
        training = work.training.model_dump(exclude={"steps", "epochs", "learning_rate"}, mode="json")
        features = work.recipe.features.model_dump(mode="json") if work.signal and work.recipe.features else None
        return json.dumps(["train", work.config.model_dump(mode="json"), training, work.signal, features])
    if isinstance(work, AnswerWork):
        return json.dumps(["answer", work.config.model_dump(mode="json"), work.batch_size])
    return "cache"


class _Prober:
    """Starts the processes of a probe."""

    def __init__(self, load: Workload, folder: Path, say: Say) -> None:
        self.load, self.folder, self.say = load, folder, say
        self.context = processes.forkserver()
        self.threads = max(1, processes.cores() // load.recipe.workers)
        self.number = 0
        self.random = random.Random(load.recipe.seed)
        self.cached: Path | None = None

    def probe(self, planned: PlannedStage) -> Probed:
        work = planned.work
        if isinstance(work, CacheWork):
            folder = self.folder / "targets"
            rows = _with_longest(work.rows.sample, CACHED_ROWS, self.load.recipe.seed)
            if planned is not self.load.if_cached:
                # The trainings that are probed next read from this cache.
                self.cached = folder
                rows += [row for other in self.load.signal for row in self._training_rows(other, MOST_STEPS)]
            return Probed(self._run(planned, _probe_cache, work.recipe, rows, folder))
        if isinstance(work, AnswerWork):
            asked = self.random.sample(list(work.examples), min(len(work.examples), work.batch_size))
            longest = list(work.longest_batch)
            return Probed(self._run(planned, _probe_answers, work.recipe, work.side, asked, longest, work.batch_size))
        assert isinstance(work, TrainingWork)
        micro = work.schedule.micro_batch_size
        cached = self.cached if work.signal and work.recipe.local_teacher.cache else None
        small = max(1, micro // 2)
        first = self._train(planned, work, small, FIRST_STEPS, cached)
        half = first if small < micro else None
        steps = max(LEAST_STEPS, min(MOST_STEPS, round(SECONDS / max(first.step, 1e-3))))
        return Probed(self._train(planned, work, micro, steps, cached), half)

    def _train(
        self, planned: PlannedStage, work: TrainingWork, micro: int, steps: int, cached: Path | None
    ) -> Measured:
        rows = self._training_rows(work, steps)
        training = work.training.model_copy(
            update={
                "steps": steps,
                "micro_batch_size": _divisor(work.training.batch_size, micro),
                "eval_every": steps,
                "save_every": steps,
                "patience": None,
            }
        )
        # For what a row more takes, steps are enough.
        most = 2 * work.recipe.evaluate.batch_size if micro == work.schedule.micro_batch_size else 0
        dev = list(self.load.dev[: min(work.dev_rows, most)])
        return self._run(planned, _probe_training, work.recipe, work.config, training, rows, dev, work.signal, cached)

    def _training_rows(self, work: TrainingWork, steps: int) -> list[EncodedRow]:
        """Rows of so many steps: the longest, and others as they come; the same each time."""
        return _with_longest(work.rows.sample, steps * work.training.batch_size, work.recipe.seed)

    def _run(self, planned: PlannedStage, body: Callable[..., None], *arguments: Any) -> Measured:
        self.number += 1
        self.say(f"probe: {planned.title}")
        folder = self.folder / f"probe-{self.number}"
        folder.mkdir()
        worker = processes.start(self.context, planned.stage.name, self.threads, body, *arguments, folder)
        try:
            while not processes.receive(worker, lambda *_: None):
                pass
        finally:
            processes.end([worker])
        measured = Measured.from_json(json.loads((folder / "measured.json").read_text()))
        shutil.rmtree(folder)
        return measured


def _with_longest(sample: Sequence[EncodedRow], count: int, seed: int) -> list[EncodedRow]:
    longest = max(sample, key=lambda row: row.length)
    others = [row for row in sample if row is not longest]
    taken = random.Random(seed).sample(others, min(len(others), max(0, count - 1)))
    return [longest, *taken]


def _divisor(whole: int, most: int) -> int:
    return next(size for size in range(min(most, whole), 0, -1) if whole % size == 0)


# -- in the probe's own process --------------------------------------------------------------------------------------


def _probe_training(
    recipe: Any,
    config: Any,
    training: Any,
    rows: list[EncodedRow],
    dev: list[Example],
    signal: bool,
    cached: Path | None,
    folder: Path,
    progress: Any,
) -> None:
    device = _begin(recipe)
    clock = _Clock(device, training.steps, recipe.evaluate.batch_size)
    job = distillation_job(recipe, ()) if signal else gold_job(recipe, ())
    probed: TrainingJob = dataclasses.replace(
        job, num_examples=len(rows), encode=lambda *sides: rows, dev_score=clock.timed(job.dev_score)
    )
    session = Session("probe", folder, recipe, config, None, training, device, clock.step)
    train_model(session, probed, dev, teacher_cache=cached)
    ended = time.perf_counter()
    _write(
        folder,
        clock,
        start=clock.times[0] - clock.begun - clock.per_step,
        steps=training.steps,
        step=clock.per_step,
        step_peak=clock.step_peak,
        rest=max(0.0, ended - clock.times[-1] - clock.answering_seconds),
        answering=clock.answering,
        saved=_bytes(folder / "model"),
    )


class _Clock:
    """Takes down when each step ended, how long answers took, and the high-water mark."""

    def __init__(self, device: torch.device, steps: int, batch_size: int) -> None:
        self.device, self.steps, self.batch_size = device, steps, batch_size
        self.before, self.begun = _mark(device), time.perf_counter()
        self.times: list[float] = []
        self.step_peak = 0.0
        self.answering_seconds = 0.0
        self.answering: Answering | None = None

    def step(self, done: int, total: int, note: str) -> None:
        if total == self.steps and done:
            self.times.append(time.perf_counter())
            self.step_peak = _mark(self.device)

    @property
    def per_step(self) -> float:
        """Seconds of a step: without the first, which allocates, and the tenth of the slowest and of the fastest."""
        steps = sorted(after - before for before, after in itertools.pairwise(self.times))
        ends = len(steps) // 10
        return fmean(steps[ends : len(steps) - ends]) if steps else 0.0

    def timed(self, dev_score: Any) -> Any:
        """The same scores, looked at with the watch in hand; answers are timed apart besides."""

        def make(tokenizer: Any, examples: Sequence[Example]) -> Any:
            inner = dev_score(tokenizer, examples)

            def measure(model: Any) -> Any:
                started = time.perf_counter()
                scores = inner(model)
                seconds = time.perf_counter() - started
                # How long its answers are, a shorter batch of them tells.
                few = examples[:SINGLE]
                longest = max(a.tokens for a in answer_examples(model, tokenizer, few, batch_size=len(few)))
                token = _token_seconds(model, tokenizer, examples, longest, self.batch_size)
                self.answering = Answering(len(examples), seconds, longest, token)
                self.answering_seconds = time.perf_counter() - started
                return scores

            return measure

        return make


def _token_seconds(model: Any, tokenizer: Any, examples: Sequence[Example], longest: int, batch_size: int) -> float:
    """Seconds a token more takes of a batch: two lengths of answers, both cut short."""
    long = min(longest, LONG)
    if tokenizer.template.candidates != "vocabulary" or long <= SHORT:
        return 0.0
    taken = []
    for count in (SHORT, long):
        # The room of prompts stays: what an answer may take less, a row may be shorter.
        data = tokenizer.data
        room = data.max_length - data.max_answer_tokens + count
        cut = data.model_copy(update={"max_answer_tokens": count, "max_length": room})
        started = time.perf_counter()
        answer_examples(model, dataclasses.replace(tokenizer, data=cut), examples, batch_size=batch_size)
        taken.append(time.perf_counter() - started)
    return max(0.0, taken[1] - taken[0]) / (long - SHORT)


def _probe_answers(
    recipe: Any,
    side: str,
    asked: list[Example],
    longest_rows: list[Example],
    batch_size: int,
    folder: Path,
    progress: Any,
) -> None:
    device = _begin(recipe)
    before, begun = _mark(device), time.perf_counter()
    config = recipe.local_teacher if side == "teacher" else recipe.student
    model = load_model(config, device, seed=config.seed_or(recipe.seed))
    tokenizer = load_example_tokenizer(config, recipe.data)
    start = time.perf_counter() - begun
    # The rows that take most, then others for the time: a stage answers all of them in the one process.
    predict(model, tokenizer, longest_rows, batch_size=batch_size)
    begun = time.perf_counter()
    answers = predict(model, tokenizer, asked, batch_size=batch_size)
    whole = time.perf_counter() - begun
    peak, longest = _mark(device), max(answer.tokens or 0 for answer in answers)
    begun = time.perf_counter()
    answer_examples(model, tokenizer, asked, batch_size=batch_size)
    seconds = time.perf_counter() - begun
    token = _token_seconds(model, tokenizer, asked, longest, batch_size)
    few, begun = asked[:SINGLE], time.perf_counter()
    for example in few:
        answer_examples(model, tokenizer, [example], batch_size=1)
    single = (time.perf_counter() - begun) / len(few)
    answering = Answering(len(asked), seconds, longest, token, single, max(0.0, whole - seconds))
    _write(folder, None, peak=peak, before=before, start=start, answering=answering)


def _probe_cache(recipe: Any, rows: list[EncodedRow], targets_folder: Path, folder: Path, progress: Any) -> None:
    from understudy.caching import cache_targets
    from understudy.pipeline.stages.cache import most_candidates

    device = _begin(recipe)
    before, begun = _mark(device), time.perf_counter()
    config = recipe.local_teacher
    tokenizer = load_example_tokenizer(config, recipe.data)
    pad_id: Any = tokenizer.template.tokenizer.pad_token_id
    model = load_model(config, device, seed=config.seed_or(recipe.seed))
    read = rows_to_read(rows, pad_id)
    teacher, targets = LocalTeacher(model), cache_targets(recipe, model, most_candidates(recipe, read))
    start = time.perf_counter() - begun
    costs = time_costs(teacher, read, targets, pad_id, device)
    targets_folder.mkdir(parents=True, exist_ok=True)
    write_identity(
        targets_folder, targets, teacher_identity(config, None, tokenizer.template, device, config.seed_or(recipe.seed))
    )
    fill(targets_folder, targets, teacher, read, pad_id, device, lambda *_: None)
    index = Index(targets_folder, targets.record_bytes)
    seconds = (costs.teacher, costs.record, costs.read)
    _write(
        folder,
        None,
        peak=_mark(device),
        before=before,
        start=start,
        teacher=seconds,
        record_bytes=index.bytes / max(1, index.tokens),
    )


def _begin(recipe: Any) -> torch.device:
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    seed_all(recipe.seed)
    return pick_device(recipe.device)


def _write(folder: Path, clock: _Clock | None, **found: Any) -> None:
    if clock is not None:
        found |= {"peak": _mark(clock.device), "before": clock.before}
    (folder / "measured.json").write_text(json.dumps(asdict(Measured(**found))))


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _mark(device: torch.device) -> float:
    """Bytes at the highest so far: held by the allocator of the GPU, or resident of this process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_reserved(device))
    status = Path("/proc/self/status")
    match = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE) if status.exists() else None
    if match:
        return float(match[1]) * 1024
    import resource
    import sys

    mark = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(mark if sys.platform == "darwin" else mark * 1024)
