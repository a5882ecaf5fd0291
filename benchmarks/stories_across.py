"""What each method for two vocabularies gains over plain SeqKD, on two real pretrained storytellers.

```sh
python benchmarks/stories_across.py --teacher FOLDER/stories260k --student FOLDER/babyllama-char105 \
    --real tinystories_sample.txt --out stories_across
```

The teacher writes stories of its own, sampled at temperature 1 from nothing but the mark that begins a text. They are
cut into passages; a model reads the words before a passage and learns, or is measured on, the passage. All students
start from the same pretrained weights and take the same steps over the same passages at one rate, the one of `--rates`
that is best for *SeqKD* on development stories. SeqKD learns by cross-entropy alone; each method takes half of that
cross-entropy and half of its own loss, its recipe's defaults otherwise.

Bits per byte: Σ −log₂ q(token) ÷ UTF-8 bytes, over passages with the space before them, the token that would end them
left out on both sides. For the teacher only its tokenizer's own cutting is counted, so its figure is an upper bound.

A line break is read as a space on both sides; a story with any other character that the student cannot write is left
out. Every cell (method, rate, seed) is a file under `--out`: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import transformers
from stories import CONTEXT, CONTINUE, CPU, DATA, PASSAGE, bits, num_bytes, passages, real, written

from understudy import build
from understudy.files import fingerprint, fingerprint_folder, read_json, read_jsonl, read_text, write_json, write_jsonl
from understudy.metrics.scores import Score, mean_from_totals
from understudy.metrics.significance import compare_many
from understudy.models.load import load_model, load_template
from understudy.recipe import METHODS, MethodConfig, ModelConfig, parse_recipe
from understudy.teachers.local import LocalTeacher
from understudy.tokens.collate import Collator, EncodedRow, ExampleTokenizer, encode_rows
from understudy.training.module import DistillationModule
from understudy.training.rows import ListedRows
from understudy.training.schedule import train_schedule, training_arguments
from understudy.training.trainer import DistillationTrainer

ACROSS = tuple(name for name, kind in METHODS.items() if not kind.one_vocabulary)
BASE = "seqkd"
SETS = {"dev": "development", "test": "teacher-written", "real": "real"}


def main() -> None:
    arguments = options()
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    study = Study(arguments)
    rate = study.best_rate()
    methods = (BASE, *arguments.methods)
    trained = {(m, seed): study.cell(m, rate, seed) for seed in arguments.seeds for m in methods}
    cells = {m: [trained[m, seed] for seed in arguments.seeds] for m in methods}
    found = {"teacher": [study.untrained("teacher")], "student": [study.untrained("student")], **cells}
    results = study.told | {"rate": rate, "sets": {name: table(study, found, name) for name in SETS}}
    write_json(arguments.out / "results.json", results)
    for name in ("test", "real"):
        print(f"\n{described(study, name)}\n")
        show(results["sets"][name])


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--teacher", required=True, help="folder of the teacher")
    parser.add_argument("--student", required=True, help="folder of the student, of another vocabulary")
    parser.add_argument("--real", required=True, help="text file of real stories, <|endoftext|> between them")
    parser.add_argument("--out", type=Path, default=Path("stories_across"), help="folder of stories, cells, results")
    parser.add_argument("--methods", nargs="+", default=ACROSS, choices=ACROSS)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=16, help="passages a step (default 16)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-5, 3e-5, 1e-4], help="to choose from, by SeqKD")
    parser.add_argument("--stories", type=int, default=1200, help="stories that the teacher writes (default 1200)")
    parser.add_argument("--held-out", type=int, default=100, help="of them for the figures, and half as many to choose")
    parser.add_argument("--story-tokens", type=int, default=480, help="longest story (default 480)")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


# -- the study ---------------------------------------------------------------------------------------------------------


class Study:
    """The texts of both models, and every cell as a file."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.configs = {
            side: ModelConfig(model=getattr(arguments, side), chat_template=CONTINUE) for side in ("teacher", "student")
        }
        self.templates = {side: load_template(config) for side, config in self.configs.items()}
        stories, held_out = self._stories(), arguments.held_out
        cut = held_out + held_out // 2
        texts = {"test": stories[:held_out], "dev": stories[held_out:cut], "train": stories[cut:]}
        texts["real"] = self._writable(real(arguments.real), "real")
        self.rows = {name: passages(found, name) for name, found in texts.items()}
        self.told |= {f"{name}_stories": len(found) for name, found in texts.items()}
        self.told |= {f"{name}_passages": len(rows) for name, rows in self.rows.items()}
        self._encoded: dict[str, list[EncodedRow]] = {}

    def _stories(self) -> list[str]:
        arguments = self.arguments
        self.identity = [fingerprint_folder(arguments.teacher), arguments.stories, arguments.story_tokens]
        path = arguments.out / f"stories-{fingerprint(self.identity, 8)}.jsonl"
        if not path.exists():
            print(f"the teacher writes {arguments.stories} stories …", flush=True)
            texts = written(arguments.teacher, arguments.stories, tokens=arguments.story_tokens)
            write_jsonl(path, [{"text": text} for text in texts])
        self.identity += [fingerprint_folder(arguments.student), fingerprint(read_text(arguments.real))]
        self.identity += [arguments.held_out, CONTEXT, PASSAGE, CONTINUE, DATA.model_dump(mode="json")]
        self.told: dict[str, object] = {}
        return self._writable([row["text"] for row in read_jsonl(path)], "written")

    def _writable(self, stories: Sequence[str], name: str) -> list[str]:
        """Without the stories that hold a character the student has no token for."""
        tokenizer = self.templates["student"].tokenizer
        kept = [story for story in stories if tokenizer.unk_token_id not in tokenizer(story)["input_ids"]]  # pyright: ignore
        self.told[f"{name}_left_out"] = len(stories) - len(kept)
        return kept

    def best_rate(self) -> float:
        """The learning rate at which SeqKD is best on the development stories."""
        size = sum(num_bytes(self.rows["dev"]))
        seed = self.arguments.seeds[0]
        found = {rate: sum(self.cell(BASE, rate, seed)["dev"]) / size for rate in self.arguments.rates}
        self.told["rates"] = {f"{rate:g}": value for rate, value in found.items()}
        print("SeqKD, bits per byte of the development stories:", self.told["rates"], flush=True)
        return min(found, key=found.__getitem__)

    def untrained(self, side: str) -> dict[str, list[float]]:
        """The bits of a model as it came."""
        return self._measured(load_model(self.configs[side], CPU), side)

    def cell(self, method: str, rate: float, seed: int) -> dict:
        """The bits of one trained student, read from its file where there is one."""
        config = self._config(method, rate)
        name = f"{method}-{rate:g}-{seed}-{fingerprint([*self.identity, config.model_dump(mode='json')], 8)}"
        path = self.arguments.out / "cells" / f"{name}.json"
        if not path.exists():
            folder = self.arguments.out / "training" / name
            trainer = self._trainer(method, config, seed, folder)
            trainer.train()
            last = [line for line in trainer.state.log_history if "gold" in line][-1]
            seconds = trainer.state.log_history[-1]["train_runtime"]
            write_json(path, self._measured(trainer.module.student, "student") | {"log": last, "seconds": seconds})
            shutil.rmtree(folder, ignore_errors=True)
            print(f"{name}: {seconds:.0f} s", flush=True)
        return read_json(path)

    def _measured(self, model: torch.nn.Module, side: str) -> dict[str, list[float]]:
        return {name: bits(model, self.templates[side], self.rows[name]) for name in SETS}

    def _config(self, method: str, rate: float) -> MethodConfig:
        steps = self.arguments.steps
        fields = {"steps": steps, "save_every": steps, "batch_size": self.arguments.batch_size, "learning_rate": rate}
        return parse_recipe({"distil": {"method": "kd" if method == BASE else method, **fields}}).distil

    def _trainer(self, method: str, config: MethodConfig, seed: int, folder: Path) -> DistillationTrainer:
        shutil.rmtree(folder, ignore_errors=True)
        student, teacher, objective = load_model(self.configs["student"], CPU), None, build.gold_objective()
        torch.manual_seed(seed)
        pads = [self.templates[side].tokenizer.pad_token_id for side in ("student", "teacher")]
        rows = self.encoded(config, method)
        if method != BASE:
            model = load_model(self.configs["teacher"], CPU)
            objective = build.objective(config, student, model, self._bridge(config))
            teacher = LocalTeacher(model, embeddings=objective.embeddings)
        return DistillationTrainer(
            DistillationModule(student, objective),
            training_arguments(
                config, train_schedule(config, len(rows)), folder, device=CPU, seed=seed, evaluate=False
            ),
            ListedRows(rows),
            Collator(pads[0], pads[1] if teacher else None, same_targets=False),  # pyright: ignore
            teacher=teacher,
            objective_learning_rate=config.objective_learning_rate,
        )

    def encoded(self, config: MethodConfig, method: str) -> list[EncodedRow]:
        """The training passages for a method."""
        if method not in self._encoded:
            ours, theirs = (ExampleTokenizer(self.templates[side], DATA) for side in ("student", "teacher"))
            sides = (ours,) if method == BASE else (ours, theirs, self._bridge(config))
            rows = encode_rows(self.rows["train"], *sides)
            # All students learn the teacher's text as the text to learn; the methods have half their loss from it.
            self._encoded = {method: [dataclasses.replace(row, gold=True) for row in rows]}
        return self._encoded[method]

    def _bridge(self, config: MethodConfig):
        return build.cross_tokenizer(config, self.templates["student"], self.templates["teacher"])


