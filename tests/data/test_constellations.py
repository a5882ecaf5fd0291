"""The pictures that the project draws: symbols where they belong, true answers, rows that tell nothing else."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from understudy.data.embedded import load_embedded
from understudy.data.embedded.constellations import (
    BITS,
    LIMIT,
    SIZE,
    STEP,
    TURN,
    WORDINGS,
    Link,
    generate,
    picture,
    places,
    png,
    points,
)
from understudy.data.pictures import address_of, open_image
from understudy.errors import ConfigError
from understudy.recipe import DataConfig
from understudy.types import Splits


@pytest.fixture(scope="module")
def splits() -> Splits:
    return generate()


@pytest.mark.parametrize("modulation", BITS)
def test_the_points_of_a_modulation(modulation: str) -> None:
    own = points(modulation)
    assert len(own) == len(np.unique(own.round(9))) == 2 ** BITS[modulation]
    assert np.mean(np.abs(own) ** 2) == pytest.approx(1)
    assert abs(own.sum()) < 1e-9


def test_points_that_were_worked_out_by_hand() -> None:
    assert np.allclose(sorted(points("BPSK").real), [-1, 1])
    assert np.allclose(sorted({complex(p).real.__round__(6) for p in points("QPSK")}), [-0.707107, 0.707107])
    assert np.min(np.abs(points("8-PSK") - (0.70710678 + 0.70710678j))) < 1e-6
    # ±1 and ±3 over √10; the outermost of 256-QAM 15 / √170.
    assert np.allclose(sorted(set(points("16-QAM").real.round(6))), [-0.948683, -0.316228, 0.316228, 0.948683])
    assert points("256-QAM").real.max() == pytest.approx(15 / 170**0.5)
    assert points("256-QAM").real.max() < LIMIT


def test_symbols_stand_where_they_were_computed_by_hand() -> None:
    """48 points for 3 units, 16 a unit, rows counted from the top."""
    assert (SIZE, LIMIT) == (48, 1.5)
    # (I + 1.5) · 16 and (1.5 − Q) · 16, rounded down.
    assert places(np.array([1 + 0j])).tolist() == [[24, 40]]
    assert places(np.array([-1 + 0j])).tolist() == [[24, 8]]
    assert places(np.array([0 + 1j])).tolist() == [[8, 24]]
    assert places(np.array([0.70710678 + 0.70710678j])).tolist() == [[12, 35]]
    assert places(np.array([-0.948683 - 0.316228j])).tolist() == [[29, 8]]
    assert places(np.array([9 + 9j, -9 - 9j])).tolist() == [[0, 47], [47, 0]]
    drawn = picture(np.array([1 + 0j, 1 + 0j, -1 + 0j]))
    assert {(r, c): drawn[r, c] for r, c in zip(*drawn.nonzero(), strict=True)} == {(24, 40): 2 * STEP, (24, 8): STEP}
    assert picture(np.array([1 + 0j] * 9)).max() == 255


def test_a_picture_without_noise_has_the_points_and_nothing_else() -> None:
    link = Link.drawn("16-QAM", 200.0, 0.0, seed=1, num=4000)
    opened = np.asarray(open_image(address_of(png(link))))
    lit = {(int(r), int(c)) for r, c in zip(*opened[..., 0].nonzero(), strict=True)}
    # ±0.3162 and ±0.9487 lie in columns 8, 18, 29 and 39, and in rows mirrored: 8, 18, 29, 39.
    assert lit == set(itertools.product((8, 18, 29, 39), repeat=2))
    assert (opened == opened[..., :1]).all()


def test_noise_and_turn_are_those_asked_for() -> None:
    link = Link.drawn("QPSK", 10.0, TURN, seed=3, num=200_000)
    sent = points("QPSK")[link.sent]
    noise = link.received - sent * np.exp(1j * np.deg2rad(12))
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(0.1, rel=0.02)
    assert np.mean(noise.real**2) == pytest.approx(0.05, rel=0.02)
    assert np.rad2deg(np.angle(np.mean(link.received * sent.conj()))) == pytest.approx(12, abs=0.2)


def test_wrong_decisions_are_counted_as_a_receiver_would() -> None:
    own = points("BPSK")
    sent = np.array([0, 0, 1, 1])
    received = own[sent] + np.array([0.2, -1.7, 0.9, 1.4])
    assert Link("BPSK", 0, 0.0, sent, received).error_rate == 0.5
    # BPSK at 4 dB: half of erfc(√10^0.4) = 1.25%.
    assert Link.drawn("BPSK", 4.0, 0.0, seed=0, num=400_000).error_rate == pytest.approx(0.0125, rel=0.05)
    answers = [Link("BPSK", 5, -TURN, sent, own[sent] + shift).answers for shift in (0, np.array([0, -2, 0, 0]))]
    assert [answer["errors"] for answer in answers] == ["none", "many"]
    assert answers[0] == {"modulation": "BPSK", "snr": "5 dB", "phase": "clockwise", "errors": "none"}


def test_the_same_seed_draws_the_same_pictures(splits: Splits) -> None:
    assert generate() == splits
    assert generate(seed=1).test != splits.test


def test_a_picture_stands_in_one_split_with_all_its_questions(splits: Splits) -> None:
    owners = [{row.images[0] for row in rows} for rows in (*splits.by_role.values(),)]
    assert sum(map(len, owners)) == len(set().union(*owners)) == splits.notes["pictures"]
    assert set(Counter(row.group for row in splits.rows).values()) == {len(WORDINGS)}
    assert not any(row.answers or set(row.meta) != {"kind"} for row in splits.unlabelled)


def test_the_text_of_a_question_tells_nothing_of_its_answer(splits: Splits) -> None:
    for question in {text for wordings in WORDINGS.values() for text in wordings}:
        answers = Counter(row.answers[0] for row in (*splits.train, *splits.test) if row.question == question)
        assert max(answers.values()) < 0.5 * answers.total()


def test_it_is_read_like_every_embedded_set() -> None:
    some = load_embedded(DataConfig(source="embedded:constellations", gold_share=0.5, limit=20))
    assert len(some.train) == len(some.unlabelled) == 20
    with pytest.raises(ConfigError, match="gold_share"):
        generate(gold_share=0)
    with pytest.raises(ConfigError, match="has its own splits"):
        load_embedded(DataConfig(source="embedded:constellations", test=0.5))
