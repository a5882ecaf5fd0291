"""What was written, on disk: a file of rows for each step, and the list of examples that are finished.

```text
FOLDER/
  plan.json                  what was asked for; other questions begin new files, the old ones move to before-…/
  explain.jsonl …            a step's rows: kept ones, rejected ones with their reasons, and what never came, with why
  finished-examples.jsonl    examples with all their rows, and how many those are
```

A step of the data set keeps each of its questions as a row of `STEP.questions.jsonl`, and what it comes to in
`STEP.jsonl`; there a question counts as finished, here the step as a whole. It divides the steps before it from those
behind it into *parts*, each of which finishes an example by itself.

An example counts as finished only when all its rows are in the files. Whatever a killed process or a power cut leaves
of another – rows, half a line – is dropped when the folder is opened for writing again, and never read as a row.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from understudy.errors import DataError
from understudy.files import atomic, fingerprint, read_json, unwritable, write_json
from understudy.strict_json import JsonFault, parse_json
from understudy.types import Knowledge, Provenance

FINISHED, PLAN = "finished-examples.jsonl", "plan.json"


def as_row(knowledge: Knowledge) -> dict[str, Any]:
    """A piece of knowledge as a JSON object."""
    row = {name: getattr(knowledge, name) for name in ("id", "step", "text", "choice", "sample")}
    source = knowledge.provenance
    provenance = None if source is None else {name: getattr(source, name) for name in source.__slots__}
    details = {"details": dict(knowledge.details)} if knowledge.details else {}
    return {**row, "reasons": list(knowledge.reasons), "provenance": provenance, **details}


def from_row(row: Mapping[str, Any]) -> Knowledge:
    """The same back; fields that a row leaves out stand at their defaults.

    Raises:
        KeyError, TypeError: it is no such row.
    """
    source = row.get("provenance")
    return Knowledge(
        str(row["id"]),
        str(row["step"]),
        row["text"],
        row.get("choice"),
        row.get("sample", 0),
        tuple(row.get("reasons") or ()),
        None if source is None else Provenance(**source),
        row.get("details") or {},
    )


def step_path(folder: str | os.PathLike[str], step: str) -> Path:
    """The file of a step."""
    return Path(folder) / f"{step}.jsonl"


def steps_in(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """The steps that have a file, in the order in which they were asked for."""
    planned = read_json(Path(folder) / PLAN).get("steps", []) if (Path(folder) / PLAN).is_file() else []
    order = [row["step"] for row in planned]
    steps = sorted(path.stem for path in Path(folder).glob("*.jsonl") if path.name != FINISHED)

    def place(name: str) -> tuple[int, bool]:
        step = name.removesuffix(questions_of(""))
        return (order.index(step) if step in order else len(order)), name == step

    return tuple(sorted(steps, key=place))


def questions_of(step: str) -> str:
    """The name under which the questions of a step of the data set are kept."""
    return f"{step}.questions"


def _holds_questions(name: str) -> bool:
    return name.endswith(questions_of(""))


def read_step(folder: str | os.PathLike[str], step: str) -> Iterator[Knowledge]:
    """The rows of a step, one at a time; none where the step has no file. A torn last line is passed over.

    Raises:
        DataError: a line is no such row; it is named.
    """
    path = step_path(folder, step)
    for number, row in _rows(path):
        try:
            yield from_row(row)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}:{number}: no row of knowledge: {error}") from error


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Numbered lines that are whole."""
    if not path.is_file():
        return
    with open(path, "rb") as handle:
        for number, line in enumerate(handle, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                row = parse_json(line)
                if not isinstance(row, dict) or "id" not in row:
                    raise JsonFault("not valid JSON: no object with an id")
            except JsonFault as fault:
                raise DataError(
                    f"{path}:{number}: {fault.reason}", hint="remove the line; what is missing is made again"
                ) from fault
            yield number, row


class KnowledgeStore:
    """The files of a folder, open for writing. Rows of one example are written together, when it is finished."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        steps: Sequence[str],
        identity: Mapping[str, Any],
        *,
        parts: Mapping[str, str] | None = None,
        whole: Collection[str] = (),
    ) -> None:
        """Open the folder, and sweep out what was left half-written.

        Args:
            folder: made where it is absent.
            steps: the steps that are written.
            identity: whatever can change the texts; rows of another identity are moved into a folder beside these.
            parts: the part that a step's rows are of, where it is not the first one, whose name is empty.
            whole: steps whose rows are finished all together, under the step's own name.

        Raises:
            RunError: the folder cannot be written.
            DataError: a line in the middle of a file is no JSON.
        """
        self.folder = Path(folder)
        self.steps = tuple(steps)
        self._parts, self._whole = dict(parts or {}), frozenset(whole)
        self._finished: dict[tuple[str, str], int] = {}
        self._files: dict[str, IO[bytes]] = {}
        self._set_aside(dict(identity))
        self._sweep()

    def __enter__(self) -> KnowledgeStore:
        try:
            for name in (*(step for step in self.steps if not _holds_questions(step)), FINISHED):
                self._open(name)
        except OSError as error:
            raise unwritable(self.folder, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._files.values():
            os.fsync(handle.fileno())
            handle.close()

    @property
    def finished(self) -> dict[str, int]:
        """The examples that the first part finished before the folder was opened, with the number of their rows."""
        return self.finished_in("")

    def finished_in(self, part: str) -> dict[str, int]:
        """The same of any part."""
        return {name: rows for (of_part, name), rows in self._finished.items() if of_part == part}

    def write(self, name: str, rows: Sequence[Knowledge], *, finished: bool = True, part: str = "") -> None:
        """Append the rows of an example.

        Args:
            name: the example's id; that of a question, or of a step of the data set.
            rows: all its rows.
            finished: whether it needs not be asked about again.
            part: the part that the rows are of.

        Raises:
            RunError: the disk is full.
        """
        texts: dict[str, str] = {}
        for row in rows:
            texts[row.step] = texts.get(row.step, "") + json.dumps(as_row(row), ensure_ascii=False) + "\n"
        if finished:
            entry = {"id": name, "rows": len(rows)} | ({"part": part} if part else {})
            texts[FINISHED] = json.dumps(entry, ensure_ascii=False) + "\n"
        try:
            for step, text in texts.items():
                _write_all(self._files.get(step) or self._open(step), text.encode("utf-8", "replace"))
        except OSError as error:
            raise unwritable(self.folder, error) from error

    def _open(self, step: str) -> IO[bytes]:
        self._files[step] = open(self._path(step), "ab", buffering=0)  # noqa: SIM115  (closed in __exit__)
        return self._files[step]

    def _set_aside(self, identity: dict[str, Any]) -> None:
        plan_path = self.folder / PLAN
        recorded = read_json(plan_path) if plan_path.is_file() else None
        if recorded == json.loads(json.dumps(identity)):
            return
        old_files = [path for path in self.folder.glob("*.jsonl") if path.is_file()] if recorded is not None else []
        try:
            if old_files:
                target = self.folder / f"before-{fingerprint(recorded, length=8)}"
                target.mkdir(exist_ok=True)
                for path in (plan_path, *old_files):
                    os.replace(path, target / path.name)
            write_json(plan_path, identity)
        except OSError as error:
            raise unwritable(self.folder, error) from error

    def _sweep(self) -> None:
        """Keep the rows of finished examples only, if there are others."""
        finished_rows = {_entry(row): row["rows"] for _, row in _rows(self.folder / FINISHED)}
        counts = Counter(self._entry_of(step, row) for step in self.steps for _, row in _rows(self._path(step)))
        self._finished = {entry: rows for entry, rows in finished_rows.items() if counts[entry] == rows}
        for step in (*self.steps, FINISHED):
            path = self._path(step)
            if path.is_file() and (_torn(path) or any(not self._is_finished(step, row) for _, row in _rows(path))):
                with atomic(path) as handle:
                    for _, row in _rows(path):
                        if self._is_finished(step, row):
                            handle.write(json.dumps(row, ensure_ascii=False) + "\n")

    def _path(self, step: str) -> Path:
        return self.folder / FINISHED if step == FINISHED else step_path(self.folder, step)

    def _is_finished(self, step: str, row: Mapping[str, Any]) -> bool:
        return (_entry(row) if step == FINISHED else self._entry_of(step, row)) in self._finished

    def _entry_of(self, step: str, row: Mapping[str, Any]) -> tuple[str, str]:
        """Under which entry of the list a step's row counts."""
        return self._parts.get(step, ""), step if step in self._whole else row["id"]


def _entry(row: Mapping[str, Any]) -> tuple[str, str]:
    """Part and name of an entry of the list."""
    return row.get("part", ""), row["id"]


def unfinish(folder: str | os.PathLike[str], names: Collection[str]) -> int:
    """Take examples off the list of the finished ones, so that whoever opens the folder next asks about them again.

    Returns:
        How many of them were on it.
    """
    path, taken = Path(folder) / FINISHED, 0
    with atomic(path) as handle:
        for _, row in _rows(path):
            if row["id"] in names:
                taken += 1
            else:
                handle.write(json.dumps(row, ensure_ascii=False) + "\n")
    return taken


def _write_all(handle: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[handle.write(view) or 0 :]


def _torn(path: Path) -> bool:
    with open(path, "rb") as handle:
        handle.seek(0, os.SEEK_END)
        if handle.tell() == 0:
            return False
        handle.seek(-1, os.SEEK_END)
        return handle.read(1) != b"\n"


def write_step(folder: str | os.PathLike[str], step: str, rows: Iterable[Knowledge]) -> None:
    """Write a step's file in one go, whole or not at all."""
    with atomic(step_path(folder, step)) as handle:
        for row in rows:
            text = json.dumps(as_row(row), ensure_ascii=False) + "\n"
            handle.write(text.encode("utf-8", "replace").decode("utf-8"))
