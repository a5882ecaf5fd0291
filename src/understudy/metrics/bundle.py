"""How well the bundles of a session are found: precision, recall, coverage, exact bundles, intents.

A predicted bundle *hits* a true one when it has two items or more and all of them are in it. P are the different
predicted bundles of a session, T the true ones, M a maximum matching of hits, so that each truth is hit once and each
prediction hits once; of several the one that covers most, and for intents, of these, the one whose intents agree most.

```text
precision = |M| / |P|      recall = |M| / |T|      F1 = 2|M| / (|P| + |T|)
coverage  = mean over (p, t) in M of |p| / |t|     exact = 2 |P ∩ T| / (|P| + |T|)
intent    = 1/|T| Σ over (p, t) in M of similarity(intent of p, intent of t)
```

Each is worked out for a session and averaged over sessions. An answer that cannot be read has no bundles and stays in
the denominator; without a hit all are 0. The hit is that of bundle generation (Sun et al., arXiv 2504.17220; its
predecessor's code is public), the conventions are not: theirs are the metrics named `…_published`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import count

import numpy as np

from understudy.bundle_answers import UNKNOWN, Bundle, read_answer
from understudy.errors import ModelError
from understudy.metrics.embedding import embedding_signature, sentence_embeddings
from understudy.metrics.scores import MetricInputs, Score, mean_score, not_measured
from understudy.normal_form import NORMAL_WORDS

_NO_BUNDLES = "no reference is an answer of bundles"
_SOUND = "matching:maximum|unreadable:empty|no_hit:0|references:best"
_PUBLISHED = "matching:none|unreadable:left_out|singletons:left_out|ids:last_digit"
_NUMBERED = re.compile(r"^(\d+)\. ", re.MULTILINE)

Hits = tuple[tuple[Bundle, Bundle], ...]
Similarity = Callable[[str, str], float]
_read = lru_cache(maxsize=2**14)(read_answer)  # ten metrics read the same answers


def _distinct(bundles: Iterable[Bundle]) -> tuple[Bundle, ...]:
    """Each set of items once, with the first of its intents."""
    first: dict[tuple[int, ...], Bundle] = {}
    for bundle in bundles:
        first.setdefault(bundle.items, bundle)
    return tuple(first.values())


def match(predicted: Sequence[Bundle], truth: Sequence[Bundle], alike: Similarity | None = None) -> Hits:
    """Pairs of a maximum matching of hits, and among these one of the largest coverage: (predicted, true).

    Args:
        predicted: the different bundles of an answer.
        truth: those of the session.
        alike: of two intents, 0 to 1; of matchings of the same coverage it takes the one with the largest sum.
    """
    from scipy.optimize import linear_sum_assignment

    if not predicted or not truth:
        return ()
    # Coverages of a matching add up to less than `most`, so they never outweigh one more hit.
    most = min(len(predicted), len(truth)) + 1
    shares = np.array([[_hits(p, t) * (1 + len(p.items) / len(t.items) / most) for t in truth] for p in predicted])
    if alike is None:
        weights = shares
    else:
        # Sums of coverages that differ do so by more than this, as far as sessions have less than some hundred items.
        ties = np.array([[alike(p.intent, t.intent) if p.intent and t.intent else 0 for t in truth] for p in predicted])
        weights = shares + (shares > 0) * ties * 1e-9 / most
    rows, columns = linear_sum_assignment(weights, maximize=True)
    return tuple((predicted[i], truth[j]) for i, j in zip(rows, columns, strict=True) if weights[i, j] > 0)


def _hits(predicted: Bundle, truth: Bundle) -> bool:
    return len(predicted.items) > 1 and set(predicted.items) <= set(truth.items)


# One session ----------------------------------------------------------------------------------------------------------

OfSession = Callable[[Sequence[Bundle], Sequence[Bundle], Hits], float]


def _precision(predicted: Sequence[Bundle], truth: Sequence[Bundle], hits: Hits) -> float:
    return len(hits) / len(predicted) if predicted else 0.0


def _recall(predicted: Sequence[Bundle], truth: Sequence[Bundle], hits: Hits) -> float:
    return len(hits) / len(truth)


def _f1(predicted: Sequence[Bundle], truth: Sequence[Bundle], hits: Hits) -> float:
    return 2 * len(hits) / (len(predicted) + len(truth))


def _coverage(predicted: Sequence[Bundle], truth: Sequence[Bundle], hits: Hits) -> float:
    return sum(len(p.items) / len(t.items) for p, t in hits) / len(hits) if hits else 0.0


def _exact(predicted: Sequence[Bundle], truth: Sequence[Bundle], hits: Hits) -> float:
    same = {bundle.items for bundle in predicted} & {bundle.items for bundle in truth}
    return 2 * len(same) / (len(predicted) + len(truth))


# All sessions ---------------------------------------------------------------------------------------------------------


def bundle_precision(inputs: MetricInputs) -> Score:
    """Mean share of a session's predicted bundles that hit: |M| / |P|; 0 where none is predicted."""
    return _sound("bundle_precision", inputs, _precision)


