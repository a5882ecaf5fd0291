"""From what a probe measured of a few steps to what a whole stage takes."""

from __future__ import annotations

from understudy.planning.memory import Memory
from understudy.planning.probe import Answering, Probed
from understudy.planning.work import AnswerWork, CacheWork, PlannedStage, TrainingWork


def memory_of(planned: PlannedStage, found: Probed, paper: Memory) -> tuple[Memory, float | None]:
    """The measured peak by part, and what a row more at once takes.

    Weights, gradients, moments and the chunk of logits are counted from shapes; the process is measured before it
    loads a model; activations are what is left of the peak of the steps, and answers what is above that.
    """
    whole, work = found.whole, planned.work
    if isinstance(work, TrainingWork):
        left = max(0.0, whole.step_peak - whole.before)
        parts = {}
        for name in ("weights", "gradients", "optimiser", "logits"):
            parts[name] = min(left, getattr(paper, name))
            left -= parts[name]
        answers = max(0.0, whole.peak - whole.step_peak)
        memory = Memory(process=whole.before, activations=left, answers=answers, **parts)
        return memory, _row_bytes(work, found)
    left = max(0.0, whole.peak - whole.before)
    weights = min(left, paper.weights)
    answers = min(left - weights, paper.answers)
    memory = Memory(whole.before, weights, activations=left - weights - answers, answers=answers)
    return memory, None


def _row_bytes(work: TrainingWork, found: Probed) -> float | None:
    if found.half is None:
        return None
    rows = work.schedule.micro_batch_size - max(1, work.schedule.micro_batch_size // 2)
    return max(0.0, found.whole.step_peak - found.half.step_peak) / rows


def seconds_of(planned: PlannedStage, found: Probed) -> float:
    """Seconds of the whole stage: its start, its steps or batches, what comes between and after."""
    whole, work = found.whole, planned.work
    if isinstance(work, TrainingWork):
        answering = answers_on_the_way(work, whole.answering)
        # Of a checkpoint and the saved model, which are of one size with and without moments, about half is each.
        writing = (work.checkpoints + 1) * whole.rest / 2
        return whole.start + work.rows.seconds + work.schedule.steps * whole.step + answering + writing
    if isinstance(work, AnswerWork):
        assert whole.answering is not None
        batches = len(work.examples) / whole.answering.rows
        longest = work.longest if work.trained else whole.answering.longest
        batch = whole.answering.batch(longest) + (whole.answering.choices if work.choices else 0.0)
        return whole.start + batches * batch + work.single * whole.answering.single
    assert isinstance(work, CacheWork)
    teacher, record, _ = whole.teacher
    return whole.start + work.rows.seconds + work.tokens * (teacher + record)


def answers_on_the_way(work: TrainingWork, answering: Answering | None) -> float:
    """Seconds of all looks at development rows; a student that learns stops where gold answers stop."""
    if answering is None or not work.dev_rows:
        return 0.0
    return work.evaluations * work.dev_rows / answering.rows * answering.batch(work.answer[1])


def kept_bytes(planned: PlannedStage, found: Probed, paper: float) -> float:
    """Bytes that the stage leaves: the model as the probe saved it, a cache by its own bytes a token."""
    work = planned.work
    if isinstance(work, TrainingWork):
        return float(found.whole.saved or paper)
    if isinstance(work, CacheWork):
        return work.tokens * found.whole.record_bytes
    return paper
