"""`understudy export`: a student in the form in which it is deployed, checked against the one that was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from understudy import bounds
from understudy.errors import RunError, unknown

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as `understudy run` printed it.")]
To = Annotated[str, typer.Option("--to", help="merged (safetensors), onnx, int8 (ONNX in 8 bits) or gguf.")]
Arm = Annotated[str | None, typer.Option("--arm", help="Whose student. Default: the one the run is about.")]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Its folder. Default: exports/ARM-FORMAT of the run.")
]
PrecisionOption = Annotated[str, typer.Option("--precision", help="Of a GGUF file's matrices: f32, f16 or q8_0.")]
Rows = Annotated[int, typer.Option("--rows", min=1, max=bounds.ROWS, help="Held-out rows whose answers are compared.")]
Tolerance = Annotated[
    float | None,
    typer.Option("--tolerance", min=0.0, max=bounds.FACTOR, help="Largest difference of a logit at 32 bits."),
]
MaxDrop = Annotated[
    float,
    typer.Option("--max-drop", min=0.0, max=100.0, help="Points that fewer bits may lose on a metric, at most."),
]


def export(
    run: RunFolder,
    to: To,
    arm: Arm = None,
    out: Out = None,
    precision: PrecisionOption = "f32",
    rows: Rows = 100,
    tolerance: Tolerance = None,
    max_drop: MaxDrop = 5.0,
) -> None:
    """Export a student and verify it: same tokens, same answers or how many, size and speed; kept only if it holds."""
    from understudy.cli.progress_lines import ProgressLines
    from understudy.deployment.export import FORMATS, ExportOptions, export
    from understudy.deployment.gguf_format import PRECISIONS
    from understudy.files import locked
    from understudy.run import Run

    if to not in FORMATS:
        raise unknown("format", to, FORMATS, where="--to")
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS, where="--precision")
    options = ExportOptions(
        next(name for name in FORMATS if name == to),
        arm,
        out,
        next(name for name in PRECISIONS if name == precision),
        rows,
        tolerance,
        max_drop,
    )
    opened = Run.open(run)
    with locked(run / ".lock", RunError(f"another process is working on {run}", hint="wait for it")):
        record, folder = export(opened, options, ProgressLines())
    typer.echo(record.line)
    typer.echo(f"export: {folder}")
