"""A student with two tiny teachers of two vocabularies, whose losses are added."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import torch

from support.tiny import DATA, llama, method_config, pair, tokenizer
from support.tiny import examples as facts
from understudy import build
from understudy.recipe import TeachersConfig
from understudy.teachers.ensemble import shares_of, shares_of_parts
from understudy.teachers.local import LocalTeacher
from understudy.teachers.summed import SummedTeachers
from understudy.tokens.align import CrossTokenizer
from understudy.tokens.collate import Collator, EncodedRow, ExampleTokenizer, Padding, TeacherSide, encode_rows
from understudy.tokens.template import Template
from understudy.training.module import DistillationModule
from understudy.training.objectives.summed import SummedObjective
from understudy.training.rows import ListedRows
from understudy.training.schedule import train_schedule, training_arguments
from understudy.training.trainer import DistillationTrainer
from understudy.types import Example

METHODS_OF_SECOND = ("uld", "min_edit", "byte_aligned", "dskd_cma", "dskd_v2")
BY_ROW: dict[str, Any] = {"where": {"category": "even"}, "second": {"where": {"category": "odd"}}}


def examples() -> list[Example]:
    """The facts, of category `even` and `odd` in turn."""
    rows = enumerate(facts())
    return [dataclasses.replace(row, meta={"category": "odd" if n % 2 else "even"}) for n, row in rows]


class Trio:
    """A student, a teacher of its vocabulary by `kd`, and one of another vocabulary by another method."""

    def __init__(self, method: str, *, double: bool = False, lora: bool = False) -> None:
        made = pair("kd", lora=lora)
        self.student, self.first, self.template = made.student, made.teacher, made.template
        self.other = Template(tokenizer(340, end="<|end|>", pad="<|pad|>"))
        self.second = llama(len(self.other.tokenizer), width=24, tied=False, seed=7)  # pyright: ignore
        if double:
            for model in (self.student, self.first, self.second):
                model.double()
        self.double, self.configs = double, {"teacher": method_config("kd"), "second": method_config(method)}

    @property
    def cross_tokenizer(self) -> CrossTokenizer | None:
        """What lies between the student's tokens and the second teacher's."""
        return build.cross_tokenizer(self.configs["second"], self.template, self.other)

    def rows(self) -> list[EncodedRow]:
        """The facts as all three read them."""
        own = ExampleTokenizer(self.template, DATA)
        side = TeacherSide(ExampleTokenizer(self.other, DATA), self.cross_tokenizer)
        return encode_rows(examples(), own, own, None, {"second": side})

    @property
    def collator(self) -> Collator:
        """Pads for all three."""
        pads: list[Any] = [template.tokenizer.pad_token_id for template in (self.template, self.other)]
        return Collator(pads[0], pads[0], others={"second": Padding(pads[1], same_targets=False)})

    def objective(self) -> SummedObjective:
        """The sum; what it learns is drawn by the same seed each time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            parts = {
                "teacher": build.objective(self.configs["teacher"], self.student, self.first),
                "second": build.objective(self.configs["second"], self.student, self.second, self.cross_tokenizer),
            }
            summed = SummedObjective(parts)
            return summed.double() if self.double else summed

    def teacher(self, *, second: dict[str, Any] | None = None, **fields: Any) -> SummedTeachers:
        """Both teachers; `fields` are those of the section `teachers`, `second` those of the second one."""
        other = {"model": "-", "distil": {"method": self.configs["second"].method}, **(second or {})}
        config = TeachersConfig.model_validate({**fields, "others": {"second": other}})
        shares = shares_of_parts(shares_of(config, examples()), list(config.parts.values()))
        embeddings = self.objective().embeddings
        return SummedTeachers(
            {"teacher": LocalTeacher(self.first), "second": LocalTeacher(self.second, embeddings=embeddings)}, shares
        )


def trainer(folder: Path, method: str, **fields: Any) -> DistillationTrainer:
    """A trainer on rows that are routed to one of the two in turn."""
    trio = Trio(method, lora=True)
    config = method_config("kd", steps=4, batch_size=4, learning_rate=1e-2).model_copy(update=fields)
    rows = ListedRows(trio.rows())
    with warnings.catch_warnings():
        schedule = train_schedule(config, len(rows))
        arguments = training_arguments(
            config, schedule, folder, device=torch.device("cpu"), seed=5, autocast=False, report_to=(), evaluate=False
        )
    return DistillationTrainer(
        DistillationModule(trio.student, trio.objective()),
        arguments,
        rows,
        trio.collator,
        teacher=trio.teacher(**BY_ROW),
        objective_learning_rate=3e-3,
    )
