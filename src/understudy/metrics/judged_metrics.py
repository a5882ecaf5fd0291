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


def faithfulness(inputs: MetricInputs) -> Score:
    """Share of an answer's claims that its context supports, 0 to 1.

    Two questions an item: the claims, then a verdict on each. An answer without a claim is missing, not faithful.
    """
    session = _open_session("faithfulness", inputs, "claims", "supported", contexts=True)
    if isinstance(session, Score):
        return session
    contexts = inputs.contexts or ()
    outcomes: dict[Case, float | Missing] = {}
    for case in _cases(session):
        if not (contexts[case[0]] or "").strip():
            outcomes[case] = _NO_CONTEXT
        elif not inputs.predictions[case[0]].strip():
            outcomes[case] = _NO_CLAIM
    open_cases = [case for case in _cases(session) if case not in outcomes]
    answers = session.ask("claims", {case: _claims_of(inputs, case, inputs.predictions) for case in open_cases})
    claims = {case: list(answer["claims"]) for case, answer in answers.items() if not isinstance(answer, Missing)}
    verdicts = session.ask(
        "supported",
        {
            case: ({"context": contexts[case[0]], "claims": stated}, _support_schema(len(stated)))
            for case, stated in claims.items()
            if stated
        },
    )
    for case in open_cases:
        verdict = verdicts.get(case, _missing_or(answers[case], _NO_CLAIM))
        outcomes[case] = (
            verdict
            if isinstance(verdict, Missing)
            else float(np.mean([claim["supported"] for claim in verdict["verdicts"]]))
        )
    return session.score(outcomes)


def answer_relevance(inputs: MetricInputs) -> Score:
    """Mean cosine between the question and three questions guessed from the answer, 0 to 1.

    An answer that avoids answering counts 0, and so does an empty one, without a call. A negative mean counts as 0.
    One question an item; the vectors are those of `MetricModels.embedding_model`.
    """
    name, model = "answer_relevance", inputs.models.embedding_model
    session = _open_session(name, inputs, "questions")
    if isinstance(session, Score):
        return session
    try:
        vectors_by = embedding.embedding_signature(model)
    except ModelError as error:
        return not_measured(name, len(inputs.predictions), str(error))
    strings = list_schema({"type": "string", "pattern": r"\S"}, REGENERATED)
    schema = object_schema(questions=strings, noncommittal={"type": "boolean"})
    answers = session.ask(
        "questions",
        {
            case: ({"answer": inputs.predictions[case[0]], "number": REGENERATED}, schema)
            for case in _cases(session)
            if inputs.predictions[case[0]].strip()
        },
    )
    score = session.score(_cosines(inputs, _cases(session), answers, model))
    return replace(score, signature=f"{score.signature}|questions:{REGENERATED}|negatives:0|{vectors_by}")


def context_relevance(inputs: MetricInputs) -> Score:
    """Share of a context's sentences that are needed to answer the question, 0 to 1.

    One question an item. It says something of the contexts only: every system gets the same value, and the answers of
    the judge are shared by all of them.
    """
    session = _open_session("context_relevance", inputs, "sentences", contexts=True)
    if isinstance(session, Score):
        return session
    split = [sentences(context or "") for context in inputs.contexts or ()]
    verdicts = session.ask(
        "sentences",
        {
            case: (
                {"question": _question(inputs, case), "sentences": split[case[0]]},
                _sentence_schema(len(split[case[0]])),
            )
            for case in _cases(session)
            if split[case[0]]
        },
    )
    outcomes: dict[Case, float | Missing] = {}
    for case in _cases(session):
        verdict = verdicts.get(case, _NO_CONTEXT)
        outcomes[case] = verdict if isinstance(verdict, Missing) else len(verdict["needed"]) / len(split[case[0]])
    return session.score(outcomes)


def factual_correctness(inputs: MetricInputs) -> Score:
    """F1 over claims: TP those of the answer that the reference bears out, FP the others, FN what the answer lacks.

    ```text
    F1 = TP / (TP + (FP + FN) / 2)
    ```

    Three questions an item: the claims of both sides and their comparison. Several references: the best, two more
    questions for each further one. An empty answer to a reference that is not empty is 0, without a call, and an
    answer without a claim has TP = 0.
    """
    session = _open_session("factual_correctness", inputs, "claims", "compared")
    return session if isinstance(session, Score) else session.score(_factual(session, inputs))


def answer_correctness(inputs: MetricInputs) -> Score:
    """0.75 · `factual_correctness` + 0.25 · `answer_similarity`, 0 to 1; an item that lacks either is missing."""
    name, items = "answer_correctness", len(inputs.predictions)
    session = _open_session(name, inputs, "claims", "compared")
    if isinstance(session, Score):
        return session
    # First what costs nothing: without it no question need be asked.
    similarity = embedding.answer_similarity(inputs)
    if similarity.reason:
        return not_measured(name, items, similarity.reason)
    factual = session.score(_factual(session, inputs))
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


def _open_session(name: str, inputs: MetricInputs, *prompts: str, contexts: bool = False) -> JudgeSession | Score:
    """A session with the judge, or the score that says why there is none."""
    judge, items = inputs.models.judge, len(inputs.predictions)
    if judge is None:
        return not_measured(name, items, "it needs a judge (evaluate.judge in the recipe), and there is none")
    if inputs.questions is None:
        return not_measured(name, items, "it needs the questions, and none were given")
    if contexts and not any((context or "").strip() for context in inputs.contexts or ()):
        return not_measured(name, items, "it needs contexts, and no item has one")
    return JudgeSession(name, judge, items, inputs.models.judge_repeats, *prompts)


