"""From a study's answers to what they show.

Every figure is computed twice where raters may be left out: with the rules as the study states them, and the other way.
"""

from __future__ import annotations

import numpy as np

from understudy.errors import DataError
from understudy.study.accuracy import accuracies
from understudy.study.answers import Answers, seats_of
from understudy.study.assignment import Seat
from understudy.study.attention import Attention, inattentive
from understudy.study.findings import Findings, JudgeFindings, Settings, StudyAnalysis
from understudy.study.folder import PREREGISTRATION, Study
from understudy.study.judging import beside_people, saved_judge
from understudy.study.options import AnalysisOptions
from understudy.study.permutation import DesignDraws
from understudy.study.preference_findings import preference_findings
from understudy.study.rating_findings import findings
from understudy.study.ratings import Preference, Ratings


def analyse(answers: Answers, options: AnalysisOptions | None = None) -> StudyAnalysis:
    """Analyse a study's answers.

    Args:
        answers: what was said.
        options: draws, levels, seed.

    Raises:
        DataError: fewer than two methods, or ratings that are not of the study's assignment.
    """
    how = options or AnalysisOptions()
    attention = _attention(answers)
    seats = seats_of(answers.study)
    design = DesignDraws(seats, how.seed) if seats and isinstance(seats[0], Seat) else None
    main, other = _both(answers, answers.ratings, attention, design, how)
    foresight = _kept(answers.foresight, attention)
    study = answers.study
    return StudyAnalysis(
        title=answers.name,
        simulated=answers.simulated,
        methods=_methods(answers),
        constructs=_statements(answers),
        planned=None if study is None else (study.config.raters, study.config.per_rater),
        settings=Settings(
            how.draws,
            how.confidence,
            how.alpha,
            how.resamples,
            how.seed,
            "design" if study is not None else "within raters",
        ),
        attention=attention,
        main=main,
        other=other,
        foresight=None if foresight is None else findings(foresight, answers, design, how),
        preferences=preference_findings(_choices(answers, attention), answers, how),
        accuracies=() if study is None else accuracies(study, how.resampling),
        judge=_judge(answers, attention),
        registered="" if study is None else _registered(study, answers),
    )


def _attention(answers: Answers) -> Attention:
    rules = None if answers.study is None else answers.study.config.exclusion
    sources = (answers.ratings, answers.foresight)
    seen = [rater for source in sources if source is not None for rater in source.rater.tolist()]
    seen += [choice.rater for choice in answers.preferences]
    return inattentive(answers.ratings, answers.raters, rules, tuple(dict.fromkeys(seen)))


def _kept(ratings: Ratings | None, attention: Attention) -> Ratings | None:
    """The rows of the main result: without those left out, where the study states rules."""
    if ratings is None or not (attention.stated or attention.by_reason.get("excluded by hand")):
        return ratings
    return ratings.where(~np.isin(ratings.rater.astype(str), list(attention.left_out)))


def _choices(answers: Answers, attention: Attention) -> tuple[Preference, ...]:
    """The preferences of the main result, likewise."""
    if not (attention.stated or attention.by_reason.get("excluded by hand")):
        return answers.preferences
    return tuple(choice for choice in answers.preferences if choice.rater not in attention.left_out)


def _both(
    answers: Answers,
    ratings: Ratings | None,
    attention: Attention,
    design: DesignDraws | None,
    how: AnalysisOptions,
) -> tuple[Findings | None, Findings | None]:
    if ratings is None:
        return None, None
    everybody = findings(ratings, answers, design, how)
    if not attention.left_out:
        return everybody, None
    kept = ratings.where(~np.isin(ratings.rater.astype(str), list(attention.left_out)))
    if len(kept.methods) < len(ratings.methods):
        raise DataError(
            f"of {attention.raters} raters {len(attention.left_out)} are left out; a method is left without a rating",
            hint="look at the exclusions: understudy study export writes raters.csv",
        )
    attentive = findings(kept, answers, design, how)
    return (attentive, everybody) if attention.stated else (everybody, attentive)


def _methods(answers: Answers) -> tuple[str, ...]:
    if answers.study is not None:
        return tuple(answers.study.config.methods)
    found = [name for source in (answers.ratings, answers.foresight) if source is not None for name in source.methods]
    found += [name for choice in answers.preferences for name in (choice.first, choice.second)]
    return tuple(sorted(set(found)))


def _judge(answers: Answers, attention: Attention) -> JudgeFindings | None:
    said, ratings = saved_judge(answers.study), _kept(answers.ratings, attention)
    return None if said is None or ratings is None else beside_people(said, ratings)


def _statements(answers: Answers) -> dict[str, str]:
    if answers.study is None:
        return {} if answers.ratings is None else {name: name for name in answers.ratings.constructs}
    config = answers.study.config
    return {construct.name: construct.statement[config.languages[0]] for construct in config.constructs}


def _registered(study: Study, answers: Answers) -> str:
    """What is known of the preregistration: whether it is there, and whether it is older than the first rater."""
    path = study.folder / PREREGISTRATION
    if not path.is_file():
        return f"There is no {PREREGISTRATION}: nothing shows that the analysis was settled before the data."
    started = sorted(row.started for row in answers.raters.values() if row.started)
    from datetime import UTC, datetime

    written = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
    if started and written > started[0]:
        return (
            f"{PREREGISTRATION} was changed on {written}, after the first rater began ({started[0]}): it does not show "
            "what was settled before the data."
        )
    when = f", before the first rater began ({started[0]})" if started else ""
    return f"{PREREGISTRATION} was last changed on {written}{when}."
