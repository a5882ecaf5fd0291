"""What an inspection makes of its readings, in words: what is suspicious, and what only has to be known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from understudy.inspection.cost import Cost
from understudy.inspection.inputs import DataSummary, EncodedSample
from understudy.inspection.loss_terms import Losses
from understudy.inspection.reference_check import HeadProbe, ReferenceCheck
from understudy.inspection.time_estimate import in_bytes
from understudy.inspection.tokens import AnswerCheck, TokenAlignment
from understudy.recipe import Recipe

SAME_WEIGHTS = 1e-6
"""Nats per token under which two models count as one."""


@dataclass(frozen=True)
class Finding:
    """One sentence; a `warning` wants an answer before hours are spent, a `note` only has to be known."""

    level: Literal["warning", "note"]
    text: str


def warning(text: str) -> Finding:
    """A suspicious finding."""
    return Finding("warning", text)


def note(text: str) -> Finding:
    """A finding without suspicion."""
    return Finding("note", text)


def of_recipe(recipe: Recipe, summary: DataSummary, beyond: Sequence[str] = ()) -> list[Finding]:
    """What the recipe and the data say before a weight is loaded.

    Args:
        recipe: what is inspected.
        summary: of its data.
        beyond: sentences about rows that reach beyond what a model was trained for.
    """
    findings = [warning(sentence) for sentence in beyond]
    if not summary.sound:
        findings.append(warning(summary.soundness))
    if recipe.teachers and recipe.teachers.others:
        names = ", ".join(recipe.teachers.others)
        findings.append(
            note(
                f"these readings are of `teacher` alone: the run hears {names} too; `understudy inspect RECIPE "
                "teachers=null teacher.model=…` with its own method looks at another"
            )
        )
    if recipe.local_teacher.sft:
        findings.append(note("teacher.sft is planned: these readings are of the teacher as it came, before that"))
    if recipe.student.sft:
        findings.append(note("student.sft is planned: these readings are of the student as it came, before that"))
    if not summary.sizes["unlabelled"]:
        findings.append(note("there are no unlabelled questions: the student learns from the gold rows alone"))
    if not summary.sizes["dev"]:
        findings.append(note("there are no development rows: the last weights are kept, not the best ones"))
    if recipe.distil.gold_weight == 1:
        missing = "nothing" if not summary.sizes["unlabelled"] else "only the unlabelled rows"
        findings.append(
            warning(f"distil.gold_weight is 1, so on gold rows the teacher is not heard: it teaches {missing}")
        )
    return findings


def of_sample(sample: EncodedSample) -> list[Finding]:
    """What was cut."""
    findings = []
    for model, counts in sample.cut.items():
        for what, count in counts.items():
            if what.startswith("answers cut"):
                continue  # `of_answers` says what that means for the stop token
            text = f"{model}: {count} of {sample.num_sampled} rows, {what}"
            findings.append(warning(text) if count > 0.2 * sample.num_sampled else note(text))
    return findings


def of_answers(model: str, answers: AnswerCheck) -> list[Finding]:
    """Whether what is learned is what the data says."""
    findings = []
    if answers.unstopped == answers.rows:
        findings.append(
            warning(
                f"{model}: no answer ends with a stop token, so it never learns to stop; "
                "is data.max_answer_tokens too small?"
            )
        )
    elif answers.unstopped:
        share = answers.unstopped / answers.rows
        text = f"{model}: {answers.unstopped} of {answers.rows} answers are cut before their stop token"
        findings.append(warning(text) if share > 0.05 else note(text))
    if answers.unknown:
        findings.append(
            warning(
                f"{model}: {answers.unknown} of {answers.rows} answers hold an unknown token, "
                "which the tokenizer cannot write"
            )
        )
    if answers.altered:
        _, answer, learned = answers.altered[0]
        findings.append(
            warning(
                f"{model}: {len(answers.altered)} of {answers.rows} answers read differently once tokenised, "
                f"such as {_short(answer)!r} → {_short(learned)!r}"
            )
        )
    if answers.doubled_start:
        findings.append(
            warning(f"{model}: {answers.doubled_start} of {answers.rows} prompts begin with two start tokens")
        )
    return findings


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"


def of_alignment(alignment: TokenAlignment, *, by_position: bool) -> list[Finding]:
    """Whether the two sides learn the same tokens, where the method compares them by position."""
    if by_position and alignment.same_targets < alignment.rows:
        unequal = alignment.rows - alignment.same_targets
        return [
            warning(
                f"the target tokens of {unequal} of {alignment.rows} rows differ between student and teacher, "
                "and the method compares them position by position"
            )
        ]
    return []


def of_heads(probes: Mapping[str, HeadProbe]) -> list[Finding]:
    """Heads that the losses would get wrong."""
    return [warning(probed.fault) for probed in probes.values() if probed.fault]


def of_losses(losses: Losses, recipe: Recipe) -> list[Finding]:
    """Terms that are zero, not finite or without a gradient, and a teacher that fits the gold answers no better."""
    if losses.tokens == 0:
        return [warning("the batch has no target tokens: nothing is learned")]
    findings = []
    weight, masked = recipe.distil.gold_weight, recipe.distil.method == "dskd_cma"
    for term in [*losses.terms, losses.total]:
        off = weight == 0 if term.name == "gold" else weight == 1 and term is not losses.total
        findings += _of_term(
            term.name, term.entering, [term.student_gradient, term.objective_gradient or 0.0], off=off, masked=masked
        )
    if not losses.total.student_gradient > 0 and math.isfinite(losses.total.entering):
        findings.append(warning("the loss has no gradient on the student: it would not learn"))
    if losses.total.objective_gradient == 0:
        findings.append(
            warning("the loss has no gradient on the objective's own parameters: the projectors do not learn")
        )
    if losses.kl is not None and losses.kl < SAME_WEIGHTS:
        findings.append(warning("KL between teacher and student is 0 before training: are these the same weights?"))
    elif losses.teacher_gold >= losses.student_gold:
        findings.append(_no_better_teacher(losses, recipe))
    return findings


def _no_better_teacher(losses: Losses, recipe: Recipe) -> Finding:
    costs = (
        f"the gold answers cost the teacher {losses.teacher_gold:.1f} nats each and the student "
        f"{losses.student_gold:.1f}: "
    )
    if recipe.local_teacher.sft:
        return note(costs + "this teacher is not fit to teach before teacher.sft, which is planned")
    return warning(costs + "the teacher is not fit to teach; give it teacher.sft")


def _of_term(name: str, value: float, gradients: list[float], *, off: bool, masked: bool) -> list[Finding]:
    if not math.isfinite(value):
        return [warning(f"{name}: the value is {value}")]
    if not all(math.isfinite(gradient) for gradient in gradients):
        return [warning(f"{name}: the gradient is not finite though the value is")]
    if off:
        return [note(f"{name}: without weight in this recipe (distil.gold_weight), so it is 0 on gold rows")]
    if value == 0 and name == "student_space" and masked:
        return [note("student_space: 0 until the teacher's states, carried over, first put a gold token first")]
    if value == 0:
        return [warning(f"{name}: the value is exactly 0")]
    if name != "total" and not any(gradients):
        return [warning(f"{name}: it has a value, but no gradient on any trained parameter")]
    return []


def of_reference_check(check: ReferenceCheck) -> list[Finding]:
    """Whether the objective computes what it should."""
    if check.agrees:
        return []
    return [
        warning(
            f"the objective's loss is {check.objective:.6g} per token and the same loss by full logits "
            f"{check.dense:.6g} (value apart by {check.value_gap:.1%}, gradient by "
            f"{check.gradient_gap:.1%}): the loss is wrong, please report this"
        )
    ]


def of_costs(costs: Mapping[str, Cost], free: int | None) -> list[Finding]:
    """What could not be measured, and what will not fit."""
    findings = [
        warning(f"{name}: one step could not be taken: {cost.why_not}") for name, cost in costs.items() if cost.why_not
    ]
    for name, cost in costs.items():
        if free and cost.memory and cost.memory > free:
            findings.append(warning(f"{name}: a step takes {in_bytes(cost.memory)}, and {in_bytes(free)} are free"))
    return findings


def merged(findings: Sequence[Finding]) -> list[Finding]:
    """Each finding once, and what holds for both models in one sentence."""
    unique = list(dict.fromkeys(findings))
    for finding in list(unique):
        both = Finding(finding.level, finding.text.replace("student: ", "student and teacher: ", 1))
        twin = Finding(finding.level, finding.text.replace("student: ", "teacher: ", 1))
        if finding.text.startswith("student: ") and twin in unique:
            unique[unique.index(finding)] = both
            unique.remove(twin)
    return unique
