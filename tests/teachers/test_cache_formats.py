"""What a stored target says, against the distribution that it was made of."""

from __future__ import annotations

import pytest
import torch

from understudy.losses import Head
from understudy.models.output import VocabularyOutput
from understudy.teachers.cache.formats import SampledFormat, StatesFormat, TargetFormat, TopKFormat
from understudy.teachers.signals import Sampled, TopK

VOCABULARY, TOKENS, CPU = 400, 30, torch.device("cpu")


def said(dtype: torch.dtype = torch.float32) -> VocabularyOutput:
    """A teacher's states whose distributions are as peaked as those of a language model."""
    make = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, 12, generator=make, dtype=torch.float64).to(dtype)
    head = Head(torch.randn(VOCABULARY, 12, generator=make, dtype=torch.float64).to(dtype), softcap=30.0)
    return VocabularyOutput(torch.zeros(TOKENS, dtype=torch.long), (TOKENS - 4, 4), hidden, head)


def logp(output: VocabularyOutput, temperature: float = 1.0) -> torch.Tensor:
    return (output.head.logits(output.hidden).double() / temperature).log_softmax(-1)


def kept(targets: TargetFormat, output: VocabularyOutput, temperature: float = 1.0, seeds: tuple = (1, 2)):
    records = targets.encode(output, seeds)
    assert records.shape == (TOKENS, targets.record_bytes)
    return targets.decode(records, output.target_ids, output.lengths, temperature, CPU)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("k", [1, 7, VOCABULARY])
def test_32_bits_keep_head_and_tail_as_they_are(k: int, temperature: float) -> None:
    output = said()
    signal = kept(TopKFormat(VOCABULARY, (0.5, 1.0, 2.0), k, 32), output, temperature)
    assert isinstance(signal, TopK)
    whole = logp(output, temperature)
    likeliest = whole.topk(k).indices.sort(-1).values
    torch.testing.assert_close(signal.ids, likeliest)
    torch.testing.assert_close(signal.logp.double(), whole.gather(1, likeliest), atol=1e-5, rtol=1e-5)
    rest = whole.scatter(1, likeliest, -torch.inf).logsumexp(-1)
    torch.testing.assert_close(signal.log_tail.double(), rest, atol=1e-5, rtol=1e-5)
    assert signal.temperature == temperature


@pytest.mark.parametrize(("bits", "largest"), [(8, 2e-4), (12, 2e-6), (16, 2e-6)])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_fewer_bits_cost_little_divergence(bits: int, largest: float, temperature: float) -> None:
    """KL of the buckets from what they were to what is kept; each still adds up to 1."""
    output = said()
    signal = kept(TopKFormat(VOCABULARY, (1.0, 2.0), 20, bits), output, temperature)
    whole = logp(output, temperature)
    before = torch.cat([whole.gather(1, signal.ids), whole.scatter(1, signal.ids, -torch.inf).logsumexp(-1, True)], -1)
    after = torch.cat([signal.logp, signal.log_tail[:, None]], -1).double()
    torch.testing.assert_close(after.exp().sum(-1), torch.ones(TOKENS, dtype=torch.float64), atol=1e-6, rtol=0)
    divergence = (before.exp() * (before - after)).sum(-1)
    assert divergence.mean() < largest
    assert (divergence > -1e-6).all()


def test_sizes_that_are_promised() -> None:
    """At V = 151,936 and one τ: 60 bytes a token at k = 16, 140 at k = 50; 4 for each further τ."""
    for k, most in ((16, 60), (50, 140)):
        one, two = (TopKFormat(151_936, temperatures, k).record_bytes for temperatures in ((1.0,), (1.0, 2.0)))
        # The index has 40 bytes a row: less than one a token in rows of 50.
        assert one < most
        assert two - one <= 4


