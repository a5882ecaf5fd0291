"""Does knowledge of one shop help in another? The embedded shops, which share three of their regularities.

    python scripts/bundle_accumulation.py --work FOLDER --keep docs/results/bundle_accumulation.json

Patterns of a few of a shop's own training sessions (3%), of all sessions of the other shop, of both together, and of
all sessions of its own. The student learns from the few with these patterns in the prompt (`sft_icl`), and answers the
shop's test sessions.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from bundle_baselines import columns, difference, figures

import understudy
from understudy.data.embedded.bundles import DOMAINS, generate, regularities_of
from understudy.data.sessions import Session, row_of, session_of
from understudy.files import write_json, write_jsonl
from understudy.metrics import Score, score
from understudy.sessions.joining import joined
from understudy.sessions.knowledge import SessionKnowledge, Statement
from understudy.sessions.patterns import mine_patterns
from understudy.sessions.sampling import order_of, taken

SOUND = ("precision", "recall", "f1", "coverage", "exact", "intent_f1")
LEVELS = {
    "nothing": "nothing",
    "own": "its own few sessions",
    "other": "the other shop",
    "accumulated": "both",
    "whole": "all of its own sessions",
}
SUPPORT, SHARE = 0.005, 0.03


def patterns(sessions: Sequence[Session], support: float = SUPPORT) -> SessionKnowledge:
    """What goes together in the sessions of one shop."""
    mined = mine_patterns(sessions, support=max(support, 2.5 / len(sessions))).patterns
    statements = [Statement("pattern", p.text, p.kind, p.members, sessions[0].domain, p.confidence) for p in mined]
    return SessionKnowledge(tuple(statements), ())


def run_of(shop: str, seed: int, work: Path, steps: int) -> understudy.Run:
    """One run: an arm for each level of knowledge, all on the same few of the shop's sessions."""
    other = next(name for name in DOMAINS if name != shop)
    data = work / f"{shop}-{seed}"
    parts = {name: [s for s in map(session_of, rows) if s.domain == shop] for name, rows in splits(seed).items()}
    elsewhere = [s for s in map(session_of, splits(seed)["train"]) if s.domain == other]
    order = order_of("random", parts["train"], seed=seed)
    few = [parts["train"][place] for place in taken(order, SHARE)]
    known = {"own": patterns(few), "other": patterns(elsewhere), "whole": patterns(parts["train"])}
    known["accumulated"] = joined([known["own"], known["other"]])
    for name, texts in known.items():
        texts.write(data / name)
    for name, sessions in (parts | {"train": few}).items():
        write_jsonl(data / f"{name}.jsonl", map(row_of, sessions))
    arms = {name: {"knowledge.folder": str(data / name)} for name in known}
    arms["nothing"] = {"knowledge.formats": []}
    recipe = {
        "name": f"bundle-accumulation-{shop}",
        "output": str(work / "runs"),
        "data": {f"{key}source": str(data / f"{name}.jsonl") for key, name in SOURCES.items()}
        | {"max_length": 768, "max_answer_tokens": 96},
        "teacher": None,
        "student": {"model": "embedded:bundles-student", "seed": seed},
        "knowledge": {"use": "sft_icl", "formats": ["patterns"], "neighbours": 0, "folder": str(data / "own")},
        "distil": {"steps": steps, "batch_size": 16, "micro_batch_size": 8, "learning_rate": 5.0e-4, "eval_rows": 48},
        "arms": arms,
        "evaluate": {"arms": list(LEVELS), "metrics": [f"bundle_{n}" for n in SOUND], "batch_size": 64, "speed": False},
    }
    return understudy.distil(recipe, quiet=True)


SOURCES = {"": "train", "dev_": "dev", "test_": "test"}


def splits(seed: int) -> dict[str, Sequence[Any]]:
    made = generate(seed=seed)
    return {"train": made.train, "dev": made.dev, "test": made.test}


def pooled(scores: Sequence[Mapping[str, Score]]) -> dict[str, Score]:
    """Scores of several runs on different sessions as one, session behind session."""
    return {
        name: replace(
            scores[0][name],
            value=float(np.mean([v for each in scores for v in each[name].per_example])),
            per_example=tuple(v for each in scores for v in each[name].per_example),
            statistics=np.concatenate([each[name].statistics for each in scores]),
        )
        for name in scores[0]
    }


def main() -> None:
    """Run, measure, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=160)
    arguments = parser.parse_args()
    found: dict[str, list[Mapping[str, Score]]] = {name: [] for name in LEVELS}
    for shop in DOMAINS:
        for seed in range(arguments.seeds):
            run = run_of(shop, seed, arguments.work, arguments.steps)
            for name in LEVELS:
                rows = run.predictions(name)
                names = [f"bundle_{metric}" for metric in SOUND]
                found[name].append(score([r.prediction for r in rows], [r.references for r in rows], metrics=names))
    scores = {LEVELS[name]: pooled(each) for name, each in found.items()}
    titles = {"precision": "precision", "recall": "recall", "f1": "F1", "coverage": "coverage"}
    titles |= {"exact": "exact bundles", "intent_f1": "intents"}
    cell = "{difference:+.3f} [{low:+.3f}, {high:+.3f}]"
    pairs = [("both", "its own few sessions"), ("the other shop", "nothing"), ("both", "nothing")]
    pairs += [("all of its own sessions", "both")]
    rows = [{"name": a, "other": b, **difference(scores[a]["bundle_f1"], scores[b]["bundle_f1"])} for a, b in pairs]
    shared = [rule for rule in regularities_of() if not rule.domain]
    kept = {
        "made_by": f"python scripts/bundle_accumulation.py --work FOLDER --keep FILE "
        f"--seeds {arguments.seeds} --steps {arguments.steps}",
        "sessions": len(next(iter(scores.values()))["bundle_f1"].per_example),
        "shared regularities": len(shared),
        "tables": {
            "levels": {
                "columns": columns(titles, "patterns in the prompt, of"),
                "rows": [{"name": name} | figures(one, SOUND) for name, one in scores.items()],
            },
            "differences": {
                "columns": [
                    {"title": "patterns of", "cell": ["{name}"]},
                    {"title": "against", "cell": ["{other}"]},
                    {"title": "F1", "cell": [cell]},
                    {"title": "smallest that would show", "cell": ["{least:.3f}"]},
                ],
                "rows": rows,
            },
        },
    }
    write_json(arguments.keep, kept)


if __name__ == "__main__":
    main()
