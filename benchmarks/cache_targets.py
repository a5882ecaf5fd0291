"""How close stored targets are to what they store: on real distributions, at equal bytes, beside other formats.

```sh
python benchmarks/cache_targets.py                               # the embedded teacher on telecom answers
python benchmarks/cache_targets.py --model FOLDER --text FILE    # another model on a text
python benchmarks/cache_targets.py --distillkit FOLDER           # beside it a checkout of arcee-ai/DistillKit
```

KL error is KL(p‖p̂) in nats a token, with p̂ the distribution that a record stands for; what it says of the tail as a
whole is spread evenly over the tokens that it does not name. The gradient error is Σ|∇̂ − ∇| / Σ|∇| of forward KL with
respect to the logits of a student, which is the teacher with Gaussian noise of half their standard deviation on its
logits; there the tail is one bucket, as in training. Bytes are those of a record at the model's own vocabulary.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from understudy.losses.heads import Head
from understudy.losses.sources import SampledProbabilities, TopKProbabilities
from understudy.models.output import VocabularyOutput
from understudy.teachers.cache.formats import SampledFormat, TargetFormat, TopKFormat

CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model", help="folder of a causal model; default: the embedded teacher")
    parser.add_argument("--text", help="a text file that it reads; default: telecom questions with their answers")
    parser.add_argument("--tokens", type=int, default=512, help="how many positions (default 512)")
    parser.add_argument("--distillkit", help="folder of a checkout of DistillKit")
    parser.add_argument("--json", help="also write the figures to this file")
    arguments = parser.parse_args()
    output = said(arguments)
    logits = output.head.logits(output.hidden).float()
    columns = logits.shape[1]
    print(f"{len(logits)} positions, vocabulary {columns:,}")
    rows = []
    for k in (8, 16, 32, 50, 100):
        rows.append(measured(f"topk, k = {k}, 8 bits", stored(TopKFormat(columns, (1.0,), k)), logits, output))
    for bits in (12, 16):
        rows.append(
            measured(f"topk, k = 16, {bits} bits", stored(TopKFormat(columns, (1.0,), 16, bits)), logits, output)
        )
    for draws in (24, 100):
        targets = SampledFormat(columns, (1.0,), 8, draws)
        rows.append(measured(f"sampled, 8 and {draws} drawn", stored(targets), logits, output))
    for k in (16, 32, 50):
        rows.append(measured(f"raw top-k, k = {k}, bfloat16", raw(k), logits, output))
    for most in (114, 300):
        targets = largest(columns, most)
        rows.append(measured(f"topk within {most} bytes, k = {targets.count}", stored(targets), logits, output))
    if arguments.distillkit:
        for name, compress in peers(Path(arguments.distillkit), columns):
            rows.append(measured(name, compress, logits, output))
            targets = largest(columns, rows[-1]["bytes"])
            rows.append(measured(f"  ours at most as large, k = {targets.count}", stored(targets), logits, output))
    for row in rows:
        print(f"{row['name']:36} {row['bytes']:4d} bytes   KL {row['kl']:.2e}   gradient {row['gradient']:.2%}")
    if arguments.json:
        found = {"command": " ".join(sys.argv), "positions": len(logits), "vocabulary": columns, "rows": rows}
        Path(arguments.json).write_text(json.dumps(found, indent=2) + "\n")


def said(arguments: argparse.Namespace) -> VocabularyOutput:
    """What the model says of the positions of a text, as states and head."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from understudy.models.head import head_of
    from understudy.models.load import resolve

    source = arguments.model or resolve("embedded:telecom-teacher")
    tokenizer: Any = AutoTokenizer.from_pretrained(source)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    text = Path(arguments.text).read_text(encoding="utf-8") if arguments.text else _telecom(arguments.tokens)
    ids = torch.tensor([tokenizer(text).input_ids[: arguments.tokens]])
    with torch.no_grad():
        states = torch.cat([model.base_model(piece).last_hidden_state[0] for piece in ids.split(256, 1)])
    head = head_of(model)
    return VocabularyOutput(ids[0], (len(states),), states, Head(head.weight.detach(), None, head.softcap, head.scale))


def _telecom(tokens: int) -> str:
    from understudy.data.load import load_splits
    from understudy.recipe import parse_recipe

    rows = load_splits(parse_recipe({}).data).train[:tokens]
    return "\n".join(f"Question: {row.question}\nAnswer: {row.answers[0]}" for row in rows)


Stored = tuple[int, Tensor, Callable[[Tensor], Tensor]]
"""Bytes of a record, log p̂ `[N, V]`, and the gradient of the loss with respect to a student's logits `[N, V]`."""


def measured(name: str, compress: Callable[[Tensor, VocabularyOutput], Stored], logits: Tensor, output: Any) -> dict:
    """KL error and gradient error of a format."""
    logp = logits.double().log_softmax(-1)
    size, restored, gradient_of = compress(logits, output)
    kl = (logp.exp() * (logp - restored.double())).sum(-1).mean().item()
    noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)) * logits.std(-1, keepdim=True) / 2
    student = (logits + noise).double()
    exact = student.softmax(-1) - logp.exp()
    error = ((gradient_of(student) - exact).abs().sum() / exact.abs().sum()).item()
    return {"name": name, "bytes": size, "kl": kl, "gradient": error}


