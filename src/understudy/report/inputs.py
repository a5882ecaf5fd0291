"""What a report is made of: plain values, so that any run – or a file from another tool – can be shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from understudy.records import FigureLine, ModelSpeed, Revision, TextFigures
from understudy.types import Knowledge


@dataclass(frozen=True)
class TextSample:
    """An example with everything that was written about it.

    Attributes:
        id: of the example.
        question: what is asked.
        choices: its options, if any.
        answer: the gold answer; empty where there is none.
        texts: what was written, rejected texts included, in the order of the steps.
    """

    id: str
    question: str
    choices: Sequence[str] = ()
    answer: str = ""
    texts: Sequence[Knowledge] = ()


@dataclass(frozen=True)
class WrittenTexts:
    """What a teacher wrote and how good it is.

    Attributes:
        teacher: who wrote; empty where the rationales are those of the data set.
        quality: step → what its texts are like.
        revision: what revising changed; None where nothing was revised.
        costs: what the texts cost, in words.
        samples: a few examples with their texts.
        explanations: how good the student's own explanations are.
    """

    teacher: str = ""
    quality: Mapping[str, TextFigures] = field(default_factory=dict)
    revision: Revision | None = None
    costs: str = ""
    samples: Sequence[TextSample] = ()
    explanations: Sequence[FigureLine] = ()


@dataclass(frozen=True)
class ReportInputs:
    """Everything a report shows. Only `name` and `comparison` are needed; a section without data is left out.

    Attributes:
        name: name of the run.
        comparison: `evaluation.compare.Comparison.to_dict()` of the run's arms.
        recipe: the recipe as YAML text.
        curves: stage -> rows of its `metrics.jsonl` (`step`, loss terms, `agreement`, entropies, `eval_rougeL` …).
        models: arm -> size and speed; an arm that is not listed takes the figures of `student`.
        data: label -> figure or text about the data (sizes of the splits, duplicates, contexts reduced …).
        fingerprints: label -> fingerprint of a file or data set.
        versions: package -> version, and the machine.
        texts: what a teacher wrote and how good it is; None where none wrote.
        notes: whatever a reader has to know, in sentences.
    """

    name: str
    comparison: Mapping[str, Any]
    recipe: str = ""
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    models: Mapping[str, ModelSpeed] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    texts: WrittenTexts | None = None
    notes: Sequence[str] = ()

    def model_of(self, arm: str) -> ModelSpeed | None:
        """Size and speed of an arm's model; the students share one architecture. None where it was not timed."""
        if arm in self.models:
            return self.models[arm]
        return None if arm in ("teacher", "majority", "first_option") else self.models.get("student")
