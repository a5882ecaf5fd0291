"""A pretrained student on the electronic sessions: in context, fine-tuned, both; beside baselines that train nothing.

    python scripts/bundle_electronic.py ../shared/data/bundles/electronic MODEL --work FOLDER \
        --keep docs/results/bundle_electronic.json distil.steps=150

Runs `recipes/bundle_electronic.yaml` with patterns, and with thoughts that MODEL writes itself, and goes on where it
was broken off. Titles are cut to their first words, which makes prompts half as long; baselines read whole titles.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle_baselines import SOUND, columns, difference, figures, measured, systems

import understudy
from understudy.api import perform, recipe_of
from understudy.bundle_answers import read_answer, write_answer
from understudy.completers.local_completer import LocalCompleter
from understudy.data.load import load_splits
from understudy.data.session_folder import TITLES
from understudy.data.sessions import Session, listing_of, session_of
from understudy.files import read_json, write_json
from understudy.knowledge.session_steps import unnamed
from understudy.metrics import Score
from understudy.recipe import DataConfig, EndpointConfig
from understudy.run import Run
from understudy.sessions.joining import knowledge_in
from understudy.sessions.knowledge import SessionKnowledge, Thought
from understudy.types import Message, Request

RECIPE = str(Path(__file__).resolve().parents[1] / "recipes" / "bundle_electronic.yaml")
NEAREST, SFT = "nearest session, by vectors", "fine-tuned on answers alone"
ARMS = {
    "neighbour_alone": "in context: the nearest session",
    "in_context": "in context: the nearest session, patterns, thoughts",
    "sft": SFT,
    "fine_tuned": "fine-tuned on answers, patterns, thoughts",
    "informed": "fine-tuned on them, and all in context",
}
"""Arm of the recipe -> what it is."""
SHOWN = (
    Message(
        "user",
        "Items of a session:\n1. Canon EOS Rebel Digital SLR Camera\n2. Logitech Wireless Mouse\n"
        '3. SanDisk 32GB SD Memory Card\nBundles: {"bundles": [{"items": [1, 3], "intent": "photography"}]}\n'
        "Say of each bundle why its items belong together.",
    ),
    Message(
        "assistant",
        "Items 1 and 3: the Canon EOS Rebel is a camera, the SanDisk 32GB is a memory card. They are bought for "
        "photography, because a camera needs a card to store its pictures.",
    ),
)
"""What a writer as small as this is shown first: without an example it copies the question."""
MOST_ITEMS = 6


def shortened(source: Path, words: int, target: Path) -> Path:
    """A copy of the folder whose titles are their first words."""
    if not target.is_dir():
        part = target.with_name(target.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(source, part, copy_function=shutil.copyfile)
        part.chmod(0o755)
        titles = {item: " ".join(title.split()[:words]) for item, title in read_json(source / TITLES).items()}
        write_json(part / TITLES, titles)
        part.rename(target)
    return target


def write_thoughts(model: str, sessions: Sequence[Session], count: int) -> tuple[list[Thought], int]:
    """What the model says of so many short sessions, as far as it names their items; and how many texts had an end."""
    short = [session for session in sessions if len(session.items) <= MOST_ITEMS][:count]
    requests = [
        Request(
            session.id,
            (
                *SHOWN,
                Message(
                    "user",
                    f"{listing_of(session)}\nBundles: {write_answer(session.bundles)}\n"
                    "Say of each bundle why its items belong together.",
                ),
            ),
            temperature=0.0,
            max_tokens=96,
        )
        for session in short
    ]
    completer = LocalCompleter(EndpointConfig(model=model, concurrency=16), device="cpu")
    texts = {answer.id: answer.text for answer in completer.complete(requests) if answer.text}
    thoughts = [
        Thought(session.id, texts[session.id], session.domain)
        for session in short
        if session.id in texts and not [*unnamed(texts[session.id], session)]
    ]
    return thoughts, len(texts)


def knowledge(folder: Path, model: str, work: Path, count: int) -> tuple[Path, dict[str, int]]:
    """A folder with patterns of the training sessions and thoughts on some of them, and what came of these."""
    target = work / f"knowledge-{count}"
    if not (target / "counts.json").is_file():
        recipe = recipe_of(
            RECIPE, {"output": str(work / "patterns"), "data.source": str(folder), "student.model": model}
        )
        run = perform(recipe, until="generate", quiet=True)
        train = [session_of(row) for row in load_splits(recipe.data).train]
        thoughts, finished = write_thoughts(model, train, count)
        SessionKnowledge(knowledge_in(run.folder).statements, tuple(thoughts)).write(target)
        write_json(target / "counts.json", {"asked": count, "finished": finished, "kept": len(thoughts)})
    return target, read_json(target / "counts.json")


def answers_of(run: Run) -> dict[str, list[str]]:
    """What each student of the run answered, freely and held to the items, by the name it goes by here."""
    named = {}
    for arm, name in ARMS.items():
        for known, title in ((arm, name), (f"{arm}_constrained", f"{name}; held to the items")):
            if run.predictions_path(known).is_file():
                named[title] = [row.prediction for row in run.predictions(known)]
    return named


def shares(texts: Sequence[str], sessions: Sequence[Session]) -> dict[str, float]:
    """Share of answers that can be read, and of those that call the whole session one bundle."""
    answers = [read_answer(text) for text in texts]
    whole = [
        answer is not None and len(answer) == 1 and len(set(answer[0].items)) == len(session.items)
        for answer, session in zip(answers, sessions, strict=True)
    ]
    return {
        "readable": sum(answer is not None for answer in answers) / len(sessions),
        "whole": sum(whole) / len(sessions),
    }


def tables(scores: Mapping[str, Mapping[str, Score]], first_draws: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Figures of all, and differences of the students to the nearest session and to fine-tuning on answers alone."""
    titles = {"precision": "precision", "recall": "recall", "f1": "F1", "coverage": "coverage"}
    titles |= {"exact": "exact bundles", "intent_f1": "intents"}
    shown = [
        *columns(titles, "answers"),
        {"title": "readable", "cell": ["{readable:.3f}"]},
        {"title": "one bundle of all", "cell": ["{whole:.3f}"]},
    ]
    cell = "{difference:+.3f} [{low:+.3f}, {high:+.3f}]"
    against = [
        {"name": name, "other": other, "metric": label, **difference(scores[name][key], scores[other][key])}
        for other in (NEAREST, SFT)
        if other in scores
        for name in scores
        if any(name.startswith(title) for title in ARMS.values()) and name != other
        for key, label in (("bundle_f1", "F1"), ("bundle_coverage", "coverage"))
    ]
    return {
        "answers": {
            "columns": shown,
            "rows": [{"name": name} | first_draws[name] | figures(one, SOUND) for name, one in scores.items()],
        },
        "differences": {
            "columns": [
                {"title": "answers", "cell": ["{name}"]},
                {"title": "against", "cell": ["{other}"]},
                {"title": "metric", "cell": ["{metric}"]},
                {"title": "difference", "cell": [cell]},
                {"title": "smallest that would show", "cell": ["{least:.3f}"]},
            ],
            "rows": against,
        },
    }


