"""What the tests of a human-grounded study find, and how often they find what is not there.

```sh
python benchmarks/study_power.py                       # prints the tables; a quarter of an hour
python benchmarks/study_power.py --out docs/results/study_power.json
```

People are simulated as the explanation study (arXiv 2504.16056) found them: means of four methods, standard deviation
and share of variance between raters of each of five constructs; 117 raters of 2 to 12 ratings, 1,114 in all. They rate
on designs that `understudy study create` would make (40 items, 12 places a rater), of which each rater takes the first
few. Every test is at the 5% level, alone; nothing is corrected.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from understudy.files import write_json
from understudy.study.assignment import assign
from understudy.study.planning import (
    DrawnDesign,
    drawn_design,
    permutation_p,
    power_of_design,
    raters_needed,
    without_raters_and_items,
)
from understudy.study.rating_model import RatingModel, published

RATERS, PLACES, ITEMS, RATINGS, FEWEST = 117, 12, 40, 1114, 2
PAIR = ("MT+CF revised", "CF")


def main() -> None:
    """Simulate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=4000, help="studies a row, over all designs")
    parser.add_argument("--designs", type=int, default=4)
    parser.add_argument("--draws", type=int, default=1999, help="of each permutation test")
    parser.add_argument("--calibration", type=int, default=200, help="designs on which the error is looked at")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    start = time.time()
    rows = power_rows(arguments.simulations, arguments.designs, arguments.draws)
    plans, errors = plan_rows(arguments.simulations), calibration_rows(arguments.calibration)
    for row in (*rows, *plans, *errors):
        print(row)
    print(f"{time.time() - start:.0f} s")
    if arguments.out:
        write_json(arguments.out, document(rows, plans, errors, vars(arguments)))


