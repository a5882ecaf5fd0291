"""How long the n-gram metrics take for a whole test set, with intervals, beside the libraries that define them.

```sh
pip install -e '.[bench]'
python benchmarks/metrics.py                         # 10,000 pairs, one thread a side
python benchmarks/metrics.py --evaluate DIR          # also Hugging Face evaluate; DIR holds its metric scripts
python benchmarks/metrics.py --pairs FILE.jsonl      # your own {"prediction": ..., "references": [...]}
```

Every side runs in a process of its own on one thread, sides take turns, and a ratio is of medians. Seconds are those
of the processor, which other programs on the machine disturb least; loading modules is not counted.
*Libraries one by one* is what a careful person writes: sacrebleu for BLEU and chrF, one RougeScorer for the three
ROUGEs, nltk for METEOR (no WordNet, the tokens that understudy uses), the SQuAD script's own token F1; then 10,000
resamples by each library's own means: sacrebleu's bootstrap (in ten portions, at once it takes 8 GB), rouge-score's
aggregator, `scipy.stats.bootstrap` of the values of METEOR and F1. understudy gives more for its time: the sentence
values of BLEU and chrF. `evaluate` fetches its metric scripts from the hub; offline it needs a folder of them
(`metrics/` of its repository), and its METEOR downloads nltk data besides, so that row is left out on both sides.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import re
import statistics
import string
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

TELECOM = Path(__file__).resolve().parents[1] / ".." / "shared/data/telecom/mm_telcobench/LONG_TelcoBench.csv"
NGRAM = ("bleu", "rouge1", "rouge2", "rougeL", "meteor", "chrf", "token_f1")
WITHOUT_METEOR = tuple(name for name in NGRAM if name != "meteor")
Found = dict[str, float]


def main() -> None:
    arguments = _arguments()
    if arguments.child:
        print("RESULT " + json.dumps(_measure(arguments)))
        return
    sides = ["understudy", "libraries", *(["understudy six", "evaluate"] if arguments.evaluate else []), "fourteen"]
    turns = [{side: _run(side) for side in sides} for _ in range(arguments.repeats)]
    results = {side: _median([turn[side] for turn in turns]) for side in sides}
    _show(results, turns, arguments)
    if arguments.json:
        record = {"command": " ".join(sys.argv), "versions": _versions(), "turns": turns}
        Path(arguments.json).write_text(json.dumps(record, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--pairs", type=Path, help="JSON lines of prediction and references")
    parser.add_argument("--items", type=int, default=10_000, help="number of pairs (default 10,000)")
    parser.add_argument("--resamples", type=int, default=10_000, help="bootstrap resamples (default 10,000)")
    parser.add_argument("--repeats", type=int, default=3, help="turns of every side (default 3)")
    parser.add_argument("--evaluate", type=Path, help="folder of evaluate's metric scripts")
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def _run(side: str) -> dict:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, *sys.argv, "--child", side]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        sys.exit(f"{side} failed:\n{done.stderr[-2000:]}")
    return json.loads(lines[-1].removeprefix("RESULT "))


def _measure(arguments: argparse.Namespace) -> dict:
    predictions, references = _pairs(arguments)
    if arguments.child == "fourteen":
        return _fourteen(predictions, references, arguments.resamples)
    work = {"understudy": _understudy, "understudy six": _understudy, "libraries": _libraries, "evaluate": _evaluate}
    names = NGRAM if arguments.child in ("understudy", "libraries") else WITHOUT_METEOR
    run = work[arguments.child](arguments, names)
    clock = time.process_time()
    values, resample = run(predictions, references)
    scored = time.process_time()
    intervals = resample() if resample else {}
    return {
        "score": scored - clock,
        "bootstrap": time.process_time() - scored,
        "values": values,
        "intervals": intervals,
    }


# The two sides --------------------------------------------------------------------------------------------------------


def _understudy(arguments: argparse.Namespace, names: tuple[str, ...]) -> Callable:
    import nltk.stem.porter  # noqa: F401 - loading is not counted on either side
    import rouge_score.rouge_scorer  # noqa: F401
    import sacrebleu  # noqa: F401

    from understudy.metrics import score
    from understudy.metrics.significance import Resampling
    from understudy.metrics.significance.resampling import Columns
    from understudy.metrics.significance.resampling import resample as drawn

    def run(predictions: list[str], references: list[list[str]]) -> tuple[Found, Callable]:
        scores = score(predictions, references, metrics=names)

        def resample() -> dict[str, tuple[float, float]]:
            columns = [Columns(result.statistics, result.from_totals) for result in scores.values()]
            figures = drawn(columns, Resampling(arguments.resamples))
            return {name: figure.bounds(0.95, len(predictions)) for name, figure in zip(scores, figures, strict=True)}

        return {name: found.value for name, found in scores.items()}, resample

    return run


def _libraries(arguments: argparse.Namespace, names: tuple[str, ...]) -> Callable:
    import numpy as np
    import sacrebleu
    from nltk.tokenize import wordpunct_tokenize
    from nltk.translate.meteor_score import meteor_score
    from rouge_score import rouge_scorer, scoring
    from sacrebleu.significance import _bootstrap_resample
    from scipy import stats

    class NoWordNet:
        def synsets(self, word: str) -> list:
            return []

    rouges = ["rouge1", "rouge2", "rougeL"]

    def run(predictions: list[str], references: list[list[str]]) -> tuple[Found, Callable]:
        width = max(map(len, references))
        streams = [[item[k] if k < len(item) else None for item in references] for k in range(width)]
        found, counts = {}, {}
        corpus = {"bleu": sacrebleu.BLEU(force=True), "chrf": sacrebleu.CHRF()}
        for name, metric in corpus.items():  # the two steps of corpus_score, the counts kept for its bootstrap
            counts[name] = metric._extract_corpus_statistics(predictions, streams)
            found[name] = metric._aggregate_and_compute(counts[name]).score
        scorer = rouge_scorer.RougeScorer(rouges, use_stemmer=True)
        rouge = [scorer.score_multi(right, text) for text, right in zip(predictions, references, strict=True)]
        found |= {name: float(np.mean([item[name].fmeasure for item in rouge])) for name in rouges}
        meteor = [
            meteor_score([wordpunct_tokenize(one) for one in right], wordpunct_tokenize(text), wordnet=NoWordNet())
            for text, right in zip(predictions, references, strict=True)
        ]
        found["meteor"] = float(np.mean(meteor))
        f1 = [max(_squad_f1(text, one) for one in right) for text, right in zip(predictions, references, strict=True)]
        found["token_f1"] = float(np.mean(f1))

        def resample() -> dict[str, tuple[float, float]]:
            intervals = {}
            for name, metric in corpus.items():
                portions = [_bootstrap_resample(counts[name], metric, arguments.resamples // 10)[1] for _ in range(10)]
                drawn = [one.score for portion in portions for one in portion]
                intervals[name] = tuple(np.percentile(drawn, [2.5, 97.5]))
            aggregator = scoring.BootstrapAggregator(n_samples=arguments.resamples)
            for item in rouge:
                aggregator.add_scores(item)
            for name, item in aggregator.aggregate().items():
                intervals[name] = (item.low.fmeasure, item.high.fmeasure)
            for name, values in (("meteor", meteor), ("token_f1", f1)):
                interval = stats.bootstrap(
                    (values,), np.mean, n_resamples=arguments.resamples, batch=100, method="percentile"
                ).confidence_interval
                intervals[name] = (interval.low, interval.high)
            return {name: (float(low), float(high)) for name, (low, high) in intervals.items()}

        return found, resample

    return run


def _squad_f1(prediction: str, reference: str) -> float:
    predicted, right = _squad_words(prediction), _squad_words(reference)
    if not predicted or not right:
        return float(predicted == right)
    common = sum((Counter(predicted) & Counter(right)).values())
    return 2 * common / (len(predicted) + len(right))


def _squad_words(text: str) -> list[str]:
    plain = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def _evaluate(arguments: argparse.Namespace, names: tuple[str, ...]) -> Callable:
    import evaluate

    loaded = {
        name: evaluate.load(str(arguments.evaluate / name / f"{name}.py"))
        for name in ("sacrebleu", "rouge", "chrf", "squad")
    }
    rouges = ["rouge1", "rouge2", "rougeL"]

    def run(predictions: list[str], references: list[list[str]]) -> tuple[Found, None]:
        both = {"predictions": predictions, "references": references}
        found = {"bleu": loaded["sacrebleu"].compute(**both, force=True)["score"]}
        rouge = loaded["rouge"].compute(**both, rouge_types=rouges, use_stemmer=True, use_aggregator=False)
        found |= {name: statistics.fmean(rouge[name]) for name in rouges}
        found["chrf"] = loaded["chrf"].compute(**both)["score"]
        asked = [{"id": str(k), "prediction_text": text} for k, text in enumerate(predictions)]
        right = [
            {"id": str(k), "answers": {"text": item, "answer_start": [0] * len(item)}}
            for k, item in enumerate(references)
        ]
        found["token_f1"] = loaded["squad"].compute(predictions=asked, references=right)["f1"] / 100
        return {name: float(value) for name, value in found.items()}, None

    return run


def _fourteen(predictions: list[str], references: list[list[str]], resamples: int) -> dict:
    """Everything that is said of two systems on 14 metrics; random values stand for the seven that need a model."""
    import numpy as np

    from understudy.metrics import STUDY_METRICS, mean_score, score
    from understudy.metrics.significance import Resampling, compare_systems

    generator = np.random.default_rng(0)
    other = [" ".join(text.split()[: max(1, len(text.split()) - k % 5)]) for k, text in enumerate(predictions)]
    systems = []
    for texts in (predictions, other):
        scores = score(texts, references, metrics=NGRAM)
        rest = [name for name in STUDY_METRICS if name not in NGRAM]
        systems.append(scores | {name: mean_score(name, generator.random(len(texts)), "random") for name in rest})
    clock = time.process_time()
    compare_systems(*systems, resampling=Resampling(resamples))
    return {"score": 0.0, "bootstrap": time.process_time() - clock, "values": {}, "intervals": {}}


# Pairs and figures ----------------------------------------------------------------------------------------------------


def _pairs(arguments: argparse.Namespace) -> tuple[list[str], list[list[str]]]:
    """Predictions and references; hardly a text occurs twice, so that no side lives off its cache of texts."""
    if arguments.pairs:
        rows = [json.loads(line) for line in arguments.pairs.read_text(encoding="utf-8").splitlines()]
        rows = rows[: arguments.items]
        return [row["prediction"] for row in rows], [row["references"] for row in rows]
    if not TELECOM.exists():
        sys.exit("the telecom answers are not here: give --pairs FILE.jsonl")
    with TELECOM.open(encoding="utf-8", newline="") as handle:
        answers = [[row[f"Candidate Answer {k}"].split() for k in (1, 2, 3)] for row in csv.DictReader(handle)]
    generator = random.Random(0)
    predictions, references = [], []
    for k in range(arguments.items):
        first, second = generator.sample(answers[k % len(answers)], 2)
        predictions.append(" ".join(word for word in first if generator.random() < 0.9))
        references.append([" ".join(word for word in second if generator.random() < 0.97)])
    return predictions, references


def _median(runs: list[dict]) -> dict:
    times = {part: statistics.median(run[part] for run in runs) for part in ("score", "bootstrap")}
    return {**runs[0], **times}


def _show(results: dict[str, dict], turns: list[dict], arguments: argparse.Namespace) -> None:
    print(f"{arguments.items:,} pairs, {arguments.resamples:,} resamples, median of {len(turns)} turns")
    print(f"{'processor seconds':52} {'metrics':>9} {'intervals':>10} {'together':>9}   ratio")
    rows = [("understudy, 7 metrics", "understudy", "understudy"), ("libraries, 7 metrics", "libraries", "understudy")]
    if arguments.evaluate:
        rows += [
            ("understudy, 6 metrics (no METEOR)", "understudy six", "understudy six"),
            ("evaluate, 6 metrics (no METEOR, no intervals)", "evaluate", "understudy six"),
        ]
    for title, side, base in rows:
        ours, theirs = results[base], results[side]
        together = theirs["score"] + theirs["bootstrap"]
        alone = f"{theirs['score'] / ours['score']:.1f} ×"
        both = "" if side == "evaluate" else f", {together / (ours['score'] + ours['bootstrap']):.1f} × together"
        print(f"{title:52} {theirs['score']:9.2f} {theirs['bootstrap']:10.2f} {together:9.2f}   {alone}{both}")
    print(f"{'two systems, 14 metrics, all tests and intervals':52} {'':9} {results['fourteen']['bootstrap']:10.2f}")
    for side, base in (("libraries", "understudy"), ("evaluate", "understudy six")):
        if side in results:
            ours, theirs = results[base]["values"], results[side]["values"]
            worst = max(abs(ours[name] - theirs[name]) for name in theirs)
            print(f"\nlargest difference of a value, understudy − {side}: {worst:.1e}")
    for name, (low, high) in results["understudy"]["intervals"].items():
        other = results["libraries"]["intervals"][name]
        print(f"{name:9} [{low:.4f}, {high:.4f}]   libraries [{other[0]:.4f}, {other[1]:.4f}]")
    print(", ".join(f"{name} {number}" for name, number in _versions().items()))


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in ("sacrebleu", "rouge-score", "nltk", "scipy", "numpy", "evaluate"):
        try:
            found[name] = version(name)
        except ModuleNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
