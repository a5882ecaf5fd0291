"""How much a whole distillation step costs beyond the two models themselves.

```sh
python benchmarks/step.py                # two threads
python benchmarks/step.py --gpu          # larger shapes, bfloat16, on a CUDA device
```

The yardstick is what nobody can avoid: the teacher's forward pass and the student's forward and backward pass, both
heads included, without any loss (the student's logits receive a fixed gradient). Every row runs in a process of its
own that takes turns between the row and the yardstick, so that a disturbance hits both; the ratio is the median over
the turns. No optimiser step on either side. DSKD also reads each side's states through the other's head; its second
ratio is to the yardstick with those products (two projections, two heads, their gradients) in it, again without loss.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import child

YARDSTICK = "teacher forward, student forward and backward"
ROWS = {
    "kd forward_kl": {"method": "kd", "divergence": "forward_kl"},
    "kd js": {"method": "kd", "divergence": "js"},
    "kd adaptive_kl": {"method": "kd", "divergence": "adaptive_kl"},
    "dskd forward_kl": {"method": "dskd", "divergence": "forward_kl"},
}
CPU = {"rows": 8, "length": 128, "vocabulary": 32_000, "student": (512, 6), "teacher": (1024, 8)}
GPU = {"rows": 8, "length": 1024, "vocabulary": 128_256, "student": (2048, 16), "teacher": (4096, 16)}


def main() -> None:
    arguments = child.options(__doc__ or "", repeats=7).parse_args()
    if arguments.child:
        child.report(_measure(arguments))
        return
    shape = GPU if arguments.gpu else CPU
    print(f"{shape['rows']} rows of {shape['length']} tokens, vocabulary {shape['vocabulary']:,}; (width, layers):")
    print(f"student {shape['student']}, teacher {shape['teacher']}")
    results = []
    for row in (YARDSTICK, *ROWS):
        result = child.measured(arguments, row)
        if isinstance(result, str):
            sys.exit(f"{row} failed: {result}")
        results.append(result)
        own = f"   {result['own_ratio']:.2f}x with its own products" if "own_ratio" in result else ""
        print(f"{row:48} {result['seconds'] * 1e3:8.0f} ms {result['ratio']:6.2f}x{own}", flush=True)
    child.record(arguments, results)


def _measure(arguments: argparse.Namespace) -> dict:
    import torch

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    shape = GPU if arguments.gpu else CPU
    device = torch.device("cuda" if arguments.gpu else "cpu")
    student, teacher = (_model(shape, side, device) for side in ("student", "teacher"))
    batch = _batch(shape, device)
    yardstick = _models_alone(student, teacher, batch)
    alone = arguments.child == YARDSTICK
    step = yardstick if alone else _step(student, teacher, batch, ROWS[arguments.child])
    dual = _models_alone(student, teacher, batch, dual=True) if "dskd" in arguments.child else None
    for warm in (step, yardstick, dual):
        if warm:
            _turn(warm, student, device)
    times, ratios, own = [], [], []
    for _ in range(arguments.repeats):
        unit = _turn(yardstick, student, device)
        seconds = unit if alone else _turn(step, student, device)
        times.append(seconds)
        ratios.append(seconds / unit)
        if dual:
            own.append(seconds / _turn(dual, student, device))
    return {
        "row": arguments.child,
        "seconds": statistics.median(times),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        **({"own_ratio": statistics.median(own), "own_ratios": own} if own else {}),
    }


def _turn(step, student, device) -> float:
    import torch

    student.zero_grad(set_to_none=True)
    begin = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def _model(shape: dict, side: str, device):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    width, layers = shape[side]
    config = LlamaConfig(
        vocab_size=shape["vocabulary"],
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        max_position_embeddings=shape["length"],
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).to(device=device, dtype=torch.bfloat16 if device.type == "cuda" else torch.float32)


def _batch(shape: dict, device):
    """Rows without prompt or padding: every position is a target, the worst case for the heads."""
    import torch

    rows, length = shape["rows"], shape["length"]
    ids = torch.randint(shape["vocabulary"], (rows, length + 1), device=device)
    tokens = {
        "inputs": {
            "input_ids": ids[:, :-1],
            "attention_mask": torch.ones(rows, length, dtype=torch.long, device=device),
        },
        "target_mask": torch.ones(rows, length, dtype=torch.bool, device=device),
        "target_ids": ids[:, 1:].reshape(-1),
    }
    return {"student": tokens, "teacher": tokens, "gold_rows": torch.ones(rows, dtype=torch.bool), "ids": []}


def _models_alone(student, teacher, batch, *, dual: bool = False):
    """Both models and both heads without a loss; `dual` adds each side's projected states read by the other's head."""
    import torch

    inputs = batch["student"]["inputs"]
    gradient = torch.randn(*inputs["input_ids"].shape, student.config.vocab_size, device=student.device)
    gradient = gradient.to(student.dtype) / gradient.numel()
    widths = student.config.hidden_size, teacher.config.hidden_size
    to_teacher = torch.nn.Linear(*widths).to(student.device, student.dtype)
    to_student = torch.nn.Linear(*widths[::-1]).to(student.device, student.dtype)

    def run() -> None:
        with torch.no_grad():
            theirs = teacher.model(**inputs, use_cache=False).last_hidden_state
            teacher.lm_head(theirs)
        ours = student.model(**inputs, use_cache=False).last_hidden_state
        logits = [student.lm_head(ours)]
        if dual:
            logits.append(to_student(theirs) @ student.lm_head.weight.detach().t())
            logits.append(to_teacher(ours) @ teacher.lm_head.weight.detach().t())
        torch.autograd.backward(logits, [gradient] * len(logits))

    return run


def _step(student, teacher, batch, settings: dict):
    from understudy import build
    from understudy.recipe import parse_recipe
    from understudy.teachers.local import LocalTeacher
    from understudy.training.module import DistillationModule

    objective = build.objective(parse_recipe({"distil": settings}).distil, student, teacher).to(
        student.device, student.dtype
    )
    module = DistillationModule(student, objective)
    local = LocalTeacher(teacher)

    def run() -> None:
        module(batch, local.signal(batch)).total.backward()

    return run


if __name__ == "__main__":
    main()
