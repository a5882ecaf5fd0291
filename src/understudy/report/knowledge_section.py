"""What a report says of the teacher's texts: figures by step, what revising changed, samples, and how good they are."""

from __future__ import annotations

from typing import Any

from understudy.records import FigureLine, RevisedFigure, Revision, TextFigures
from understudy.report.formatting import bounds, number, p_text
from understudy.report.inputs import TextSample, WrittenTexts
from understudy.types import Knowledge

STEPS = {
    "explain": "Explanation",
    "explain_blind": "Explanation, gold hidden",
    "critique": "Critique",
    "revise": "Revision",
    "counterfactual": "Counterfactual",
    "answer": "Answer",
    "paraphrase": "Paraphrase",
    "new_questions": "New question",
    "patterns": "Pattern",
    "rules": "Rule",
    "thoughts": "Thought",
    "adaptive": "Answer after feedback",
}
FIGURES = {
    "words": "Words",
    "distractors": "Other choices mentioned",
    "restates": "Words that are the question's or the answer's, %",
    "names_answer": "Names the answer, %",
}
_SHARES = ("restates", "names_answer")


def step_label(step: str) -> str:
    """A step's name in print."""
    return STEPS.get(step, step.replace("_", " ").capitalize())


def view(texts: WrittenTexts | None) -> dict[str, Any] | None:
    """What the template prints of `ReportInputs.texts`; None where there are none."""
    if texts is None:
        return None
    return {
        "teacher": texts.teacher,
        "steps": [_step(name, figures) for name, figures in sorted(texts.quality.items(), key=_step_order)],
        "costs": texts.costs,
        "revision": _revision(texts.revision) if texts.revision and texts.revision.pairs else None,
        "samples": [_sample(sample) for sample in texts.samples],
        "explanations": [_measured(row) for row in texts.explanations],
    }


def _step_order(item: tuple[str, Any]) -> tuple[int, str]:
    """Steps in the order in which they are usually asked; those of the user's own last."""
    name = item[0]
    return (list(STEPS).index(name) if name in STEPS else len(STEPS), name)


def _step(name: str, figures: TextFigures) -> dict[str, Any]:
    reasons = ", ".join(f"{word} {count:,}" for word, count in figures.reasons.items())
    return {
        "label": step_label(name),
        "written": f"{figures.written:,} of {figures.rows:,}",
        "kept": f"{figures.kept:,}",
        "reasons": reasons or "–",
        "words": number(figures.words_mean),
        "distractors": number(figures.distractors_mean, 2),
        "names": _percent(figures.names_answer),
        "leads": _percent(figures.leads_to_gold),
    }


def _percent(share: float | None) -> str:
    return number(None if share is None else 100 * share)


def _revision(revision: Revision) -> dict[str, Any]:
    rows = []
    for name, label in FIGURES.items():
        figure: RevisedFigure | None = getattr(revision, name)
        if figure is None:
            continue
        factor, digits = 100 if name in _SHARES else 1, 2 if name == "distractors" else 1
        points = [None if point is None else factor * point for point in (figure.difference, figure.low, figure.high)]
        texts = [number(point, digits, sign=True) for point in points]
        rows.append(
            {
                "label": label,
                "before": number(factor * figure.before, digits),
                "after": number(factor * figure.after, digits),
                "difference": texts[0],
                "bounds": "" if figure.low is None else f"{texts[1]} to {texts[2]}",
                "p": p_text(figure.p_value),
            }
        )
    return {"pairs": f"{revision.pairs:,}", "rows": rows}


def _sample(sample: TextSample) -> dict[str, Any]:
    rows = [
        {"label": _text_label(row, sample), "text": row.text or "", "reasons": "; ".join(row.reasons)}
        for row in sample.texts
    ]
    about = {"id": sample.id, "question": sample.question, "choices": sample.choices, "answer": sample.answer}
    return {**about, "rows": rows}


def _text_label(row: Knowledge, sample: TextSample) -> str:
    label, choices, place = step_label(row.step), sample.choices, row.choice
    return label if place is None or not 0 <= place < len(choices) else f"{label} for “{choices[place]}”"


def _measured(line: FigureLine) -> dict[str, Any]:
    """A figure with its interval, on 0 to 100 unless `scale` says otherwise; or why there is none."""
    if line.value is None:
        return {"label": line.label, "value": number(None), "bounds": "", "n": "", "why": line.reason}
    has_interval = line.low is not None and line.high is not None
    return {
        "label": line.label,
        "value": number(line.scale * line.value),
        "bounds": bounds({"low": line.low, "high": line.high}, line.scale) if has_interval else "",
        "n": f"{line.n:,}",
        "why": line.about,
    }
