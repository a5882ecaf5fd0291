"""Power against statsmodels, and whole groups against single items."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from statsmodels.stats.power import TTestPower

from understudy.metrics import score
from understudy.metrics.significance import Resampling, paired_bootstrap, power_analysis
from understudy.metrics.significance.power import items_needed, minimal_detectable, power_of


@pytest.mark.parametrize("groups", [3, 5, 30, 500, 20_000])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_minimal_detectable_agrees_with_statsmodels(groups: int, power: float) -> None:
    theirs = TTestPower().solve_power(nobs=groups, alpha=0.05, power=power)
    assert minimal_detectable(1 / np.sqrt(groups), groups, power=power) == pytest.approx(theirs, rel=5e-4)


@pytest.mark.parametrize("effect", [0.05, 0.2, 0.5, 1.5])
def test_items_needed_agree_with_statsmodels(effect: float) -> None:
    theirs = TTestPower().solve_power(effect_size=effect, alpha=0.05, power=0.8)
    assert items_needed(effect, 1 / np.sqrt(50), 50, items=50) == pytest.approx(np.ceil(theirs), abs=1)


@pytest.mark.parametrize("alpha", [1e-3, 1e-4, 1e-5, 1e-6])
@pytest.mark.parametrize("groups", [301, 1001, 5001, 50_001])
def test_the_levels_of_many_corrected_tests_have_a_power_too(groups: int, alpha: float) -> None:
    """Behind the first steps of Holm's correction, where the far tail of the noncentral t has no value in scipy."""
    known = norm.isf(alpha / 2) + norm.isf(0.2)
    assert minimal_detectable(1.0, groups, alpha=alpha) == pytest.approx(known, rel=8 / groups + 1e-4)
    for shift in np.linspace(0.1, 9, 90):
        assert 0 <= power_of(shift, 1.0, groups, alpha=alpha) <= 1


def test_power_of_agrees_with_statsmodels() -> None:
    theirs = TTestPower().power(0.3, 40, 0.05)
    assert power_of(-0.3, 1 / np.sqrt(40), 40) == pytest.approx(theirs, rel=1e-6)
    assert power_of(0.0, 0.1, 40) == pytest.approx(0.05)


def test_needing_what_one_has_is_detecting_what_one_sees() -> None:
    differences = np.random.default_rng(0).normal(0.1, 1, size=100)
    power = power_analysis(differences, np.zeros(100))
    scaled = differences * (power.minimal_detectable / power.difference)
    again = items_needed(power.minimal_detectable, power.standard_error, 100, items=100)
    assert again == pytest.approx(100, abs=1)
    assert power_analysis(scaled, np.zeros(100)).items_needed == power.items_needed


def test_copies_are_no_new_items() -> None:
    values = np.random.default_rng(1).normal(0.1, 1, size=40)
    alone = power_analysis(values, np.zeros(40))
    copied = power_analysis(np.repeat(values, 5), np.zeros(200), clusters=np.repeat(np.arange(40), 5).tolist())
    assert copied.minimal_detectable == pytest.approx(alone.minimal_detectable)
    assert copied.items_needed == 5 * alone.items_needed
    assert (copied.n, copied.groups) == (200, 40)


def test_a_corpus_metrics_error_is_that_of_its_interval() -> None:
    generator = np.random.default_rng(5)
    words = [f"word{number}" for number in range(30)]
    references = [[" ".join(generator.choice(words, 12))] for _ in range(60)]

    def noisy(share: float) -> list[str]:
        return [
            " ".join(word if generator.random() < share else "other" for word in reference[0].split())
            for reference in references
        ]

    a, b = (score(noisy(share), references, metrics=["bleu"])["bleu"] for share in (0.9, 0.8))
    power, difference = (
        power_analysis(a, b),
        paired_bootstrap(a, b, resampling=Resampling(2000)),
    )
    assert power.standard_error == pytest.approx((difference.high - difference.low) / 4, rel=0.1)
    assert power.minimal_detectable == pytest.approx(2.84 * power.standard_error, rel=0.02)


def test_what_cannot_be_known_is_not_given() -> None:
    assert np.isnan(power_analysis([1.0], [0.0]).minimal_detectable)
    assert power_analysis([1.0, 0.0], [1.0, 0.0]).to_dict()["items_needed"] is None
    assert np.isnan(power_of(1.0, 0.1, 1))
    assert power_of(1.0, 0.0, 5) == 1
