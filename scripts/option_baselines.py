"""What multiple-choice rows give away without a model, and how often a question stands twice.

python scripts/option_baselines.py FILE --format oran_bench [--dev 0.1] [--test 0.3] [--seed 0] [--out FILE.json]
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from understudy.data.load import load_splits
from understudy.data.split import question_key
from understudy.files import write_json
from understudy.recipe import DataConfig
from understudy.types import Example


def right(example: Example, option: str) -> bool:
    """Whether an option is the answer."""
    return option.strip() in {answer.strip() for answer in example.answers}


def share_of_longest(rows: tuple[Example, ...]) -> float:
    """Accuracy of the longest option by characters; of several as long, blind choice among them."""
    shares = []
    for row in rows:
        longest = max(map(len, row.choices))
        options = [option for option in row.choices if len(option) == longest]
        shares.append(sum(right(row, option) for option in options) / len(options))
    return sum(shares) / len(shares)


def figures(config: DataConfig) -> dict[str, Any]:
    """Counts and accuracies of the split that a recipe makes."""
    splits = load_splits(config)
    keys = {role: Counter(map(question_key, rows)) for role, rows in splits.by_role.items()}
    whole = sum(keys.values(), Counter())
    places = Counter(row.choices.index(row.answers[0]) for row in splits.train if row.answers[0] in row.choices)
    commonest = places.most_common(1)[0][0]
    test = splits.test
    return {
        "rows": {role: len(rows) for role, rows in splits.by_role.items()},
        "questions that stand more than once": sum(count > 1 for count in whole.values()),
        "rows with such a question": sum(count for count in whole.values() if count > 1),
        "test rows whose question stands in training": sum(keys["train"][question_key(row)] > 0 for row in test),
        "test accuracy": {
            "longest option": share_of_longest(test),
            "first option": sum(right(row, row.choices[0]) for row in test) / len(test),
            "commonest place in training": sum(
                right(row, row.choices[min(commonest, len(row.choices) - 1)]) for row in test
            )
            / len(test),
            "chance": sum(1 / len(row.choices) for row in test) / len(test),
        },
    }


def main() -> None:
    """Count, print, and write where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--format", default="auto")
    parser.add_argument("--dev", type=float, default=0.1)
    parser.add_argument("--test", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    config = DataConfig(
        source=options.source,
        format=options.format,
        dev=options.dev,
        test=options.test,
        seed=options.seed,
        on_bad_row="quarantine",
    )
    result = figures(config)
    for name, value in result.items():
        print(f"{name}: {value}")
    if options.out:
        write_json(options.out, result)


if __name__ == "__main__":
    main()
