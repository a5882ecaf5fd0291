"""Make the base weights of the embedded pair for bundles from this repository alone.

```
python scripts/pretrain_bundles.py tokenizer
python scripts/pretrain_bundles.py teacher --work FOLDER     # and: student; each one thread
```

What they read is in `bundle_texts.py`: sessions of the two invented shops without six of their regularities, sessions of
shops that never were, whose regularities stand in the prompt, and what a teacher is asked about sessions. Sessions
that `generate` may put into a test split are not among them. A run that was broken off goes on where its last cycle ended.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch
from bundle_texts import STUDENT, TEACHER, Text, some_texts, texts, units
from bundle_tokenizer import ROW_LIMIT, make_tokenizer
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from understudy.data.embedded.bundles.readings import text_fingerprint
from understudy.files import fingerprint, write_json

FOLDER = Path(__file__).resolve().parents[1] / "src" / "understudy" / "models" / "embedded"
LONGEST = 384
POOL = 768


@dataclass(frozen=True)
class Plan:
    """Shape and schedule of one model; the learning rate falls to nothing over the last `falling` cycles."""

    kinds: Mapping[str, tuple[float, float]]
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    learning_rate: float
    cycles: int
    falling: int
    steps: int = 250
    batch_tokens: int = 3072
    warmup: int = 150
    seed: int = 0


PLANS = {
    "bundles-teacher": Plan(TEACHER, 128, 344, 5, 4, learning_rate=2e-3, cycles=20, falling=6),
    "bundles-student": Plan(STUDENT, 96, 192, 3, 4, learning_rate=3e-3, cycles=10, falling=3),
}


@dataclass(frozen=True)
class Document:
    """Token ids; from `answer` on they are learned."""

    ids: list[int]
    answer: int


def document(text: Text, tokenizer: PreTrainedTokenizerBase) -> Document:
    turns = [{"role": turn.role, "content": turn.content} for turn in text.turns]
    asked = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))["input_ids"]
    turns.append({"role": "assistant", "content": text.answer})
    ids = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False))["input_ids"]
    return Document(ids, len(asked))


def batches(plan: Plan, cycle: int, tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of like length without end; the texts of a cycle are its own."""
    draw = random.Random(f"batches {plan.seed} {cycle}")
    source = (document(text, tokenizer) for text in texts(1000 * plan.seed + cycle, plan.kinds))
    short = (document for document in source if len(document.ids) <= LONGEST)
    while True:
        pool = sorted(islice(short, POOL), key=lambda document: len(document.ids))
        groups: list[list[Document]] = [[]]
        for one in pool:
            if len(one.ids) * (len(groups[-1]) + 1) > plan.batch_tokens:
                groups.append([])
            groups[-1].append(one)
        draw.shuffle(groups)
        yield from (padded(group, tokenizer.pad_token_id) for group in groups)


def padded(group: list[Document], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels (-100: not learned), padded on the right, which causal attention never looks at."""
    length = max(len(document.ids) for document in group)
    ids = torch.full((len(group), length), pad)
    labels = torch.full((len(group), length), -100)
    for row, one in enumerate(group):
        ids[row, : len(one.ids)] = torch.tensor(one.ids)
        labels[row, one.answer : len(one.ids)] = ids[row, one.answer : len(one.ids)]
    return ids, labels


def make_model(plan: Plan, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    torch.manual_seed(plan.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=plan.hidden_size,
            intermediate_size=plan.intermediate_size,
            num_hidden_layers=plan.num_hidden_layers,
            num_attention_heads=plan.num_attention_heads,
            max_position_embeddings=ROW_LIMIT,
            tie_word_embeddings=True,
            initializer_range=0.03,
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


def rate(plan: Plan, step: int) -> float:
    """Share of the learning rate: up, level, and down in a straight line."""
    left = plan.cycles * plan.steps - step
    return min(1.0, (step + 1) / plan.warmup, max(0.01, left / (plan.falling * plan.steps)))


def pretrain(name: str, plan: Plan, work: Path) -> None:
    """Train one model, cycle by cycle, and write it in half precision with its provenance."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / name)
    model = make_model(plan, tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    # Only the schedule's end may move: what was read and how fast are the same whatever the number of cycles.
    identity = fingerprint([name, asdict(plan) | {"cycles": 0, "falling": 0}, text_fingerprint(), tokenizer.get_vocab()])
    done = resume(work, identity, model, optimizer)
    loss = float("nan")
    for cycle in range(done, plan.cycles):
        loss = train_cycle(name, plan, cycle, model, tokenizer, optimizer)
        keep(work, identity, cycle + 1, model, optimizer)
    save(name, plan, model, tokenizer, loss)


def resume(work: Path, identity: str, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer) -> int:
    """Cycles that are behind the newest state in `work`, which is loaded."""
    states = sorted(work.glob(f"{identity}-*.pt"))
    if not states:
        return 0
    state = torch.load(states[-1], weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["cycles"]


def keep(work: Path, identity: str, cycles: int, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer) -> None:
    work.mkdir(parents=True, exist_ok=True)
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "cycles": cycles}
    path = work / f"{identity}-{cycles:04d}.pt"
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)


def train_cycle(
    name: str,
    plan: Plan,
    cycle: int,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    optimizer: torch.optim.Optimizer,
) -> float:
    """One cycle; returns the mean loss of its last fifty steps."""
    model.train()
    started, losses, tokens = time.monotonic(), [], 0
    for step, (ids, labels) in zip(range(plan.steps), batches(plan, cycle, tokenizer), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate * rate(plan, cycle * plan.steps + step)
        loss = next_token_loss(model, ids, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        tokens += ids.numel()
        if step % 50 == 49:
            seconds = time.monotonic() - started
            recent = sum(losses[-50:]) / 50
            print(f"{name} {cycle + 1}/{plan.cycles} {step + 1} loss {recent:.3f} {tokens / seconds:.0f} t/s", flush=True)
    return sum(losses[-50:]) / len(losses[-50:])


def save(name: str, plan: Plan, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, loss: float) -> None:
    model.half().save_pretrained(FOLDER / name)
    provenance = {
        "script": "scripts/pretrain_bundles.py",
        "model": name,
        "plan": asdict(plan),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seed": plan.seed,
        "cycles": plan.cycles,
        "steps": plan.cycles * plan.steps,
        "final_loss": round(loss, 4),
        "text": text_fingerprint(),
        "torch": torch.__version__,
    }
    write_json(FOLDER / name / "provenance.json", provenance)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tokenizer", *(name.removeprefix("bundles-") for name in PLANS)])
    parser.add_argument("--work", type=Path, default=Path("pretraining"), help="folder of what a broken run goes on from")
    arguments = parser.parse_args()
    if arguments.what == "tokenizer":
        for name in PLANS:
            make_tokenizer(units(), some_texts()).save_pretrained(FOLDER / name)
    else:
        pretrain(f"bundles-{arguments.what}", PLANS[f"bundles-{arguments.what}"], arguments.work)


if __name__ == "__main__":
    main()
