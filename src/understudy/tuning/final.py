"""The one look at the test split: the recipe with the best settings beside the recipe as it was."""

from __future__ import annotations

from typing import Any

from understudy.api import compare
from understudy.files import write_json
from understudy.tuning.search import FINAL, Search
from understudy.tuning.trial import TrialRun


def finish(search: Search, *, seeds: tuple[int, ...] = ()) -> dict[str, Any]:
    """Train both to the end, at each seed, and compare their answers to the test items.

    The settings were chosen on the development split at the recipe's own seed, so a seed of its own is the fairer look.

    Args:
        search: whose best trial is taken.
        seeds: at which both are trained; default: the recipe's.

    Returns:
        What `final.json` holds: `trial`, `seeds`, `runs` and the `comparison`, first the tuned recipe.

    Raises:
        UnderstudyError: no trial is complete, or a run failed.
    """
    best, own = search.write_best(), search.recipe
    folders: dict[str, list[str]] = {"tuned": [], "before": []}
    with search.folder.lock():
        for seed in seeds or (own.seed,):
            for name, recipe in (("tuned", best), ("before", own)):
                placed = recipe.model_copy(update={"seed": seed, "name": name})
                run = TrialRun.of(search.folder, placed, search.arm)
                run.finish(lambda stage, done, total, note: None)
                folders[name].append(str(run.cell.run.folder))
    comparison = compare(*folders["tuned"], *folders["before"], arm=search.arm).to_dict()
    result = {
        "trial": search.best.number,
        "seeds": list(seeds or (own.seed,)),
        "runs": folders,
        "comparison": comparison,
    }
    write_json(search.path / FINAL, result)
    return result
