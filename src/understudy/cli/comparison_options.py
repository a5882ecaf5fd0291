"""What `evaluate`, `compare` and `report` share: their options, and the way from sources to scored systems."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from understudy import bounds

if TYPE_CHECKING:
    from understudy.evaluation.compare import Comparison
    from understudy.evaluation.prediction_files import FileOptions
    from understudy.recipe import EvaluateConfig

Sources = Annotated[
    list[str], typer.Argument(metavar="RUN|RUN:ARM|FILE...", help="Run folders, or files of predictions.")
]
Arm = Annotated[str | None, typer.Option("--arm", help="Which arm to take of each run. Default: distilled.")]
References = Annotated[
    list[str] | None,
    typer.Option(
        "--references",
        metavar="FILE",
        help="Right answers, where the predictions hold none: any layout of data.source, or lines. Repeatable.",
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        metavar="FIELD=COLUMN,...",
        help="Your own columns, in whichever file has them: question=Query,answer=Gold,prediction=Reply.",
    ),
]
Format = Annotated[
    str | None, typer.Option("--format", help="Layout of --references, as data.format has it. Default: auto.")
]
DataField = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="KEY=VALUE",
        help="How --references is opened: hub_split, hub_config, password_env, on_bad_row.",
    ),
]
FinalAnswer = Annotated[
    list[str] | None,
    typer.Option(
        "--final-answer",
        metavar="MARK,...",
        help="Compare what stands behind a mark of a solution: '####', A:, Answer:, 'The answer is', boxed, all, or "
        "your own. A prediction without one counts as empty.",
    ),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics", help="all, text (those without a model), or names with commas. Default: the run's; of files all."
    ),
]
JudgeUrl = Annotated[str | None, typer.Option("--judge-url", help="OpenAI-compatible endpoint of the judge.")]
JudgeModel = Annotated[
    str | None, typer.Option("--judge-model", help="The judge's name there; without a URL, a hub id or folder.")
]
JudgeField = Annotated[
    list[str] | None,
    typer.Option("--judge", metavar="KEY=VALUE", help="Any other field of the judge: repeats=3, max_calls=5000 …"),
]
EmbeddingModel = Annotated[
    str | None, typer.Option("--embedding-model", help="Model of answer_similarity: folder or hub id.")
]
BertscoreModel = Annotated[
    str | None, typer.Option("--bertscore-model", help="Encoder of bertscore_f1: folder or hub id.")
]
Normalise = Annotated[
    str | None,
    typer.Option(
        "--normalise", metavar="numbers|squad", help="How exact_match and token_f1 compare; as published: squad."
    ),
]
Resamples = Annotated[
    int | None,
    typer.Option("--resamples", min=100, max=bounds.RESAMPLES, help="Draws of bootstrap and randomisation."),
]
Confidence = Annotated[float | None, typer.Option("--confidence", min=0.5, max=0.999, help="Level of the intervals.")]
Baseline = Annotated[
    str | None, typer.Option("--baseline", metavar="SYSTEM", help="Test every system against this one only.")
]

Why = Annotated[bool, typer.Option("--why", help="Say of each metric that was not measured why.")]


@dataclass(frozen=True)
class ScoreOptions:
    """What every command that scores can be told."""

    references: References = None
    columns: Columns = None
    format: Format = None
    data: DataField = None
    final_answer: FinalAnswer = None
    metrics: Metrics = None
    judge_url: JudgeUrl = None
    judge_model: JudgeModel = None
    judge: JudgeField = None
    embedding_model: EmbeddingModel = None
    bertscore_model: BertscoreModel = None
    normalise: Normalise = None
    resamples: Resamples = None
    confidence: Confidence = None

    def config(self, sources: Sequence[str]) -> EvaluateConfig:
        """The `evaluate` section of the first run among the sources (else the defaults), with the options on top.

        Raises:
            ConfigError: a judge's URL without a model, or a field of the judge that it does not have.
        """
        # Before numpy is loaded: the matrices here are small, and on a busy machine threads that wait for each other
        # cost many times what they share out.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        from pydantic import ValidationError

        from understudy.api import config_of
        from understudy.errors import ConfigError
        from understudy.recipe import EvaluateConfig, JudgeConfig

        config = config_of(sources)
        changes = {name: getattr(self, name) for name in ("embedding_model", "bertscore_model", "normalise")}
        changes |= {"resamples": self.resamples, "confidence": self.confidence, "judge": self._judge(config)}
        changes = {name: value for name, value in changes.items() if value is not None}
        try:
            return EvaluateConfig.model_validate({**config.model_dump(), **changes})
        except ValidationError as error:
            fault = error.errors()[0]
            of_judge = fault["loc"][:1] == ("judge",)
            hint = f"fields of a judge: {', '.join(JudgeConfig.model_fields)}" if of_judge else ""
            raise ConfigError(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}", hint=hint) from error

    def files(self) -> FileOptions:
        """How files of predictions and of right answers are read.

        Raises:
            ConfigError: an option that cannot be read, or a field that there is not.
        """
        from understudy.errors import unknown
        from understudy.evaluation.prediction_files import FileOptions
        from understudy.recipe import DataConfig

        fields = _pairs(self.data or [], "--data", "hub_split=test")
        for name in fields:
            if name not in _OPENING:
                raise unknown("field", name, _OPENING, where="--data")
        section = {"format": self.format or "auto", "columns": _columns(self.columns or [])}
        if fields.get("on_bad_row", "error") not in ("error", "quarantine"):
            raise unknown("value", fields["on_bad_row"], ("error", "quarantine"), where="--data on_bad_row")
        data = DataConfig.model_validate(section | fields)
        marks = [mark for text in self.final_answer or [] for mark in text.split(",")]
        return FileOptions(references=self.references or (), data=data, final_answer=marks)

    def _judge(self, config: EvaluateConfig) -> dict[str, Any] | None:
        """The judge's section with the options on top; None where no option is about it."""
        from understudy.errors import ConfigError

        fields = {
            "base_url": self.judge_url,
            "model": self.judge_model,
            **_fields(self.judge or []),
        }
        fields = {name: value for name, value in fields.items() if value is not None}
        if not fields:
            return None
        fields = {**(config.judge.model_dump() if config.judge else {}), **fields}
        if "model" not in fields:
            raise ConfigError("the judge has no model", hint="name it with --judge-model")
        return fields


