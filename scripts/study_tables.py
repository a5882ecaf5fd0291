"""The tables of docs/results.md that are computed from the saved analyses of grids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]
LEVELS = {"false": "no", "true": "yes"}
STUDY_METRICS = {
    "exact_match": "exact match",
    "rougeL": "ROUGE-L",
    "bleu": "BLEU",
    "chrf": "chrF",
    "bertscore_f1": "BERTScore",
    "answer_similarity": "answer similarity",
    "choice_accuracy": "choice accuracy",
}
SHOWN = tuple(STUDY_METRICS)[:-1]
REFERENCES = {
    ("teacher", "false"): "teacher as it came",
    ("teacher", "true"): "teacher after SFT",
    ("teacher", None): "teacher",
    ("majority", None): "majority answer",
    ("base_student", None): "student before training",
}
TRAININGS = ("answer-only", "MT", "MT revised", "MT+CF", "MT+CF revised", "CF", "CF revised")


def study_cells(document: Json) -> list[str]:
    """The telecom study: one line a cell, then teacher and majority answer."""
    lines = [
        "| teacher SFT | student SFT | vocabulary | algorithm | " + " | ".join(STUDY_METRICS[m] for m in SHOWN) + " |",
        "|---" * (4 + len(SHOWN)) + "|",
    ]
    for cell in document["cells"]:
        levels = [LEVELS.get(label, label) for label in cell["levels"].values()]
        lines.append(f"| {' | '.join([*levels, *_means(document, cell, SHOWN, intervals=('rougeL',))])} |")
    for (arm, tuned), name in REFERENCES.items():
        for entry in document["references"]:
            if (entry["arm"], entry["levels"].get("teacher.sft")) == (arm, tuned) and arm != "base_student":
                lines.append(f"| *{name}* | | | | {' | '.join(_means(document, entry, SHOWN))} |")
    return lines


def commonsense_cells(document: Json) -> list[str]:
    """The grid of explanations: one line a training, then teacher, majority answer and student before training."""
    metrics = ("exact_match", "choice_accuracy")
    lines = ["| training | exact match | choice accuracy (chance 25) |", "|---|---|---|"]
    cells = {cell["levels"]["training"]: cell for cell in document["cells"]}
    assert cells.keys() == set(TRAININGS)
    lines += [f"| {name} | {' | '.join(_means(document, cells[name], metrics, metrics))} |" for name in TRAININGS]
    for (arm, tuned), name in REFERENCES.items():
        for entry in document["references"]:
            if tuned is None and entry["arm"] == arm:
                lines.append(f"| *{name}* | {' | '.join(_means(document, entry, metrics))} |")
    return lines


def _means(document: Json, entry: Json, metrics: Sequence[str], intervals: Sequence[str] = ()) -> list[str]:
    """Means in points, of some metrics with their interval."""
    texts = []
    for metric in metrics:
        mean, text = entry["metrics"][metric], ""
        if metric in intervals:
            text = " [" + ", ".join(points(document, metric, mean[name]) for name in ("low", "high")) + "]"
        texts.append(points(document, metric, mean["mean"]) + text)
    return texts


def points(document: Json, metric: str, value: float, sign: str = "") -> str:
    """A figure on 0 to 100, with one decimal and a real minus sign."""
    return f"{100 / document['metrics'][metric]['maximum'] * value:{sign}.1f}".replace("-", "−")


def study_findings(document: Json) -> list[str]:
    """The study's findings, each with the figures of its test."""
    findings = {finding["finding"]: finding for finding in document["findings"]}
    texts = {"a": _teacher(document), "b": _both(document), "c": _vocabulary(document), "d": _checkpoints(document)}
    claims = {
        "a": "with one vocabulary, SFT of the teacher helps for each algorithm and metric",
        "b": "SFT of both is best overall",
        "c": "the significance of SFT of both depends on the vocabulary",
        "d": "choose checkpoints by ROUGE-L, not by loss: the loss rises while the text gets better",
    }
    lines = ["| finding | here | by which test |", "|---|---|---|"]
    return lines + [
        f"| ({name}) {claims[name]} | **{findings[name]['verdict']}** | {texts[name]} |" for name in findings
    ]


