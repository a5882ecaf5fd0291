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

from understudy import build
from understudy.data.collate import Collator, EncodedRow, Encoder, encode_rows
from understudy.data.template import Template
from understudy.files import fingerprint, fingerprint_folder, read_json, read_jsonl, read_text, write_json, write_jsonl
from understudy.metrics.scores import Score, mean_from_totals
from understudy.metrics.significance import compare_many
from understudy.models.forward import forward
from understudy.models.load import load_model, load_template
from understudy.recipe import DataConfig, DistilConfig, ModelConfig
from understudy.teachers.local import LocalTeacher
from understudy.training.module import DistillationModule
from understudy.training.objective import Need
from understudy.training.plan import plan, training_arguments
from understudy.training.trainer import DistillationTrainer
from understudy.types import Example

METHODS = ("dskd_cma", "dskd_v2", "min_edit", "uld", "byte_aligned")
BASE = "seqkd"
SETS = {"dev": "development", "test": "teacher-written", "real": "real"}
CONTEXT, PASSAGE = 40, 160  # characters
DATA = DataConfig(max_length=256, max_answer_tokens=208)
# The space between context and passage belongs to the passage, as both tokenizers have it.
CONTINUE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %} {{ m['content'] }}{{ eos_token }}"
    "{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
)
CPU = torch.device("cpu")


def main() -> None:
    arguments = options()
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.set_verbosity_error()
    study = Study(arguments)
    rate = study.best_rate()
    cells = {m: [study.cell(m, rate, seed) for seed in arguments.seeds] for m in (BASE, *arguments.methods)}
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
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=16, help="passages a step (default 16)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rates", type=float, nargs="+", default=[3e-4, 1e-3, 3e-3], help="to choose from, by SeqKD")
    parser.add_argument("--stories", type=int, default=1200, help="stories that the teacher writes (default 1200)")
    parser.add_argument("--held-out", type=int, default=100, help="of them for the figures, and half as many to choose")
    parser.add_argument("--story-tokens", type=int, default=480, help="longest story (default 480)")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


# -- texts -------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def written(folder: str, count: int, *, tokens: int, seed: int = 0, batch_size: int = 100) -> list[str]:
    """Stories sampled from a model at temperature 1, from nothing but the mark that begins a text."""
    config = ModelConfig(model=folder)
    template, model = load_template(config), load_model(config, CPU)
    begin, end = template.tokenizer.bos_token_id, template.tokenizer.eos_token_id
    torch.manual_seed(seed)
    texts: list[str] = []
    while len(texts) < count:
        first = torch.full((min(batch_size, count - len(texts)), 1), begin)
        # This teacher ends a story with the mark that would begin the next.
        sampling = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "eos_token_id": [begin, end]}
        out = model.generate(  # pyright: ignore
            input_ids=first, attention_mask=torch.ones_like(first), max_new_tokens=tokens, pad_token_id=end, **sampling
        )
        for row in out[:, 1:].tolist():
            stop = next((i for i, token in enumerate(row) if token in (begin, end)), None)
            text = " ".join(template.decode(row[:stop]).split())
            # The last word of a story that was cut off may be half a word.
            texts.append(text if stop is not None else text.rpartition(" ")[0])
    return texts


def real(path: str) -> list[str]:
    """The stories of a file, with single spaces for line breaks."""
    return [" ".join(story.split()) for story in read_text(path).split("<|endoftext|>") if story.strip()]


def passages(stories: Sequence[str], name: str) -> list[Example]:
    """Every story as passages of at most `PASSAGE` characters, each behind the `CONTEXT` characters before it."""
    found = []
    for number, story in enumerate(stories):
        words, place = story.split(" "), 0
        while place < len(words) and len(" ".join(words[:place])) < CONTEXT:
            place += 1
        while place < len(words):
            end = place + 1
            while end < len(words) and len(" ".join(words[place : end + 1])) <= PASSAGE:
                end += 1
            start = place - 1
            while start and len(" ".join(words[start - 1 : place])) <= CONTEXT:
                start -= 1
            context, text = " ".join(words[start:place]), " ".join(words[place:end])
            # Unfinished: a passage does not end its story, so nobody learns, or is asked, to end there.
            told = {"story": number, "unfinished": True}
            found.append(Example(f"{name}-{number}-{place}", context, (text,), origin="teacher", meta=told))
            place = end
    return found


# -- measuring ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def bits(model: torch.nn.Module, template: Template, rows: Sequence[Example], batch_size: int = 64) -> list[float]:
    """Σ −log₂ q over the tokens of each passage."""
    encoded, collator = encode_rows(rows, Encoder(template, DATA)), Collator(template.tokenizer.pad_token_id)  # pyright: ignore
    model.eval()
    found = []
    for start in range(0, len(encoded), batch_size):
        output = forward(model, collator(encoded[start : start + batch_size])["student"])  # pyright: ignore
        logp = output.head.logits(output.hidden).double().log_softmax(dim=-1)
        each = -logp.gather(1, output.target_ids[:, None])[:, 0] / math.log(2)
        found += [part.sum().item() for part in each.split(output.lengths)]
    return found


