"""How much each method for two vocabularies costs beyond its own matrix products, and what alignment costs.

```sh
python benchmarks/crossvocab.py                 # two threads
python benchmarks/crossvocab.py --gpu           # larger shapes, bfloat16, on a CUDA device
python benchmarks/crossvocab.py --count         # the work of a step at 7B -> 1.1B shapes, by count; measures nothing
```

The yardstick of a row is what the method cannot avoid: the products of the heads that it reads, of its projections and
of its attention, forward and backward, chunk by chunk as the pass takes them, without softmax, sort or loss. Every row
runs in a process of its own that takes turns with its yardstick; the ratio is the median over the turns. With one
thread (`--threads 1`) processor seconds are taken, which a busy machine does not disturb. Two thirds of
the student's tokens have a partner, as telecom answers show between vocabularies of this size. `alignment` times the
alignment of one answer (once a run) and sets it beside one step of the plainest method.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import child

from understudy.recipe import METHODS

CPU = {"rows": 4, "tokens": 64, "student": (32_000, 512), "teacher": (32_768, 1024)}
GPU = {"rows": 16, "tokens": 256, "student": (32_000, 2048), "teacher": (32_768, 4096)}
ACROSS = tuple(name for name, kind in METHODS.items() if not kind.one_vocabulary)
PAIRED = 2 / 3


def main() -> None:
    options = child.options(__doc__ or "", repeats=7)
    options.add_argument("--count", action="store_true", help="count multiplications at 7B -> 1.1B shapes instead")
    arguments = options.parse_args()
    if arguments.child:
        child.report(_measure(arguments))
        return
    if arguments.count:
        count()
        return
    shape = GPU if arguments.gpu else CPU
    sides = f"{shape['student']} and {shape['teacher']}"
    print(f"{shape['rows']} answers of {shape['tokens']} tokens; (vocabulary, width) of student and teacher: {sides}")
    results = []
    for row in (*ACROSS, "alignment"):
        result = child.measured(arguments, row)
        if isinstance(result, str):
            sys.exit(f"{row} failed: {result}")
        results.append(result)
        print(result["line"], flush=True)
    child.record(arguments, results)


def _measure(arguments: argparse.Namespace) -> dict:
    import torch

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    made = Made(GPU if arguments.gpu else CPU, "cuda" if arguments.gpu else "cpu")
    if arguments.child == "alignment":
        return _alignment(made, arguments.repeats)
    step, products = made.step(arguments.child), made.products(arguments.child)
    for warm in (step, products):
        made.turn(warm)
    times, ratios = [], []
    for _ in range(arguments.repeats):
        unit = made.turn(products)
        times.append(made.turn(step))
        ratios.append(times[-1] / unit)
    ratio, seconds = statistics.median(ratios), statistics.median(times)
    line = f"{arguments.child:14} {seconds * 1e3:9.1f} ms {ratio:6.2f}x its products"
    return {"row": arguments.child, "seconds": seconds, "ratio": ratio, "ratios": ratios, "line": line}


class Made:
    """Random states, heads, embeddings and an alignment of one batch."""

    def __init__(self, shape: dict, device: str) -> None:
        import torch

        self.device, self.rows, self.tokens = torch.device(device), shape["rows"], shape["tokens"]
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        num = self.rows * self.tokens

        def normal(*size: int, spread: float = 1.0):
            return (torch.randn(*size, device=device) * spread).to(dtype)

        (self.columns, self.width), (self.other_columns, self.other_width) = shape["student"], shape["teacher"]
        self.hidden = normal(num, self.width).requires_grad_()
        self.weight = normal(self.columns, self.width, spread=3 / self.width**0.5).requires_grad_()
        self.other = normal(num, self.other_width)
        self.other_weight = normal(self.other_columns, self.other_width, spread=3 / self.other_width**0.5)
        self.ids = torch.randint(self.columns, (num,), device=device)
        self.other_ids = torch.randint(self.other_columns, (num,), device=device)
        positions = torch.arange(num, device=device)
        # Every third token of a side goes with the one before it, as the rest of a group.
        behind = positions % 3 == 2
        self.partners = torch.where(behind, -1, positions)
        self.groups = torch.where(behind, positions - 1, positions)
        most = min(self.columns, self.other_columns)
        self.exact = torch.full((self.other_columns,), -1, device=device)
        self.exact[: most // 2] = torch.randperm(most, device=device)[: most // 2]
        self.nearest = torch.where(
            self.exact >= 0, self.exact, torch.randint(self.columns, self.exact.shape, device=device)
        )

    def turn(self, step) -> float:
        """Seconds of one run of forward and backward."""
        import torch

        self.hidden.grad = self.weight.grad = None
        alone = self.device.type == "cpu" and torch.get_num_threads() == 1
        clock = time.process_time if alone else time.perf_counter
        begin = clock()
        step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return clock() - begin

    def step(self, method: str):
        """The objective of a method, as a recipe's defaults set it, on one batch."""
        from understudy.losses.divergences import forward_kl
        from understudy.losses.dskd import CrossModelAttention
        from understudy.losses.dskd_v2 import DualSpaceV2
        from understudy.training.objectives import cross_vocabulary
        from understudy.training.objectives.dual_space import CrossModelObjective

        usual = {"temperature": 2.0, "gold_weight": 0.5}
        if method == "dskd_cma":
            widths = self.width, self.other_width, self.width, self.other_width
            made = CrossModelObjective(CrossModelAttention(*widths), forward_kl, **usual)
        elif method == "dskd_v2":
            spaces = DualSpaceV2(self.weight, self.other_weight, cross_vocabulary.shared_columns(self.exact))
            made = cross_vocabulary.DualSpaceV2Objective(spaces, forward_kl, **usual)
        elif method == "min_edit":
            made = cross_vocabulary.MinEdit(forward_kl, self.nearest, self.columns, self.exact, **usual)
        elif method == "uld":
            made = cross_vocabulary.SortedProbabilities(self.exact, **usual)
        else:
            made = cross_vocabulary.ByteAligned(self.exact, beta=0.5, **usual)
        made = made.to(self.device)
        student, signal, batch = self._outputs()

        def run() -> None:
            made(student(), signal, batch).total.backward()

        return run

    def _outputs(self):
        import torch

        from understudy.losses import Head
        from understudy.models.forward import Output

        lengths = (self.tokens,) * self.rows
        own, other = self.weight.detach(), self.other_weight
        signal = Output(
            self.other, Head(other), self.other_ids, lengths, other[self.other_ids.roll(1)], other[self.other_ids]
        )
        batch = {
            "gold_rows": torch.ones(self.rows, dtype=torch.bool),
            "alignment": {"partners": self.partners, "student_groups": self.groups, "teacher_groups": self.groups},
        }

        def student():
            return Output(self.hidden, Head(self.weight), self.ids, lengths, own[self.ids.roll(1)], own[self.ids])

        return student, signal, batch

    def products(self, method: str):
        """The matrix products alone."""
        import torch

        paired = (self.partners >= 0).nonzero()[:, 0]
        behind = (self.partners < 0).nonzero()[:, 0]
        n, m, k = len(self.hidden), len(paired), len(behind)
        d, big = self.width, self.other_width
        query = torch.randn(2 * d, 2 * big, device=self.device, dtype=self.weight.dtype)
        down = torch.randn(big, d, device=self.device, dtype=self.weight.dtype)

        def head(rows: int, weight, *, back: bool, learned: bool) -> None:
            chunk = 256 if self.device.type == "cpu" else max(256, (512 << 20) // (len(weight) * weight.element_size()))
            states = torch.randn(rows, weight.shape[1], device=self.device, dtype=weight.dtype)
            sums = torch.zeros_like(weight) if learned else None
            for piece in states.split(chunk):
                logits = piece @ weight.t()
                if back:
                    logits @ weight
                if sums is not None:
                    sums.addmm_(logits.t(), piece)

        def project(rows: int, matrix, *, forth_only: bool = False) -> None:
            states = torch.randn(rows, matrix.shape[0], device=self.device, dtype=matrix.dtype)
            out = states @ matrix
            if not forth_only:
                out @ matrix.t()
                states.t() @ out

        def attention() -> None:
            shapes = self.rows, self.tokens
            q, key = (torch.randn(*shapes, 2 * big, device=self.device, dtype=self.weight.dtype) for _ in range(2))
            for values in (torch.randn(*shapes, w, device=self.device, dtype=self.weight.dtype) for w in (d, big)):
                scores = q @ key.transpose(1, 2)
                carried = scores @ values
                scores.transpose(1, 2) @ carried
                back = carried @ values.transpose(1, 2)
                back @ key

        own, other = self.weight.detach(), self.other_weight

        def run() -> None:
            head(n, own, back=True, learned=True)
            if method == "dskd_cma":
                head(n, own, back=True, learned=False)
                head(n, other, back=True, learned=False)
                head(n, other, back=False, learned=False)
                project(n, query)
                project(n, down)
                project(n, down.t())
                attention()
            elif method == "dskd_v2":
                head(m, own, back=True, learned=False)
                head(m, other, back=True, learned=False)
                head(m, other, back=False, learned=False)
                project(m, down)
                project(m, down.t())
            else:
                head(m, other, back=False, learned=False)
            if method == "byte_aligned":
                head(k, other, back=False, learned=False)
                head(k, own, back=True, learned=True)
                head(k, own, back=False, learned=False)

        return run


def _alignment(made: Made, repeats: int) -> dict:
    """Milliseconds to align one answer, and what share of a step that is for a run that reads each answer twice."""
    import numpy as np

    from understudy.tokens.align import by_edit_distance, by_groups, by_span

    draw = np.random.default_rng(0)
    text = bytes(draw.integers(97, 123, made.tokens * 4).tolist())
    token_ends = [
        np.append(np.sort(draw.choice(len(text), made.tokens - 1, replace=False)), [len(text), len(text) + 1])
        for _ in "ab"
    ]
    for one in token_ends:
        one[0] = 0
    ids, nearest = np.arange(made.tokens), np.arange(made.tokens)
    ways = {
        "equal spans": lambda: by_span(*token_ends),
        "groups": lambda: by_groups(*token_ends),
        "MinED": lambda: by_edit_distance((token_ends[0], ids), (token_ends[1], ids), text, nearest),
    }
    step = made.step("min_edit")
    made.turn(step)
    seconds = statistics.median(made.turn(step) for _ in range(repeats)) / made.rows
    found = {}
    for name, way in ways.items():
        way()
        begin = time.perf_counter()
        for _ in range(50):
            way()
        found[name] = (time.perf_counter() - begin) / 50
    parts = [f"{name} {value * 1e3:.2f} ms ({value / 2 / seconds:.1%})" for name, value in found.items()]
    line = f"alignment of an answer, once a run; share of two epochs' loss passes, models left out: {', '.join(parts)}"
    return {"row": "alignment", "seconds": found, "loss_pass": seconds, "line": line}


def count() -> None:
    """Multiplications of a training step: Mistral-7B (vocabulary 32,000, width 4,096) to TinyLlama-1.1B (2,048)."""
    teacher, student, columns, big, width = 7.11e9, 1.03e9, 32_000, 4096, 2048
    print("multiplications a token, in 10^9; KD: teacher forward, student forward and backward, both heads\n")
    print(f"{'prompt + answer':>16} {'answer':>7} {'KD':>8} {'CMA more':>9} {'share':>7} {'v2 more':>9} {'share':>7}")
    for length, answer in ((512, 512), (512, 128), (512, 32), (2048, 128)):
        heads = columns * (big + 3 * width)
        plain = length * (teacher + 3 * student) + answer * heads
        attention = answer * 4 * (2 * 2 * big + big + width)
        cma = columns * (2 * width + 2 * big) + 3 * (4 * width * big) + 3 * 2 * width * big + attention
        v2 = columns * (2 * width + 2 * big) + 3 * 2 * width * big
        values = [answer * more for more in (cma, v2)]
        cells = "".join(f" {value / length / 1e9:9.2f} {value / plain:7.1%}" for value in values)
        print(f"{length:16} {answer:7} {plain / length / 1e9:8.2f}{cells}")


if __name__ == "__main__":
    main()
