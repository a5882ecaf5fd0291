"""Make the base weights of the embedded pair for bundles from this repository alone.

```
python scripts/pretrain_bundles.py tokenizer
python scripts/pretrain_bundles.py student --work FOLDER     # one thread each
python scripts/pretrain_bundles.py teacher --work FOLDER     # grown from the student
```

What they read is in `bundle_texts.py`: sessions of the two invented shops without six of their regularities, sessions
of shops that never were, whose regularities stand in the prompt, and what a teacher is asked about sessions. Sessions
that `generate` may put into a test split are not among them. A run that was broken off goes on where its last cycle
ended.
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
from bundle_texts import FIRST, POINTING, STUDENT, TEACHER, Text, some_texts, texts, units
from bundle_tokenizer import ROW_LIMIT, make_tokenizer
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, IterableDataset
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
    muon_rate: float = 4e-3
    first_cycles: int = 1
    pointing_cycles: int = 1
    seed: int = 0
    rope_theta: float = 10000.0
    grown_from: str = ""


PLANS = {
    "bundles-student": Plan(STUDENT, 96, 192, 3, 4, learning_rate=3e-3, cycles=24, falling=6),
    # Twice as deep from fresh weights, heads that point are found so late that it stays behind the student.
    "bundles-teacher": Plan(
        TEACHER,
        96,
        384,
        6,
        4,
        learning_rate=3e-3,
        cycles=20,
        falling=8,
        first_cycles=0,
        pointing_cycles=0,
        seed=1,
        grown_from="bundles-student",
    ),
}


@dataclass(frozen=True)
class Document:
    """Token ids; those at `learned` are learned."""

    ids: list[int]
    learned: list[int]


def document(text: Text, tokenizer: PreTrainedTokenizerBase) -> Document:
    turns = [{"role": turn.role, "content": turn.content} for turn in text.turns]
    asked = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))["input_ids"]
    turns.append({"role": "assistant", "content": text.answer})
    ids = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False))["input_ids"]
    places = range(len(asked), len(ids))
    if text.kind == "numbered":
        # The order of the items is chance: a model that were to learn it would learn nothing else for long.
        numbers = set(tokenizer.convert_tokens_to_ids([str(number) for number in range(1, 11)]))
        return Document(ids, [place for place in places if ids[place] in numbers])
    return Document(ids, list(places))


def batches(plan: Plan, cycle: int, tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of like length without end; the texts of a cycle are its own."""
    draw = random.Random(f"batches {plan.seed} {cycle}")
    kinds = FIRST if cycle < plan.first_cycles else POINTING if cycle < plan.pointing_cycles else plan.kinds
    source = (document(text, tokenizer) for text in texts(1000 * plan.seed + cycle, kinds))
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


