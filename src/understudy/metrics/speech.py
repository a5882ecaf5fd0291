"""Error rates of what was written down of speech: edits over what was said, so lower is better.

Compared are texts in lower case without punctuation, as error rates of speech are published: an apostrophe or a hyphen
within a word stays, numbers are not spelled out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from rapidfuzz.distance import Levenshtein

from understudy.metrics.scores import MetricInputs, Score

_WITHIN = re.compile(r"(?<=\w)['’\-](?=\w)")
_KINDS = ("replace", "delete", "insert")


def word_error_rate(inputs: MetricInputs) -> Score:
    """WER = (substitutions + deletions + insertions) / words of the reference, over all items together.

    It can be larger than 1. Of several references the one counts that gives the lowest rate. `statistics` holds
    [edits, reference words] an item; an item whose reference has no word is not measured. `details` has the three
    kinds of edits.
    """
    return _rate("wer", inputs, spoken_words)


def char_error_rate(inputs: MetricInputs) -> Score:
    """CER: as `word_error_rate`, of characters, the blanks between words among them."""
    return _rate("cer", inputs, lambda text: list(" ".join(spoken_words(text))))


@lru_cache(maxsize=2**16)
def spoken_words(text: str) -> list[str]:
    """The words of a text in lower case without punctuation."""
    lowered = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    kept = {match.start() for match in _WITHIN.finditer(lowered)}
    letters = (
        letter if place in kept or unicodedata.category(letter)[0] not in "PS" else " "
        for place, letter in enumerate(lowered)
    )
    return "".join(letters).split()


def _rate(name: str, inputs: MetricInputs, units: Callable[[str], Sequence[str]]) -> Score:
    rows = [
        _edits(units(prediction), [units(reference) for reference in references])
        for prediction, references in zip(inputs.predictions, inputs.references, strict=True)
    ]
    counts = np.array(rows, dtype=np.float64)
    statistics = np.stack([counts[:, :3].sum(axis=1), counts[:, 3]], axis=-1)
    with np.errstate(invalid="ignore"):
        values = statistics[:, 0] / statistics[:, 1]
    totals = counts.sum(axis=0)
    return Score(
        name,
        float(_ratio(statistics.sum(axis=0))),
        tuple(values.tolist()),
        statistics,
        _ratio,
        f"{name}|case:lower|punctuation:dropped|references:best",
        higher_is_better=False,
        details=dict(zip(("substitutions", "deletions", "insertions"), totals[:3].tolist(), strict=True)),
    )


def _ratio(totals: np.ndarray) -> np.ndarray:
    """`[..., 2]` summed edits over summed words: a corpus rate, no mean of rates; NaN where nothing was said."""
    with np.errstate(invalid="ignore"):
        return totals[..., 0] / totals[..., 1]


def _edits(given: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[int, int, int, int]:
    """Substitutions, deletions and insertions that make the best reference of what was given, and its length.

    All are 0 where no reference says anything.
    """
    best: tuple[int, int, int, int] | None = None
    for reference in references:
        if not reference:
            continue
        kinds = [edit.tag for edit in Levenshtein.editops(reference, given)]
        counts = (*(kinds.count(kind) for kind in _KINDS), len(reference))
        if best is None or sum(counts[:3]) * best[3] < sum(best[:3]) * counts[3]:
            best = counts  # pyright: ignore[reportAssignmentType]
    return best or (0, 0, 0, 0)