def stored(targets: TargetFormat) -> Callable[[Tensor, VocabularyOutput], Stored]:
    """One of our own formats."""

    def compress(logits: Tensor, output: VocabularyOutput) -> Stored:
        none = torch.zeros(0, dtype=torch.long)
        source: Any = targets.decode(targets.encode(output, [0]), none, output.lengths, 1.0, CPU).states
        if isinstance(source, SampledProbabilities):
            p = torch.zeros(logits.shape, dtype=torch.float64).scatter_add_(1, source.ids, source.weights.double())
            # A token that was not drawn has no probability in this record; spread as in the others, for the figure.
            return targets.record_bytes, _floored(p).log(), lambda student: student.softmax(-1) - p
        assert isinstance(source, TopKProbabilities)
        return targets.record_bytes, spread(source, logits.shape[1]), lambda student: bucket_gradient(student, source)

    return compress


def _floored(p: Tensor) -> Tensor:
    return (p + 1e-6 / p.shape[1]) / (1 + 1e-6)


def spread(source: TopKProbabilities, columns: int) -> Tensor:
    """Log p̂ with the tail spread evenly over the tokens that are not named."""
    others = columns - source.ids.shape[1]
    each = (source.tail.double() - torch.tensor(float(max(others, 1))).log()).clamp_min(-700)
    return each[:, None].expand(-1, columns).clone().scatter_(1, source.ids, source.logp.double())


def bucket_gradient(student: Tensor, source: TopKProbabilities) -> Tensor:
    """Q − p of forward KL over the named tokens and one bucket, ∂/∂logits: the tail's mass by the student's shares."""
    q = student.softmax(-1)
    rest = q.scatter(1, source.ids, 0.0)
    p = rest / rest.sum(-1, keepdim=True) * source.tail.double().exp()[:, None]
    return q - p.scatter(1, source.ids, source.logp.double().exp())


def raw(k: int) -> Callable[[Tensor, VocabularyOutput], Stored]:
    """The likeliest k as bfloat16 with ids of four bytes, put to 1 again: what is most often written to Parquet."""

    def compress(logits: Tensor, output: VocabularyOutput) -> Stored:
        top = logits.log_softmax(-1).topk(k)
        p = top.values.bfloat16().double().softmax(-1)
        whole = torch.zeros(logits.shape, dtype=torch.float64).scatter(1, top.indices, p)
        return 6 * k, _floored(whole).log(), lambda student: student.softmax(-1) - whole

    return compress


def largest(columns: int, most: int) -> TopKFormat:
    """The top-k format of 8 bits with the largest k within so many bytes."""
    fitting = [k for k in range(1, most) if TopKFormat(columns, (1.0,), k).record_bytes <= most]
    return TopKFormat(columns, (1.0,), fitting[-1])


def peers(folder: Path, columns: int) -> list[tuple[str, Callable[[Tensor, VocabularyOutput], Stored]]]:
    """DistillKit's two recommended settings, by its own code; missing mass spread evenly (`symmetric_uniform`)."""
    sys.path.insert(0, str(folder))
    assert importlib.util.find_spec("distillkit"), f"no DistillKit in {folder}"
    from distillkit.compression import DistributionQuantizationConfig, LogprobCompressor  # pyright: ignore

    common = {"d": columns, "exact_dtype": "bfloat16", "term_dtype": "float32", "residual_bins": []}
    settings = {
        "DistillKit, budget": {"k": 50, "exact_k": 1, "polynomial_terms": [0, 1, "sqrt"]},
        "DistillKit, recommended": {"k": 128, "exact_k": 16, "polynomial_terms": [0, 1, 2, 3, 4, "sqrt"]},
    }

    def with_config(more: dict) -> Callable[[Tensor, VocabularyOutput], Stored]:
        config = DistributionQuantizationConfig(**common, **more, delta_encoding=False, error_diffusion=False)

        def compress(logits: Tensor, output: VocabularyOutput) -> Stored:
            compressor = LogprobCompressor(config=config)
            ids, logp = compressor.decompress_to_sparse(compressor.compress(logits.log_softmax(-1)))
            logp = logp.double()
            # A polynomial may give the head more than 1 in all; it is then put to 1, and nothing is left to spread.
            over = logp.logsumexp(-1, keepdim=True).clamp_min(0.0)
            logp = logp - over
            tail = (1 - logp.exp().sum(-1)).clamp_min(1e-12).log()
            source = TopKProbabilities(ids.long(), logp, tail)
            size = (config.total_bits() + 7) // 8
            return size, spread(source, columns), lambda student: bucket_gradient(student, source)

        return compress

    return [(name, with_config(more)) for name, more in settings.items()]


if __name__ == "__main__":
    main()
