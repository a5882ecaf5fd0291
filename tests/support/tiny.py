"""Real models of a few thousand parameters, with tokenizers trained on the spot, and a trainer around them."""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from understudy import build
from understudy.models.adapters import add_lora
from understudy.recipe import METHODS, DataConfig, LoraConfig, MethodConfig, parse_recipe
from understudy.teachers.local import LocalTeacher
from understudy.teachers.signals import Teacher
from understudy.tokens.align import CrossTokenizer
from understudy.tokens.collate import Collator, ExampleTokenizer, encode_rows
from understudy.tokens.template import Template
from understudy.training.module import DistillationModule
from understudy.training.rows import ListedRows, RowSource
from understudy.training.schedule import train_schedule, training_arguments
from understudy.training.trainer import DistillationTrainer
from understudy.types import Example

FACTS = [
    ("Which function terminates N2?", "AMF"),
    ("Which function terminates N4?", "the SMF and the UPF"),
    ("What does UPF mean?", "User Plane Function"),
    ("Which port does GTP-U use?", "2152"),
    ("Which protocol runs on N2?", "NGAP over SCTP"),
    ("What is the subcarrier spacing of numerology 1?", "30 kHz"),
    ("Which function stores subscriptions?", "UDM"),
    ("Which radio layer ciphers?", "PDCP"),
    ("Who selects a slice?", "NSSF"),
    ("Which port does Diameter use?", "3868"),
    ("What does 5QI 1 carry?", "conversational voice"),
    ("Which function charges?", "CHF"),
]
EVERY_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]
EVERY = ("sft", *METHODS)
"""All that can be trained: gold answers alone, and every method there is."""
DATA = DataConfig(max_length=128, max_answer_tokens=32)


def tokenizer(size: int = 300, *, end: str = "</s>", pad: str | None = "<pad>", bos: str | None = "<s>") -> Any:
    """A byte-level BPE trained on the facts; another size gives another vocabulary."""
    specials = [token for token in (end, pad, bos) if token]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials, initial_alphabet=sorted(alphabet), show_progress=False
    )
    core.train_from_iterator([f"Question: {question}\nAnswer: {answer}" for question, answer in FACTS], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=end, pad_token=pad, bos_token=bos)


def llama(vocabulary: int, *, width: int = 16, tied: bool = True, seed: int = 0, dropout: float = 0.0) -> Any:
    """A Llama of a few thousand parameters."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        attention_dropout=dropout,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def parrot(template: Template, answer: str) -> Any:
    """A Llama without layers that gives one answer to everything: each token has one successor."""
    row = template.encode([{"role": "user", "content": "why"}], answer)
    chain = [row.prompt_ids[-1], *row.answer_ids]
    assert len(set(chain)) == len(chain), "a token of the answer has two successors"
    vocabulary = len(template.tokenizer)  # pyright: ignore
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=vocabulary,
        intermediate_size=2,
        num_hidden_layers=0,
        num_attention_heads=1,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=template.end_id,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(torch.eye(vocabulary))
        model.lm_head.weight.zero_()
        for token, successor in itertools.pairwise(chain):
            model.lm_head.weight[successor, token] = 1
    return model


def examples(num: int = len(FACTS), *, teacher_wrote: int = 3) -> list[Example]:
    """Facts as rows; every `teacher_wrote`-th answer counts as the teacher's."""
    return [
        Example(f"fact-{n}", question, (answer,), origin="teacher" if n % teacher_wrote == 1 else "gold")
        for n, (question, answer) in enumerate(FACTS[:num])
    ]


def method_config(method: str, **fields: Any) -> MethodConfig:
    """The section `distil` of a method, with a rate for its projectors if it has any; `sft` trains as `kd` does."""
    name = "kd" if method == "sft" else method
    if "projector_learning_rate" not in METHODS[name].model_fields:
        fields.pop("projector_learning_rate", None)
    return parse_recipe({"distil": {"method": name, **fields}}).distil


