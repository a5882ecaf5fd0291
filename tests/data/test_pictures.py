"""Pictures of rows: where they may stand in a file, what becomes of broken ones, and how rows with them are split."""

from __future__ import annotations

import base64
import csv
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from support.tiny_pictures import content
from understudy.data.load import load_splits, read_examples
from understudy.data.pictures import MAX_IMAGES, address_of, image_bytes, image_name, open_image
from understudy.data.rows import BadRow
from understudy.data.split import question_key
from understudy.errors import DataError
from understudy.pipeline.stages.context import as_row, from_row
from understudy.recipe import DataConfig
from understudy.types import Example

RED, BLUE = content("red"), content("blue")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures in a folder beside the file."""
    (tmp_path / "seen").mkdir()
    (tmp_path / "seen" / "red.png").write_bytes(RED)
    (tmp_path / "seen" / "blue.png").write_bytes(BLUE)
    return tmp_path


def lines(folder: Path, *images: Any, name: str = "rows.jsonl", **fields: Any) -> DataConfig:
    """A file with a row for each value of `images`."""
    rows = [{"question": f"What is picture {n}?", "answer": "red", "images": value} for n, value in enumerate(images)]
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return DataConfig(source=str(folder / name), **fields)


def colour(image: str) -> tuple[int, ...]:
    return open_image(image).getpixel((0, 0))  # pyright: ignore[reportReturnType]


def test_paths_addresses_and_lists_of_them(folder: Path) -> None:
    absolute = str(folder / "seen" / "blue.png")
    address = "data:image/png;base64," + base64.b64encode(RED).decode()
    config = lines(folder, "seen/red.png", [absolute, "seen/red.png"], address, None, [])
    read = read_examples(config, config.source).examples
    assert [[colour(image) for image in row.images] for row in read] == [
        [(255, 0, 0)],
        [(0, 0, 255), (255, 0, 0)],
        [(255, 0, 0)],
        [],
        [],
    ]
    assert image_name(read[0].images[0]) == image_name(read[1].images[1]) == image_name(read[2].images[0])
    assert all("images" not in row.meta for row in read)
    assert [from_row(json.loads(json.dumps(as_row(row)))) for row in read] == list(read)


def test_bytes_in_parquet_as_they_are_and_as_datasets_writes_them(folder: Path) -> None:
    for name, values in (("plain", [[RED], [BLUE]]), ("objects", [{"bytes": RED, "path": None}] * 2)):
        table = pyarrow.table({"question": ["one?", "two?"], "answer": ["red", "red"], "images": values})
        pyarrow.parquet.write_table(table, folder / f"{name}.parquet")
    plain = read_examples(DataConfig(), str(folder / "plain.parquet")).examples
    assert [image_bytes(row.images[0]) for row in plain] == [RED, BLUE]
    objects = read_examples(DataConfig(), str(folder / "objects.parquet")).examples
    assert [colour(row.images[0]) for row in objects] == [(255, 0, 0)] * 2


def test_a_table_of_text_names_its_pictures_by_path(folder: Path) -> None:
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows(
            [
                ["text", "label", "photo"],
                ["", "red", "seen/red.png"],
                ["what?", "blue", '["seen/blue.png", "seen/red.png"]'],
            ]
        )
    config = DataConfig(columns={"images": "photo"})
    first, second = read_examples(config, str(folder / "rows.csv")).examples
    assert (first.question, first.answers, len(first.images)) == ("", ("red",), 1)
    assert (second.question, len(second.images)) == ("what?", 2)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("seen/green.png", r"images\[0\]: cannot read the picture .*green.png: No such file"),
        ("seen", r"cannot read the picture .*seen: Is a directory"),
        (["seen/red.png", "seen/torn.png"], r"images\[1\]: .*torn.png is no picture that can be read: "),
        ("seen/text.png", r"text.png is no picture that can be read: of no known format"),
        ("data:image/png;base64,%%%", "a picture in the row is no data: address of base64"),
        ("data:image/png,abc", "a picture in the row is no data: address of base64"),
        (7, r"images"),
        (True, r"images: expected text, found a truth value"),
        (["seen/red.png"] * (MAX_IMAGES + 1), f"images: {MAX_IMAGES + 1} pictures; {MAX_IMAGES} are the most"),
    ],
)
def test_a_picture_that_cannot_be_opened_is_a_bad_row_in_one_line(folder: Path, value: Any, fault: str) -> None:
    (folder / "seen" / "torn.png").write_bytes(RED[: len(RED) // 2])
    (folder / "seen" / "text.png").write_text("no picture")
    config = lines(folder, "seen/red.png", value)
    reading = read_examples(config, config.source)
    assert len(reading.examples) == 1
    [bad] = reading.faults
    assert bad.where == "rows.jsonl:2"
    with pytest.raises(BadRow, match=fault) as raised:
        raise BadRow(bad.field, bad.reason)
    assert "\n" not in str(raised.value)


def test_a_picture_that_is_another_by_now_is_told(folder: Path) -> None:
    config = lines(folder, "seen/red.png")
    [row] = read_examples(config, config.source).examples
    assert image_bytes(row.images[0]) == RED
    (folder / "seen" / "red.png").write_bytes(BLUE)
    with pytest.raises(DataError, match=r"red\.png is not the one that the data were read with"):
        image_bytes(row.images[0])


def test_the_same_question_on_another_picture_is_another_question() -> None:
    rows = [Example(str(n), "Which colour?", ("x",), images=(address_of(data),)) for n, data in enumerate((RED, BLUE))]
    assert question_key(rows[0]) != question_key(rows[1])
    again = Example("2", "which colour", ("x",), images=(address_of(RED),))
    assert question_key(again) == question_key(rows[0])


def test_questions_on_one_picture_stay_in_one_split(folder: Path) -> None:
    rows = []
    for number in range(30):
        (folder / f"{number}.png").write_bytes(content("blue", shade=number))
        rows += [{"question": text, "answer": "blue", "images": f"{number}.png"} for text in ("Colour?", "Shade?")]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits = load_splits(DataConfig(source=str(folder / "rows.jsonl"), dev=0.2, test=0.3))
    roles = {name: {row.images for row in part} for name, part in splits.by_role.items() if part}
    assert set(roles) == {"train", "dev", "test"}
    assert sum(map(len, roles.values())) == 30
    assert splits.notes["group_by"].startswith("picture: 30 groups of 60 rows")
    assert splits.notes["duplicates"] == {"groups": 0, "rows": 0}
    assert len({row.group for row in splits.test}) == len(roles["test"])


def test_pictures_that_datasets_has_opened(tmp_path: Path) -> None:
    import datasets

    opened = [open_image(address_of(content)) for content in (RED, BLUE)]
    rows = {"question": ["one?", "two?"], "answer": ["red", "blue"], "photo": opened}
    features = datasets.Features(
        {"question": datasets.Value("string"), "answer": datasets.Value("string"), "photo": datasets.Image()}
    )
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    config = DataConfig(columns={"images": "photo"})
    readings = [read_examples(config, str(tmp_path / "saved")) for _ in range(2)]
    assert [colour(row.images[0]) for row in readings[0].examples] == [(255, 0, 0), (0, 0, 255)]
    assert readings[0].fingerprint == readings[1].fingerprint