def _rows(document: Json, finding: str) -> list[Json]:
    return next(one for one in document["findings"] if one["finding"] == finding)["rows"]


def _clear(document: Json, row: Json) -> bool:
    return row["p_holm"] < document["settings"]["alpha"]


def _count(number: int, whole: int) -> str:
    return "none" if number == 0 else f"all {number}" if number == whole else str(number)


def _teacher(document: Json) -> str:
    rows = _rows(document, "a")
    ahead = [row for row in rows if row["difference"] > 0]
    clear = sum(_clear(document, row) for row in ahead)
    return (
        f"ahead in {len(ahead)} of {len(rows)} combinations of algorithm and metric, significantly in "
        f"{_count(clear, len(rows))} (ANOVA over runs, Holm)"
    )


def _both(document: Json) -> str:
    rows = _rows(document, "b")
    metrics = list(document["metrics"])
    best = sum(all(row["difference"] > 0 for row in rows if row["metric"] == metric) for metric in metrics)
    clear = [row for row in rows if _clear(document, row)]
    in_favour = [row for row in clear if row["difference"] > 0]
    against = {name: [row for row in in_favour if row["what"] == f"both − {name}"] for name in LEVELS_OF_TUNING}
    everywhere = [LEVELS_OF_TUNING[name] for name, found in against.items() if len(found) == len(metrics)]
    [alone] = against["teacher"]
    return (
        f"the highest mean on {best} of {len(metrics)} metrics; of {len(rows)} Tukey differences {len(in_favour)} "
        f"significantly in favour, {_count(len(clear) - len(in_favour), 0)} against. Against SFT of "
        f"{' and of '.join(everywhere)} it is clear everywhere; against SFT of the teacher alone on "
        f"{STUDY_METRICS[alone['metric']]} only ({points(document, alone['metric'], alone['difference'], '+')}, "
        f"p = {alone['p_holm']:.4f})"
    )


LEVELS_OF_TUNING = {"neither": "neither", "student": "the student alone", "teacher": "the teacher alone"}


def _vocabulary(document: Json) -> str:
    rows = [row for row in _rows(document, "c") if row["what"] == "interaction"]
    largest = max(rows, key=lambda row: row["p_holm"])
    terms = [term for anova in document["anova"].values() for term in anova["terms"]]
    student = min(term["p_value"] for term in terms if term["name"] == "student.sft × vocabulary")
    assert all(term["p_holm"] < 0.05 for term in terms if term["name"] == "teacher.sft × vocabulary")
    assert student > 0.1
    return (
        "interaction of who was fine-tuned (neither, student, teacher, both) with the vocabulary significant on "
        f"{sum(_clear(document, row) for row in rows)} of {len(rows)} metrics (Holm; the largest p is "
        f"{largest['p_holm']:.3f}, {STUDY_METRICS[largest['metric']]}). It is the teacher's SFT that helps less across "
        "vocabularies; the student's does not depend on them measurably (p > 0.1 before Holm)"
    )


def _checkpoints(document: Json) -> str:
    shortfall, more, less = _rows(document, "d")
    counts = next(one for one in document["findings"] if one["finding"] == "d")["counts"]
    return (
        f"the least development loss misses the best ROUGE-L in {counts['missed']} of {counts['runs']} runs, in "
        f"{counts['missed_as_loss_rose']} because it had risen; a blind choice among their three evaluations would "
        f"miss it in {sum(counts['blind']):.0f}; {points(document, 'rougeL', shortfall['difference'])} points of "
        "ROUGE-L lost on average, on the rows that chose the checkpoint (exact test: more often than a blind choice, "
        f"p = {more['p_holm']:.3f}; less often, p = {_scientific(less['p_holm'])}; Holm)"
    )


def _scientific(value: float) -> str:
    digits, exponent = f"{value:.0e}".split("e")
    powers = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    return f"{digits} · 10{str(int(exponent)).translate(powers)}"


# The bundle study -----------------------------------------------------------------------------------------------------

BUNDLE_FIGURES = {"bundle_f1": "F1", "bundle_coverage": "coverage", "bundle_exact": "exact bundles"}


