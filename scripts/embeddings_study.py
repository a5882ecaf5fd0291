"""Arms of a run that makes vectors, and a static model2vec model of the same teacher, on the same queries and corpus.

    python scripts/embeddings_study.py runs/NAME-* --keep FILE.json    # several seeds of one recipe, or one run
    python scripts/embeddings_study.py FILE.json                       # prints from the file

model2vec (Tulkens, van Dongen 2024) turns a model into a table of one vector a token: the token read by itself, PCA,
weights by rank; a text is the mean of its tokens' vectors. It reads no row of the data. It is distilled from the
teacher's folder once a run and searches what the run's own models searched.

Needs `pip install --no-deps model2vec skeletoken`: the extra `distill` of that package asks for an older transformers.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from paired_seeds import COLUMNS, compared, groups
from render_results import stated

from understudy.files import read_json, write_json
from understudy.metrics import score
from understudy.models.load import load_example_tokenizer, resolve
from understudy.pipeline.stages.context import held_out, teacher_weights
from understudy.run import Run
from understudy.tokens.passages import PassageTokenizer
from understudy.types import Example

METRICS = ("ndcg@10", "mrr@10", "recall@10")
RIVAL = "model2vec"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders, or one file that --keep wrote")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--width", type=int, default=256, help="channels that PCA keeps, model2vec's own default")
    options = parser.parse_args()
    given = options.runs[0]
    document = read_json(given) if given.suffix == ".json" else study(list(map(Run.open, options.runs)), options.width)
    if options.keep:
        write_json(options.keep, document)
    for name, table in document["tables"].items():
        print("\n".join([name, "", *stated(table), ""]))


def study(runs: Sequence[Run], width: int) -> dict[str, Any]:
    """Each metric: all arms and the rival by item, and every arm against the rival."""
    recipe = runs[0].recipe
    arms = ["teacher", "base_student", *recipe.evaluate.arms]
    found = {run.folder.name: rival(run, width) for run in runs}
    pairs = [(arm, RIVAL) for arm in arms]
    of_group = groups(runs[0], arms[0])
    tables = {}
    for metric in METRICS:
        scores: dict[str, list[Mapping[str, float]]] = {
            arm: [by_item(run, arm, metric) for run in runs] for arm in arms
        }
        scores[RIVAL] = [values_of(found[run.folder.name]["rows"], metric) for run in runs]
        titled = [{**column, "title": column["title"].replace("exact match", metric)} for column in COLUMNS]
        tables[metric] = {"columns": titled, "rows": compared(scores, of_group, pairs)}
    notes = {name: {key: part[key] for key in ("seconds", "bytes", "width")} for name, part in found.items()}
    return {
        "made_by": f"python scripts/embeddings_study.py {' '.join(run.folder.name for run in runs)}",
        "recipe": recipe.fingerprint(),
        "queries": len(of_group),
        "corpus": statistics.mean(part["corpus"] for part in found.values()),
        "rival": notes,
        "tables": tables,
    }


def by_item(run: Run, arm: str, metric: str) -> dict[str, float]:
    """Item → score of an arm's ranking."""
    rows = [(row.id, [text for text, _ in row.candidates], list(row.references)) for row in run.predictions(arm)]
    return values_of(rows, metric)


def values_of(rows: Sequence[tuple[str, list[str], list[str]]], metric: str) -> dict[str, float]:
    """Item → score of a ranking."""
    scored = score(
        [ranking[0] for _, ranking, _ in rows],
        [references for _, _, references in rows],
        metrics=(metric,),
        rankings=[ranking for _, ranking, _ in rows],
    )[metric]
    return dict(zip((name for name, _, _ in rows), map(float, scored.per_example), strict=True))


def rival(run: Run, width: int) -> dict[str, Any]:
    """The rankings of a static model of the run's teacher, and what it took."""
    from model2vec.distill import distill_from_model  # pyright: ignore[reportMissingImports]
    from transformers import AutoModel, AutoTokenizer

    recipe = run.recipe
    folder = teacher_weights(run, recipe) or resolve(recipe.local_teacher.model)
    tokenizer = load_example_tokenizer(recipe.local_teacher, recipe.data, weights=folder)
    assert isinstance(tokenizer, PassageTokenizer), "the run is none of kind: embed"
    begin = time.perf_counter()
    model: Any = AutoModel.from_pretrained(folder)
    static = distill_from_model(model=model, tokenizer=AutoTokenizer.from_pretrained(folder), pca_dims=width)
    seconds = time.perf_counter() - begin
    examples = held_out(run, recipe)
    rows = ranked(static, examples, tokenizer.corpus(examples))
    table = np.asarray(static.embedding)
    return {
        "rows": rows,
        "corpus": len(tokenizer.corpus(examples)),
        "seconds": seconds,
        "bytes": table.nbytes,
        "width": table.shape[1],
    }


def ranked(static: Any, examples: Sequence[Example], corpus: Sequence[str]) -> list[tuple[str, list[str], list[str]]]:
    """Each query's ten nearest passages by cosine, itself left out: id, ranking, right passages."""
    queries, passages = (unit(static.encode(list(texts))) for texts in ([row.question for row in examples], corpus))
    rows = []
    for example, scores in zip(examples, queries @ passages.T, strict=True):
        places = [place for place in np.argsort(-scores, kind="stable")[:11] if corpus[place] != example.question]
        rows.append((example.id, [corpus[place] for place in places[:10]], list(example.answers)))
    return rows


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1; one of length 0 stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)


if __name__ == "__main__":
    main()
