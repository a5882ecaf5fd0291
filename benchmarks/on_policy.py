"""Training on the student's own answers, against TRL's `DistillationTrainer` on the same models, prompts and lengths.

```sh
python -m venv trl-env && trl-env/bin/pip install trl        # 1.x; any environment that has it
python benchmarks/on_policy.py --trl trl-env/bin/python       # two threads
python benchmarks/on_policy.py --trl trl-env/bin/python --gpu # larger shapes, bfloat16, on a CUDA device
```

Both sides train one student on the reverse KL of answers that it has just drawn at temperature 1, AdamW, no gradient
checkpointing. The models are random and never write their stop token, so every answer has its full length and both
sides draw, read and learn as many tokens; with `--ending`, the stop token has a chance of one in sixteen at every
token, and answers end where they end. With `--buffer n` our side draws the answers of n steps at once, as
`distil.on_policy.buffer` does (take a multiple of n steps). Each side runs in a process of its own, in turns. Tokens
per second are learned tokens by the time of the steps behind the first; memory is the peak of the process (CPU) or of
the allocator (GPU). Beforehand both compute the loss of the same fixed answers, which must agree.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

_MARK = "RESULT "
CPU = {"rows": 16, "prompt": 48, "answer": 64, "vocabulary": 32_000, "student": (512, 6), "teacher": (768, 8)}
GPU = {"rows": 64, "prompt": 256, "answer": 256, "vocabulary": 128_256, "student": (1024, 16), "teacher": (2048, 24)}
SMALL = {"rows": 4, "prompt": 8, "answer": 8, "vocabulary": 2_000, "student": (64, 2), "teacher": (128, 2)}


def main() -> None:
    arguments = _options()
    if arguments.side:
        print(_MARK + json.dumps(SIDES[arguments.side](arguments)))
        return
    with tempfile.TemporaryDirectory() as folder:
        _measured(arguments, sys.executable, "models", folder)
        results: dict[str, list[dict]] = {"understudy": [], "trl": []}
        for _ in range(arguments.repeats):
            for side, python in (("understudy", sys.executable), ("trl", arguments.trl)):
                results[side].append(_measured(arguments, python, side, folder))
    figures = {side: _median(runs) for side, runs in results.items()}
    ours, theirs = figures["understudy"], figures["trl"]
    for side, row in figures.items():
        speed, peak = row["tokens_per_second"], row["peak_mib"]
        print(f"{side:11} {speed:9.0f} tokens/s   peak {peak:8.0f} MiB   loss {row['loss']:.6f}")
    speed, memory = ours["tokens_per_second"] / theirs["tokens_per_second"], ours["peak_mib"] / theirs["peak_mib"]
    above = (ours["peak_mib"] - ours["idle_mib"]) / (theirs["peak_mib"] - theirs["idle_mib"])
    busy = ours["tokens_per_processor_second"] / theirs["tokens_per_processor_second"]
    print(f"tokens per processor second {busy:.2f} x (what a busy machine can tell)")
    print(f"tokens per second {speed:.2f} x, peak memory {memory:.2f} x, above the loaded models {above:.2f} x")
    assert abs(ours["loss"] - theirs["loss"]) <= 2e-3 * abs(theirs["loss"]), "the two do not compute the same loss"
    if arguments.json:
        command = (
            "python benchmarks/on_policy.py --trl PYTHON" + " --gpu" * arguments.gpu + " --ending" * arguments.ending
        )
        about = {"shape": _shape(arguments), "threads": arguments.threads, "ending": arguments.ending}
        ratios = {"tokens_per_second": speed, "peak_memory": memory, "memory_above_models": above}
        record = {"command": command, **about, "runs": results, "medians": figures, "ratios": ratios}
        Path(arguments.json).write_text(json.dumps(record, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--trl", help="the Python of an environment that has TRL", required="--side" not in sys.argv)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4, help="measured steps of a process (default 4)")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each side (default 3)")
    parser.add_argument("--buffer", type=int, default=1, help="of our side: answers of so many steps drawn at once")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--small", action="store_true", help="tiny shapes: whether it runs at all")
    parser.add_argument("--ending", action="store_true", help="answers end by chance")
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def _shape(arguments: argparse.Namespace) -> dict:
    return GPU if arguments.gpu else SMALL if arguments.small else CPU


def _measured(arguments: argparse.Namespace, python: str, side: str, folder: str) -> dict:
    command = [python, __file__, "--side", side, "--folder", folder, "--threads", str(arguments.threads)]
    command += ["--steps", str(arguments.steps), "--buffer", str(arguments.buffer), *["--gpu"] * arguments.gpu]
    command += [*["--small"] * arguments.small, *["--ending"] * arguments.ending]
    variables = os.environ | {"OMP_NUM_THREADS": str(arguments.threads), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith(_MARK):
            return json.loads(line.removeprefix(_MARK))
    sys.exit(f"{side} failed: {done.stderr[-3000:]}")


def _median(runs: list[dict]) -> dict:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


# -- what both sides have in common ------------------------------------------------------------------------------------


def _models(arguments: argparse.Namespace) -> dict:
    """Write two random models and a tokenizer of words, so that both sides load the same."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    shape, folder = _shape(arguments), Path(arguments.folder)
    torch.manual_seed(0)
    words = {"<pad>": 0, "</s>": 1, **{f"w{n}": n for n in range(2, shape["vocabulary"])}}
    core = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="</s>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    for side in ("student", "teacher"):
        width, layers = shape[side]
        config = LlamaConfig(
            vocab_size=shape["vocabulary"],
            hidden_size=width,
            intermediate_size=width * 8 // 3,
            num_hidden_layers=layers,
            num_attention_heads=width // 32,
            num_key_value_heads=width // 32,
            max_position_embeddings=2 * (shape["prompt"] + shape["answer"]),
            tie_word_embeddings=False,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=1,
        )
        LlamaForCausalLM(config).save_pretrained(folder / side)
        tokenizer.save_pretrained(folder / side)
    return {}


