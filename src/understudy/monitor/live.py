"""A gateway that is watched: the teacher in its shadow, a candidate beside the student, a pointer that is followed."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from sqlalchemy import select

from understudy.arms import main_arm
from understudy.confidence import Calibration
from understudy.errors import UnderstudyError
from understudy.files import read_jsonl
from understudy.monitor.config import MonitorConfig
from understudy.monitor.observer import Monitor
from understudy.monitor.pointer import Pointer, PointerFile
from understudy.monitor.reference import MIN_ROWS, Reference
from understudy.monitor.serving import page_beside
from understudy.monitor.signals import Observation
from understudy.monitor.store import MonitorStore, question_of
from understudy.monitor.tables import REQUESTS
from understudy.records.predictions import Prediction
from understudy.run import Run
from understudy.serve.answers import answer_with, example_of
from understudy.serve.cascade import Cascade
from understudy.serve.exchange import Exchange
from understudy.serve.gateway import Gateway
from understudy.serve.opening import Plan, calibration_of, open_gateway
from understudy.serve.sides import STUDENT, TEACHER_SIDE, Side, open_side
from understudy.types import Message
from understudy.web.listening import listen

CANDIDATE = "candidate"
log = logging.getLogger("understudy.monitor")
_LOOK_SECONDS = 1.0


class SideAsker:
    """Asks a model of the gateway from a thread of one's own, and waits for the answer.

    Args:
        side: the model.
    """

    def __init__(self, side: Side) -> None:
        self.side, self._loop = side, asyncio.new_event_loop()

    def __call__(self, exchange: Exchange) -> str:
        """The model's answer to what was asked."""
        question, turns = question_of(exchange)
        history = tuple(Message(turn["role"], turn["content"]) for turn in turns if turn["role"] != "system")
        example = example_of(question, exchange.context, exchange.choices, history=history)
        return self._loop.run_until_complete(answer_with(self.side, example)).answer

    def close(self, *, engine: bool = False) -> None:
        """Let go of the loop, once nobody asks any more, and of the engine if it is nobody else's."""
        if engine:
            self._loop.run_until_complete(self.side.close())
        self._loop.close()


@dataclass
class CanaryGateway(Gateway):
    """A gateway in which a share of the students' requests goes to a candidate.

    Attributes:
        share: probability that the candidate answers where the student is asked for.
        candidate_calibration: of the candidate's confidence.
    """

    share: float = 0.0
    candidate_calibration: Calibration | None = None

    @property
    def models(self) -> list[str]:
        """Every name that may be asked for; the candidate has none of its own."""
        return [name for name in super().models if name != CANDIDATE]

    def pick(self, model: str | None) -> tuple[Side, Cascade | None]:
        """As every gateway; of the student's requests a share is the candidate's."""
        side, cascade = super().pick(model)
        tried = self.sides.get(CANDIDATE)
        if side.name == STUDENT and tried is not None and random.random() < self.share:
            return tried, cascade
        return side, cascade

    def calibration_of(self, side: Side) -> Calibration | None:
        """Each student has a calibration of its own."""
        return self.candidate_calibration if side.name == CANDIDATE else super().calibration_of(side)