# -- the table ---------------------------------------------------------------------------------------------------------


def table(study: Study, found: dict[str, list[dict]], name: str) -> list[dict]:
    """Bits per byte of every system on one set of passages, and each method minus SeqKD, Holm over the methods."""
    rows = study.rows[name]
    sizes = np.array(num_bytes(rows), dtype=np.float64)
    systems = {system: {name: score(name, [c[name] for c in cells], sizes)} for system, cells in found.items()}
    stories = [row.meta["story"] for row in rows]
    pairs = [(method, BASE) for method in study.arguments.methods]
    compared = compare_many(systems, contrasts=pairs, clusters=stories, family_test="bootstrap")
    tests = {test.a: test for test in compared.tests}
    lines = []
    for system, cells in found.items():
        each = [sum(cell[name]) / sizes.sum() for cell in cells]
        aligned = np.mean([cell["log"].get("aligned", np.nan) if "log" in cell else np.nan for cell in cells])
        line = {"system": system, "bits_per_byte": systems[system][name].value, "seeds": each}
        line["aligned"] = None if np.isnan(aligned) else float(aligned)
        if system in tests:
            test = tests[system]
            line |= {"difference": test.comparison.difference, "low": test.comparison.low}
            line |= {"high": test.comparison.high, "p": test.p_value, "p_holm": test.p_holm}
        lines.append(line)
    return lines


