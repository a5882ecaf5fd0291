"""Students cut from a teacher: what stays is the teacher's own, and the choice follows from what is measured."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from support.tiny import FACTS, examples, tokenizer
from understudy.errors import ConfigError, ModelError
from understudy.models.cut import Kept, choose, cut_model, start_of
from understudy.models.cut.choice import evenly_spaced
from understudy.models.cut.importance import bypassed, influence, mean_loss
from understudy.models.stacks import stacks_of
from understudy.recipe import CutConfig, DataConfig
from understudy.tokens.collate import encode_rows
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.template import Template

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": 0,
}


def made(kind: Any, config: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return kind(config).eval()


def llama(layers: int = 6, **more: Any) -> Any:
    return made(LlamaForCausalLM, LlamaConfig(**{**SIZES, "num_hidden_layers": layers, **more}))


def rows(num: int = len(FACTS)) -> list[Any]:
    encoded = encode_rows(examples(num), ExampleTokenizer(Template(tokenizer(300)), DataConfig()))
    return [type(row.student).batched([row.student], 1) for row in encoded]


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(5, 25)[None]).logits


FAMILIES = {
    "llama": lambda: llama(),
    "qwen3": lambda: made(Qwen3ForCausalLM, Qwen3Config(**SIZES, num_hidden_layers=6, head_dim=8)),
    "gemma3": lambda: made(
        Gemma3ForCausalLM,
        Gemma3TextConfig(
            **SIZES,
            num_hidden_layers=6,
            head_dim=8,
            sliding_window=4,
            layer_types=["sliding_attention", "full_attention"] * 3,
        ),
    ),
    "gpt2": lambda: made(GPT2LMHeadModel, GPT2Config(vocab_size=300, n_embd=24, n_layer=6, n_head=4, n_positions=64)),
}


# -- depth -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_says_what_its_teacher_says_without_the_blocks_that_went(family: str) -> None:
    teacher = FAMILIES[family]()
    [stack] = stacks_of(teacher)
    kept = (0, 2, 5) if family != "gemma3" else (0, 3, 4)
    student = cut_model(teacher, Kept({stack.path: kept}))
    assert student.config.num_hidden_layers == 3
    with bypassed(stack, [n for n in range(6) if n not in kept]):
        expected = logits(teacher)
    torch.testing.assert_close(logits(student), expected)
    assert not torch.allclose(logits(teacher), expected, atol=1e-3)
    if family == "gemma3":
        assert student.config.layer_types == ["sliding_attention", "full_attention", "sliding_attention"]


def test_a_student_with_every_block_is_its_teacher_and_shares_no_weight() -> None:
    teacher = llama(tie_word_embeddings=False)
    student = cut_model(teacher, choose(teacher, CutConfig(layers=6), rows()))
    torch.testing.assert_close(logits(student), logits(teacher), rtol=0, atol=0)
    with torch.no_grad():
        before = logits(teacher)
        for weight in student.parameters():
            weight.zero_()
    torch.testing.assert_close(logits(teacher), before, rtol=0, atol=0)


def test_an_encoder_decoder_is_cut_on_both_sides_and_keeps_its_distances() -> None:
    config = T5Config(vocab_size=300, d_model=16, d_kv=8, d_ff=32, num_layers=4, num_decoder_layers=5, num_heads=2)
    teacher = made(T5ForConditionalGeneration, config)
    kept = choose(teacher, CutConfig(layers=2), ())
    assert kept.blocks == {"encoder.block": (0, 3), "decoder.block": (0, 4)}
    student = cut_model(teacher, kept)
    assert (student.config.num_layers, student.config.num_decoder_layers) == (2, 2)
    inputs = {"input_ids": torch.arange(5, 15)[None], "decoder_input_ids": torch.arange(3, 9)[None]}
    gone = [
        bypassed(stack, [n for n in range(len(stack.blocks)) if n not in kept.blocks[stack.path]])
        for stack in stacks_of(teacher)
    ]
    with torch.no_grad(), gone[0], gone[1]:
        expected = teacher(**inputs).logits
    with torch.no_grad():
        torch.testing.assert_close(student(**inputs).logits, expected)
    with pytest.raises(ConfigError, match=r"block 0 of encoder\.block holds what the others lack"):
        choose(teacher, CutConfig(layers=(1, 2)), ())


def test_an_encoder_that_points_is_cut_too() -> None:
    config = BertConfig(
        vocab_size=300, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32
    )
    teacher = made(BertForQuestionAnswering, config)
    student = cut_model(teacher, choose(teacher, CutConfig(layers=2), ()))
    [stack] = stacks_of(teacher)
    with torch.no_grad():
        ids = torch.arange(5, 15)[None]
        with bypassed(stack, [1, 2]):
            expected = teacher(input_ids=ids)
        torch.testing.assert_close(student(input_ids=ids).start_logits, expected.start_logits)


@given(st.integers(1, 60), st.data())
def test_blocks_by_position_are_distinct_and_keep_both_ends(total: int, data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, total))
    blocks = evenly_spaced(total, keep)
    assert len(set(blocks)) == keep
    assert blocks == sorted(blocks)
    assert blocks[0] == 0
    assert blocks[-1] == (total - 1 if keep > 1 else 0)
    gaps = np.diff(blocks)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


# -- what is measured ------------------------------------------------------------------------------------------------


def quiet(model: Any, *blocks: int) -> Any:
    """The model with some blocks that add next to nothing to the hidden state."""
    with torch.no_grad():
        for n in blocks:
            model.model.layers[n].self_attn.o_proj.weight.mul_(1e-4)
            model.model.layers[n].mlp.down_proj.weight.mul_(1e-4)
    return model


@pytest.mark.parametrize("by", ["influence", "loss"])
def test_blocks_that_do_nothing_go_first(by: Any) -> None:
    teacher = quiet(llama(), 1, 4)
    kept = choose(teacher, CutConfig(layers=4, by=by), rows(6))
    if by == "influence":
        assert kept.blocks == {"model.layers": (0, 2, 3, 5)}
    student = cut_model(teacher, kept)
    # By loss a block that harms may go before one that does nothing: what is left is no worse.
    without = cut_model(teacher, Kept({"model.layers": (0, 2, 3, 5)}))
    assert mean_loss(student, rows(6)) <= mean_loss(without, rows(6)) + 1e-6


def test_a_run_of_blocks_that_does_nothing_goes_as_a_whole() -> None:
    teacher = quiet(llama(), 2, 3)
    assert choose(teacher, CutConfig(layers=4, by="block"), rows(6)).blocks == {"model.layers": (0, 1, 4, 5)}


def test_influence_is_one_minus_the_cosine_over_all_positions() -> None:
    teacher, data = llama(), rows(5)
    [stack] = stacks_of(teacher)
    expected = np.zeros(6)
    positions = 0
    for row in data:
        with torch.no_grad():
            states = teacher(**row["inputs"], output_hidden_states=True).hidden_states
        # The last of these is behind the final norm; the state before it is read off the block itself.
        captured: list[torch.Tensor] = []
        handle = teacher.model.norm.register_forward_pre_hook(lambda module, args, into=captured: into.append(args[0]))
        with torch.no_grad():
            teacher(**row["inputs"])
        handle.remove()
        lasting = [*states[:-1], captured[0]]
        for n in range(6):
            a, b = (side[0].double().numpy() for side in (lasting[n], lasting[n + 1]))
            cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
            expected[n] += (1 - cosine).sum()
        positions += lasting[0].shape[1]
    assert influence(teacher, stack, data) == pytest.approx(expected / positions, rel=1e-5)


def test_the_start_is_perplexity_and_agreement_on_target_tokens() -> None:
    teacher, student, data = llama(), llama(2), rows()
    start = start_of(student, teacher, data)
    losses, same, tokens = [0.0, 0.0], 0, 0
    for row in data:
        mask = row["target_mask"][0]
        with torch.no_grad():
            sides = [model(**row["inputs"]).logits[0][mask].double().log_softmax(-1) for model in (student, teacher)]
        for n, side in enumerate(sides):
            losses[n] -= float(side.gather(1, row["target_ids"][:, None]).sum())
        same += int((sides[0].argmax(-1) == sides[1].argmax(-1)).sum())
        tokens += int(mask.sum())
    assert start.tokens == tokens
    assert start.perplexity == pytest.approx(math.exp(losses[0] / tokens), rel=1e-4)
    assert start.teacher_perplexity == pytest.approx(math.exp(losses[1] / tokens), rel=1e-4)
    assert start.agreement == pytest.approx(same / tokens)
    assert start_of(teacher, teacher, data).agreement == 1


# -- width -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
def test_neurons_and_heads_that_add_nothing_may_go_without_a_trace(family: str) -> None:
    teacher = FAMILIES[family]()
    with torch.no_grad():
        for number, block in enumerate(teacher.model.layers):
            # Other heads and other neurons in each block; a group is two query heads that share a key head.
            width = teacher.config.head_dim or 6
            dead = slice(0, 2 * width) if number % 2 else slice(2 * width, 4 * width)
            block.self_attn.o_proj.weight[:, dead] = 0
            block.mlp.down_proj.weight[:, number : number + 8] = 0
    expected = logits(teacher)
    for data in (rows(4), []):
        student = cut_model(teacher, choose(teacher, CutConfig(heads=2, mlp=32), data))
        assert (student.config.num_attention_heads, student.config.num_key_value_heads) == (2, 1)
        assert student.config.intermediate_size == 32
        torch.testing.assert_close(logits(student), expected, rtol=1e-4, atol=1e-4)


def test_channels_that_nobody_uses_may_go_but_for_the_norm() -> None:
    """A channel of zeros leaves the mean square that the norms divide by smaller: weights of the norms make up."""
    teacher = llama(tie_word_embeddings=False)
    dead = [3, 7, 11, 20]
    with torch.no_grad():
        for name, weight in teacher.named_parameters():
            if "embed_tokens" in name:
                weight[:, dead] = 0
            elif "o_proj" in name or "down_proj" in name:
                weight[dead] = 0
    kept = choose(teacher, CutConfig(width=20), rows(4))
    assert kept.channels is not None
    assert kept.channels.tolist() == [n for n in range(24) if n not in dead]
    student = cut_model(teacher, kept)
    assert student.config.hidden_size == 20
    assert student.config.head_dim == 6
    # The mean of squares over 20 channels is 24/20 of that over 24, so a normed state is √(20/24) of what it was.
    with torch.no_grad():
        for name, weight in student.named_parameters():
            if "norm" in name:
                weight.mul_(math.sqrt(24 / 20))
    torch.testing.assert_close(logits(student), logits(teacher), rtol=1e-3, atol=1e-3)


def test_what_cannot_be_cut_is_one_line() -> None:
    gpt2 = FAMILIES["gpt2"]()
    with pytest.raises(ModelError, match="is not built as Llama is"):
        choose(gpt2, CutConfig(width=12), ())
    teacher = llama()
    for config, words in (
        (CutConfig(layers=7), "the teacher has 6 blocks"),
        (CutConfig(layers=(0, 6)), "the teacher has 6 blocks"),
        (CutConfig(width=25), "the teacher has 24 channels"),
        (CutConfig(heads=3), "no multiple of 2"),
        (CutConfig(heads=8), "fewer than"),
        (CutConfig(mlp=41), "the teacher has 40 neurons"),
    ):
        with pytest.raises(ConfigError, match=words):
            choose(teacher, config, ())
    for fields in ({}, {"layers": 0}, {"layers": []}, {"layers": [2, 1]}, {"layers": [-1, 2]}):
        with pytest.raises(ValueError, match=r"layers|say what stays"):
            CutConfig.model_validate(fields)