def bundle_recall(inputs: MetricInputs) -> Score:
    """Mean share of a session's true bundles that are hit: |M| / |T|, never above 1."""
    return _sound("bundle_recall", inputs, _recall)


def bundle_f1(inputs: MetricInputs) -> Score:
    """Mean harmonic mean of a session's precision and recall: 2|M| / (|P| + |T|)."""
    return _sound("bundle_f1", inputs, _f1)


def bundle_coverage(inputs: MetricInputs) -> Score:
    """Mean over sessions of how much of the true bundles their hits hold, |p| / |t|; 0 without a hit."""
    return _sound("bundle_coverage", inputs, _coverage)


def bundle_exact(inputs: MetricInputs) -> Score:
    """Mean F1 of the bundles predicted to the item: 2 |P ∩ T| / (|P| + |T|)."""
    return _sound("bundle_exact", inputs, _exact)


def bundle_intent_f1(inputs: MetricInputs) -> Score:
    """Mean over true bundles of the token F1 of both intents, 0 where the bundle is not hit."""
    words = NORMAL_WORDS[inputs.models.normalise]
    signature = f"bundle_intent_f1|{_SOUND}|normalise:{inputs.models.normalise}"
    return _of_intents("bundle_intent_f1", inputs, lambda a, b: _token_f1(words(a), words(b)), signature)


def bundle_intent_similarity(inputs: MetricInputs) -> Score:
    """Mean over true bundles of the cosine of both intents' sentence vectors, 0 below 0 and where it is not hit."""
    name, model = "bundle_intent_similarity", inputs.models.embedding_model
    try:
        signature = f"{name}|{_SOUND}|{embedding_signature(model)}|cosine|negatives:0"
        texts = sorted({bundle.intent for text in _texts(inputs) for bundle in _read(text) or () if bundle.intent})
        vectors = dict(zip(texts, sentence_embeddings(texts, model), strict=True))
    except ModelError as error:
        return not_measured(name, len(inputs.predictions), str(error))
    return _of_intents(name, inputs, lambda a, b: float(np.clip(vectors[a] @ vectors[b], 0.0, 1.0)), signature)


def _texts(inputs: MetricInputs) -> set[str]:
    return {*inputs.predictions, *(reference for references in inputs.references for reference in references)}


def _of_intents(name: str, inputs: MetricInputs, similarity: Similarity, signature: str) -> Score:
    """A metric of intents; true bundles without one are left out."""

    def of_session(predicted: Sequence[Bundle], truth: Sequence[Bundle], hits: Hits) -> float:
        named = sum(bool(bundle.intent) for bundle in truth)
        hits = match(predicted, truth, similarity)
        values = (similarity(p.intent, t.intent) for p, t in hits if p.intent and t.intent)
        return sum(values) / named if named else float("nan")

    return _sound(name, inputs, of_session, signature)


def _token_f1(predicted: Sequence[str], truth: Sequence[str]) -> float:
    common = (Counter(predicted) & Counter(truth)).total()
    return 2 * common / (len(predicted) + len(truth)) if common else 0.0


def _sound(name: str, inputs: MetricInputs, of_session: OfSession, signature: str = "") -> Score:
    """The mean over sessions; an item whose references are no bundles is not measured."""
    values = [
        max(
            (_value(of_session, _read(prediction) or (), truth) for truth in map(_read, references) if truth),
            default=float("nan"),
        )
        for prediction, references in zip(inputs.predictions, inputs.references, strict=True)
    ]
    if np.isnan(values).all():
        return not_measured(name, len(values), _NO_BUNDLES if "intent" not in name else f"{_NO_BUNDLES} with intents")
    return mean_score(name, values, signature or f"{name}|{_SOUND}")


def _value(of_session: OfSession, predicted: Sequence[Bundle], truth: Sequence[Bundle]) -> float:
    predicted, truth = _distinct(predicted), _distinct(truth)
    return of_session(predicted, truth, match(predicted, truth))


