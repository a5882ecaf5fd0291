"""`understudy study plan | simulate | analyse | judge`: before the first rater, and after the last."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from understudy import bounds

if TYPE_CHECKING:
    from understudy.study.findings import StudyAnalysis
    from understudy.study.planning import Plan

StudyFolder = Annotated[Path, typer.Argument(metavar="STUDY", help="The folder of a study.")]
Source = Annotated[
    Path, typer.Argument(metavar="STUDY|FILE", help="A study's folder, or a table of ratings of any tool.")
]
Seed = Annotated[int, typer.Option(min=0, max=bounds.SEED, help="Of all draws.")]
Draws = Annotated[
    int, typer.Option(min=199, max=bounds.RESAMPLES, help="Draws of the permutation test of two methods.")
]


def plan(
    means: Annotated[
        str | None, typer.Option(metavar="MEAN,...", help="Expected mean rating of each method: 4.0,4.2,4.2,4.3.")
    ] = None,
    difference: Annotated[
        float | None, typer.Option(min=0.01, help="Instead of --means: the smallest difference that would matter.")
    ] = None,
    methods: Annotated[int, typer.Option(min=2, max=50, help="Methods, with --difference.")] = 2,
    sd: Annotated[float, typer.Option(min=0.05, help="Standard deviation of ratings.")] = 1.0,
    rater_share: Annotated[
        float, typer.Option(min=0.0, max=0.95, help="Share of their variance between raters.")
    ] = 0.33,
    items: Annotated[int, typer.Option(min=1, max=bounds.ROWS, help="Items.")] = 40,
    per_rater: Annotated[int, typer.Option(min=1, max=1000, help="Explanations a rater.")] = 12,
    power: Annotated[float, typer.Option(min=0.1, max=0.99, help="Probability of finding the difference.")] = 0.8,
    alpha: Annotated[float, typer.Option(min=0.0001, max=0.5, help="Level of the family of tests.")] = 0.05,
    tests: Annotated[
        int, typer.Option(min=1, max=10_000, help="Tests that are corrected together (outcomes × pairs).")
    ] = 1,
    question: Annotated[
        Literal["pair", "any"],
        typer.Option(help="pair: do the two furthest apart differ? any: does any method differ?"),
    ] = "pair",
    simulations: Annotated[int, typer.Option(min=100, max=100_000, help="Studies to simulate.")] = 1000,
    seed: Seed = 0,
) -> None:
    """How many raters a study needs, by formula and then by simulated raters on a real design."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from understudy.study.planning import raters_needed
    from understudy.study.rating_model import rating_model

    model = rating_model(_expected(means, difference, methods), sd, rater_share)
    found = raters_needed(
        model,
        items=items,
        per_rater=min(per_rater, items),
        power=power,
        level=alpha / tests,
        question=question,
        simulations=simulations,
        seed=seed,
    )
    _say_plan(found, tests)


def _expected(means: str | None, difference: float | None, methods: int) -> list[float]:
    from understudy.errors import ConfigError

    if (means is None) == (difference is None):
        raise ConfigError("name --means or --difference", hint="--means 4.0,4.2,4.2,4.3, or --difference 0.3")
    if means is None:
        middle, half = 3.9, (difference or 0.0) / 2
        return [middle - half, *[middle] * (methods - 2), middle + half]
    try:
        return [float(mean) for mean in means.split(",")]
    except ValueError:
        raise ConfigError(f"--means {means}: numbers with commas between them are needed") from None


def _say_plan(found: Plan, tests: int) -> None:
    what = "any difference" if found.question == "any" else "the two methods furthest apart"
    other = "Kruskal–Wallis" if found.question == "any" else "Dunn"
    typer.echo(f"{found.raters} raters of {found.per_rater} explanations each ({found.items} items)")
    typer.echo(
        f"power to find {what} at level {found.level:.4g}"
        f"{f' (the strictest of {tests} corrected tests)' if tests > 1 else ''}: "
        f"{found.simulated:.1%} ± {found.error:.1%} simulated, {found.expected:.1%} by the formula"
    )
    typer.echo(f"{other} would find it in {found.classical:.1%}")


