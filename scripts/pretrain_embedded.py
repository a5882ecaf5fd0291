"""Make the base weights of `understudy.models.embedded` from this repository alone.

```
python scripts/pretrain_embedded.py tokenizers
python scripts/pretrain_embedded.py teacher          # and: student, student-other; each one thread
```

Everything is seeded: the same machine and library versions give the same files. A model reads

- every fact of the knowledge base in its declarative wordings,
- exercises that only need reading: a passage about invented subjects and a question about one of them,
- a few questions whose answers are gold in the embedded data set, so that it answers a little before fine-tuning,

and never a held-out wording or a composition of two facts. `provenance.json` beside the weights says what made them.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from pretraining_text import ROW_TOKENS, make_tokenizer, pack, question_document, question_text, statement_document
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
)

from understudy.data.embedded.telecom import (
    invented_readings,
    known_questions,
    seed_questions,
    statements,
    text_fingerprint,
)
from understudy.files import read_json, write_json

FOLDER = Path(__file__).resolve().parents[1] / "src" / "understudy" / "models" / "embedded"


@dataclass(frozen=True)
class Plan:
    """Shape and schedule of one model."""

    vocabulary: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    steps: int
    statements_per_epoch: int
    texts_per_epoch: int
    readings_per_epoch: int
    questions_per_epoch: int
    learning_rate: float
    cycles: int = 1
    later_rate: float = 0.6
    batch_rows: int = 12
    seed: int = 0


PLANS = {
    "telecom-teacher": Plan(
        "bpe",
        192,
        512,
        4,
        6,
        steps=650,
        cycles=4,
        readings_per_epoch=150,
        questions_per_epoch=300,
        statements_per_epoch=1000,
        texts_per_epoch=1500,
        learning_rate=2.5e-3,
    ),
    "telecom-student": Plan(
        "bpe",
        96,
        256,
        3,
        3,
        steps=600,
        readings_per_epoch=150,
        questions_per_epoch=300,
        statements_per_epoch=1000,
        texts_per_epoch=1500,
        learning_rate=3e-3,
    ),
    "telecom-student-other": Plan(
        "unigram",
        96,
        256,
        3,
        3,
        steps=600,
        readings_per_epoch=150,
        questions_per_epoch=300,
        statements_per_epoch=1000,
        texts_per_epoch=1500,
        learning_rate=3e-3,
    ),
}


def batches(plan: Plan, cycle: int, tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Epochs without end: all statements and seed questions, and a fresh part of the invented readings."""
    seed = plan.seed + cycle
    fixed = [statement_document(text, tokenizer) for text in statements(seed)]
    questions = [question_document(example, tokenizer) for example in seed_questions()]
    texts = [question_text(example, tokenizer) for example in known_questions()]
    draw = random.Random(f"batches:{seed}")
    epoch = 0
    while True:
        epoch += 1
        fresh = invented_readings(plan.readings_per_epoch, seed=1000 * seed + epoch)
        documents = draw.sample(fixed, plan.statements_per_epoch) + draw.sample(texts, plan.texts_per_epoch)
        documents += draw.sample(questions, plan.questions_per_epoch)
        documents += [question_document(example, tokenizer) for example in fresh]
        documents = [document for document in documents if len(document.ids) <= ROW_TOKENS]
        draw.shuffle(documents)
        ids, labels = pack(documents, tokenizer.pad_token_id)
        for start in range(0, len(ids) - plan.batch_rows + 1, plan.batch_rows):
            yield ids[start : start + plan.batch_rows], labels[start : start + plan.batch_rows]


def make_model(plan: Plan, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    torch.manual_seed(plan.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=plan.hidden_size,
            intermediate_size=plan.intermediate_size,
            num_hidden_layers=plan.num_hidden_layers,
            num_attention_heads=plan.num_attention_heads,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            initializer_range=0.02 if plan.hidden_size > 128 else 0.03,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def next_token_loss(model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the learned tokens; only their positions go through the head."""
    targets = labels[:, 1:]
    learned = targets != -100
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1][learned]
    return cross_entropy(model.lm_head(hidden), targets[learned])


def one_cycle(plan: Plan) -> Callable[[int], float]:
    warmup = max(1, plan.steps // 20)
    return lambda step: min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * min(1.0, step / plan.steps))) + 0.02)


def pretrain(name: str, plan: Plan) -> None:
    """Train one model, cycle by cycle, and write it in half precision with its provenance.

    Each cycle starts from what the one before has written, with a fresh optimiser, so a broken run goes on where the
    last whole cycle ended and gives the same weights.
    """
    torch.set_num_threads(1)
    folder = FOLDER / name
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for cycle in range(finished_cycles(folder, plan), plan.cycles):
        model = (
            AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32) if cycle else make_model(plan, tokenizer)
        )
        save(name, plan, model, cycle + 1, train_cycle(name, plan, cycle, model, tokenizer))


def finished_cycles(folder: Path, plan: Plan) -> int:
    """How many cycles of this plan, on this text, the files in `folder` have behind them."""
    if not (folder / "provenance.json").is_file():
        return 0
    made = read_json(folder / "provenance.json")
    same = made["text"] == text_fingerprint() and made["plan"] | {"cycles": plan.cycles} == asdict(plan)
    return made["cycles"] if same else 0


def train_cycle(
    name: str, plan: Plan, cycle: int, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase
) -> float:
    """One learning-rate cycle; returns the mean loss of its last fifty steps."""
    rate = plan.learning_rate * (plan.later_rate if cycle else 1.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, one_cycle(plan))
    model.train()
    started, losses = time.monotonic(), []
    for step, (ids, labels) in zip(range(plan.steps), batches(plan, cycle, tokenizer), strict=False):
        loss = next_token_loss(model, ids, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        losses.append(loss.item())
        if step % 50 == 49:
            recent, seconds = sum(losses[-50:]) / 50, time.monotonic() - started
            print(
                f"{name} cycle {cycle + 1} step {step + 1}/{plan.steps} loss {recent:.3f} {seconds:.0f} s", flush=True
            )
    return sum(losses[-50:]) / len(losses[-50:])


def save(name: str, plan: Plan, model: LlamaForCausalLM, cycles: int, final_loss: float) -> None:
    model.half().save_pretrained(FOLDER / name)
    provenance = {
        "script": "scripts/pretrain_embedded.py",
        "model": name,
        "plan": asdict(plan),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seed": plan.seed,
        "cycles": cycles,
        "steps": cycles * plan.steps,
        "final_loss": round(final_loss, 4),
        "text": text_fingerprint(),
        "torch": torch.__version__,
    }
    write_json(FOLDER / name / "provenance.json", provenance)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tokenizers", *(name.removeprefix("telecom-") for name in PLANS)])
    what = parser.parse_args().what
    if what == "tokenizers":
        for name, plan in PLANS.items():
            make_tokenizer(plan.vocabulary).save_pretrained(FOLDER / name)
    else:
        pretrain(f"telecom-{what}", PLANS[f"telecom-{what}"])


if __name__ == "__main__":
    main()
