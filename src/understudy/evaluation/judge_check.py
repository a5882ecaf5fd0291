"""Whether a judge that gave no verdict was heard at all."""

from __future__ import annotations

from collections.abc import Iterable

from understudy.errors import RunError
from understudy.metrics.judge_session import NO_VERDICT
from understudy.types import is_passing

REFUSED = "request: "
"""How the reason begins where the endpoint refused a request: if it refused all, the fault is none of the items'."""


def check_judge(judge: str, reasons: Iterable[tuple[str, str]]) -> None:
    """Refuse to take for measured what the judge was only not there for.

    A judge whose answers cannot be used has been heard: its metrics are not measured, and the rest goes on.

    Args:
        judge: its name.
        reasons: metric, and why it was not measured.

    Raises:
        RunError: of a metric no verdict came, for a reason that may pass, or because each request was refused.
    """
    for metric, reason in reasons:
        head, _, rest = reason.removeprefix("not measured: ").partition(": ")
        if head == NO_VERDICT and any(is_passing(part) or part.startswith(REFUSED) for part in rest.split("; ")):
            raise RunError(
                f"the judge {judge} gave no verdict for {metric}: {rest}",
                hint="run the same command again when it answers: what is done is kept, verdicts that came are too",
            )