def _cases(session: JudgeSession) -> list[Case]:
    return list(product(range(session.items), range(session.repeats)))


def _question(inputs: MetricInputs, case: Case) -> str:
    return (inputs.questions or ())[case[0]]


def _claims_of(inputs: MetricInputs, case: Case, answers: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"question": _question(inputs, case), "answer": answers[case[0]]}, _CLAIMS


def _support_schema(claims: int) -> dict[str, Any]:
    return object_schema(
        verdicts=list_schema(object_schema(reason={"type": "string"}, supported={"type": "boolean"}), claims)
    )


def _sentence_schema(count: int) -> dict[str, Any]:
    number = {"type": "integer", "minimum": 1, "maximum": count}
    return object_schema(needed=list_schema(number, uniqueItems=True))


def _missing_or(verdict: Verdict, fallback: Missing) -> Missing:
    return verdict if isinstance(verdict, Missing) else fallback


def _cosines(
    inputs: MetricInputs, cases: Sequence[Case], verdicts: Mapping[Case, Verdict], model: str
) -> dict[Case, float | Missing]:
    guessed = {case: verdict["questions"] for case, verdict in verdicts.items() if not isinstance(verdict, Missing)}
    distinct = sorted(
        {_question(inputs, case) for case in guessed} | {text for questions in guessed.values() for text in questions}
    )
    vectors = dict(zip(distinct, embedding.sentence_embeddings(distinct, model), strict=True)) if distinct else {}
    outcomes: dict[Case, float | Missing] = {}
    for case in cases:
        verdict = verdicts.get(case)
        if isinstance(verdict, Missing):
            outcomes[case] = verdict
        elif verdict is None or verdict["noncommittal"]:
            outcomes[case] = 0.0
        else:
            question_vector = vectors[_question(inputs, case)]
            cosine = float(np.mean([question_vector @ vectors[text] for text in guessed[case]]))
            outcomes[case] = min(1.0, max(0.0, cosine))
    return outcomes


def _factual(session: JudgeSession, inputs: MetricInputs) -> dict[Case, float | Missing]:
    """F1 by (item, repeat): the best over the references."""
    references = [list(dict.fromkeys(item_references)) for item_references in inputs.references]
    reference_cases = [(*case, number) for case in _cases(session) for number in range(len(references[case[0]]))]
    outcomes: dict[Case, float | Missing] = {}
    for item, repeat, number in reference_cases:
        answer, reference = inputs.predictions[item].strip(), references[item][number].strip()
        if not answer or not reference:
            outcomes[item, repeat, number] = float(answer == reference)
    open_cases = [pair for pair in reference_cases if pair not in outcomes]
    claim_cases: dict[Case, tuple[Any, Any]] = {
        (*pair[:2], -1): _claims_of(inputs, pair, inputs.predictions) for pair in open_cases
    }
    claim_cases |= {
        pair: ({"question": _question(inputs, pair), "answer": references[pair[0]][pair[2]]}, _CLAIMS)
        for pair in open_cases
    }
    claims = session.ask("claims", claim_cases)
    comparisons: dict[Case, tuple[Any, Any]] = {}
    for pair in open_cases:
        answer, reference = claims[*pair[:2], -1], claims[pair]
        if isinstance(answer, Missing) or isinstance(reference, Missing):
            outcomes[pair] = answer if isinstance(answer, Missing) else _missing_or(reference, _NO_CLAIM)
        elif not reference["claims"]:
            outcomes[pair] = Missing("the reference makes no claim")
        elif not answer["claims"]:
            outcomes[pair] = 0.0
        else:
            comparisons[pair] = _comparison(_question(inputs, pair), answer["claims"], reference["claims"])
    for pair, verdict in session.ask("compared", comparisons).items():
        outcomes[pair] = verdict if isinstance(verdict, Missing) else _f1(verdict["answer"], verdict["reference"])
    return {
        case: _best([outcomes[*case, number] for number in range(len(references[case[0]]))]) for case in _cases(session)
    }


def _comparison(
    question: str, answer: Sequence[str], reference: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    flag = {"type": "boolean"}
    schema = object_schema(answer=list_schema(flag, len(answer)), reference=list_schema(flag, len(reference)))
    return {"question": question, "answer": list(answer), "reference": list(reference)}, schema


def _f1(answer: Sequence[bool], reference: Sequence[bool]) -> float:
    true_positives, false_positives, false_negatives = (
        sum(answer),
        len(answer) - sum(answer),
        len(reference) - sum(reference),
    )
    return true_positives / (true_positives + (false_positives + false_negatives) / 2) if true_positives else 0.0


def _best(values: Sequence[float | Missing]) -> float | Missing:
    """The best value; missing where a reference without a verdict could still have been better."""
    measured = [value for value in values if not isinstance(value, Missing)]
    missing = [value for value in values if isinstance(value, Missing)]
    return missing[0] if missing and max(measured, default=0.0) < 1.0 else max(measured)


def sentences(text: str) -> list[str]:
    """A text's sentences: cut at line breaks, and behind a full stop, question or exclamation mark that ends one."""
    return [part.strip() for part in _BREAK.split(text) if part and part.strip()]
