"""The folder in which bundle data sets are published (the BundleRec layout): JSON files side by side.

```text
session_items.json                  {session: "item,item,…"}
session_bundles_deduplication.json  {session: [[intent, "item,item,…"], …]}
item_titles.json                    {item: title}
training_set.json, test_set.json    objects whose keys are the sessions of a split; sessions of neither are validation
item_categories.json                {item: category}, where there is one
```
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from understudy.data.rows import Row
from understudy.errors import DataError, shortened
from understudy.strict_json import JsonFault, parse_json

SESSIONS = "session_items.json"
BUNDLES = "session_bundles_deduplication.json"
TITLES = "item_titles.json"
CATEGORIES = "item_categories.json"


def is_session_folder(path: Path) -> bool:
    """Whether a folder holds sessions in this layout."""
    return path.is_dir() and (path / SESSIONS).is_file()


def read_session_folder(path: Path) -> list[Row]:
    """The sessions as rows of layout `session`, with the split that they were published in.

    Raises:
        DataError: a file is absent or no JSON object.
    """
    titles, bundles = _object(path / TITLES), _object(path / BUNDLES)
    categories = _object(path / CATEGORIES) if (path / CATEGORIES).is_file() else {}
    splits = _splits(path)
    rows = []
    for number, (name, items) in enumerate(_object(path / SESSIONS).items(), start=1):
        where, row_id = f"{path.name}/{SESSIONS}:{name}", f"{path.name}-{number}"
        try:
            value = {
                "session": name,
                "items": [_item(item, titles, categories) for item in _listed(items)],
                "bundles": [{"intent": intent, "items": list(_listed(part))} for intent, part in bundles.get(name, ())],
            }
        except (TypeError, ValueError):
            rows.append(Row({name: items}, where, row_id, fault=f"not as the layout has it: {shortened(str(items))}"))
            continue
        rows.append(Row(value | ({"split": splits.get(name, "dev")} if splits else {}), where, row_id))
    return rows


def _listed(text: Any) -> Iterator[str]:
    if not isinstance(text, str):
        raise TypeError
    return (part.strip() for part in text.split(",") if part.strip())


def _item(item: str, titles: Mapping[str, Any], categories: Mapping[str, Any]) -> dict[str, Any]:
    return {"item": item, "title": titles.get(item), "category": categories.get(item)}


def _splits(path: Path) -> dict[str, str]:
    """Session -> split, where both files are there."""
    files = {"train": path / "training_set.json", "test": path / "test_set.json"}
    if not all(file.is_file() for file in files.values()):
        return {}
    return {name: split for split, file in files.items() for name in _object(file)}


def _object(file: Path) -> dict[str, Any]:
    try:
        value = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error
    except JsonFault as fault:
        raise DataError(fault.at(file)) from fault
    if not isinstance(value, dict):
        raise DataError(
            f"{file} is no JSON object", hint="`understudy docs bundles` says what each file of the folder holds"
        )
    return value
