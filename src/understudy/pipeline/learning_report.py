"""What a report says of how a student learned: its own answers, rows without the teacher, an early end."""

from __future__ import annotations

from collections.abc import Mapping

from understudy.recipe import Recipe
from understudy.recipe.own_arms import for_arm
from understudy.records import TrainingFigures, TrainingNotes

FOREIGN_OVERLAP, FOREIGN_LOGP = 0.3, -6.0
"""Below these the teacher judges beginnings that it would hardly write itself."""


def learning_sentences(arm: str, notes: TrainingNotes, recipe: Recipe) -> list[str]:
    """What a student learned of its own answers, and on which rows the teacher was not heard."""
    lines, own = [], notes.rollouts
    if own:
        lines.append(
            f"{arm} learned its own answers too: {own['rollout_length']:.1f} tokens each, "
            f"{own['rollout_finished']:.0%} finished, {own['rollout_repetition']:.0%} of their trigrams repeated; "
            f"{own['rollout_age']:.1f} optimiser steps old on average."
        )
        lines += rollout_warnings(arm, own, for_arm(recipe, arm))
    if notes.filtered:
        reasons = {
            "entropy": "its entropy was high",
            "gold": "it disagreed with gold",
            "teachers": "teachers disagreed with each other",
        }
        counts = ", ".join(f"{reasons[why]}: {count:,}" for why, count in notes.filtered.items() if count)
        where = (
            f"on rows where it was no guide ({counts}; each time it was read)" if counts else "on no row by its filters"
        )
        lines.append(f"{arm} went without the teacher {where}.")
    if notes.stopped_at is not None:
        lines.append(f"{arm} stopped after {notes.stopped_at:,} steps: its development score rose no more.")
    lines += memory_sentences(arm, notes)
    return lines


def memory_sentences(name: str, notes: TrainingFigures) -> list[str]:
    """That the device ran out of memory while a model was trained, and how it went on; nothing where it did not."""
    if notes.cut_to is None:
        return []
    rows = "row was" if notes.cut_to == 1 else "rows were"
    return [
        f"While {name} was trained the device ran out of memory: from there on {notes.cut_to:,} {rows} read at once in "
        f"place of {notes.plan.micro_batch_size:,}, and as many a step."
    ]


def rollout_warnings(arm: str, own: Mapping[str, float], recipe: Recipe) -> list[str]:
    """Ways in which learning one's own answers is known to fail (arXiv 2605.11182), where the figures show them."""
    lines = []
    overlap, logp = own.get("rollout_overlap_first"), own.get("rollout_teacher_logp_first")
    if (overlap is not None and overlap < FOREIGN_OVERLAP) or (logp is not None and logp < FOREIGN_LOGP):
        figures = [f"{overlap:.0%} of the likeliest tokens in common"] if overlap is not None else []
        figures += [f"{logp:.1f} nats a token by the teacher"] if logp is not None else []
        lines.append(
            f"Warning: the first answers of {arm} were ones that the teacher would hardly write "
            f"({', '.join(figures)}); its judgement of what follows such a beginning means little. Fine-tune the "
            "student first (student.sft), lower distil.on_policy.share, or mix the teacher in (teacher_mixed)."
        )
    config = recipe.distil.on_policy
    if config and config.top_k and not config.stop_gradient:
        lines.append(
            f"Warning: {arm} learned by reverse KL over the student's {config.top_k} likeliest tokens with its own "
            "gradient, which is biased; set distil.on_policy.stop_gradient: true, or leave top_k out."
        )
    if own["rollout_repetition_last"] > max(0.2, 2 * own["rollout_repetition_first"]):
        lines.append(
            f"Warning: the answers of {arm} came to repeat themselves ({own['rollout_repetition_first']:.0%} of their "
            f"trigrams at first, {own['rollout_repetition_last']:.0%} at last); lower share, or take forward_kl."
        )
    if own["rollout_finished_last"] < 0.5:
        lines.append(
            f"Warning: only {own['rollout_finished_last']:.0%} of the last answers of {arm} ended by themselves; raise "
            "distil.on_policy.max_new_tokens, or fine-tune the student first (student.sft)."
        )
    return lines