@dataclass(frozen=True)
class CompareOptions(ScoreOptions):
    """What a command that sets systems side by side can be told besides."""

    arm: Arm = None
    baseline: Baseline = None

    def compare(self, sources: Sequence[str]) -> Comparison:
        """Read, score and test what a command names."""
        config = self.config(sources)
        from understudy.api import compare

        return compare(
            *sources,
            metrics=self.metrics,
            arm=self.arm,
            baseline=self.baseline,
            files=self.files(),
            config=config,
        )


KEYWORD = inspect.Parameter.KEYWORD_ONLY


def with_options(kind: type[ScoreOptions]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give the command below the options of a class; they reach it as one object, its parameter `options`."""
    hints = get_type_hints(kind, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in dataclasses.fields(kind)
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        parameters = inspect.signature(command, eval_str=True).parameters.values()
        expanded = [
            option for parameter in parameters for option in (shared if parameter.name == "options" else [parameter])
        ]
        all_parameters = [option.replace(kind=KEYWORD) for option in expanded]

        @functools.wraps(command)
        def spread(**values: Any) -> None:
            options = kind(**{parameter.name: values.pop(parameter.name) for parameter in shared})
            command(**values, options=options)

        # The framework reads the options off the signature and the annotations.
        setattr(spread, "__signature__", inspect.Signature(all_parameters))  # noqa: B010
        spread.__annotations__ = {option.name: option.annotation for option in all_parameters}
        return spread

    return decorate


_OPENING = ("hub_split", "hub_config", "password_env", "on_bad_row")
"""Fields of a recipe's section `data` that `--data` takes."""


def _pairs(texts: list[str], option: str, example: str) -> dict[str, str]:
    """What was given as KEY=VALUE.

    Args:
        texts: as they were given.
        option: by which; for the error, as is an `example` of one.
        example: see `option`.

    Raises:
        ConfigError: one that is no KEY=VALUE.
    """
    from understudy.errors import ConfigError

    pairs: dict[str, str] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise ConfigError(f"cannot read {option} {text!r}", hint=f"write it as KEY=VALUE, for example {example}")
        pairs[key] = value
    return pairs


def _fields(judge: list[str]) -> dict[str, Any]:
    """The judge's fields that were given as KEY=VALUE, values in YAML.

    Raises:
        ConfigError: one that is no KEY=VALUE, or whose value is no YAML.
    """
    import yaml

    from understudy.errors import ConfigError
    from understudy.recipe.reading import parse_yaml

    fields: dict[str, Any] = {}
    for key, value in _pairs(judge, "--judge", "repeats=3").items():
        try:
            fields[key] = parse_yaml(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"the value of --judge {f'{key}={value}'!r} is not valid YAML") from error
    return fields


def _columns(texts: list[str]) -> dict[str, str]:
    """Field -> column out of `question=Query,answer=Gold`, or out of a mapping as a recipe has it.

    Raises:
        ConfigError: neither of the two.
    """
    import yaml

    from understudy.errors import ConfigError
    from understudy.recipe.reading import parse_yaml

    columns: dict[str, str] = {}
    for text in texts:
        if text.lstrip().startswith("{"):
            try:
                given = parse_yaml(text)
            except yaml.YAMLError as error:
                raise ConfigError(f"--columns {text!r} is not valid YAML") from error
        else:
            given = {key.strip(): column for part in text.split(",") for key, _, column in [part.partition("=")]}
        if not all(key and isinstance(column, str) and column for key, column in given.items()):
            raise ConfigError(
                f"cannot read --columns {text!r}",
                hint="write it as FIELD=COLUMN,FIELD=COLUMN, for example question=Query,answer=Gold; a column with a "
                "comma in its name: {question: 'Query, long'}",
            )
        columns |= given
    return columns
