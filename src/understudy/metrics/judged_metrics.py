"""The five metrics that a language model decides.

Faithfulness, answer relevance and context relevance are those of Es et al. (2023, arXiv 2309.15217), factual and answer
correctness those of the telecom study's authors (arXiv 2504.20000 and before); the prompts are ours.

Without a judge, or without what a metric has to read, the score says *not measured*. An item without a context, or
whose verdict never came or could not be read, is missing: NaN, counted in `details`, and in no mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from understudy.errors import ModelError
from understudy.metrics import embedding
from understudy.metrics.judge_session import Case, JudgeSession, Missing, Verdict, list_schema, object_schema
from understudy.metrics.scores import MetricInputs, Score, mean_score, not_measured

REGENERATED = 3
"""Questions that `answer_relevance` has the judge guess from an answer."""

FACTUAL_WEIGHT = 0.75
"""Weight of `factual_correctness` in `answer_correctness`; the similarity has the rest."""

_NO_CLAIM = Missing("the answer makes no claim")
_NO_CONTEXT = Missing("no context")
_CLAIMS = object_schema(claims=list_schema({"type": "string", "pattern": r"\S"}))
_BREAK = re.compile(r"""(?:(?<=[.!?])|(?<=[.!?]["')\]]))\s+(?=["'(\[]*[^\W_a-z])|(?<=[。！？])|\n+""")


def faithfulness(texts: MetricInputs) -> Score:
    """Share of an answer's claims that its context supports, 0 to 1.

    Two questions an item: the claims, then a verdict on each. An answer without a claim is missing, not faithful.
    """
    hearing = _hearing("faithfulness", texts, "claims", "supported", contexts=True)
    if isinstance(hearing, Score):
        return hearing
    contexts = texts.contexts or ()
    outcomes: dict[Case, float | Missing] = {}
    for case in _cases(hearing):
        if not (contexts[case[0]] or "").strip():
            outcomes[case] = _NO_CONTEXT
        elif not texts.predictions[case[0]].strip():
            outcomes[case] = _NO_CLAIM
    open_cases = [case for case in _cases(hearing) if case not in outcomes]
    claims = hearing.ask("claims", {case: _claims_of(texts, case, texts.predictions) for case in open_cases})
    stated = {case: found["claims"] for case, found in claims.items() if not isinstance(found, Missing)}
    verdicts = hearing.ask(
        "supported",
        {
            case: ({"context": contexts[case[0]], "claims": list(found)}, _support_schema(len(found)))
            for case, found in stated.items()
            if found
        },
    )
    for case in open_cases:
        verdict = verdicts.get(case, _missing_or(claims[case], _NO_CLAIM))
        outcomes[case] = (
            verdict
            if isinstance(verdict, Missing)
            else float(np.mean([found["supported"] for found in verdict["verdicts"]]))
        )
    return hearing.score(outcomes)


def answer_relevance(texts: MetricInputs) -> Score:
    """Mean cosine between the question and three questions guessed from the answer, 0 to 1.

    An answer that avoids answering counts 0, and so does an empty one, without a call. A negative mean counts as 0.
    One question an item; the vectors are those of `MetricModels.embedding_model`.
    """
    name, model = "answer_relevance", texts.tools.embedding_model
    hearing = _hearing(name, texts, "questions")
    if isinstance(hearing, Score):
        return hearing
    try:
        vectors_by = embedding.embedding_signature(model)
    except ModelError as error:
        return not_measured(name, len(texts.predictions), str(error))
    strings = list_schema({"type": "string", "pattern": r"\S"}, REGENERATED)
    schema = object_schema(questions=strings, noncommittal={"type": "boolean"})
    found = hearing.ask(
        "questions",
        {
            case: ({"answer": texts.predictions[case[0]], "number": REGENERATED}, schema)
            for case in _cases(hearing)
            if texts.predictions[case[0]].strip()
        },
    )
    score = hearing.score(_cosines(texts, _cases(hearing), found, model))
    return replace(score, signature=f"{score.signature}|questions:{REGENERATED}|negatives:0|{vectors_by}")


def context_relevance(texts: MetricInputs) -> Score:
    """Share of a context's sentences that are needed to answer the question, 0 to 1.

    One question an item. It says something of the contexts only: every system gets the same value, and the answers of
    the judge are shared by all of them.
    """
    hearing = _hearing("context_relevance", texts, "sentences", contexts=True)
    if isinstance(hearing, Score):
        return hearing
    split = [sentences(context or "") for context in texts.contexts or ()]
    found = hearing.ask(
        "sentences",
        {
            case: (
                {"question": _question(texts, case), "sentences": split[case[0]]},
                _sentence_schema(len(split[case[0]])),
            )
            for case in _cases(hearing)
            if split[case[0]]
        },
    )
    outcomes: dict[Case, float | Missing] = {}
    for case in _cases(hearing):
        verdict = found.get(case, _NO_CONTEXT)
        outcomes[case] = verdict if isinstance(verdict, Missing) else len(verdict["needed"]) / len(split[case[0]])
    return hearing.score(outcomes)


def factual_correctness(texts: MetricInputs) -> Score:
    """F1 over claims: TP those of the answer that the reference bears out, FP the others, FN what the answer lacks.

    ```text
    F1 = TP / (TP + (FP + FN) / 2)
    ```

    Three questions an item: the claims of both sides and their comparison. Several references: the best, two more
    questions for each further one. An empty answer to a reference that is not empty is 0, without a call, and an
    answer without a claim has TP = 0.
    """
    hearing = _hearing("factual_correctness", texts, "claims", "compared")
    return hearing if isinstance(hearing, Score) else hearing.score(_factual(hearing, texts))


def answer_correctness(texts: MetricInputs) -> Score:
    """0.75 · `factual_correctness` + 0.25 · `answer_similarity`, 0 to 1; an item that lacks either is missing."""
    name, items = "answer_correctness", len(texts.predictions)
    hearing = _hearing(name, texts, "claims", "compared")
    if isinstance(hearing, Score):
        return hearing
    # First what costs nothing: without it no question need be asked.
    similarity = embedding.answer_similarity(texts)
    if similarity.reason:
        return not_measured(name, items, similarity.reason)
    factual = hearing.score(_factual(hearing, texts))
    if factual.reason:
        return replace(not_measured(name, items, factual.reason), details=factual.details)
    weight = FACTUAL_WEIGHT
    values = weight * np.asarray(factual.per_example) + (1 - weight) * np.asarray(similarity.per_example)
    # What repeats vary by is the factual part, whose weight enters squared.
    details = {key: value for key, value in factual.details.items() if key not in ("item_variance", "reliability")}
    if details.get("repeat_variance") is not None:
        details["repeat_variance"] *= weight**2
    details["parts"] = {"factual_correctness": factual.value, "answer_similarity": similarity.value}
    signature = f"{weight:g}·factual_correctness[{factual.signature}] + {1 - weight:g}·[{similarity.signature}]"
    return replace(mean_score(name, values, signature), details=details)


# Parts ----------------------------------------------------------------------------------------------------------------


def _hearing(name: str, texts: MetricInputs, *prompts: str, contexts: bool = False) -> JudgeSession | Score:
    """A hearing, or the score that says why there is none."""
    judge, items = texts.tools.judge, len(texts.predictions)
    if judge is None:
        return not_measured(name, items, "it needs a judge (evaluate.judge in the recipe), and there is none")
    if texts.questions is None:
        return not_measured(name, items, "it needs the questions, and none were given")
    if contexts and not any((context or "").strip() for context in texts.contexts or ()):
        return not_measured(name, items, "it needs contexts, and no item has one")
    return JudgeSession(name, judge, items, texts.tools.judge_repeats, *prompts)


def _cases(hearing: JudgeSession) -> list[Case]:
    return list(product(range(hearing.items), range(hearing.repeats)))


def _question(texts: MetricInputs, case: Case) -> str:
    return (texts.questions or ())[case[0]]


def _claims_of(texts: MetricInputs, case: Case, answers: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"question": _question(texts, case), "answer": answers[case[0]]}, _CLAIMS


def _support_schema(claims: int) -> dict[str, Any]:
    return object_schema(
        verdicts=list_schema(object_schema(reason={"type": "string"}, supported={"type": "boolean"}), claims)
    )


def _sentence_schema(count: int) -> dict[str, Any]:
    number = {"type": "integer", "minimum": 1, "maximum": count}
    return object_schema(needed=list_schema(number, uniqueItems=True))


def _missing_or(verdict: Verdict, other: Missing) -> Missing:
    return verdict if isinstance(verdict, Missing) else other


def _cosines(
    texts: MetricInputs, cases: Sequence[Case], found: Mapping[Case, Verdict], model: str
) -> dict[Case, float | Missing]:
    guessed = {case: verdict["questions"] for case, verdict in found.items() if not isinstance(verdict, Missing)}
    distinct = sorted(
        {_question(texts, case) for case in guessed} | {text for some in guessed.values() for text in some}
    )
    vectors = dict(zip(distinct, embedding.sentence_embeddings(distinct, model), strict=True)) if distinct else {}
    outcomes: dict[Case, float | Missing] = {}
    for case in cases:
        verdict = found.get(case)
        if isinstance(verdict, Missing):
            outcomes[case] = verdict
        elif verdict is None or verdict["noncommittal"]:
            outcomes[case] = 0.0
        else:
            asked = vectors[_question(texts, case)]
            cosine = float(np.mean([asked @ vectors[text] for text in guessed[case]]))
            outcomes[case] = min(1.0, max(0.0, cosine))
    return outcomes


def _factual(hearing: JudgeSession, texts: MetricInputs) -> dict[Case, float | Missing]:
    """F1 by (item, repeat): the best over the references."""
    references = [list(dict.fromkeys(some)) for some in texts.references]
    pairs = [(*case, number) for case in _cases(hearing) for number in range(len(references[case[0]]))]
    known: dict[Case, float | Missing] = {}
    for item, repeat, number in pairs:
        answer, reference = texts.predictions[item].strip(), references[item][number].strip()
        if not answer or not reference:
            known[item, repeat, number] = float(answer == reference)
    open_pairs = [pair for pair in pairs if pair not in known]
    sides: dict[Case, tuple[Any, Any]] = {
        (*pair[:2], -1): _claims_of(texts, pair, texts.predictions) for pair in open_pairs
    }
    sides |= {
        pair: ({"question": _question(texts, pair), "answer": references[pair[0]][pair[2]]}, _CLAIMS)
        for pair in open_pairs
    }
    claims = hearing.ask("claims", sides)
    comparisons: dict[Case, tuple[Any, Any]] = {}
    for pair in open_pairs:
        answer, reference = claims[*pair[:2], -1], claims[pair]
        if isinstance(answer, Missing) or isinstance(reference, Missing):
            known[pair] = answer if isinstance(answer, Missing) else _missing_or(reference, _NO_CLAIM)
        elif not reference["claims"]:
            known[pair] = Missing("the reference makes no claim")
        elif not answer["claims"]:
            known[pair] = 0.0
        else:
            comparisons[pair] = _comparison(_question(texts, pair), answer["claims"], reference["claims"])
    for pair, verdict in hearing.ask("compared", comparisons).items():
        known[pair] = verdict if isinstance(verdict, Missing) else _f1(verdict["answer"], verdict["reference"])
    return {
        case: _best([known[*case, number] for number in range(len(references[case[0]]))]) for case in _cases(hearing)
    }


def _comparison(
    question: str, answer: Sequence[str], reference: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    flag = {"type": "boolean"}
    schema = object_schema(answer=list_schema(flag, len(answer)), reference=list_schema(flag, len(reference)))
    return {"question": question, "answer": list(answer), "reference": list(reference)}, schema


def _f1(answer: Sequence[bool], reference: Sequence[bool]) -> float:
    right, wrong, lacking = sum(answer), len(answer) - sum(answer), len(reference) - sum(reference)
    return right / (right + (wrong + lacking) / 2) if right else 0.0


def _best(values: Sequence[float | Missing]) -> float | Missing:
    """The best value; missing where a reference without a verdict could still have been better."""
    known = [value for value in values if not isinstance(value, Missing)]
    missing = [value for value in values if isinstance(value, Missing)]
    return missing[0] if missing and max(known, default=0.0) < 1.0 else max(known)


def sentences(text: str) -> list[str]:
    """A text's sentences: cut at line breaks, and behind a full stop, question or exclamation mark that ends one."""
    return [part.strip() for part in _BREAK.split(text) if part and part.strip()]
