"""Krippendorff's alpha against the package of that name and his own example; ICC and Cronbach against pingouin."""

import krippendorff
import numpy as np
import pandas
import pingouin
import pytest
from scipy import stats

from understudy.errors import DataError
from understudy.metrics.significance.agreement import cronbach_alpha, icc_oneway, krippendorff_alpha
from understudy.metrics.significance.resampling import Resampling

FEW = Resampling(draws=400)
# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", C: four observers, twelve units.
NAN = float("nan")
# What pingouin does with pandas is deprecated there; nothing of it is ours.
PINGOUIN = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
KRIPPENDORFF = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)


def long(table):
    return table.ravel(), np.tile(np.arange(table.shape[1]), len(table))


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_krippendorff_s_own_example(level, published) -> None:
    found = krippendorff_alpha(*long(KRIPPENDORFF), level=level, resampling=FEW)
    assert found.value == pytest.approx(published, abs=5e-4)
    assert (found.units, found.values) == (11, 40)
    assert found.low < found.value <= found.high <= 1


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_alpha_of_a_sparse_table_is_that_of_the_package(level) -> None:
    rng = np.random.default_rng(4)
    table = np.clip(rng.integers(1, 6, 30) + rng.integers(-1, 2, (9, 30)), 1, 5).astype(float)
    table[rng.random(table.shape) < 0.6] = np.nan
    expected = krippendorff.alpha(table, level_of_measurement=level)
    assert krippendorff_alpha(*long(table), level=level, resampling=FEW).value == pytest.approx(expected)


def test_alpha_where_nothing_can_be_said() -> None:
    assert np.isnan(krippendorff_alpha([1, 2, 3], ["a", "b", "c"], resampling=FEW).value)
    assert np.isnan(krippendorff_alpha([3, 3, 3, 3], ["a", "a", "b", "b"], resampling=FEW).value)
    assert krippendorff_alpha([1, 1, 5, 5], ["a", "a", "b", "b"], resampling=FEW).value == 1.0


@PINGOUIN
def test_icc_of_a_complete_table_is_that_of_pingouin() -> None:
    rng = np.random.default_rng(2)
    table = rng.normal(size=(12, 1)) + 0.8 * rng.normal(size=(12, 5))
    frame = pandas.DataFrame(
        {"unit": np.repeat(np.arange(12), 5), "rater": np.tile(np.arange(5), 12), "rating": table.ravel()}
    )
    expected = pingouin.intraclass_corr(frame, targets="unit", raters="rater", ratings="rating").iloc[0]
    found = icc_oneway(frame["rating"].to_numpy(), frame["unit"].to_numpy())
    assert found.value == pytest.approx(expected["ICC"])
    assert [found.low, found.high] == pytest.approx(list(expected["CI95"]), abs=0.006)  # pingouin rounds


def test_icc_of_unequal_groups_finds_the_share_that_was_put_in() -> None:
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(400), rng.integers(2, 13, 400))
    values = rng.normal(0, np.sqrt(0.3), 400)[groups] + rng.normal(0, np.sqrt(0.7), len(groups))
    found = icc_oneway(values, groups)
    assert found.low < 0.3 < found.high
    assert found.value == pytest.approx(0.3, abs=0.05)
    between, within = stats.f_oneway(*(values[groups == g] for g in range(400)))[:2]
    assert np.sign(found.value) == 1
    assert within < 1e-9 < between


@PINGOUIN
def test_cronbach_is_that_of_pingouin() -> None:
    rng = np.random.default_rng(5)
    table = rng.normal(size=(80, 1)) + rng.normal(size=(80, 5))
    assert cronbach_alpha(table) == pytest.approx(pingouin.cronbach_alpha(pandas.DataFrame(table))[0])
    with_gap = np.vstack([table, np.full(5, np.nan)])
    assert cronbach_alpha(with_gap) == pytest.approx(cronbach_alpha(table))
    with pytest.raises(DataError, match="at least two items"):
        cronbach_alpha(table[:, :1])
