"""Students cut from one teacher in several ways, side by side before any training; the best is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from understudy.data.load import load_splits
from understudy.errors import ConfigError
from understudy.files import whole_folder, write_json
from understudy.models.cut import Kept, Start, choose, cut_model, start_of
from understudy.models.load import load_example_tokenizer, load_model, num_parameters, pick_device
from understudy.pipeline.stages.cutting import rows_to_measure, single_rows, sizes_of
from understudy.recipe import Recipe
from understudy.training.session import save_model


@dataclass(frozen=True)
class Candidate:
    """A student as it was cut.

    Attributes:
        kept: what stays of the teacher.
        by: how the blocks were chosen.
        num_parameters: of the student.
        teacher_parameters: of the teacher.
        start: how it begins; None where there was nothing to measure on.
    """

    kept: Kept
    by: str
    num_parameters: int
    teacher_parameters: int
    start: Start | None

    @property
    def words(self) -> str:
        """What stays, in a line."""
        blocks = "; ".join(f"blocks {', '.join(map(str, blocks))}" for blocks in self.kept.blocks.values())
        sizes = "".join(f", {name} {size:,}" for name, size in sizes_of(self.kept).items())
        return f"{blocks} (by {self.by}){sizes}"

    def to_json(self) -> dict:
        """For `cut.json` beside the weights."""
        start = None if self.start is None else vars(self.start)
        return {
            "blocks": {path: list(blocks) for path, blocks in self.kept.blocks.items()},
            "by": self.by,
            **sizes_of(self.kept),
            "num_parameters": self.num_parameters,
            "teacher_parameters": self.teacher_parameters,
            "start": start,
        }


def cut_and_keep(recipes: Sequence[Recipe], out: Path, *, measure: bool) -> list[Candidate]:
    """Cut a student by each recipe, keep the one that starts with the lowest perplexity.

    Args:
        recipes: they differ in `student.from_teacher` alone.
        out: folder of the student.
        measure: whether there are rows to measure on; without, the first is kept.

    Returns:
        All of them, the one that was kept first.

    Raises:
        ConfigError: the folder is there already.
        UnderstudyError: the teacher cannot be cut so.
    """
    if out.exists():
        raise ConfigError(f"{out} is there already", hint="give another --out, or remove it")
    recipe = recipes[0]
    device, config = pick_device(recipe.device), recipe.local_teacher
    teacher = load_model(config, device, seed=config.seed_or(recipe.seed)).eval()
    tokenizer = load_example_tokenizer(config, recipe.data)
    splits = load_splits(recipe.data) if measure else None
    candidates = []
    for wanted in recipes:
        shape = wanted.student.from_teacher
        assert shape is not None
        sides = rows_to_measure(shape, splits.train, splits.dev) if splits else ((), ())
        measured, others = (single_rows(tokenizer, side, device) if side else [] for side in sides)
        kept = choose(teacher, shape, measured)
        student = cut_model(teacher, kept)
        start = start_of(student, teacher, others) if others else None
        by = shape.by if measured and isinstance(shape.layers, int) else "position"
        candidates.append(Candidate(kept, by, num_parameters(student), num_parameters(teacher), start))
    ranked = sorted(candidates, key=lambda candidate: candidate.start.perplexity if candidate.start else 0.0)
    with whole_folder(out) as part:
        save_model(cut_model(teacher, ranked[0].kept), tokenizer.template, part / "model")
        for path in (part / "model").iterdir():
            path.rename(part / path.name)
        (part / "model").rmdir()
        write_json(part / "cut.json", ranked[0].to_json())
    return ranked
