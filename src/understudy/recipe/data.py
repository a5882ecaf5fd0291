"""The section `data` of a recipe: where the examples come from, how they are split and how long they may be."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from understudy import bounds
from understudy.errors import did_you_mean
from understudy.recipe.endpoint import Section

ContextOverflow = Literal["window", "refuse", "truncate"]

SOURCES = ("source", "dev", "test", "unlabelled")
"""The files that `data` may name, as its `format` and `columns` call them; `columns` knows `catalogue` besides."""


class DataConfig(Section):
    """Where the examples come from and how they are split."""

    source: str = "embedded:telecom"
    """A file (.jsonl, .json, .csv, .tsv, .parquet, .zip), a folder of sessions, hub id, or `embedded:` telecom,
    telecom-choices, telecom-spans, telecom-passages, constellations, digits, spoken, bundles."""
    sources: dict[str, str] = Field(default_factory=dict)
    """In place of `source` several files, each under a name that its rows get as their field `source`, for
    `teachers.where` and tables by field: `{radio: radio.jsonl, core: core.jsonl}`."""
    format: str | dict[str, str] = "auto"
    """How to read it: auto, messages, sharegpt, prompt, qa, labelled, retrieval, speech, squad, teleqna, oran_bench,
    telco_long, telco_mcq, csqa, gsm8k, session, session_log; or one for each of source, dev, test, unlabelled and the
    names of `sources`: `{test: squad}`, others auto."""
    columns: dict[str, str | dict[str, str]] = Field(default_factory=dict)
    """Names of your own columns, for example `{question: Query, answer: Reply}`; those of one source under its name:
    `{question: Query, test: {question: Frage}}`."""
    password_env: str = ""
    """The environment variable that holds the password of an encrypted zip (TeleQnA)."""
    hub_split: str = "train"
    """Which split of a hub data set to read."""
    hub_config: str | None = None
    """Which configuration of a hub data set to read."""
    dev_source: str | None = None
    """A file of your own for the development split; `dev` is then not cut from `source`."""
    test_source: str | None = None
    """A file of your own for the test split; `test` is then not cut from `source`."""
    unlabelled_source: str | None = None
    """A file of questions without answers; the teacher answers them for the student."""
    corpus: str | None = None
    """Of `embed`: passages that are searched beside those of the rows: a file with a column `passage`, or
    `embedded:telecom-passages`."""
    catalogue: str | None = None
    """Of sessions: a file with a row for each item (`item`, `title`, and `category` where there is one)."""
    published_split: bool = True
    """Of sessions that come with a split (`split`, or the files of a folder): keep it. `dev`, `test` and `seed`
    do nothing then."""
    dev: float = Field(default=0.1, ge=0, lt=1)
    """Share of the rows for development: whatever is looked at while training."""
    test: float = Field(default=0.1, ge=0, lt=1)
    """Share of the rows held out for the final figures."""
    group_by: str = "auto"
    """What stays in one split and is resampled together: `context`, `document`, any field of `meta`, or `none`. `auto`
    goes by context where contexts repeat."""
    gold_share: float | None = Field(default=None, gt=0, le=1)
    """Share of the training rows that keep their answer; the rest become unlabelled questions. Default: all."""
    train_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the training rows and unlabelled questions that is used. A smaller share lies within a larger one;
    development and test rows are the same at any."""
    limit: int | None = Field(default=None, gt=0, le=bounds.ROWS)
    """Read at most this many rows, for a quick try."""
    seed: int = Field(default=0, ge=0, le=bounds.SEED)
    """Seed of the split, independent of the training seed."""
    on_bad_row: Literal["error", "quarantine"] = "error"
    """Stop at a bad row, or put bad rows, questions that do not fit among them, into `quarantine.jsonl` and go on."""
    context_overflow: ContextOverflow = "window"
    """A context too long for the model: best-matching window, refuse, or truncate with a count in the report."""
    max_length: int = Field(default=512, gt=0, le=bounds.TOKENS)
    """Longest prompt plus answer in tokens."""
    max_answer_tokens: int = Field(default=128, gt=0, le=bounds.TOKENS)
    """Longest answer in tokens, in training and in generation."""
    stride: int | None = Field(default=None, gt=0, le=bounds.TOKENS)
    """Of an encoder that points: tokens of a long context that two neighbouring windows share; default: a third."""
    null_threshold: float = Field(default=0.0, ge=-bounds.FACTOR, le=bounds.FACTOR)
    """Of an encoder that points: it says `unanswerable` where the score of no answer lies at least so much above that
    of the best span (SQuAD 2.0); 1000000: never."""
    system: str = ""
    """A system prompt put before every question."""
    labels: tuple[str, ...] = ()
    """All labels that an answer can be, for models that classify texts, tag words or compare fixed options
    (`understudy docs encoders`); the order is that of the columns of their heads."""

    @field_validator("labels")
    @classmethod
    def _distinct_labels(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        """Each once, and as they are compared."""
        if len(set(labels)) < len(labels) or any(label != label.strip() or not label for label in labels):
            raise ValueError("labels: give each label once, without blanks around it")
        if len(labels) == 1:
            raise ValueError("labels: with one label there is nothing to tell apart")
        if len(labels) > bounds.LABELS:
            raise ValueError(f"labels: at most {bounds.LABELS:,}")
        return labels

    @property
    def training_files(self) -> dict[str, str]:
        """The files that rows are cut from, by the names that they have: `source`, or those of `sources`."""
        return self.sources or {"source": self.source}

    @property
    def files(self) -> dict[str, str]:
        """Every file that the section names, by what `format` and `columns` call it."""
        others = {"dev": self.dev_source, "test": self.test_source, "unlabelled": self.unlabelled_source}
        return self.training_files | {role: name for role, name in others.items() if name}

    @property
    def title(self) -> str:
        """What the rows come from, in words."""
        return ", ".join(self.training_files.values())

    def format_of(self, role: str) -> str:
        """The layout of one source: of `source` or a name of `sources`, of `dev`, `test` or `unlabelled`."""
        return self.format if isinstance(self.format, str) else self.format.get(role, "auto")

    def columns_of(self, role: str) -> dict[str, str]:
        """The columns of one source: those for all, and its own, which go before."""
        own = self.columns.get(role, {})
        common = {name: column for name, column in self.columns.items() if isinstance(column, str)}
        return common | (own if isinstance(own, dict) else {})

    @model_validator(mode="after")
    def _known_sources(self) -> DataConfig:
        """Sources that `format` and `columns` may speak of, and one place for the training rows."""
        if self.sources and self.source != type(self).model_fields["source"].default:
            raise ValueError("sources stands in place of source: give one of the two")
        if taken := [name for name in self.sources if name in (*SOURCES, "catalogue")]:
            raise ValueError(f"sources: {taken[0]} is a name that data has already: give it another")
        places = (*SOURCES, *self.sources)
        own_columns = {name for name, value in self.columns.items() if isinstance(value, dict)}
        named = [("format", self.format, places)] if isinstance(self.format, dict) else []
        named += [("columns", own_columns, (*places, "catalogue"))]
        for field, names, known in named:
            for name in names:
                if name not in known:
                    raise ValueError(f"{field}: there is no source {name!r}: {did_you_mean(name, known)}")
        return self
