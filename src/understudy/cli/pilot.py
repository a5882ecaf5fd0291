"""`understudy pilot`: from a file and the names of two models to whether distilling is worth it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from understudy import bounds

if TYPE_CHECKING:
    from understudy.pilot.work import Outcome
    from understudy.report.pilot_page import PilotInputs


def pilot(
    data: Annotated[str, typer.Argument(help="A file, a folder, a hub id, or `embedded:` a set.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Fields of the recipe.")
    ] = None,
    teacher: Annotated[
        str, typer.Option(metavar="MODEL", help="The large model: a hub id, a folder, `embedded:NAME`.")
    ] = "",
    student: Annotated[str, typer.Option(metavar="MODEL", help="The small one.")] = "",
    minutes: Annotated[
        float, typer.Option(min=0.5, max=bounds.ROWS, help="Time for all of it on this machine.")
    ] = 15.0,
    least: Annotated[
        float, typer.Option(min=0.01, max=100.0, help="Smallest gain of interest, in points of 0 to 100.")
    ] = 1.0,
    price_per_hour: Annotated[
        float | None, typer.Option(min=0.0, max=bounds.MONEY, help="Of this machine, for the cost of the full run.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Default: runs/DATA-pilot.")] = None,
) -> None:
    """Is distilling this teacher into this student worth it on this data? Small runs, one page, one recipe.

    The doctor chooses the method; three nested amounts of data are trained. The same command goes on where it stopped.
    """
    from understudy.cli.grid import GridConsole
    from understudy.errors import ConfigError
    from understudy.inspection.time_estimate import in_time
    from understudy.pilot.work import PAGE, RECIPE, Question, run_pilot
    from understudy.report.pilot_page import needed_text, recovered_text, render_pilot

    if not teacher or not student:
        raise ConfigError("a pilot needs both models", hint="understudy pilot DATA --teacher MODEL --student MODEL")
    question = Question(data, teacher, student, tuple(overrides or ()), minutes, least, price_per_hour)
    console = GridConsole()
    outcome = run_pilot(question, console, console.say, out)
    inputs = inputs_of(outcome)
    render_pilot(inputs, outcome.folder / PAGE)
    typer.echo(f"{inputs.kind}: {inputs.why}")
    for line in (needed_text(inputs.items_needed, inputs.rows_needed), recovered_text(inputs.recovered)):
        if line:
            typer.echo(line)
    for what, answer, why in inputs.advice:
        typer.echo(f"{what}: {answer}: {why}")
    for what, figure in inputs.full:
        typer.echo(f"full run, {what}: {figure}")
    typer.echo(f"time of the pilot: {in_time(outcome.seconds)}")
    typer.echo(f"recipe: {outcome.folder / RECIPE}")
    typer.echo(f"page: {outcome.folder / PAGE}")


def inputs_of(outcome: Outcome) -> PilotInputs:
    """What the page says, as plain values."""
    from understudy.inspection.time_estimate import in_time
    from understudy.report.pilot_page import PilotInputs, PilotPoint

    question, results, plan, full = outcome.question, outcome.results, outcome.plan, outcome.full
    figures = [
        ("rows to learn from", f"{full.rows:,}"),
        ("steps of each student", f"{full.steps:,}"),
        ("test rows", f"{full.test_rows:,}"),
        ("time", f"about {in_time(full.seconds)}"),
    ]
    figures += [("cost", f"{full.money:,.2f}")] if full.money is not None else []
    return PilotInputs(
        title=outcome.folder.name,
        data=question.data,
        models=(question.teacher, question.student),
        method=outcome.choice.method,
        why_method=outcome.choice.why,
        kind=results.verdict.kind,
        why=results.verdict.why,
        items_needed=results.verdict.items_needed,
        rows_needed=results.verdict.rows_needed,
        metric=results.metric,
        points=[PilotPoint(point.rows, point.gold, point.steps, point.values) for point in results.points],
        differences=[(*name.split("-"), test.text, test.sign) for name, test in results.tests.items()],  # pyright: ignore
        recovered=results.recovered,
        advice=[(advice.what, advice.answer, advice.why) for advice in results.advice],
        curves=results.curves,
        least=question.least,
        test_rows=plan.design.test_rows,
        test_there=plan.sizes.test,
        seeds=plan.design.seeds,
        epochs=plan.design.epochs,
        pilot_time=in_time(outcome.seconds),
        full=figures,
        tuned=outcome.recipe.local_teacher.sft is not None,
        confidence=outcome.recipe.evaluate.confidence,
        overrides=question.overrides,
    )