def power_rows(simulations: int, designs: int, draws: int) -> list[dict[str, Any]]:
    """Power and error of both kinds of test, construct by construct."""
    models = published()
    methods = next(iter(models.values())).methods
    totals = {name: np.zeros(8) for name in models}
    for number in range(designs):
        seats = assign([str(item) for item in range(ITEMS)], methods, RATERS, PLACES, seed=number)
        kept = taken(number)
        for place, pair in enumerate((None, PAIR)):
            design = drawn_design(seats, methods, draws=draws, seed=number, pair=pair, kept=kept)
            for name, model in models.items():
                totals[name][4 * place : 4 * place + 4] += _shares(model, design, simulations // designs, number)
    keys = [
        f"{question}_{quantity}_{test}"
        for question in ("any", "pair")
        for quantity in ("power", "error")
        for test in ("permutation", "classical")
    ]
    return [
        {"construct": name, **dict(zip(keys, (sums / designs).tolist(), strict=True))} for name, sums in totals.items()
    ]


def _shares(model: RatingModel, design: Any, simulations: int, seed: int) -> list[float]:
    shares = []
    for null in (False, True):
        found = power_of_design(model, design, simulations=simulations, seed=seed, null=null)
        shares += [found.permutation, found.classical]
    return shares


def taken(seed: int) -> np.ndarray:
    """Which seats were taken: 2 to 12 of each rater's, the first ones, 1,114 in all."""
    rng = np.random.default_rng([seed, 7])
    counts = rng.integers(FEWEST, PLACES + 1, RATERS)
    while counts.sum() != RATINGS:
        step = 1 if counts.sum() < RATINGS else -1
        movable = np.flatnonzero((counts + step >= FEWEST) & (counts + step <= PLACES))
        counts[rng.choice(movable)] += step
    return (np.arange(PLACES) < counts[:, None]).ravel()


def calibration_rows(designs: int, studies: int = 50, draws: int = 199) -> list[dict[str, Any]]:
    """How often the permutation tests reject at 5% where nothing differs: many designs, few studies on each.

    30 raters of 12 ratings, plausibility. In the second row the two methods that are compared do not differ, but the
    two others are rated 1 and ½ points higher.
    """
    model, shares = published()["plausibility"], {"two methods": [], "two methods, others differ": [], "any method": []}
    for number in range(designs):
        seats = assign([str(item) for item in range(ITEMS)], model.methods, 30, PLACES, seed=1000 + number)
        pair = drawn_design(seats, model.methods, draws=draws, seed=number, pair=("MT", "CF"))
        rng = np.random.default_rng([number, 77])
        values = model.draw(pair.rater, pair.drawn[0], studies, rng, null=True)
        shares["two methods"].append(rejected(values, pair))
        lifted = (pair.drawn[0] == 3) * 1.0 + (pair.drawn[0] == 2) * 0.5
        shares["two methods, others differ"].append(rejected(values + lifted[:, None], pair))
        if number % 4 == 0:
            overall = drawn_design(seats, model.methods, draws=draws, seed=number)
            values = model.draw(pair.rater, pair.drawn[0], studies, rng, null=True)
            shares["any method"].append(rejected(values, overall))
    return [
        {
            "question": name,
            "designs": len(found),
            "studies": len(found) * studies,
            "error": float(np.mean(found)),
            "standard_error": float(np.std(found) / np.sqrt(len(found))),
        }
        for name, found in shares.items()
    ]


def rejected(values: np.ndarray, design: DrawnDesign) -> float:
    """Share of studies that the permutation test rejects at 5%."""
    return float((permutation_p(without_raters_and_items(design)(values), design) <= 0.05).mean())


def plan_rows(simulations: int) -> list[dict[str, Any]]:
    """Raters for 80% power to tell the two methods furthest apart, with the power of that many in fresh studies."""
    rows = []
    for name, model in published().items():
        plan = raters_needed(model, items=ITEMS, per_rater=PLACES, simulations=1000, draws=499)
        seats = assign([str(item) for item in range(ITEMS)], model.methods, plan.raters, PLACES, seed=99)
        design = drawn_design(seats, model.methods, draws=999, seed=99, pair=plan.pair)
        again = power_of_design(model, design, simulations=simulations, seed=99)
        rows.append(
            {
                "construct": name,
                "pair": " − ".join(plan.pair),
                "difference": float(np.ptp(model.means)),
                "raters": plan.raters,
                "expected": plan.expected,
                "power_permutation": again.permutation,
                "power_classical": again.classical,
            }
        )
    return rows


POWER_COLUMNS = (
    ("construct", "{construct}"),
    ("any method differs: permutation", "{any_power_permutation:.1%}"),
    ("Kruskal–Wallis", "{any_power_classical:.1%}"),
    ("revised and CF differ: permutation", "{pair_power_permutation:.1%}"),
    ("Dunn", "{pair_power_classical:.1%}"),
    ("nothing differs, any: permutation", "{any_error_permutation:.1%}"),
    ("Kruskal–Wallis", "{any_error_classical:.1%}"),
    ("nothing differs, two: permutation", "{pair_error_permutation:.1%}"),
    ("Dunn", "{pair_error_classical:.1%}"),
)
PLAN_COLUMNS = (
    ("construct", "{construct}"),
    ("furthest apart", "{pair}"),
    ("difference", "{difference:.2f}"),
    ("raters planned", "{raters}"),
    ("power by the formula", "{expected:.1%}"),
    ("simulated: permutation", "{power_permutation:.1%}"),
    ("Dunn", "{power_classical:.1%}"),
)


ERROR_COLUMNS = (
    ("question", "{question}"),
    ("designs", "{designs}"),
    ("studies", "{studies:,}"),
    ("rejected at 5%", "{error:.2%}"),
    ("standard error", "{standard_error:.2%}"),
)


def document(
    rows: list[dict[str, Any]], plans: list[dict[str, Any]], errors: list[dict[str, Any]], arguments: dict[str, Any]
) -> dict[str, Any]:
    """The data of the tables of docs/results.md."""
    tables = {"power": (POWER_COLUMNS, rows), "raters": (PLAN_COLUMNS, plans), "error": (ERROR_COLUMNS, errors)}
    return {
        "made_by": "python benchmarks/study_power.py --out docs/results/study_power.json",
        "settings": {name: value for name, value in arguments.items() if name != "out"},
        "tables": {
            name: {"columns": [{"title": title, "cell": [cell]} for title, cell in columns], "rows": figures}
            for name, (columns, figures) in tables.items()
        },
    }


if __name__ == "__main__":
    main()
