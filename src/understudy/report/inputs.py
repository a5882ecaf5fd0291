"""What a report is made of: plain values, so that any run – or a file from another tool – can be shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ReportInputs:
    """Everything a report shows. Only `name` and `comparison` are needed; a section without data is left out.

    Attributes:
        name: name of the run.
        comparison: `evaluation.compare.Comparison.to_dict()` of the run's arms.
        recipe: the recipe as YAML text.
        curves: stage -> rows of its `metrics.jsonl` (`step`, loss terms, `agreement`, entropies, `eval_rougeL` …).
        models: arm -> `parameters`, `bytes`, `tokens_per_second`, `latency_ms`, `peak_memory_mb`; an arm that is not
            listed takes the figures of `student`.
        data: label -> figure or text about the data (sizes of the splits, duplicates, contexts reduced …).
        fingerprints: label -> fingerprint of a file or data set.
        versions: package -> version, and the machine.
        texts: what a teacher wrote and how good it is: `teacher`, `quality` and `revision` as
            `knowledge.text_statistics` gives them, `costs` in words, `samples` (id, question, choices, answer, rows)
            and `explanations` (`FigureLine`s).
        notes: whatever a reader has to know, in sentences.
    """

    name: str
    comparison: Mapping[str, Any]
    recipe: str = ""
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def model_of(self, arm: str) -> Mapping[str, float | None]:
        """Size and speed of an arm's model; the students share one architecture."""
        if arm in self.models:
            return self.models[arm]
        return {} if arm in ("teacher", "majority") else self.models.get("student", {})