def test_a_teacher_that_is_sure_leaves_no_infinity_behind() -> None:
    hidden = torch.tensor([[1.0], [1e4]])
    output = VocabularyOutput(torch.zeros(2, dtype=torch.long), (2,), hidden, Head(torch.arange(6.0)[:, None]))
    for bits in (8, 32):
        signal = kept_of(TopKFormat(6, (1.0,), 3, bits), output)
        assert torch.isfinite(signal.logp).all()
        assert signal.logp[1, -1] == pytest.approx(0.0, abs=1e-6)
        assert signal.log_tail[1] < -1e4


def kept_of(targets: TopKFormat, output: VocabularyOutput) -> TopK:
    records = targets.encode(output, [0])
    return targets.decode(records, output.target_ids, output.lengths, 1.0, CPU)


def test_a_row_is_drawn_the_same_whatever_stands_beside_it() -> None:
    output, targets = said(), SampledFormat(VOCABULARY, (1.0,), 4, 9)
    together = targets.encode(output, [1, 2])
    alone = VocabularyOutput(output.target_ids[-4:], (4,), output.hidden[-4:], output.head)
    assert (targets.encode(alone, [2]) == together[-4:]).all()
    assert not (targets.encode(alone, [3]) == together[-4:]).all()


@pytest.mark.parametrize(
    ("temperatures", "temperature"), [((1.0,), 1.0), ((2.0,), 2.0), ((0.5, 2.0), 0.5), ((0.5, 2.0), 2.0)]
)
def test_sampled_targets_are_right_on_average(temperatures: tuple[float, ...], temperature: float) -> None:
    """Mean of 10,000 draws against p, column by column: 3 standard errors, of 400 columns one in a hundred may miss."""
    output = said()
    one = VocabularyOutput(
        output.target_ids[:1].repeat(10_000), (10_000,), output.hidden[:1].repeat(10_000, 1), output.head
    )
    targets = SampledFormat(VOCABULARY, temperatures, 3, 8, 32)
    signal = targets.decode(targets.encode(one, [7]), one.target_ids, one.lengths, temperature, CPU)
    assert isinstance(signal, Sampled)
    drawn = torch.zeros(10_000, VOCABULARY, dtype=torch.float64).scatter_add_(1, signal.ids, signal.weights.double())
    expected = logp(output, temperature)[0].exp()
    torch.testing.assert_close(drawn.sum(-1), torch.ones(10_000, dtype=torch.float64), atol=1e-6, rtol=0)
    # Of w n_j, with n_j at most as spread as a Poisson number: a column that was never drawn has an error too.
    error = (signal.weights[0, -1].double() * expected).sqrt() / 100
    far = (drawn.mean(0) - expected).abs() > 3 * error + 1e-6
    assert far.double().mean() < 0.01
    entropy = -(expected * expected.log()).sum()
    torch.testing.assert_close(signal.entropy.double(), entropy.expand(10_000), atol=1e-5, rtol=1e-5)


def test_what_is_drawn_at_one_temperature_is_drawn_whatever_others_are_kept() -> None:
    output = said()
    alone, beside = (kept(SampledFormat(VOCABULARY, t, 4, 9, 32), output) for t in ((1.0,), (1.0, 2.0)))
    assert isinstance(alone, Sampled)
    assert isinstance(beside, Sampled)
    assert torch.equal(alone.ids, beside.ids)
    torch.testing.assert_close(alone.weights, beside.weights)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 0.0), ("bfloat16", 2**-7), ("int8", 1 / 127)])
def test_states_come_back_as_exactly_as_their_dtype_allows(dtype: str, tolerance: float) -> None:
    output = said()
    targets = StatesFormat(VOCABULARY, (1.0,), 12, dtype)
    states = targets.states(targets.encode(output, [1, 2]), CPU).float()
    largest = output.hidden.abs().amax(-1, keepdim=True)
    assert ((states - output.hidden).abs() <= tolerance * largest * 0.51 + 1e-12).all()
    size = {"float32": 48, "bfloat16": 24, "int8": 16}
    assert targets.record_bytes == size[dtype]