def num_bytes(rows: Sequence[Example]) -> list[int]:
    """UTF-8 bytes of each passage and the space before it."""
    return [1 + len(row.answers[0].encode()) for row in rows]


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
        self.identity += [arguments.held_out, arguments.steps, arguments.batch_size, CONTEXT, PASSAGE]
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
        name = f"{method}-{rate:g}-{seed}-{fingerprint(self.identity, 8)}"
        path = self.arguments.out / "cells" / f"{name}.json"
        if not path.exists():
            folder = self.arguments.out / "training" / name
            trainer = self._trainer(method, rate, seed, folder)
            trainer.train()
            last = [line for line in trainer.state.log_history if "gold" in line][-1]
            seconds = trainer.state.log_history[-1]["train_runtime"]
            write_json(path, self._measured(trainer.module.student, "student") | {"log": last, "seconds": seconds})
            shutil.rmtree(folder, ignore_errors=True)
            print(f"{name}: {seconds:.0f} s", flush=True)
        return read_json(path)

    def _measured(self, model: torch.nn.Module, side: str) -> dict[str, list[float]]:
        return {name: bits(model, self.templates[side], self.rows[name]) for name in SETS}

    def _trainer(self, method: str, rate: float, seed: int, folder: Path) -> DistillationTrainer:
        arguments = self.arguments
        shutil.rmtree(folder, ignore_errors=True)
        fields = {"steps": arguments.steps, "batch_size": arguments.batch_size, "learning_rate": rate}
        config = DistilConfig(method="kd" if method == BASE else method, save_every=arguments.steps, **fields)
        student, teacher, objective = load_model(self.configs["student"], CPU), None, build.gold_objective()
        torch.manual_seed(seed)
        pads = [self.templates[side].tokenizer.pad_token_id for side in ("student", "teacher")]
        rows = self.encoded(config, method)
        if method != BASE:
            model = load_model(self.configs["teacher"], CPU)
            objective = build.objective(config, student, model, self._bridge(config))
            teacher = LocalTeacher(model, embeddings=Need.EMBEDDINGS in objective.needs)
        return DistillationTrainer(
            DistillationModule(student, objective),
            training_arguments(config, plan(config, len(rows)), folder, device=CPU, seed=seed, evaluate=False),
            rows,
            Collator(pads[0], pads[1] if teacher else None, same_targets=False),  # pyright: ignore
            teacher=teacher,
            objective_learning_rate=config.projector_learning_rate,
        )

    def encoded(self, config: DistilConfig, method: str) -> list[EncodedRow]:
        """The training passages for a method."""
        if method not in self._encoded:
            ours, theirs = (Encoder(self.templates[side], DATA) for side in ("student", "teacher"))
            sides = (ours,) if method == BASE else (ours, theirs, self._bridge(config))
            rows = encode_rows(self.rows["train"], *sides)
            # All students learn the teacher's text as the text to learn; the methods have half their loss from it.
            self._encoded = {method: [dataclasses.replace(row, gold=True) for row in rows]}
        return self._encoded[method]

    def _bridge(self, config: DistilConfig):
        return build.bridge(config, self.templates["student"], self.templates["teacher"])


# -- the table ---------------------------------------------------------------------------------------------------------


def table(study: Study, found: dict[str, list[dict]], name: str) -> list[dict]:
    """Bits per byte of every system on one set of passages, and each method minus SeqKD, Holm over the methods."""
    rows = study.rows[name]
    sizes = np.array(num_bytes(rows), dtype=np.float64)
    systems = {system: {name: score(name, [c[name] for c in cells], sizes)} for system, cells in found.items()}
    stories = [row.meta["story"] for row in rows]
    pairs = [(method, BASE) for method in study.arguments.methods]
    compared = compare_many(systems, pairs=pairs, groups=stories, family_test="bootstrap")
    tests = {test.a: test for test in compared.tests}
    lines = []
    for system, cells in found.items():
        each = [sum(cell[name]) / sizes.sum() for cell in cells]
        line = {"system": system, "bits_per_byte": systems[system][name].value, "seeds": each}
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
    print("| student | bits per byte | − SeqKD | p, Holm |\n|---|---|---|---|")
    for line in lines:
        each = line["seeds"]
        spread = f" ± {np.std(each, ddof=1):.3f}" if len(each) > 1 else ""
        cells = [line["system"], f"{line['bits_per_byte']:.3f}{spread}", "", ""]
        if "p" in line:
            cells[2] = f"{line['difference']:+.3f} [{line['low']:+.3f}, {line['high']:+.3f}]"
            cells[3] = f"{line['p_holm']:.4f}"
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
