"""An objective with losses between inner states beside its own: hidden states, embeddings, attention relations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from understudy.errors import ConfigError, ModelError
from understudy.losses import HeadLosses, Pass, Passes
from understudy.losses import features as distances
from understudy.models.feature_input import accompanied, added, projection
from understudy.models.features import projection_of, stack_of
from understudy.models.head import base_model
from understudy.models.inner_states import WantedFeatures
from understudy.models.output import EmbeddingOutput, Output
from understudy.recipe import FeaturesConfig, InputConfig
from understudy.teachers.signals import Signal
from understudy.training.objectives.base import Objective, Result, row_weights
from understudy.types import Batch, Tokens

_SENTENCE = "sentence"
"""The projection of vectors of texts, beside those of layers by their number."""
_DISTANCES = {"mse": distances.mse, "cosine": distances.cosine, "cka": distances.cka}


class FeatureObjective(Objective):
    """The losses of an objective, and of inner states beside them.

    L = L_objective + Σ_b n_b · [w_h · mean_l D(h_l, h′_m(l)) + w_e · D(h_0, h′_0) + w_r · mean_x KL(R′_x ‖ R_x)
                                 + w_s · D(W e, e′)]

    n_b are the target tokens of row b, by which the trainer divides: each row weighs what its targets weigh, and
    nothing depends on how a batch is cut. Each distance is a mean over the positions of a text; of a row of several
    texts (options) it is their mean. Where a row has a weight, it weighs these losses too. e and e′ are the vectors of
    a text, of models that make some (Reimers and Gurevych, 2020, learn them by `mse`); their tokens need not agree.

    With `features.input` the student reads states of the teacher beside its embeddings (`models.feature_input`), in
    each row with a probability that a schedule takes from `start` to `end`. Whether a row reads them in a step follows
    from the seed, the step and the row's id, so neither a resumed run nor another cut of a batch draws otherwise.

    Args:
        inner: the objective.
        config: which losses, with which weights.
        student: the student's model.
        teacher: the teacher's.
        seed: of the draws.

    Attributes:
        of_student: what is taken of the student.
        of_teacher: what is taken of the teacher.
    """

    def __init__(self, inner: Objective, config: FeaturesConfig, student: Any, teacher: Any, *, seed: int = 0) -> None:
        super().__init__()
        self.main, self.config, self.seed = inner, config, seed
        self.gold_weight = inner.gold_weight
        self.step, self.share = 0, 0.0
        self.input_layer = input_layer(config, len(stack_of(teacher).blocks))
        self.input_projection = projection(student, teacher) if config.input else None
        self.layers = layer_map(config, len(stack_of(student).blocks), len(stack_of(teacher).blocks))
        pairs = {**({0: 0} if config.embedding else {}), **(self.layers if config.hidden else {})}
        relations = config.relations if config.relation else ()
        last = len(stack_of(student).blocks)
        other = config.relation_layer or len(stack_of(teacher).blocks)
        self.of_student = WantedFeatures(tuple(pairs), relations, last)
        of_teacher = (*pairs.values(), *([self.input_layer] if config.input else []))
        self.of_teacher = WantedFeatures(tuple(dict.fromkeys(of_teacher)), relations, other)
        self.heads = relation_heads(config, student, teacher) if config.relation else 0
        self.projections = nn.ModuleDict(self._projections(pairs, base_model(student), base_model(teacher)))
        if config.sentence and (own := base_model(student).config.hidden_size) != _width(teacher):
            self.projections[_SENTENCE] = nn.Linear(own, _width(teacher), bias=False)

    @property
    def embeddings(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the objective beside it reads token embeddings."""
        return self.main.embeddings

    @property
    def inner(self) -> tuple[Objective, ...]:
        """The objective beside which inner states are compared."""
        return (self.main,)

    def begin_step(self, step: int, steps: int) -> None:
        """Set the share of rows that read the teacher's states, see the base class."""
        super().begin_step(step, steps)
        self.step = step
        self.share = input_share(self.config.input, step, steps) if self.config.input else 0.0

    @property
    def scheduled(self) -> dict[str, float]:
        """See the base class."""
        return {"features_input_share": self.share} if self.config.input else {}

    def around(self, student: Any, signal: Any, batch: Batch) -> AbstractContextManager[Any]:
        """See the base class: the teacher's states at the student's tokens."""
        if self.input_projection is None:
            return nullcontext()
        _refuse_other_tokens(batch)
        states, rows = signal.features.hidden[self.input_layer], batch["ids"]  # pyright: ignore
        drawn = [np.random.default_rng((self.seed, self.step, crc32(name.encode()))).random() for name in rows]
        reads = torch.tensor([float(value < self.share) for value in drawn], device=states.device)
        # A row of several texts reads them all with the states, or none.
        tokens = batch["student"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
        if len(states) != len(rows):
            reads = reads[_owners(tokens).to(reads.device)]
        # Rows without them still stand in the graph, so that processes agree on what is learned.
        return added(student, self.input_projection(states) * reads[:, None, None])

    @property
    def lasting_input(self) -> nn.Module | None:
        """The map that a student which is not weaned needs wherever it runs."""
        return self.input_projection if self.config.input is not None and self.config.input.end > 0 else None

    def around_answers(self, student: Any, teacher: Any) -> AbstractContextManager[Any]:
        """See the base class: a student that is not weaned answers with its teacher."""
        project = self.lasting_input
        return nullcontext() if project is None else accompanied(student, teacher, self.input_layer, project)

    def _projections(self, pairs: dict[int, int], student: Any, teacher: Any) -> dict[str, nn.Module]:
        """A map to the teacher's width for each layer that needs one."""
        own, other = student.config.hidden_size, teacher.config.hidden_size
        needed = [layer for layer in pairs if own != other and self._kind_of(layer) != "cka"]
        return {str(layer): nn.Linear(own, other, bias=False) for layer in needed}

    def _kind_of(self, layer: int) -> str:
        """By what the states behind a block are compared; embeddings of different texts have no CKA of their own."""
        return self.config.hidden_loss if layer or self.config.hidden_loss != "cka" else "mse"

    def forward(self, student: Output, signal: Signal | None, batch: Batch) -> Result:
        """See the class.

        Raises:
            ModelError: the two read other tokens.
        """
        self.main.statistics = self.statistics
        result = self.main(student, signal, batch)
        if self.config.reads_states:
            _refuse_other_tokens(batch)
        terms = self._terms(student, signal, batch["student"])  # pyright: ignore[reportTypedDictNotRequiredAccess]
        weights = _row_weights(student, batch)
        total, sums = result.total, dict(result.sums)
        for name, (factor, values) in terms.items():
            weighted = (weights * values).sum()
            total = total + factor * weighted
            sums[f"features_{name}"] = weighted.detach()
        return Result(total, sums)

    def _terms(self, student: Output, signal: Any, tokens: Tokens) -> dict[str, tuple[float, Tensor]]:
        """The weight and the value a row `[B]` of each loss."""
        own, other = student.features, signal.features
        assert own is not None, "the student's inner states were not taken"
        assert other is not None, "the teacher's inner states were not taken"
        mask = tokens["inputs"]["attention_mask"].flatten(0, -2).bool()
        config, terms = self.config, {}
        if config.hidden:
            each = [self._distance(n, own.hidden[n], other.hidden[m], mask) for n, m in self.layers.items()]
            terms["hidden"] = (config.hidden, torch.stack(each).mean(0))
        if config.embedding:
            terms["embedding"] = (config.embedding, self._distance(0, own.hidden[0], other.hidden[0], mask))
        if config.relation:
            each = [
                distances.relation(own.relations[name], other.relations[name], mask, self.heads)
                for name in config.relations
            ]
            terms["relation"] = (config.relation, torch.stack(each).mean(0))
        if config.sentence:
            terms["sentence"] = (config.sentence, self._sentence_distance(student, signal))
        return {name: (factor, _by_row(values, tokens)) for name, (factor, values) in terms.items()}

    def _sentence_distance(self, student: Output, signal: Any) -> Tensor:
        """`[M]`: 1 − cos(W e, e′), or the mean over channels of (W e − e′)²."""
        assert isinstance(student, EmbeddingOutput), "the gate lets pass no student without vectors"
        own, other = student.vectors, signal.vectors.to(student.vectors.dtype)
        own = self.projections[_SENTENCE](own) if _SENTENCE in self.projections else own
        if self.config.sentence_loss == "mse":
            return (own - other).square().mean(-1)
        return 1 - nn.functional.cosine_similarity(own, other, dim=-1)

    def _distance(self, layer: int, own: Tensor, other: Tensor, mask: Tensor) -> Tensor:
        if str(layer) in self.projections:
            own = self.projections[str(layer)](own)
        return _DISTANCES[self._kind_of(layer)](own, other, mask)

    def passes(self, student: Output, signal: Signal | None, batch: Batch) -> Passes:
        """Those of the inner objective; inner states are no side of a pass."""
        return self.main.passes(student, signal, batch)

    def sums(self, steps: Sequence[tuple[Pass, HeadLosses]], student: Output, batch: Batch) -> dict[str, Tensor]:
        """Those of the inner objective."""
        return self.main.sums(steps, student, batch)


def _refuse_other_tokens(batch: Batch) -> None:
    if not _read_alike(batch):
        raise ModelError(
            "features compares what two models make of the same tokens, and these read other ones",
            hint="give both the same tokenizer and chat_template, or leave out `features`",
        )


def input_layer(config: FeaturesConfig, blocks: int) -> int:
    """The teacher's block whose states are read, counted from 1.

    Raises:
        ConfigError: it has no such block.
    """
    layer = config.input.layer if config.input and config.input.layer else blocks
    if layer > blocks:
        raise ConfigError(f"features.input.layer is {layer}, and the teacher has {blocks} blocks")
    return layer


def input_share(config: InputConfig, step: int, steps: int) -> float:
    """The share of rows that read the teacher's states at a step, counted from 0 of `steps`."""
    # The first step of the rest is the first that is all at the end.
    ramp_steps = max(1, round(config.until * steps))
    done = min(1.0, step / ramp_steps)
    if config.shape == "cosine":
        done = (1 - math.cos(math.pi * done)) / 2
    return config.start + (config.end - config.start) * done


def _read_alike(batch: Batch) -> bool:
    """Whether both models read the same tokens."""
    own, other = (batch[side]["inputs"]["input_ids"] for side in ("student", "teacher"))  # pyright: ignore[reportTypedDictNotRequiredAccess]
    return own is other or (own.shape == other.shape and torch.equal(own, other))


def _row_weights(student: Output, batch: Batch) -> Tensor:
    """`[B]` target tokens of each row, times its weight."""
    lengths = torch.tensor(student.lengths, device=student.device)
    by_token = row_weights(student, batch)
    if by_token is None:
        return lengths
    return torch.stack([piece.sum() for piece in by_token.split(list(student.lengths))])


def _by_row(values: Tensor, tokens: Tokens) -> Tensor:
    """`[B]` means of the `[M]` values of each row's texts."""
    rows = len(tokens["target_mask"])
    if len(values) == rows:
        return values
    owners = _owners(tokens).to(values.device)
    return values.new_zeros(rows).index_add(0, owners, values) / torch.bincount(owners, minlength=rows)


def _owners(tokens: Tokens) -> Tensor:
    """`[M]`: the row of each text."""
    if "owners" in tokens:
        return tokens["owners"]
    counts = tokens["candidates"].sum(1)  # pyright: ignore[reportTypedDictNotRequiredAccess]
    return torch.arange(len(counts), device=counts.device).repeat_interleave(counts)


def _width(teacher: Any) -> int:
    return base_model(teacher).config.hidden_size


def layer_map(config: FeaturesConfig, student: int, teacher: int) -> dict[int, int]:
    """Which block of the student learns from which of the teacher's, counted from 1.

    Args:
        config: `layers`.
        student: blocks of the student.
        teacher: blocks of the teacher.

    Raises:
        ConfigError: a block that is not there.
    """
    if config.relation_layer and config.relation_layer > teacher:
        raise ConfigError(f"features.relation_layer is {config.relation_layer}, and the teacher has {teacher} blocks")
    if not config.layers:
        # The last learns from the last; the others stand where equal parts of the teacher end (Jiao et al., 2020).
        return {n: round(n * teacher / student) for n in range(1, student + 1)}
    for side, blocks, there in (("student", config.layers, student), ("teacher", config.layers.values(), teacher)):
        if max(blocks) > there:
            raise ConfigError(f"features.layers names block {max(blocks)}, and the {side} has {there}")
    return dict(config.layers)


def relation_heads(config: FeaturesConfig, student: Any, teacher: Any) -> int:
    """Into how many heads relations are cut: what the recipe says, else the teacher's heads.

    Raises:
        ConfigError: a width is no multiple of it.
        ModelError: a block's queries, keys or values cannot be told.
    """
    heads = config.relation_heads or base_model(teacher).config.num_attention_heads
    blocks = {"student": stack_of(student).blocks[-1], "teacher": stack_of(teacher).blocks[-1]}
    for side, block in blocks.items():
        for name in config.relations:
            width = projection_of(block, name).weight.shape[0]
            if width % heads:
                raise ConfigError(
                    f"features.relation_heads {heads} does not divide the width {width} of the {side}'s {name}",
                    hint="set features.relation_heads to a divisor of both widths",
                )
    return heads
