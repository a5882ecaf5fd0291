"""The gateway: which model is asked, how much is let in, who is told; the same before every engine, without HTTP."""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from understudy.confidence import Calibration
from understudy.errors import ConfigError, DataError, unknown
from understudy.run import Run
from understudy.serve.answers import Answer, Manner, answer_with, work_of
from understudy.serve.cascade import Cascade, Verdict, cascaded
from understudy.serve.exchange import Exchange, Observer, Thumb, ThumbObserver
from understudy.serve.feedback import write_thumb
from understudy.serve.keys import KeyFile
from understudy.serve.limits import Admission, KeyMeter
from understudy.serve.sides import STUDENT, TEACHER_SIDE, Side
from understudy.serve.work import EngineFault, Piece, Work
from understudy.types import Example

CASCADE = "cascade"
"""The name by which the cascade is asked for; without a name it is asked where there is one."""
log = logging.getLogger("understudy.serve")


@dataclass(frozen=True)
class Bounds:
    """What one request may ask for.

    Attributes:
        body: bytes.
        seconds: from arrival to the last token.
        body_seconds: for the body to come in.
        choices: answers to one request.
        max_tokens: longest answer; None: what the model has room for.
    """

    body: int = 262_144
    seconds: float = 120.0
    body_seconds: float = 20.0
    choices: int = 8
    max_tokens: int | None = None


@dataclass
class Gateway:
    """The models of a run, as a server gives them.

    Attributes:
        run: the run folder.
        sides: the models that are there, by name.
        admission: counts answers under way.
        meter: counts what each key uses.
        keys: of clients; None where nobody needs one.
        cascade: the rule; None without one.
        calibration: of the student's confidence.
        bounds: of a request.
        feedback: where thumbs go.
        observers: who is told of finished requests, and of thumbs where they want to be.
        draining: whether nothing new is let in.
    """

    run: Run
    sides: Mapping[str, Side]
    admission: Admission
    meter: KeyMeter = field(default_factory=KeyMeter)
    keys: KeyFile | None = None
    cascade: Cascade | None = None
    calibration: Calibration | None = None
    bounds: Bounds = field(default_factory=Bounds)
    feedback: Path | None = None
    observers: Sequence[Observer] = ()
    draining: bool = False

    @property
    def default_model(self) -> str:
        """What is asked where a request names no model."""
        return CASCADE if self.cascade else STUDENT

    @property
    def models(self) -> list[str]:
        """Every name that may be asked for."""
        return [*([CASCADE] if self.cascade else []), *self.sides]

    def pick(self, model: str | None) -> tuple[Side, Cascade | None]:
        """The model that a name stands for, and the rule that goes with it; the run's own name is the default.

        Raises:
            ConfigError: there is none.
        """
        name = self.default_model if not model or model == self.run.folder.name else model
        if name == CASCADE and self.cascade:
            return self.sides[STUDENT], self.cascade
        if name not in self.sides:
            raise unknown("model", name, self.models)
        return self.sides[name], None

    def calibration_of(self, side: Side) -> Calibration | None:
        """What turns a model's measures into the probability of being right; known of the student alone."""
        calibration = self.calibration
        return calibration if calibration is not None and calibration.arm == side.arm else None

    def pieces(self, side: Side, cascade: Cascade | None, work: Work, teacher_work: Work | None) -> Writing:
        """One answer, as it is written."""
        verdict = Verdict(side.name)
        assert side.engine is not None
        if cascade is None:
            return Writing(verdict, side.engine.write(work))
        teacher = self.sides[TEACHER_SIDE].engine
        stream = cascaded(cascade, side.engine, work, teacher, teacher_work, verdict, TEACHER_SIDE)
        return Writing(verdict, stream)

    def teacher_work(self, cascade: Cascade | None, example: Example, manner: Manner) -> Work | None:
        """What the teacher would be asked; None without a cascade, or where it cannot be asked this question."""
        if cascade is None or not self.sides[TEACHER_SIDE].writes:
            return None
        with contextlib.suppress(DataError):
            return work_of(self.sides[TEACHER_SIDE], example, manner)
        return None

    async def answer(
        self, side: Side, cascade: Cascade | None, example: Example, manner: Manner
    ) -> tuple[Answer, Verdict]:
        """One answer, whole; a cascade holds it until it is decided.

        Raises:
            DataError: the question does not fit, or lacks what this kind of model needs.
            EngineFault: there is none.
        """
        answer = await answer_with(side, example, manner, calibration=self.calibration_of(side))
        verdict = Verdict(side.name, answer.confidence, answer.measures)
        if cascade is None:
            return answer, verdict
        verdict.threshold = cascade.threshold
        assert answer.measures is not None
        unsure, verdict.confidence = cascade.asks(answer.measures, early=False)
        if not unsure:
            verdict.decision = "kept"
            return answer, verdict
        try:
            taught = await answer_with(self.sides[TEACHER_SIDE], example, manner)
        except (EngineFault, DataError) as fault:
            verdict.decision, verdict.teacher_fault = "unavailable", fault.message
            return answer, verdict
        verdict.source, verdict.decision, verdict.student_answer = TEACHER_SIDE, "asked", answer.answer
        verdict.teacher_tokens = taught.prompt_tokens + taught.completion_tokens
        verdict.student_tokens = answer.prompt_tokens + answer.completion_tokens
        return replace(taught, seconds=answer.seconds + taught.seconds), verdict

    def tell(self, exchange: Exchange) -> None:
        """Tell everybody who watches that a request is over."""
        for observer in self.observers:
            try:
                observer.finished(exchange)
            except Exception:
                log.exception("an observer failed; the answer was sent all the same")

    def thumb(self, thumb: Thumb) -> None:
        """Keep a thumb, and tell those who want to know.

        Raises:
            ConfigError: thumbs are not kept.
            RunError: the file cannot be written.
        """
        if self.feedback is None:
            raise ConfigError("this server keeps no thumbs", hint="start it with --feedback FILE")
        write_thumb(self.feedback, thumb)
        for observer in self.observers:
            if hasattr(observer, "thumbed"):
                with contextlib.suppress(Exception):
                    watcher: ThumbObserver = observer  # pyright: ignore[reportAssignmentType]
                    watcher.thumbed(thumb)

    @property
    def load(self) -> dict[str, int]:
        """Answers under way at the gateway, and of the engines of this process those that wait and are written."""
        loads = [e.load for side in self.sides.values() for e in (side.engine, side.pointer) if e is not None]  # pyright: ignore
        waiting, running = (sum(column) for column in zip(*loads, strict=True)) if loads else (0, 0)
        return {"under_way": self.admission.under_way, "waiting": waiting, "running": running}

    async def close(self) -> None:
        """End all engines."""
        for side in self.sides.values():
            await side.close()


@dataclass
class Writing:
    """An answer that is being written, and what is decided of it.

    Attributes:
        verdict: whose it is; it holds from the first piece on.
        pieces: of the answer.
    """

    verdict: Verdict
    pieces: AsyncIterator[Piece]


def request_id(prefix: str) -> str:
    """A name for a request, unique."""
    return f"{prefix}-{secrets.token_hex(12)}"