class Batches(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """The batches of one cycle, for a process that writes the texts ahead of the training."""

    def __init__(self, plan: Plan, cycle: int, tokenizer: PreTrainedTokenizerBase) -> None:
        self._made = (plan, cycle, tokenizer)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The batches, without end."""
        return batches(*self._made)


def padded(group: list[Document], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids, and of each whether it is nothing, read or learned (0, 1, 2); causal attention never sees the padding."""
    length = max(len(document.ids) for document in group)
    ids = torch.full((len(group), length), pad)
    parts = torch.zeros((len(group), length), dtype=torch.long)
    for row, one in enumerate(group):
        ids[row, : len(one.ids)] = torch.tensor(one.ids)
        parts[row, : len(one.ids)] = 1
        parts[row, one.learned] = 2
    return ids, parts


def make_model(plan: Plan, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """Fresh weights, with heads that look back and heads that look for what is alike."""
    torch.manual_seed(plan.seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=plan.hidden_size,
            intermediate_size=plan.intermediate_size,
            num_hidden_layers=plan.num_hidden_layers,
            num_attention_heads=plan.num_attention_heads,
            max_position_embeddings=ROW_LIMIT,
            tie_word_embeddings=True,
            initializer_range=0.03,
            # Prompts are short: frequencies that turn slower than their length tell no positions apart.
            rope_parameters={"rope_type": "default", "rope_theta": plan.rope_theta},
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    ready_to_point(model)
    if plan.grown_from:
        grow(model, LlamaForCausalLM.from_pretrained(FOLDER / plan.grown_from, dtype=torch.float32))
    return model


CONSTANT, PEAK, TURNING, CARRIED, ALIKE = 0.3, 6.5, 5, 0.05, 1.0


@torch.no_grad()
def ready_to_point(model: LlamaForCausalLM) -> None:
    """Start from heads that look one, two, three tokens back, and above them from heads that look for what is alike.

    To name an item by its number, a model has to carry numbers to the categories behind them and to find a category
    again. Left to chance, heads that do so are found after more text than two cores can read. Queries and keys of the
    first block see a dimension that is the same for all tokens, turned so that their product is largest `offset` tokens
    back; those of the other blocks are equal, as they are in trained models (after Trockman and Kolter, Mimetic
    Initialization of Self-Attention Layers, 2023).
    """
    config = model.config
    size = config.hidden_size // config.num_attention_heads
    model.model.embed_tokens.weight[:, 0] = CONSTANT
    angle = model.model.rotary_emb.inv_freq
    seen = model.model.layers[0].input_layernorm(model.model.embed_tokens.weight)[:, 0].mean()
    for number, block in enumerate(model.model.layers):
        attention = block.self_attn
        attention.v_proj.weight[:, 0] = 0
        for head in range(config.num_attention_heads):
            rows = slice(head * size, (head + 1) * size)
            query, key = attention.q_proj.weight[rows], attention.k_proj.weight[rows]
            if number:
                torch.nn.init.orthogonal_(query, ALIKE)
                query[:, 0] = 0
                key.copy_(query)
                continue
            if head == 3:
                continue
            query.zero_()
            key.zero_()
            turned, half = angle[:TURNING] * (head + 1), size // 2
            query[:TURNING, 0] = PEAK / seen
            key[:TURNING, 0] = PEAK / seen * turned.cos()
            key[half : half + TURNING, 0] = PEAK / seen * turned.sin()
            torch.nn.init.orthogonal_(attention.v_proj.weight[rows])
            attention.v_proj.weight[rows, 0] = 0
            torch.nn.init.orthogonal_(attention.o_proj.weight[:, rows], CARRIED)


@torch.no_grad()
def grow(model: LlamaForCausalLM, small: LlamaForCausalLM) -> None:
    """Make a model compute what a smaller one of its width does, with room to learn more.

    The smaller one's blocks come first; blocks behind them add nothing, for what they would write is 0, and so are the
    columns of wider MLPs (after Chen, Goodfellow and Shlens, Net2Net, 2016).
    """
    weights, known = model.state_dict(), small.state_dict()
    inner = small.config.intermediate_size
    for name, value in weights.items():
        if name not in known:
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                value.zero_()
        elif value.shape == known[name].shape:
            value.copy_(known[name])
        elif name.endswith("down_proj.weight"):
            value.zero_()
            value[:, :inner] = known[name]
        else:
            value[:inner] = known[name]


def next_token_loss(model: LlamaForCausalLM, ids: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of what is learned; only its positions go through the head."""
    learned = parts[:, 1:] == 2
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1][learned]
    return cross_entropy(model.lm_head(hidden), ids[:, 1:][learned])


class Optimizers:
    """Muon for the matrices inside the blocks, AdamW for embeddings and norms."""

    def __init__(self, model: LlamaForCausalLM, plan: Plan) -> None:
        inner = [p for p in model.model.layers.parameters() if p.ndim == 2]
        outer = [p for p in model.parameters() if all(p is not q for q in inner)]
        self.parts = {
            "muon": torch.optim.Muon(inner, lr=plan.muon_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            "adamw": torch.optim.AdamW(outer, lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.01),
        }
        self._rates = {"muon": plan.muon_rate, "adamw": plan.learning_rate}

    def step(self, share: float) -> None:
        """One step at a share of the learning rates."""
        for name, optimizer in self.parts.items():
            for group in optimizer.param_groups:
                group["lr"] = self._rates[name] * share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def rate(plan: Plan, step: int) -> float:
    """Share of the learning rate: up, level, and down in a straight line."""
    left = plan.cycles * plan.steps - step
    return min(1.0, (step + 1) / plan.warmup, max(0.01, left / (plan.falling * plan.steps)))


def pretrain(name: str, plan: Plan, work: Path, *, now: bool = False) -> None:
    """Train one model, cycle by cycle, and write it in half precision with its provenance; `now`: as far as it is."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / name)
    model = make_model(plan, tokenizer)
    optimizer = Optimizers(model, plan)
    # The ends of both parts may move while they are ahead: what was read and how fast is the same until then.
    same = asdict(plan) | {"cycles": 0, "falling": 0, "first_cycles": 0, "pointing_cycles": 0}
    identity = fingerprint([name, same, text_fingerprint(), tokenizer.get_vocab()])
    done = resume(work, identity, model, optimizer)
    for cycle in range(done, done if now else plan.cycles):
        loss = train_cycle(name, plan, cycle, model, tokenizer, optimizer)
        keep(work, identity, cycle + 1, model, optimizer)
        done = cycle + 1
    loss = read_loss(plan, done, model, tokenizer)
    save(name, plan, model, done, loss)


def resume(work: Path, identity: str, model: LlamaForCausalLM, optimizer: Optimizers) -> int:
    """Cycles that are behind the newest state in `work`, which is loaded."""
    states = sorted(work.glob(f"{identity}-*.pt"))
    if not states:
        return 0
    state = torch.load(states[-1], weights_only=True)
    model.load_state_dict(state["model"])
    for name, part in optimizer.parts.items():
        part.load_state_dict(state[name])
    return state["cycles"]


def keep(work: Path, identity: str, cycles: int, model: LlamaForCausalLM, optimizer: Optimizers) -> None:
    work.mkdir(parents=True, exist_ok=True)
    state = {name: part.state_dict() for name, part in optimizer.parts.items()}
    state |= {"model": model.state_dict(), "cycles": cycles}
    path = work / f"{identity}-{cycles:04d}.pt"
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)


def train_cycle(
    name: str,
    plan: Plan,
    cycle: int,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    optimizer: Optimizers,
) -> float:
    """One cycle; returns the mean loss of its last fifty steps."""
    model.train()
    started, losses, tokens = time.monotonic(), [], 0
    source = DataLoader(Batches(plan, cycle, tokenizer), batch_size=None, num_workers=1, prefetch_factor=16)
    for step, (ids, parts) in zip(range(plan.steps), source, strict=False):
        loss = next_token_loss(model, ids, parts)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(rate(plan, cycle * plan.steps + step))
        losses.append(loss.item())
        tokens += ids.numel()
        if step % 50 == 49:
            seconds = time.monotonic() - started
            recent = sum(losses[-50:]) / 50
            print(
                f"{name} {cycle + 1}/{plan.cycles} {step + 1} loss {recent:.3f} {tokens / seconds:.0f} t/s", flush=True
            )
    return sum(losses[-50:]) / len(losses[-50:])


@torch.no_grad()
def read_loss(
    plan: Plan, cycles: int, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, count: int = 20
) -> float:
    """Mean loss of answers over some batches of a cycle that was not read."""
    model.eval()
    source = islice(batches(plan, max(cycles, plan.first_cycles) + 500, tokenizer), count)
    return sum(next_token_loss(model, *batch).item() for batch in source) / count


def save(name: str, plan: Plan, model: LlamaForCausalLM, cycles: int, loss: float) -> None:
    model.half().save_pretrained(FOLDER / name)
    provenance = {
        "script": "scripts/pretrain_bundles.py",
        "model": name,
        "plan": asdict(plan),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seed": plan.seed,
        "cycles": cycles,
        "steps": cycles * plan.steps,
        "final_loss": round(loss, 4),
        "text": text_fingerprint(),
        "torch": torch.__version__,
    }
    write_json(FOLDER / name / "provenance.json", provenance)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tokenizer", *(name.removeprefix("bundles-") for name in PLANS)])
    parser.add_argument(
        "--work", type=Path, default=Path("pretraining"), help="folder of what a broken run goes on from"
    )
    parser.add_argument("--now", action="store_true", help="write the weights as far as they are, and train no further")
    arguments = parser.parse_args()
    if arguments.what == "tokenizer":
        for name in PLANS:
            make_tokenizer(units(), some_texts()).save_pretrained(FOLDER / name)
    else:
        name = f"bundles-{arguments.what}"
        pretrain(name, PLANS[name], arguments.work, now=arguments.now)


if __name__ == "__main__":
    main()
