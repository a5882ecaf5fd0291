"""`study.yaml`: all that a study settles before its first rater comes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

import yaml
from pydantic import AfterValidator, Field, model_validator

from understudy import bounds
from understudy.recipe.endpoint import Section

Language = Literal["en", "zh"]
Text = Mapping[Language, str]
"""A text in each of the study's languages."""

LOWEST, HIGHEST = 1, 5
"""Ends of the scale on which constructs are rated: from strong disagreement to strong agreement."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("a name begins with a letter and has up to 40 letters, digits, - and _")
    return name


Name = Annotated[str, AfterValidator(_checked_name)]

_METHOD = re.compile(r"[A-Za-z][A-Za-z0-9 _.+()-]{0,59}")


def _checked_method(name: str) -> str:
    if not _METHOD.fullmatch(name):
        raise ValueError(
            "a method's name begins with a letter and has up to 60 letters, digits, blanks and _ . + ( ) -"
        )
    return name


MethodName = Annotated[str, AfterValidator(_checked_method)]


class MethodConfig(Section):
    """Whose explanations are rated."""

    source: str
    """The run folder or file that they were read from."""
    arm: str | None = None
    """The arm of the run; None for a file."""
    fingerprint: str = ""
    """Of the file that was read."""


class ConstructConfig(Section):
    """One statement that a rater agrees with, from 1 (not at all) to 5 (fully)."""

    name: Name
    """What tables call it."""
    statement: Text
    """The statement, in each language."""


class QuestionConfig(Section):
    """A question with options, about the rater or about the task."""

    name: Name
    """What tables call it."""
    question: Text
    """The question, in each language."""
    options: tuple[Text, ...] = Field(min_length=2)
    """The options, in each language."""


class CheckConfig(QuestionConfig):
    """A question about the task, with one right option."""

    right: int = Field(ge=0)
    """The right option's place, from 0."""

    @model_validator(mode="after")
    def _right_is_an_option(self) -> Self:
        if self.right >= len(self.options):
            raise ValueError(f"right is {self.right}, and there are {len(self.options)} options (from 0)")
        return self


class ConsentConfig(Section):
    """What a rater agrees to before anything else."""

    version: str = "1"
    """Stored with each rater; give the text a new version whenever it changes."""
    text: Text
    """The text, in each language; a blank line begins a new paragraph."""


class PanelConfig(Section):
    """A panel that sends raters by a link with parameters, such as `?PROLIFIC_PID=…`."""

    id: str = "PROLIFIC_PID"
    """The parameter that tells raters apart: the same value comes back to the same place."""
    parameters: tuple[str, ...] = ("STUDY_ID", "SESSION_ID")
    """Further parameters that are stored."""


class ExclusionConfig(Section):
    """Rules by which raters are left out, stated before the first rating; None: no such rule."""

    attention_failed: int | None = Field(default=1, ge=1)
    """Failed attention checks from which on a rater is left out."""
    same_rating_share: float | None = Field(default=None, gt=0, le=1)
    """Share of a rater's ratings that are one value, from which on the rater is left out."""
    median_seconds: float | None = Field(default=None, gt=0, le=bounds.SECONDS)
    """Median seconds a page below which a rater is left out."""


class StudyConfig(Section):
    """A study: whose explanations, of which items, before whom, asked what."""

    id: str
    """Made at random when the study is created; a database holds one study."""
    title: Text
    """What raters read at the head of each page."""
    methods: Mapping[MethodName, MethodConfig] = Field(min_length=1)
    """Name, which no rater sees -> where the texts come from."""
    constructs: tuple[ConstructConfig, ...] = Field(min_length=1, max_length=20)
    """What is rated."""
    items: int = Field(gt=0, le=bounds.ROWS)
    """Number of items."""
    raters: int = Field(gt=0, le=bounds.PROCESSES)
    """Number of raters planned."""
    per_rater: int = Field(default=12, gt=0, le=1000)
    """Pages of explanations that one rater sees."""
    selection: Literal["random", "disagreement", "all"] = "random"
    """How items were chosen: at random; as many as possible of those that all methods, none, or some answer rightly."""
    length_ratio: float | None = Field(default=None, ge=1, le=bounds.FACTOR)
    """Longest over shortest text of an item, at most; None: not looked at."""
    pairwise: bool = False
    """Show two explanations of one item and ask which is the better one, in place of ratings."""
    simulation: bool = False
    """Before the ratings, ask for the model's answer, with its explanation in view and the answer hidden."""
    comments: bool = True
    """A field for free text on each page."""
    attention_checks: int = Field(default=2, ge=0, le=20)
    """Pages that ask for a certain rating, at places drawn for each rater."""
    practice: bool = True
    """An item to practise on, whose ratings are not kept; of pairs there is none."""
    comprehension: tuple[CheckConfig, ...] = ()
    """Questions about the task; whoever answers them wrongly too often does not take part."""
    comprehension_tries: int = Field(default=2, ge=1, le=10)
    """How often they may be answered."""
    consent: ConsentConfig
    """What a rater agrees to."""
    demographics: tuple[QuestionConfig, ...] = ()
    """Questions about the rater, each of which may be left open."""
    languages: tuple[Language, ...] = Field(default=("en", "zh"), min_length=1)
    """Languages of the pages, the first one where a rater has chosen none."""
    open_recruitment: bool = False
    """Whether `/join` gives a place to whoever comes; else only links that were handed out lead in."""
    panel: PanelConfig | None = None
    """The panel that sends raters to `/join`."""
    completion_code: str | None = None
    """What a rater hands to the panel at the end; None: each gets one of their own."""
    completion_url: str | None = None
    """A page of the panel to go back to at the end; `{code}` stands for the code."""
    link_days: int = Field(default=90, gt=0, le=3650)
    """Days after which a rater's link leads nowhere."""
    abandoned_minutes: int = Field(default=180, gt=0, le=bounds.SECONDS)
    """Minutes without a page after which an unfinished place may be given to somebody else, if no other is free."""
    exclusion: ExclusionConfig = ExclusionConfig()
    """Rules by which raters are left out of the analysis."""
    seed: int = Field(default=0, ge=0, le=bounds.SEED)
    """Of the choice of items, the assignment and the places of attention checks."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.pairwise and self.simulation:
            raise ValueError("simulation and pairwise exclude each other: a pair shows the answers")
        if self.pairwise and len(self.methods) < 2:
            raise ValueError("pairwise needs two methods or more")
        if self.per_rater > self.items:
            raise ValueError(
                f"per_rater is {self.per_rater}, and there are {self.items} items: a rater meets each once"
            )
        names = [construct.name for construct in self.constructs]
        if len(set(names)) < len(names):
            raise ValueError("two constructs have one name")
        if self.completion_url is not None and not re.match(r"https?://", self.completion_url):
            raise ValueError("completion_url begins with https://")
        return self

    @model_validator(mode="after")
    def _speaks_its_languages(self) -> Self:
        texts = [self.title, self.consent.text, *(construct.statement for construct in self.constructs)]
        for question in (*self.demographics, *self.comprehension):
            texts += [question.question, *question.options]
        for text in texts:
            missing = [language for language in self.languages if not text.get(language, "").strip()]
            if missing:
                known = next(iter(text.values()), "")
                raise ValueError(
                    f"{known[:40]!r} has no text in {missing[0]}: add it, or take {missing[0]} out of languages"
                )
        return self


def dump_config(config: StudyConfig) -> str:
    """The study as YAML, every field written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)
