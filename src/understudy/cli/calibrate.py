"""`understudy calibrate`: how far a student's confidence can be believed, and what a cascade would do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from understudy import bounds
from understudy.errors import ConfigError

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as `understudy run` printed it.")]
Arm = Annotated[str | None, typer.Option("--arm", help="Whose student. Default: the one the run is about.")]
Metric = Annotated[str, typer.Option("--metric", help="By which an answer is right, and the quality of the cascade.")]
RightAt = Annotated[float, typer.Option("--right-at", min=0.0, max=1.0, help="Least value of it of a right answer.")]
Measure = Annotated[str | None, typer.Option("--measure", help="Measure of confidence. Default: the best on dev.")]
Map = Annotated[str | None, typer.Option("--map", help="isotonic or platt. Default: the better one on dev.")]
Within = Annotated[
    float | None,
    typer.Option("--within", min=0.0, max=100.0, help="Least cost within so many points of the teacher. Default: 1."),
]
MaxAsked = Annotated[
    float | None,
    typer.Option("--max-asked", min=0.0, max=1.0, help="Instead: best quality, asking at most this share."),
]
MaxCost = Annotated[
    float | None,
    typer.Option("--max-cost", min=0.0, max=bounds.MONEY, help="Instead: best quality at this cost of 1,000 answers."),
]
StudentPrices = Annotated[
    str, typer.Option("--student-prices", metavar="IN,OUT", help="Prices of a million tokens read and written.")
]
TeacherPrices = Annotated[
    str | None, typer.Option("--teacher-prices", metavar="IN,OUT", help="Likewise. Default: as the recipe has them.")
]
NoTeacher = Annotated[bool, typer.Option("--no-teacher", help="Calibrate only; draw no curve of a cascade.")]
BatchSize = Annotated[
    int | None,
    typer.Option("--batch-size", min=1, max=bounds.AT_ONCE, help="Rows at once; 1 measures true latencies."),
]


def calibrate(
    run: RunFolder,
    arm: Arm = None,
    metric: Metric = "exact_match",
    right_at: RightAt = 1.0,
    measure: Measure = None,
    map_kind: Map = None,
    within: Within = None,
    max_asked: MaxAsked = None,
    max_cost: MaxCost = None,
    student_prices: StudentPrices = "0,0",
    teacher_prices: TeacherPrices = None,
    no_teacher: NoTeacher = False,
    batch_size: BatchSize = None,
) -> None:
    """Calibrate a student's confidence on dev, show it on test, and what a cascade to the teacher costs and gives."""
    from understudy.cli.progress_lines import ProgressLines
    from understudy.confidence.calibration import MAP_KINDS
    from understudy.deployment.calibrate import FOLDER, PAGE, CalibrateOptions, calibrate
    from understudy.deployment.cascade import Rule
    from understudy.errors import RunError, unknown
    from understudy.files import locked
    from understudy.report.calibration_page import summary
    from understudy.run import Run

    if map_kind is not None and map_kind not in MAP_KINDS:
        raise unknown("map", map_kind, MAP_KINDS, where="--map")
    capped = max_asked is not None or max_cost is not None
    options = CalibrateOptions(
        arm=arm,
        metric=metric,
        right_at=right_at,
        measure=measure,
        map_kind=next((kind for kind in MAP_KINDS if kind == map_kind), None),
        rule=Rule(1.0 if within is None and not capped else within, max_asked, max_cost),
        student_prices=prices_of(student_prices, "--student-prices"),
        teacher_prices=None if teacher_prices is None else prices_of(teacher_prices, "--teacher-prices"),
        teacher=not no_teacher,
        batch_size=batch_size,
    )
    opened = Run.open(run)
    busy = RunError(f"another process is working on {run}", hint="wait for it")
    with locked(run / ".lock", busy):
        report = calibrate(opened, options, ProgressLines())
    for sentence in summary(report.to_json()):
        typer.echo(sentence)
    typer.echo(f"report: {opened.folder / FOLDER / PAGE}")


def prices_of(text: str, option: str):
    """The prices that an option names.

    Raises:
        ConfigError: they are no two numbers from 0.
    """
    from understudy.deployment.cascade import Prices

    try:
        read, written = (float(part) for part in text.split(","))
    except ValueError:
        read = written = -1.0
    if not (0 <= read <= bounds.MONEY and 0 <= written <= bounds.MONEY):
        raise ConfigError(f"{option} {text!r} is no pair of prices", hint="write IN,OUT as in 0.15,0.60")
    return Prices(read, written)