def main() -> None:
    """Run, measure, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("model")
    parser.add_argument("fields", nargs="*", help="fields of the recipe: distil.steps=150")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--words", type=int, default=8, help="words of a title that the student reads")
    parser.add_argument("--thoughts", type=int, default=64, help="short sessions that MODEL is asked about")
    parser.add_argument("--vectors", nargs="+", default=["words", "embedding"], choices=["words", "embedding"])
    parser.add_argument("--keep", type=Path, required=True)
    arguments = parser.parse_intermixed_args()
    folder = shortened(arguments.source, arguments.words, arguments.work / f"sessions-{arguments.words}")
    known, counts = knowledge(folder, arguments.model, arguments.work, arguments.thoughts)
    fields = {
        "output": str(arguments.work / "runs"),
        "data.source": str(folder),
        "student.model": arguments.model,
        "generate": None,
        "knowledge.folder": str(known),
        "knowledge.formats": ["patterns", "thoughts"],
    }
    changed = [f"{name}={json.dumps(value)}" for name, value in fields.items()] + arguments.fields
    run = understudy.distil(RECIPE, changed)
    splits = load_splits(DataConfig(source=str(arguments.source)))
    train, test = list(map(session_of, splits.train)), list(map(session_of, splits.test))
    draws = systems(train, test, arguments.vectors) | {name: [rows] for name, rows in answers_of(run).items()}
    scores = {name: measured(texts, splits.test) for name, texts in draws.items()}
    first_draws = {name: shares(texts[0], test) for name, texts in draws.items()}
    kept = {
        "made_by": f"python scripts/bundle_electronic.py FOLDER MODEL --work WORK --words {arguments.words} "
        f"--keep FILE {' '.join(arguments.fields)}",
        "sessions": {"train": len(train), "test": len(test)},
        "thoughts": counts,
        "signatures": {name: next(iter(scores.values()))[f"bundle_{name}"].signature for name in SOUND},
        "tables": tables(scores, first_draws),
    }
    write_json(arguments.keep, kept)


if __name__ == "__main__":
    main()