def score(name: str, seeds: Sequence[Sequence[float]], sizes: np.ndarray) -> Score:
    """Bits per byte, the bits of a passage being the mean over the seeds."""
    statistics = np.stack([np.mean(seeds, axis=0), sizes], axis=-1)
    each = tuple((statistics[:, 0] / sizes).tolist())
    value = float(mean_from_totals(statistics.sum(axis=0)))
    return Score(name, value, each, statistics, mean_from_totals, "bits per byte", math.inf, higher_is_better=False)


def described(study: Study, name: str) -> str:
    left = study.told["real_left_out" if name == "real" else "written_left_out"]
    size = sum(num_bytes(study.rows[name]))
    stories, rows = study.told[f"{name}_stories"], len(study.rows[name])
    return f"**{SETS[name]}**: {stories} stories, {rows} passages, {size:,} bytes; {left} stories left out"


def show(lines: Sequence[dict]) -> None:
    print("| model | tokens with a partner | bits per byte | − SeqKD | p, Holm |\n|---|---|---|---|---|")
    for line in lines:
        each = line["seeds"]
        spread = f" ± {np.std(each, ddof=1):.3f}" if len(each) > 1 else ""
        aligned = "" if line["aligned"] is None else f"{line['aligned']:.0%}"
        cells = [line["system"], aligned, f"{line['bits_per_byte']:.3f}{spread}", "", ""]
        if "p" in line:
            cells[3] = f"{line['difference']:+.3f} [{line['low']:+.3f}, {line['high']:+.3f}]"
            cells[4] = f"{line['p_holm']:.4f}"
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
