"""`understudy export`: a student in the form in which it is deployed, checked against the one that was measured.

The folder takes its name only once it is verified, so a failed export leaves nothing behind; an earlier one stays.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch

from understudy.deployment import gguf_format, onnx_format
from understudy.deployment.calibrate import student_arm
from understudy.deployment.gguf_format import Precision
from understudy.deployment.runners import LlamaCppRunner, Runner, TransformersRunner
from understudy.deployment.verification import (
    AnswerCheck,
    Speed,
    TokenCheck,
    check_tokens,
    compare_answers,
    compare_spans,
    original_ids,
    refuse_loss,
)
from understudy.errors import ModelError, RunError
from understudy.files import atomic, fingerprint_folder, read_text, whole_folder, write_json
from understudy.models.feature_input import check_alone
from understudy.models.kinds import kind_of
from understudy.models.load import load_example_tokenizer, load_model, resolve
from understudy.pipeline.stages.context import held_out
from understudy.pipeline.stages.evaluation import arm_model
from understudy.recipe import DataConfig, EvaluateConfig, ModelConfig, Recipe
from understudy.records.base import Record, list_of, parsed_by
from understudy.run import Run
from understudy.tokens.collate import move
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.spans import SpanExample
from understudy.training.session import save_model
from understudy.types import Example

Format = Literal["merged", "onnx", "int8", "gguf"]
FORMATS: tuple[Format, ...] = ("merged", "onnx", "int8", "gguf")
EXPORT = "export.json"
ROWS = 100
TOLERANCE = {"merged": 1e-5, "onnx": 1e-3, "gguf": 1e-3}
"""Stated differences of a logit of exact exports: all compute in 32 bits, and sum in orders of their own."""
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class ExportOptions:
    """What `understudy export` is asked for.

    Attributes:
        to: the format.
        arm: whose student; None: the one that the run is about.
        out: the folder; None: `exports/ARM-FORMAT` of the run.
        precision: of a GGUF file's matrices.
        rows: held-out rows whose answers are compared; the tokens are compared on all.
        tolerance: largest difference of a logit of an exact export; None: that of the format.
        max_drop: points of 100 that a lossy export may lose on a metric, shown by the whole interval.
    """

    to: Format
    arm: str | None = None
    out: Path | None = None
    precision: Precision = "f32"
    rows: int = ROWS
    tolerance: float | None = None
    max_drop: float = 5.0

    @property
    def exact(self) -> bool:
        """Whether the export computes in 32 bits what the original does."""
        return self.to in ("merged", "onnx") or (self.to == "gguf" and self.precision == "f32")

    @property
    def name(self) -> str:
        """Of the format with its precision, for folders and cards."""
        return f"gguf-{self.precision}" if self.to == "gguf" else self.to


@dataclass(frozen=True)
class ExportRecord(Record):
    """What was exported and how it was verified: `export.json`.

    Attributes:
        format: `merged`, `onnx`, `int8`, `gguf-f32` …
        arm: whose student.
        run: fingerprint of the run's recipe.
        student: fingerprint of the folder of the student.
        exact: whether equality was asked for, or closeness.
        bytes: of the files of the model.
        original_bytes: of the original's weights.
        tokens: comparisons of prompts' ids, on the whole evaluation set.
        answers: comparison of greedy answers.
        speed: of both in one process.
        packages: versions of what wrote and ran it.
    """

    format: str
    arm: str
    run: str
    student: str
    exact: bool
    bytes: int
    original_bytes: int
    tokens: tuple[TokenCheck, ...] = field(metadata=parsed_by(list_of(TokenCheck)))
    answers: AnswerCheck = field(metadata=parsed_by(AnswerCheck.from_json))
    speed: Speed = field(metadata=parsed_by(Speed.from_json))
    packages: dict[str, str]

    @property
    def line(self) -> str:
        """For the model card and the terminal."""
        answers, tokens = self.answers, self.tokens[-1]
        share = f"{answers.equal:,} of {answers.rows:,} greedy answers are the original's"
        ties = f", {answers.ties:,} part at a tie" if answers.ties else ""
        within = (
            f", logits within {answers.max_logit_difference:.1g}" if answers.max_logit_difference is not None else ""
        )
        return (
            f"{self.format}: {tokens.equal:,} prompts become the same tokens; {share}{ties}{within}; "
            f"{self.bytes / 1e6:.1f} MB ({self.bytes / self.original_bytes:.2f} of the original), "
            f"{self.speed.ratio:.2f} times its speed by {self.speed.engine}"
        )


@dataclass(frozen=True)
class Student:
    """The student that was measured, and what it is verified on.

    Attributes:
        model: in 32 bits, on the processor.
        tokenizer: of it.
        folder: of its weights.
        rows: the whole evaluation set.
        evaluate: metrics and resamples.
    """

    model: Any
    tokenizer: ExampleTokenizer
    folder: Path
    rows: Sequence[Example]
    evaluate: EvaluateConfig

    @property
    def writes(self) -> bool:
        """Whether it writes its answers; otherwise it points at them."""
        return self.tokenizer.template.candidates == "vocabulary"


def export(run: Run, options: ExportOptions, progress: Progress = lambda *_: None) -> tuple[ExportRecord, Path]:
    """Write and verify an export of a run's student; its record and its folder.

    Raises:
        UnderstudyError: it cannot be made, or it failed verification, and then nothing is left of it.
    """
    recipe = run.recipe
    arm = student_arm(run, recipe, options.arm)
    folder = options.out or run.folder / "exports" / f"{arm}-{options.name}"
    student = student_of(run, recipe, arm)
    card = run.folder / "student" / "README.md"
    text = read_text(card) if card.is_file() else f"# {recipe.name}\n"
    return export_student(student, options, folder, arm=arm, run=recipe.fingerprint(), card=text, progress=progress)


def student_of(run: Run, recipe: Recipe, arm: str) -> Student:
    """The student of an arm, loaded in 32 bits.

    Raises:
        UnderstudyError: it cannot be loaded.
    """
    config, weights = arm_model(run, recipe, arm)
    check_alone(Path(weights or ""), arm)
    plain = config.model_copy(update={"dtype": "float32"})
    model = load_model(plain, torch.device("cpu"), weights=weights, seed=recipe.seed)
    tokenizer = load_example_tokenizer(config, recipe.data, weights=weights)
    folder = Path(weights or resolve(config.model))
    return Student(model, tokenizer, folder, held_out(run, recipe), recipe.evaluate)


def export_student(
    student: Student,
    options: ExportOptions,
    folder: Path,
    *,
    arm: str = "student",
    run: str = "",
    card: str = "",
    progress: Progress = lambda *_: None,
) -> tuple[ExportRecord, Path]:
    """Write and verify an export of any student.

    Args:
        student: what is exported.
        options: the format.
        folder: where it goes, once it is verified.
        arm: its name, for the record.
        run: fingerprint of its recipe, likewise.
        card: the model card that the line of the export is added to.
        progress: called with (done, total, note).

    Raises:
        UnderstudyError: it cannot be made, or it failed verification.
        ModelError: the student reads pictures, hears, or makes vectors.
    """
    if student.tokenizer.template.reads_audio:
        raise ModelError(
            "export verifies what a model makes of text, and this one hears recordings",
            hint=f"{student.folder} opens with transformers as it is",
        )
    if student.tokenizer.template.reads_images:
        raise ModelError(
            "export verifies what a model makes of text, and this one reads pictures",
            hint=f"{student.folder} opens with transformers as it is",
        )
    if student.tokenizer.template.candidates == "passages":
        raise ModelError(
            "export verifies answers that are written or pointed at, and this student makes vectors",
            hint=f"{student.folder} opens with sentence-transformers as it is",
        )
    _check_free(folder)
    with whole_folder(folder) as part:
        progress(0, 1, f"writing {options.name}")
        _write(student, options, part)
        progress(1, 1, f"writing {options.name}")
        tokens = _check_all_tokens(student, options, part)
        answers, speed = _check_answers(student, options, part, progress)
        if not options.exact:
            refuse_loss(answers, options.max_drop)
        record = ExportRecord(
            format=options.name,
            arm=arm,
            run=run,
            student=fingerprint_folder(student.folder) if student.folder.exists() else str(student.folder),
            exact=options.exact,
            bytes=_weight_bytes(part),
            original_bytes=sum(p.numel() * p.element_size() for p in student.model.parameters()),
            tokens=tuple(tokens),
            answers=answers,
            speed=speed,
            packages=_versions(options, speed.engine),
        )
        write_json(part / EXPORT, record.to_json())
        with atomic(part / "README.md") as handle:
            handle.write(card_with(card, record))
    return record, folder


def _check_free(folder: Path) -> None:
    if folder.exists() and not (folder / EXPORT).is_file() and (folder.is_file() or any(folder.iterdir())):
        raise RunError(f"{folder} holds something else than an export", hint="name another folder with --out")


def card_with(card: str, record: ExportRecord) -> str:
    """A model card with the line of an export at its end, in place of an earlier one."""
    before = re.split(r"\n## Export\n", card)[0].rstrip("\n")
    return f"{before}\n\n## Export\n\n{record.line}. Figures: `{EXPORT}`.\n"


def _weight_bytes(folder: Path) -> int:
    suffixes = (".safetensors", ".onnx", ".data", ".gguf")
    return sum(path.stat().st_size for path in folder.iterdir() if path.name.endswith(suffixes))


def _versions(options: ExportOptions, engine: str) -> dict[str, str]:
    names = ["torch", "transformers", "tokenizers"]
    names += {"onnx": ["onnx", "onnxscript", "onnxruntime"], "int8": ["onnx", "onnxscript", "onnxruntime"]}.get(
        options.to, []
    )
    names += ["gguf"] if options.to == "gguf" else []
    names += ["llama_cpp_python"] if engine.startswith("llama.cpp") else []
    return {name: metadata.version(name) for name in names}


# Writing --------------------------------------------------------------------------------------------------------------


def _write(student: Student, options: ExportOptions, part: Path) -> None:
    template = student.tokenizer.template
    if options.to == "gguf":
        _check_gguf(student, options)
        gguf_format.write_gguf(student.model, template.tokenizer, part / gguf_format.FILE, options.precision)
        return
    if options.to == "merged":
        _save(student, part)
        return
    onnx_format.check_onnx()
    _save(student, part)
    for weights in part.glob("model*.safetensors*"):
        weights.unlink()
    if options.to == "onnx":
        onnx_format.write_onnx(student.model, template, part)
        return
    with tempfile.TemporaryDirectory(dir=part.parent, prefix=f".{part.name}.") as whole:
        onnx_format.write_onnx(student.model, template, Path(whole))
        onnx_format.quantise(Path(whole), part)


def _check_gguf(student: Student, options: ExportOptions) -> None:
    """Refuse what no engine that is here could verify.

    Raises:
        ModelError: see `gguf_format.check_exportable`; or llama.cpp is needed and not installed.
    """
    if not student.writes:
        raise ModelError("a model that points is not exported to GGUF", hint="export to merged, onnx or int8")
    if _by_llama_cpp_alone(student, options) and find_spec("llama_cpp") is None:
        raise ModelError(
            "a GGUF file with a tokenizer of Llama's own kind can only be verified by llama.cpp",
            hint="pip install llama-cpp-python (it is compiled, some 15 minutes), or export to merged or onnx",
        )


def _save(student: Student, part: Path) -> None:
    """Weights, config, generation config, tokenizer and chat template, as `from_pretrained` takes them."""
    save_model(student.model, student.tokenizer.template, part / "model")
    for path in (part / "model").iterdir():
        path.rename(part / path.name)
    shutil.rmtree(part / "model")


# Verifying ------------------------------------------------------------------------------------------------------------


def _exported_config(options: ExportOptions, part: Path, kind: str) -> ModelConfig:
    """The export as whoever gets it opens it: nothing of the recipe comes along."""
    name = str(part / gguf_format.FILE) if options.to == "gguf" else str(part)
    return ModelConfig(model=name, dtype="float32", kind=kind if kind == "span" else None)


def _check_all_tokens(student: Student, options: ExportOptions, part: Path) -> list[TokenCheck]:
    """The export's own tokenizer with its own chat template; then plain, of a rendered prompt; then llama.cpp's."""
    data: DataConfig = student.tokenizer.data
    config = _exported_config(options, part, kind_of(student.model.config).name)
    exported = load_example_tokenizer(config, data)
    common = (student.tokenizer, student.rows)
    checks: list[TokenCheck] = []
    if not _by_llama_cpp_alone(student, options):
        checks.append(check_tokens(*common, lambda row: original_ids(exported, row), by="transformers", masks=True))
    if student.writes and checks:
        plain: Any = exported.template.tokenizer
        # Of an encoder–decoder the tokenizer itself frames what is read; of a causal model the chat template does.
        framed = bool(exported.template.start_ids)
        checks.append(
            check_tokens(
                *common,
                lambda row: plain(exported.prompt_text(row), add_special_tokens=framed, verbose=False)["input_ids"],
                by="transformers, of the rendered prompt",
                masks=False,
            )
        )
    llama = _llama_cpp(part, data.max_length) if options.to == "gguf" else None
    if llama is not None:
        checks.append(
            check_tokens(
                *common,
                lambda row: llama.tokenize(exported.prompt_text(row).encode(), add_bos=False, special=True),
                by="llama.cpp",
                masks=False,
            )
        )
    return checks


def _by_llama_cpp_alone(student: Student, options: ExportOptions) -> bool:
    """Whether `transformers` reads the tokenizer of a GGUF file in a way of its own: it puts no ▁ before a text."""
    if options.to != "gguf":
        return False
    return gguf_format.check_exportable(student.model, student.tokenizer.template.tokenizer).model == "llama"


def _check_answers(
    student: Student, options: ExportOptions, part: Path, progress: Progress
) -> tuple[AnswerCheck, Speed]:
    tolerance = (options.tolerance or TOLERANCE[options.to]) if options.exact else None
    rows = list(student.rows[: options.rows])
    if not student.writes:
        return _check_spans(student, options, part, rows, tolerance)
    runner, engine = _exported_runner(student, options, part)
    return compare_answers(
        TransformersRunner(student.model, student.tokenizer.template),
        runner,
        student.tokenizer,
        rows,
        tolerance=tolerance,
        config=student.evaluate,
        engine=engine,
        progress=progress,
    )


def _exported_runner(student: Student, options: ExportOptions, part: Path) -> tuple[Runner, str]:
    template = student.tokenizer.template
    if options.to in ("onnx", "int8"):
        return onnx_format.onnx_runner(part, template), "onnxruntime"
    llama = _llama_cpp(part, student.tokenizer.data.max_length) if options.to == "gguf" else None
    if llama is not None:
        return LlamaCppRunner(llama), "llama.cpp"
    config = _exported_config(options, part, kind_of(student.model.config).name)
    return TransformersRunner(load_model(config, torch.device("cpu")), template), "transformers"


def _llama_cpp(part: Path, longest: int) -> Any:
    """llama.cpp with the file in it, or None where it is not installed: then `transformers` reads the file."""
    try:
        import llama_cpp  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    with _plain_buffers(llama_cpp.llama_cpp):
        return llama_cpp.Llama(
            str(part / gguf_format.FILE),
            n_ctx=longest + 8,
            n_threads=torch.get_num_threads(),
            n_threads_batch=torch.get_num_threads(),
            logits_all=True,
            verbose=False,
            type_k=llama_cpp.GGML_TYPE_F32,
            type_v=llama_cpp.GGML_TYPE_F32,
        )


@contextmanager
def _plain_buffers(library: Any) -> Iterator[None]:
    """Weights as the file has them, not packed anew for matrix units of the processor.

    Where a container forbids these units (AMX), the packed kernels end the process; the binding has no argument for it.
    """
    defaults = library.llama_model_default_params

    def without() -> Any:
        parameters = defaults()
        if hasattr(parameters, "use_extra_bufts"):
            parameters.use_extra_bufts = False
        return parameters

    library.llama_model_default_params = without
    try:
        yield
    finally:
        library.llama_model_default_params = defaults


def _check_spans(
    student: Student, options: ExportOptions, part: Path, rows: list[Example], tolerance: float | None
) -> tuple[AnswerCheck, Speed]:
    """A model that points: logits of all windows, and the answers that follow from them."""
    config = _exported_config(options, part, "span")
    exported: Any
    exported, engine = (
        (load_model(config, torch.device("cpu")), "transformers")
        if options.to == "merged"
        else (onnx_format.onnx_span_model(part, student.model.config), "onnxruntime")
    )
    kind = kind_of(student.model.config)
    difference = max(_span_difference(student, exported, row) for row in rows)
    answers = [kind.answers(model, student.tokenizer, rows, batch_size=1) for model in (student.model, exported)]
    ours, theirs = answers
    return compare_spans(ours, theirs, rows, difference, tolerance=tolerance, config=student.evaluate, engine=engine)


@torch.no_grad()
def _span_difference(student: Student, exported: Any, row: Example) -> float:
    tokenizer: Any = student.tokenizer
    pad = tokenizer.template.tokenizer.pad_token_id
    largest = 0.0
    for window in tokenizer.windows(row):
        inputs: Any = move(SpanExample.batched([window], pad)["inputs"], torch.device("cpu"))
        ours, theirs = student.model(**inputs, return_dict=True), exported(**inputs, return_dict=True)
        for side in ("start_logits", "end_logits"):
            largest = max(largest, float((getattr(ours, side) - getattr(theirs, side)).abs().max()))
    return largest