def one_vocabulary(method: str) -> bool:
    """Whether the two models of a method must read the same ids."""
    return method == "sft" or METHODS[method].one_vocabulary


@dataclasses.dataclass
class Pair:
    """Teacher and student with what it takes to train one on the other."""

    student: Any
    teacher: Any
    template: Template
    teacher_template: Template

    def cross_tokenizer(self, method: str) -> CrossTokenizer | None:
        """What aligns the two tokenizers' answers, where the method needs it."""
        if method == "sft":
            return None
        return build.cross_tokenizer(method_config(method), self.template, self.teacher_template)

    def rows(self, method: str, data: DataConfig = DATA, num: int = len(FACTS)) -> list:
        """Encoded rows, for the student alone if `method` is `sft`."""
        other = None if method == "sft" else ExampleTokenizer(self.teacher_template, data)
        return encode_rows(examples(num), ExampleTokenizer(self.template, data), other, self.cross_tokenizer(method))

    def collator(self, method: str) -> Collator:
        """The collator of a method."""
        pads = [t.tokenizer.pad_token_id for t in (self.template, self.teacher_template)]
        return Collator(pads[0], None if method == "sft" else pads[1], same_targets=one_vocabulary(method))


def pair(method: str = "dskd_cma", *, lora: bool = True, tied: bool = True, dropout: float = 0.0) -> Pair:
    """Two tiny Llamas: of two vocabularies for cross-model attention, else of one."""
    ours = Template(tokenizer(300))
    theirs = Template(tokenizer(300) if one_vocabulary(method) else tokenizer(340, end="<|end|>", pad="<|pad|>"))
    student = llama(len(ours.tokenizer), tied=tied, dropout=dropout)  # pyright: ignore
    teacher = llama(len(theirs.tokenizer), width=24, tied=False, seed=1)  # pyright: ignore
    if lora:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            student = add_lora(student, LoraConfig(r=4, target_modules=EVERY_LINEAR))
    return Pair(student, teacher, ours, theirs)


def trainer(
    folder: Path,
    method: str = "dskd_cma",
    *,
    made: Pair | None = None,
    lora: bool = True,
    dev_score: Any = None,
    autocast: bool = False,
    kind: type[DistillationTrainer] = DistillationTrainer,
    seed: int = 5,
    num: int = len(FACTS),
    rows: list | None = None,
    source: RowSource | None = None,
    teacher: Teacher | None = None,
    processes: int = 1,
    report_to: tuple[str, ...] = (),
    **fields: Any,
) -> DistillationTrainer:
    """A trainer as a stage of a run builds it."""
    made = made or pair(method, lora=lora)
    fields = {"steps": 4, "batch_size": 4, "learning_rate": 1e-2, "projector_learning_rate": 3e-3, **fields}
    config = method_config(method, **fields)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        objective = build.gold_objective()
        if method != "sft":
            objective = build.objective(config, made.student, made.teacher, made.cross_tokenizer(method))
    if method != "sft" and teacher is None:
        teacher = LocalTeacher(made.teacher, embeddings=objective.embeddings)
    source = source or ListedRows(made.rows(method, num=num) if rows is None else rows)
    with warnings.catch_warnings():
        numbers = train_schedule(config, None if source.lengths is None else len(source.lengths), processes=processes)
        arguments = training_arguments(
            config,
            numbers,
            folder,
            device=torch.device("cpu"),
            seed=seed,
            autocast=autocast,
            report_to=report_to,
            evaluate=dev_score is not None,
        )
    return kind(
        DistillationModule(made.student, objective),
        arguments,
        source,
        made.collator(method),
        teacher=teacher,
        dev_score=dev_score,
        objective_learning_rate=config.objective_learning_rate,
    )


def weights(trainer: DistillationTrainer) -> dict[str, torch.Tensor]:
    """Copies of all that is trained."""
    return {name: value.clone() for name, value in trainer.module.trainable_state().items()}