# As published ---------------------------------------------------------------------------------------------------------


def bundle_precision_published(inputs: MetricInputs) -> Score:
    """Precision by the predecessor's conventions, to be set beside published figures and nothing else.

    Answers that cannot be read, and those of single items alone, are left out of the mean; single items are dropped
    before counting; an item is known by the last digit of its number, 0 being the last item of the session; several
    predictions may hit one truth.
    """
    return _published_mean("bundle_precision_published", inputs, lambda hits, predicted, truth: len(hits) / predicted)


def bundle_recall_published(inputs: MetricInputs) -> Score:
    """Recall by the same conventions as `bundle_precision_published`; it passes 1 where a truth is hit twice."""
    return _published_mean("bundle_recall_published", inputs, lambda hits, predicted, truth: len(hits) / truth)


def bundle_coverage_published(inputs: MetricInputs) -> Score:
    """Mean of |p| / |t| over the hits of all sessions together, by the conventions of `bundle_precision_published`.

    Without any hit it is 0, as in the code of today; earlier code divided by zero.
    """
    name = "bundle_coverage_published"
    sessions = _published_sessions(inputs)
    if isinstance(sessions, str):
        return not_measured(name, len(inputs.predictions), sessions)
    rows = [(0.0, 0.0, 0.0) if session is None else (sum(session[0]), len(session[0]), 1.0) for session in sessions]
    statistics = np.array(rows, dtype=np.float64)
    values = tuple(total / hits if hits else float("nan") for total, hits, _ in rows)
    value = float(_coverage_from_totals(statistics.sum(axis=0)))
    return Score(name, value, values, statistics, _coverage_from_totals, f"{name}|{_PUBLISHED}|hits:pooled")


def _coverage_from_totals(totals: np.ndarray) -> np.ndarray:
    """Coverage summed over hits, hits, sessions: `[..., 3] -> [...]`; 0 without a hit, NaN without a session."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(totals[..., 1] > 0, totals[..., 0] / totals[..., 1], 0.0)
    return np.where(totals[..., 2] > 0, shares, np.nan)


def _published_mean(name: str, inputs: MetricInputs, figure: Callable[[list[float], int, int], float]) -> Score:
    sessions = _published_sessions(inputs)
    if isinstance(sessions, str):
        return not_measured(name, len(inputs.predictions), sessions)
    values = [float("nan") if session is None else figure(*session) for session in sessions]
    return mean_score(name, values, f"{name}|{_PUBLISHED}")


def _published_sessions(inputs: MetricInputs) -> list[tuple[list[float], int, int] | None] | str:
    """Of each session the coverage of every hit, the numbers of predicted and of true bundles; None: left out.

    Or why nothing can be measured.
    """
    lengths = list(map(session_length, inputs.questions or ()))
    if not any(lengths):
        return "the published conventions need the questions: how many items a session has"
    truths = [next(filter(None, map(_read, references)), ()) for references in inputs.references]
    if not any(truths):
        return _NO_BUNDLES
    sessions = [
        _published_session(_read(prediction) or (), truth, length) if truth and length else None
        for prediction, truth, length in zip(inputs.predictions, truths, lengths, strict=True)
    ]
    return sessions if any(sessions) else "no answer can be read, and the published conventions leave such sessions out"


def _published_session(
    predicted: Sequence[Bundle], truth: Sequence[Bundle], length: int
) -> tuple[list[float], int, int] | None:
    predicted = [bundle for bundle in predicted if len(bundle.items) > 1]
    if not predicted:
        return None
    hits = []
    for bundle in predicted:
        items = _by_last_digit(bundle, length)
        hit = next((t for t in truth if items and items <= set(t.items)), None)
        hits += [len(items) / len(hit.items)] if hit else []
    return hits, len(predicted), len(truth)


def _by_last_digit(bundle: Bundle, length: int) -> set[int]:
    """The items that the last digits name, 0 being the last one; nothing where one of them is none of the session."""
    digits = {number % 10 or length for number in bundle.items}
    return set() if UNKNOWN in bundle.items or max(digits) > length else digits


def session_length(question: str) -> int:
    """How many items a question of a session lists: lines that begin with 1., 2., 3. …, in this order."""
    expected = count(1)
    number = next(expected)
    for match_ in _NUMBERED.finditer(question):
        if int(match_[1]) == number:
            number = next(expected)
    return number - 1