class Deployment:
    """The students of a pointer, their gateway and its monitor; follows the pointer while it serves.

    A promoted candidate is loaded already: from one request to the next it is the student. What is under way is
    answered by whoever began it. The student before is kept, to roll back at once.

    Args:
        pointer: the file.
        plan: what is served.
        store: of the monitor; None: nothing is watched.
        config: of the monitor.
    """

    def __init__(self, pointer: PointerFile, plan: Plan, store: MonitorStore | None, config: MonitorConfig) -> None:
        self._file, self._plan, self.now = pointer, plan, pointer.read()
        run = Run.open(Path(self.now.current))
        plain = open_gateway(run, plan)
        self.gateway = CanaryGateway(**{field.name: getattr(plain, field.name) for field in fields(plain)})
        self._loaded: dict[str, Side] = {self.now.current: self.gateway.sides[STUDENT]}
        self._apply(self.now)
        self.monitor: Monitor | None = None
        self._askers: list[SideAsker] = []
        self._teacher: SideAsker | None = None
        if store is not None and config.on:
            reference = reference_of(run, store, config)
            teacher = self._teacher = _teacher(run, plan, self.gateway) if config.shadow.share else None
            self.monitor = Monitor(store, config, reference=reference, teacher=teacher)
            self.monitor.figures.watch_load(lambda: self.gateway.load)
            self.gateway.observers = (self.monitor,)
            self._watch_pair()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="pointer", daemon=True)
        self._thread.start()

    def _side(self, folder: str) -> Side:
        if folder not in self._loaded:
            self._loaded[folder] = open_side(Run.open(Path(folder)), STUDENT, self._plan.opening)
        return self._loaded[folder]

    def _apply(self, pointer: Pointer) -> None:
        """Load what is new, then change over; whatever fails leaves everything as it was."""
        sides = {STUDENT: replace(self._side(pointer.current), name=STUDENT)}
        if pointer.candidate:
            sides[CANDIDATE] = replace(self._side(pointer.candidate), name=CANDIDATE)
            self.gateway.candidate_calibration = calibration_of(Run.open(Path(pointer.candidate)))
        run = Run.open(Path(pointer.current))
        calibration = calibration_of(run)
        others = {name: side for name, side in self.gateway.sides.items() if name not in (STUDENT, CANDIDATE)}
        self.gateway.run, self.gateway.calibration, self.gateway.share = run, calibration, pointer.share
        # One assignment: a request sees the students before or after.
        self.gateway.sides = {**sides, **others}
        self.now = pointer

    def _watch_pair(self) -> None:
        if self.monitor is None:
            return
        sides = self.gateway.sides
        pair = [SideAsker(sides[name]) if name in sides else None for name in (STUDENT, CANDIDATE)]
        # Those of the pair before may be asking just now: all are closed at the end.
        self._askers += [asker for asker in pair if asker is not None]
        self.monitor.begin((Path(self.now.current).name, Path(self.now.candidate or "").name), *pair)

    def _follow(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            self.look()

    def look(self) -> bool:
        """Whether the pointer has changed; if so, it is followed. One that cannot be is logged, and nothing changes."""
        try:
            pointer = self._file.read()
            if pointer == self.now:
                return False
            self._apply(pointer)
        except UnderstudyError as error:
            log.error("the pointer cannot be followed: %s", error.message)
            return False
        self._watch_pair()
        log.warning("in use: %s; candidate: %s", pointer.current, pointer.candidate or "none")
        return True

    def close(self) -> None:
        """Follow no more, and finish the watching; the engines are the gateway's."""
        self._stop.set()
        self._thread.join(30)
        if self.monitor is not None:
            self.monitor.close()
        for asker in self._askers:
            asker.close()
        _close_teacher(self._teacher, self.gateway)
        in_use = {id(side.engine or side.pointer) for side in self.gateway.sides.values()}
        for side in self._loaded.values():
            if id(side.engine or side.pointer) not in in_use:
                asyncio.run(side.close())


def _close_teacher(teacher: SideAsker | None, gateway: Gateway) -> None:
    if teacher is not None:
        teacher.close(engine=all(teacher.side is not side for side in gateway.sides.values()))


def _teacher(run: Run, plan: Plan, gateway: Gateway) -> SideAsker | None:
    """Asks the teacher; one of this process is shared with the cascade, one on a server gets a client of its own."""
    if run.recipe.teacher is None and TEACHER_SIDE not in plan.opening.upstream:
        return None
    side = gateway.sides.get(TEACHER_SIDE)
    if side is None or TEACHER_SIDE in plan.opening.upstream or run.recipe.served_teacher is not None:
        side = open_side(run, TEACHER_SIDE, plan.opening)
    return SideAsker(side)


@dataclass
class Watching:
    """A gateway, whoever watches it, and what is closed at the end.

    Attributes:
        gateway: to be served.
        monitor: None where nothing is watched.
        deployment: None where no pointer is followed.
        teacher: of the shadow, without a deployment.
    """

    gateway: Gateway
    monitor: Monitor | None = None
    deployment: Deployment | None = None
    teacher: SideAsker | None = None

    @contextmanager
    def page(
        self, port: int, say: Callable[[str], None], *, host: str = "127.0.0.1", token: str = ""
    ) -> Iterator[None]:
        """Dashboard and figures on a port while the gateway serves; all is finished when it ends.

        Args:
            port: 0: any that is free.
            say: is told the address.
            host: address to listen on.
            token: what a reader must know; empty: whoever reaches the address may read.

        Raises:
            RunError: the port is taken.
        """
        monitor = self.monitor
        try:
            if monitor is None:
                yield
                return
            with page_beside(monitor.store, listen(host, port), monitor.figures, token=token) as address:
                say(f"dashboard at {address}, figures at {address}/metrics")
                yield
        finally:
            self.close()

    def close(self) -> None:
        """Finish the watching; the engines are the gateway's."""
        if self.deployment is not None:
            self.deployment.close()
        elif self.monitor is not None:
            self.monitor.close()
            _close_teacher(self.teacher, self.gateway)


def open_watching(run: Run, plan: Plan, pointer: Path | None, database: str | None, config: MonitorConfig) -> Watching:
    """Open a gateway that is watched, or follows a pointer, or both.

    Args:
        run: that is served without a pointer.
        plan: what is served.
        pointer: the file that says which run is served; None: this one.
        database: of the monitor; None, or settings that are off: nothing is watched.
        config: of the monitor.
    """
    store = MonitorStore(database, config) if database and config.on else None
    if pointer is not None:
        deployment = Deployment(PointerFile(pointer), plan, store, config)
        return Watching(deployment.gateway, deployment.monitor, deployment)
    gateway = open_gateway(run, plan)
    if store is None:
        return Watching(gateway)
    teacher = _teacher(run, plan, gateway) if config.shadow.share else None
    reference = reference_of(run, store, config)
    monitor = Monitor(store, config, reference=reference, teacher=teacher, names=(run.folder.name, ""))
    monitor.figures.watch_load(lambda: gateway.load)
    gateway.observers = (monitor,)
    return Watching(gateway, monitor, teacher=teacher)


def reference_of(run: Run, store: MonitorStore, config: MonitorConfig) -> Reference | None:
    """What is usual: the student's answers to the evaluation set, or the first live requests.

    Returns:
        None where there are too few rows; that is logged.
    """
    sources: dict[str, Callable[[], list[Observation]]] = {
        "evaluation": lambda: evaluation_rows(run),
        "live": lambda: first_rows(store, config.reference_rows),
    }
    rows = sources[config.reference]()
    if len(rows) < max(MIN_ROWS, config.reference_rows if config.reference == "live" else 0):
        log.warning("drift is not looked for: %d usual requests are too few", len(rows))
        return None
    return Reference(rows)


def evaluation_rows(run: Run) -> list[Observation]:
    """The student's answers to the test questions of its run; none where it was not evaluated."""
    arms = run.recipe.evaluate.arms
    path = run.predictions_path(main_arm(arms) if main_arm(arms) in arms else arms[-1])
    rows = [Prediction.from_json(row) for row in read_jsonl(path)] if path.is_file() else []
    return [Observation(row.question or "", row.prediction or "") for row in rows]


def first_rows(store: MonitorStore, most: int) -> list[Observation]:
    """The first answered requests that the database has."""
    columns = (REQUESTS.c.question, REQUESTS.c.answer, REQUESTS.c.student_answer, REQUESTS.c.confidence)
    query = (
        select(*columns).where(REQUESTS.c.status < 400, REQUESTS.c.question != "").order_by(REQUESTS.c.at).limit(most)
    )
    with store.reading() as connection:
        rows: list[Any] = list(connection.execute(query))
    return [Observation(row.question, row.student_answer or row.answer or "", row.confidence) for row in rows]