def simulate(
    study: StudyFolder,
    effect: Annotated[
        list[str] | None,
        typer.Option(metavar="METHOD[:CONSTRUCT]=POINTS", help="By how much a method is rated higher. Repeatable."),
    ] = None,
    length: Annotated[float, typer.Option(help="Points for each 100 characters more.")] = 0.0,
    inattentive: Annotated[float, typer.Option(min=0, max=0.9, help="Share of raters who do not attend.")] = 0.0,
    unfinished: Annotated[float, typer.Option(min=0, max=0.9, help="Share of raters who leave half way.")] = 0.0,
    seed: Seed = 0,
) -> None:
    """Fill a study with raters that are no people, into STUDY/simulated; every row says so."""
    from understudy.study.answers import SIMULATED
    from understudy.study.folder import open_study
    from understudy.study.simulated import Bias, parse_effects
    from understudy.study.simulated import simulate as simulate_study

    opened = open_study(study)
    bias = Bias(parse_effects(effect or [], opened), length, inattentive, unfinished)
    for path in simulate_study(opened, bias, seed, study / SIMULATED):
        typer.echo(f"simulated: {path}")
    typer.echo(f"then: understudy study analyse {study} --simulated")


def analyse(
    source: Source,
    simulated: Annotated[bool, typer.Option("--simulated", help="The answers of simulated raters.")] = False,
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            metavar="URL",
            envvar="UNDERSTUDY_STUDY_DATABASE",
            show_envvar=False,
            help="Where the answers are, as for `serve`. Default: STUDY/study.db, or what was exported.",
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="FIELD=COLUMN,...", help="Columns of a table of another tool: rater=Participant,…"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.html", help="Default: analysis.html beside the answers.")
    ] = None,
    draws: Draws = 4000,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.999, help="Level of the intervals.")] = 0.95,
    seed: Seed = 0,
) -> None:
    """Tests, intervals, agreement and a page: from raters' answers to a conclusion."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from understudy.files import write_json
    from understudy.study.analysis import analyse as analyse_answers
    from understudy.study.answers import read_answers, refresh
    from understudy.study.options import AnalysisOptions
    from understudy.study.page import render_study

    if not simulated:
        refresh(source, database)
    answers = read_answers(source, simulated=simulated, columns=_columns(columns))
    options = AnalysisOptions(draws=draws, confidence=confidence, seed=seed)
    analysis = analyse_answers(answers, options)
    page = out or (answers.source if answers.source.is_dir() else answers.source.parent) / "analysis.html"
    render_study(analysis, page)
    write_json(page.with_suffix(".json"), analysis.to_dict())
    _say(analysis)
    typer.echo(f"report: {page}")


def _columns(text: str | None) -> dict[str, str]:
    from understudy.errors import ConfigError

    pairs = [part.partition("=") for part in (text or "").split(",") if part.strip()]
    if not all(sign and field.strip() and column.strip() for field, sign, column in pairs):
        raise ConfigError(f"--columns {text}: FIELD=COLUMN, with commas between them", hint="rater=Participant,item=Q")
    return {field.strip(): column.strip() for field, _, column in pairs}


def _say(analysis: StudyAnalysis) -> None:
    from understudy.study.sentences import SIMULATED, verdict

    heading, texts, _ = verdict(analysis)
    if analysis.simulated:
        typer.echo(SIMULATED)
    typer.echo(heading)
    for text in texts:
        typer.echo(f"  {text}")


def judge(
    study: StudyFolder,
    judge_model: Annotated[str, typer.Option("--judge-model", help="The judge's name, a hub id or folder.")],
    judge_url: Annotated[str | None, typer.Option("--judge-url", help="OpenAI-compatible endpoint.")] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--judge", metavar="KEY=VALUE", help="Any other field of the judge: max_calls=5000 …"),
    ] = None,
) -> None:
    """Have a language model rate a study's explanations; the next report sets it beside people."""
    from understudy.cli.comparison_options import ScoreOptions
    from understudy.evaluation.metric_models import metric_models_of
    from understudy.study.folder import open_study
    from understudy.study.judging import judge_study, save_judge

    opened = open_study(study)
    config = ScoreOptions(judge_url=judge_url, judge_model=judge_model, judge=fields).config([])
    models = metric_models_of(config, account=opened.config.id)
    assert models.judge is not None
    said = judge_study(opened, models.judge, repeats=models.judge_repeats)
    path = save_judge(opened, said)
    typer.echo(f"{said.judge} rated {len(said.ratings)} explanations, {said.missing} have no verdict: {path}")
    typer.echo(f"beside people: understudy study analyse {study}")
