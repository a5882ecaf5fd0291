"""The folder of a study: what was settled before the first rater, each part whole or absent.

```text
my-study/
  study.yaml            settings, every field written out; texts may be edited until the first rater comes
  items.jsonl           items with every method's answer and explanation, stratum and weight
  assignment.jsonl      who sees what at which place
  preregistration.md    text to register before data
  study.db              answers, once the study was served
```
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from understudy.errors import ConfigError, RunError, listed, unknown
from understudy.files import atomic, fingerprint, read_jsonl, whole_folder, write_jsonl
from understudy.recipe.reading import describe, load_yaml
from understudy.study import wording
from understudy.study.assignment import PairSeat, Seat, assign, assign_pairs
from understudy.study.config import StudyConfig, dump_config
from understudy.study.items import StudyItem
from understudy.study.preregistration import preregistration
from understudy.study.selection import candidates, draw, matched_in_length
from understudy.study.sources import MethodTexts

CONFIG, ITEMS, ASSIGNMENT = "study.yaml", "items.jsonl", "assignment.jsonl"
PREREGISTRATION, DATABASE = "preregistration.md", "study.db"


@dataclass(frozen=True)
class Study:
    """A study as its folder has it.

    Attributes:
        folder: where it stands.
        config: its settings.
        items: id -> item.
        slots: place of a rater, from 0 -> what the rater sees, in order of position.
    """

    folder: Path
    config: StudyConfig
    items: Mapping[str, StudyItem]
    slots: Mapping[int, tuple[Seat | PairSeat, ...]]

    def design(self) -> str:
        """What must not change once somebody has answered, as a fingerprint: items, places and what is asked."""
        asked = self.config.model_dump(
            mode="json", include={"id", "pairwise", "simulation", "attention_checks", "practice", "seed"}
        )
        names = [construct.name for construct in self.config.constructs]
        items = [item.to_json() for item in self.items.values()]
        seats = [asdict(seat) for seats in self.slots.values() for seat in seats]
        questions = (*self.config.comprehension, *self.config.demographics)
        about = [[question.name, len(question.options)] for question in questions]
        return fingerprint([asked, names, items, seats, about])

    @property
    def database_url(self) -> str:
        """The database beside the study."""
        return f"sqlite:///{(self.folder / DATABASE).absolute()}"


def create_study(folder: Path, methods: Sequence[MethodTexts], settings: Mapping[str, Any]) -> Study:
    """Draw items, assign them to raters and write the folder of a study.

    Args:
        folder: where it goes; it must not be there yet.
        methods: what explains.
        settings: fields of `StudyConfig`; those that are absent get a default.

    Raises:
        ConfigError: the folder is there, a setting is bad, or there are too few items.
        RunError: the folder cannot be written.
    """
    if folder.exists():
        raise ConfigError(f"{folder} is there already", hint="choose another --out, or remove it")
    config = _config(settings, methods)
    items = choose_items(config, methods)
    seats = _seats(config, [item.id for item in items])
    study = Study(folder, config, {item.id: item for item in items}, _by_slot(seats))
    with whole_folder(folder) as part:
        _write(part, study)
    return study


def _config(settings: Mapping[str, Any], methods: Sequence[MethodTexts]) -> StudyConfig:
    languages = settings.get("languages", wording.LANGUAGES)
    if strange := [name for name in languages if name not in wording.LANGUAGES]:
        raise unknown("language", strange[0], wording.LANGUAGES)
    pairwise = bool(settings.get("pairwise"))
    defaults = {
        "id": secrets.token_hex(8),
        "title": wording.default_title(languages),
        "methods": {method.name: method.config.model_dump() for method in methods},
        "constructs": wording.default_constructs(languages),
        "consent": wording.default_consent(languages, pairwise=pairwise),
        "demographics": wording.default_demographics(languages),
        "comprehension": wording.default_comprehension(languages, pairwise=pairwise),
    }
    return checked({**defaults, **settings}, "study")


def checked(value: dict[str, Any], origin: str) -> StudyConfig:
    """Validate the settings of a study.

    Raises:
        ConfigError: an unknown key, a missing one or a bad value; every fault is named in one line.
    """
    try:
        return StudyConfig.model_validate(value)
    except ValidationError as error:
        faults = [describe(fault, value) for fault in error.errors()]
        raise ConfigError(f"{origin}: {listed(faults, separator='; ', longest=1000)}") from error


def choose_items(config: StudyConfig, methods: Sequence[MethodTexts]) -> list[StudyItem]:
    """The items of a study, drawn by its seed.

    Raises:
        ConfigError: there are too few.
    """
    items = candidates(methods)
    if config.length_ratio is not None:
        items = matched_in_length(items, config.length_ratio, config.items)
    if config.selection == "all":
        return items
    return draw(items, config.items, config.selection, random.Random(f"items-{config.seed}"))


def _seats(config: StudyConfig, items: Sequence[str]) -> tuple[Seat, ...] | tuple[PairSeat, ...]:
    deal = assign_pairs if config.pairwise else assign
    return deal(items, list(config.methods), config.raters, config.per_rater, config.seed)


def _by_slot(seats: Sequence[Any]) -> dict[int, tuple[Any, ...]]:
    slots: dict[int, list[Any]] = {}
    for seat in sorted(seats, key=lambda seat: (seat.rater, seat.position)):
        slots.setdefault(seat.rater, []).append(seat)
    return {slot: tuple(seats) for slot, seats in slots.items()}


def _write(folder: Path, study: Study) -> None:
    with atomic(folder / PREREGISTRATION) as handle:
        handle.write(preregistration(study.config, list(study.items.values())))
    with atomic(folder / CONFIG) as handle:
        handle.write(dump_config(study.config))
    write_jsonl(folder / ITEMS, [item.to_json() for item in study.items.values()])
    write_jsonl(folder / ASSIGNMENT, [asdict(seat) for seats in study.slots.values() for seat in seats])


def open_study(folder: Path) -> Study:
    """The study in a folder.

    Raises:
        ConfigError: there is none, or its settings are wrong.
        DataError: items or assignment are damaged.
    """
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"{folder} is no study", hint="`understudy study create RUN … --out FOLDER` makes one")
    config = checked(load_yaml(folder / CONFIG), str(folder / CONFIG))
    items = {row["id"]: StudyItem.from_json(row) for row in read_jsonl(folder / ITEMS)}
    kind = PairSeat if config.pairwise else Seat
    slots = _by_slot([kind(**row) for row in read_jsonl(folder / ASSIGNMENT)])
    _check(folder, items, slots)
    return Study(folder, config, items, slots)


def _check(folder: Path, items: Mapping[str, StudyItem], slots: Mapping[int, tuple[Any, ...]]) -> None:
    absent = sorted({seat.item for seats in slots.values() for seat in seats} - set(items))
    if absent or not slots:
        raise RunError(
            f"{folder / ASSIGNMENT} has items that {ITEMS} lacks: {listed(absent)}",
            hint="a file of the study was cut short or changed: create the study again",
        )