def _ids(arguments: argparse.Namespace, rows: int, length: int, seed: int) -> list[list[int]]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, _shape(arguments)["vocabulary"], (rows, length), generator=generator).tolist()


def _loaded(arguments: argparse.Namespace, side: str):
    import torch
    from transformers import AutoModelForCausalLM

    # The student's trained weights are float32 on both sides; half precision comes by autocast.
    dtype = torch.bfloat16 if arguments.gpu and side == "teacher" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(Path(arguments.folder) / side, dtype=dtype)
    return model.to("cuda" if arguments.gpu else "cpu")


def _steered(arguments: argparse.Namespace, model):
    """Take the stop token away from a student, or give it a fixed chance, where it draws: by a hook on its logits.

    Neither side's loss runs the head as a module, so what is learned is the model itself.
    """
    import math

    def hook(module, inputs, output):
        rest = output[..., 2:].float().logsumexp(-1)
        output = output.clone()
        output[..., 1] = (rest - (math.log(15) if arguments.ending else 60.0)).to(output.dtype)
        output[..., 0] = (rest - 60.0).to(output.dtype)
        return output

    model.lm_head.register_forward_hook(hook)
    return model


class _Clock:
    """Time and memory of the steps behind the first."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.gpu, self.times, self.processor = arguments.gpu, [], []
        self.idle = self.peak()

    def tick(self) -> None:
        import torch

        if self.gpu:
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())
        self.processor.append(time.process_time())

    def peak(self) -> float:
        import torch

        if self.gpu:
            return torch.cuda.max_memory_allocated() / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    def figures(self, tokens: float, loss: float) -> dict:
        seconds = self.times[-1] - self.times[0]
        return {
            "tokens_per_second": tokens / seconds,
            "tokens_per_processor_second": tokens / (self.processor[-1] - self.processor[0]),
            "seconds_per_step": seconds / (len(self.times) - 1),
            "peak_mib": self.peak(),
            "idle_mib": self.idle,
            "loss": loss,
        }


# -- this project ------------------------------------------------------------------------------------------------------


def _understudy(arguments: argparse.Namespace) -> dict:
    import torch
    from transformers import AutoTokenizer, TrainerCallback

    from understudy import build
    from understudy.models.rollout import Drawing, Rollout
    from understudy.recipe import DataConfig, parse_recipe
    from understudy.teachers.local import LocalTeacher
    from understudy.tokens.collate import Collator
    from understudy.tokens.example_tokenizer import ExampleTokenizer
    from understudy.tokens.template import Template
    from understudy.training.module import DistillationModule
    from understudy.training.objectives.adaptive import learns_as_it_goes
    from understudy.training.onpolicy import OnPolicyRows, RolloutEncoder, Shape, drawing_by
    from understudy.training.schedule import train_schedule, training_arguments
    from understudy.training.trainer import DistillationTrainer
    from understudy.types import Example

    torch.set_num_threads(arguments.threads)
    shape = _shape(arguments)
    student, teacher = (_loaded(arguments, side) for side in ("student", "teacher"))
    template = Template(AutoTokenizer.from_pretrained(Path(arguments.folder) / "student"))
    data = DataConfig(max_length=shape["prompt"] + shape["answer"], max_answer_tokens=shape["answer"])
    tokenizer = ExampleTokenizer(template, data)
    at_once = shape["rows"] * arguments.buffer
    own = {"share": 1.0, "divergence": "reverse_kl", "batch_size": at_once, "buffer": arguments.buffer}
    section = {"steps": arguments.steps + 1, "batch_size": shape["rows"], "learning_rate": 1e-6, "warmup": 0.0}
    section |= {"micro_batch_size": min(shape["rows"], (arguments.gpu and 16) or 4), "on_policy": own}
    config = parse_recipe({"distil": section}).distil
    assert config.on_policy is not None
    prompts = [
        Example(f"row-{n}", " ".join(f"w{token}" for token in ids))
        for n, ids in enumerate(_ids(arguments, 4 * shape["rows"], shape["prompt"], 1))
    ]
    encode = RolloutEncoder(tokenizer, tokenizer, same_ids=True)
    drawing = Drawing(1.0, shape["answer"], shape["vocabulary"], at_once, autocast=arguments.gpu)
    draw = drawing_by(_steered(arguments, student), tokenizer, drawing)
    learned: list[int] = []

    class Counted(OnPolicyRows):
        def step_rows(self, step):
            pieces = super().step_rows(step)
            learned.append(sum(len(row.student.answer_ids) for rows in pieces for row in rows))
            return pieces

    objective = learns_as_it_goes(config, build.objective(config, student, teacher))
    module, heard = DistillationModule(student, objective), LocalTeacher(teacher)
    fixed = [Rollout(tuple(ids), (0.0,) * len(ids), False) for ids in _ids(arguments, 2, shape["answer"], 2)]
    collator = Collator(0, 0)
    device = student.device
    loss = _fixed_loss(module, heard, collator([encode(e, r, 0) for e, r in zip(prompts, fixed, strict=False)]), device)
    rows = Counted(config.on_policy, [], prompts, encode, draw, Shape(shape["rows"], config.micro_batch_size, 0))
    clock = _Clock(arguments)

    class Ticks(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            clock.tick()

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        numbers = train_schedule(config, None)
        settings = training_arguments(
            config, numbers, Path(folder), device=device, seed=0, autocast=arguments.gpu, evaluate=False
        )
        settings.save_strategy = "no"
        trainer = DistillationTrainer(module, settings, rows, collator, teacher=heard)
        trainer.add_callback(Ticks())
        trainer.train()
    return clock.figures(sum(learned[1:]), loss)


def _fixed_loss(module, teacher, batch, device) -> float:
    import torch

    from understudy.tokens.collate import move

    batch = move(batch, device)
    with torch.no_grad():
        result = module(batch, teacher.signal(batch))
    return float(result.total) / len(batch["student"]["target_ids"])


# -- TRL ---------------------------------------------------------------------------------------------------------------


def _trl(arguments: argparse.Namespace) -> dict:
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import DistillationConfig, DistillationTrainer

    torch.set_num_threads(arguments.threads)
    shape = _shape(arguments)
    student, teacher = (_loaded(arguments, side) for side in ("student", "teacher"))
    tokenizer = AutoTokenizer.from_pretrained(Path(arguments.folder) / "student", padding_side="left")
    ids = _ids(arguments, 4 * shape["rows"], shape["prompt"], 1)
    prompts = Dataset.from_dict({"prompt": [" ".join(f"w{token}" for token in row) for row in ids]})
    loss = _trl_loss(arguments, student, teacher, ids)
    clock = _Clock(arguments)
    drawn: list[int] = []

    class Ticks(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            clock.tick()

    class Counted(DistillationTrainer):
        def _generate(self, prompts):
            answers = super()._generate(prompts)
            drawn.append(sum(map(len, answers[1])))
            return answers

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        micro = min(shape["rows"], 16 if arguments.gpu else 4)
        settings = DistillationConfig(
            output_dir=folder,
            max_steps=arguments.steps + 1,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=shape["rows"] // micro,
            learning_rate=1e-6,
            max_completion_length=shape["answer"],
            temperature=1.0,
            beta=1.0,
            gradient_checkpointing=False,
            bf16=arguments.gpu,
            use_cpu=not arguments.gpu,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            seed=0,
        )
        trainer = Counted(
            _steered(arguments, student),
            teacher,
            args=settings,
            train_dataset=prompts,
            processing_class=tokenizer,
            callbacks=[Ticks()],
        )
        trainer.train()
    first = len(drawn) // (arguments.steps + 1)
    return clock.figures(sum(drawn[first:]), loss)


def _trl_loss(arguments: argparse.Namespace, student, teacher, ids) -> float:
    """What TRL's own generalised Jensen–Shannon divergence at β = 1 gives on the same fixed answers."""
    import torch
    from trl.trainer.distillation_trainer import _chunked_divergence_loss

    shape = _shape(arguments)
    answers = _ids(arguments, 2, shape["answer"], 2)
    whole = torch.tensor([prompt + answer for prompt, answer in zip(ids, answers, strict=False)]).to(student.device)
    with torch.no_grad():
        states = [m.model(whole).last_hidden_state[:, shape["prompt"] - 1 : -1].float() for m in (student, teacher)]
        heads = [m.lm_head.weight.float() for m in (student, teacher)]
        mask = torch.ones_like(whole[:, shape["prompt"] :], dtype=torch.bool)
        return float(_chunked_divergence_loss(*states, *heads, mask, 1.0)[0])


SIDES = {"models": _models, "understudy": _understudy, "trl": _trl}

if __name__ == "__main__":
    main()