def bundle_tests(document: Json) -> list[str]:
    """Each question of the bundle study: its levels, one against the other, in F1 of bundles."""
    lines = ["| axis | levels | F1, points | p, Holm | pairs of runs |", "|---|---|---|---|---|"]
    for question in document["questions"]:
        for row in question["tests"]:
            if row["metric"] == "bundle_f1":
                figures = [points(document, "bundle_f1", row[key], "+") for key in ("difference", "low", "high")]
                what = f"**{row['what']}**" if row["better"] else row["what"]
                p_value = "< 0.001" if row["p_holm"] < 0.001 else f"{row['p_holm']:.3f}"
                cells = (question["axis"], what, f"{figures[0]} [{figures[1]}, {figures[2]}]", p_value, row["runs"])
                lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def bundle_cells(document: Json) -> list[str]:
    """Each cell of the bundle study with its cost, answers free, the best first; then what is not trained."""
    titles = [
        "knowledge",
        "use",
        "of the sessions",
        *BUNDLE_FIGURES.values(),
        "operations, 10¹²",
        "tokens read a session",
    ]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    entries = [entry for entry in document["costs"] if entry["levels"].get("answers", "free") == "free"]
    for entry in sorted(entries, key=lambda entry: (not entry["levels"], -entry["quality"]["bundle_f1"])):
        levels, quality = entry["levels"], [points(document, name, entry["quality"][name]) for name in BUNDLE_FIGURES]
        cells = [f"*{REFERENCES.get((entry['arm'], None), entry['arm'])}*", "", ""]
        if levels:
            share = "all" if levels["ratio"] == "1.0" else f"{float(levels['ratio']):.0%}, {levels['sampler']}"
            cells = [levels["formats"], levels["use"], share]
        flops = "" if entry["flops"] is None else f"{entry['flops'] / 1e12:.2f}"
        lines.append(f"| {' | '.join([*cells, *quality, flops, format(entry['input_tokens'], '.0f')])} |")
    return lines


# Simulations of the monitor -----------------------------------------------------------------------------------------


def monitor_tables(document: Json, name: str) -> list[str]:
    """One of the tables of what `monitor_statistics.py` simulated: coverage, canary, delays, run length."""
    return {"coverage": _coverage, "canary": _canary, "delays": _delays, "run length": _run_length}[name](document)


def _coverage(document: Json) -> list[str]:
    lines = ["| agreement and how it was sampled | runs | looks | covered at all of them |", "|---|---|---|---|"]
    return lines + [
        f"| {row['design']} | {row['runs']:,} | {row['steps']:,} | {row['covered']:.2%} |"
        for row in document["coverage"]
    ]


def _canary(document: Json) -> list[str]:
    lines = [
        "| design | true difference | candidate better | candidate worse | undecided | median requests to a verdict |",
        "|---|---|---|---|---|---|",
    ]
    for row in document["canary"]:
        shares = " | ".join(f"{row[key] / row['runs']:.1%}" for key in ("candidate", "current", "undecided"))
        median = "–" if row["median_requests"] >= row["steps"] else f"{row['median_requests']:,.0f}"
        lines.append(f"| {row['design']} | {row['difference']:.2f} | {shares} | {median} |")
    return lines


def _delays(document: Json) -> list[str]:
    lines = [
        "| shift | found within 500 requests | median | 95% within | which rules saw it |",
        "|---|---|---|---|---|",
    ]
    for row in document["delays"]:
        seen = sorted(row["rules"].items(), key=lambda rule: -rule[1])
        rules = ", ".join(f"{rule.replace('_', ' ')} {share:.0%}" for rule, share in seen if share >= 0.01)
        found = f"{row['within_500']:.1%} | {row['median_requests']:.0f} | {row['p95_requests']:.0f}"
        lines.append(f"| {row['shift']} | {found} | {rules} |")
    return lines


def _run_length(document: Json) -> list[str]:
    row = document["run_length"]
    bounds = f"{row['mean_run_length']:,.0f} [{row['lower_95']:,.0f}, {row['upper_95']:,.0f}]"
    lines = ["| requests | false alarms | mean run length | promised |", "|---|---|---|---|"]
    return [*lines, f"| {row['requests']:,} | {row['false_alarms']} | {bounds} | {row['promised']:,} |"]
