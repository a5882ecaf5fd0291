"""What a person sees while a run goes on: a bar for each running stage on a terminal, a line for each in a log."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from understudy.files import read_json
from understudy.pipeline.kinds import title
from understudy.pipeline.set_aside import set_aside_note
from understudy.pipeline.stage import Stage
from understudy.records import RunSummary
from understudy.report.formatting import arm_label, number, scale
from understudy.run import Run

# Short headers, so that the table fits into 80 columns.
HEADERS = {
    "bundle_f1": "bundle F1",
    "exact_match": "exact",
    "token_f1": "F1",
    "rougeL": "ROUGE-L",
    "bleu": "BLEU",
    "choice_accuracy": "choice",
}


class Console:
    """Shows progress (the scheduler's `Display`).

    Args:
        quiet: show nothing (the other processes of an `accelerate launch`).
        every: seconds between two lines of one stage where the output is no terminal, so that a log shows progress.
    """

    def __init__(self, *, quiet: bool = False, every: float = 30.0) -> None:
        self.every = every
        self.logged_at: dict[str, float] = {}
        self.console = RichConsole(stderr=True, quiet=quiet, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self.bars = Progress(
            TextColumn("{task.description:<30}", markup=False),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self.tasks: dict[str, TaskID] = {}
        self.started_at = time.monotonic()

    def __enter__(self) -> Console:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def say(self, text: str) -> None:
        """A line above the bars."""
        self.console.print(text)

    def start(self, stage: Stage) -> None:
        """A stage begins."""
        self.tasks[stage.name] = self.bars.add_task(title(stage), total=None, note="")
        self.logged_at[stage.name] = time.monotonic()
        if not self.console.is_terminal:
            self.say(f"{title(stage)} …")

    def update(self, stage: Stage, done: int, total: int, note: str) -> None:
        """A stage has come so far."""
        if stage.name in self.tasks:
            self.bars.update(self.tasks[stage.name], completed=done, total=total, note=note)
            self._log(stage, done, total, note)

    def _log(self, stage: Stage, done: int, total: int, note: str) -> None:
        """A line of progress where no bar can be shown, now and then."""
        if self.console.is_terminal or time.monotonic() - self.logged_at[stage.name] < self.every:
            return
        self.logged_at[stage.name] = time.monotonic()
        share = f" of {total:,} ({done / total:.0%})" if total else ""
        self.say(f"  {title(stage)}: {done:,}{share}{', ' + note if note else ''}")

    def finish(self, stage: Stage, seconds: float) -> None:
        """A stage is done."""
        if stage.name in self.tasks:
            self.bars.remove_task(self.tasks.pop(stage.name))
        self.say(f"✓ {title(stage)} ({seconds:.0f} s)")

    def print_outcome(self, run: Run) -> None:
        """The outcome in a few lines: a table of the arms, the headline, and where the files are."""
        from rich.table import Table

        summary = RunSummary.from_json(read_json(run.folder / "summary.json"))
        scores = read_json(run.folder / "scores.json")
        factors = {name: scale(scores, name) for name in summary.metrics}
        table = Table(title="held-out items, 0 to 100", title_justify="left")
        table.add_column("arm", no_wrap=True, min_width=max(len(arm_label(arm)) for arm in summary.arms))
        for name in summary.metrics:
            table.add_column(HEADERS.get(str(name), str(name)), justify="right")
        for arm, values in summary.arms.items():
            points = (number(values[name] * factors[name] if name in values else None) for name in summary.metrics)
            table.add_row(arm_label(arm), *points)
        self.console.print(table, soft_wrap=False)
        for line in (*summary.headline, set_aside_note(run)):
            if line:
                self.say(line)
        self.say(f"report:  {run.folder / 'report.html'}")
        if (run.folder / "student").is_dir():
            self.say(f"student: {run.folder / 'student'}")
        self.say(f"took {time.monotonic() - self.started_at:.0f} s")
