"""The curve of a cascade against answers that are put together and scored anew, and the rules that choose on it."""

import numpy as np
import pytest

from understudy.deployment.cascade import ALWAYS, Prices, Rule, Side, curve, quality_at, thresholds_of
from understudy.errors import ConfigError
from understudy.metrics import mean_score, score
from understudy.metrics.significance import Resampling, paired_bootstrap

WORDS = ["AMF", "SMF", "UPF", "the UDM", "an NSSF of the core", "PCF and CHF"]
METRICS = ("exact_match", "rougeL", "bleu")


def rows(n=40, seed=0):
    """References, a student that is right half of the time and a teacher that is more often."""
    generator = np.random.default_rng(seed)
    references = [WORDS[i % len(WORDS)] for i in range(n)]
    answers = []
    for share in (0.5, 0.85):
        right = generator.random(n) < share
        answers.append([r if ok else generator.choice(WORDS) for r, ok in zip(references, right, strict=True)])
    return references, *answers, np.round(generator.random(n), 2)


def side(answers, references, seed, prices=Prices()):  # noqa: B008
    generator = np.random.default_rng(seed)
    scores = score(answers, [[reference] for reference in references], metrics=METRICS)
    numbers = [generator.integers(1, 30, len(answers)).astype(float) for _ in range(2)]
    return Side(scores, generator.random(len(answers)), *numbers, prices)


def test_a_curve_is_what_brute_force_gives():
    """At every threshold the texts are mixed by hand and scored from scratch, corpus BLEU too."""
    references, ours, theirs, p = rows()
    student, teacher = side(ours, references, 1, Prices(1.0, 2.0)), side(theirs, references, 2, Prices(10.0, 20.0))
    clusters = [i // 2 for i in range(len(p))]
    resampling = Resampling(draws=200)
    steps = thresholds_of(p)
    points = curve(p, student, teacher, steps, clusters=clusters, resampling=resampling)
    assert len(points) == len(np.unique(p)) + 1
    whole = score(theirs, [[r] for r in references], metrics=METRICS)
    for step, point in zip(steps, points, strict=True):
        texts, seconds, cost, asked = [], [], [], 0
        for i, probability in enumerate(p):
            ask = probability < step
            asked += ask
            texts.append(theirs[i] if ask else ours[i])
            seconds.append(student.seconds[i] + (teacher.seconds[i] if ask else 0))
            money = student.read[i] * 1.0 + student.written[i] * 2.0
            money += (teacher.read[i] * 10.0 + teacher.written[i] * 20.0) if ask else 0
            cost.append(money / 1e6)
        mixed = score(texts, [[r] for r in references], metrics=METRICS)
        assert point.asked == pytest.approx(asked / len(p))
        assert point.seconds == pytest.approx(np.mean(seconds))
        assert point.seconds_p95 == pytest.approx(np.quantile(seconds, 0.95))
        assert point.cost == pytest.approx(1000 * np.mean(cost))
        for name in METRICS:
            difference = paired_bootstrap(mixed[name], whole[name], clusters=clusters, resampling=resampling)
            quality = point.quality[name]
            assert quality.value == pytest.approx(mixed[name].value)
            assert quality.behind == pytest.approx(difference.difference, abs=1e-9)
            assert quality.behind_low == pytest.approx(difference.low, abs=1e-9)
            assert quality.behind_high == pytest.approx(difference.high, abs=1e-9)
    assert (points[0].asked, points[-1].asked) == (0, 1)


def test_an_item_that_one_side_lacks_is_in_no_figure():
    student = mean_score("m", [1.0, float("nan"), 0.0], "s")
    teacher = mean_score("m", [0.0, 1.0, 1.0], "s")
    assert quality_at(student, teacher, np.array([False, True, True])) == pytest.approx(1.0)
    assert quality_at(student, teacher, np.array([False, False, False])) == pytest.approx(0.5)


def test_thresholds_are_thinned_by_the_share_that_is_asked():
    p = np.linspace(0, 1, 500)
    steps = thresholds_of(p, 11)
    shares = [(p < step).mean() for step in steps]
    assert len(steps) == 11
    assert shares == pytest.approx(np.linspace(0, 1, 11).tolist(), abs=0.002)
    assert thresholds_of(np.array([0.5, 0.5])) == [0.0, ALWAYS]


@pytest.mark.parametrize("within", [0.0, 5.0, 20.0, 100.0])
def test_the_least_cost_within_reach_of_the_teacher(within):
    references, ours, theirs, p = rows(60, seed=3)
    student, teacher = side(ours, references, 1), side(theirs, references, 2)
    threshold = Rule(within).threshold(p, student, teacher, "exact_match")
    best = 100 * teacher.scores["exact_match"].value

    def points(step):
        return 100 * quality_at(student.scores["exact_match"], teacher.scores["exact_match"], p < step)

    assert points(threshold) >= best - within - 1e-6
    cheaper = [step for step in thresholds_of(p) if step < threshold]
    assert all(points(step) < best - within for step in cheaper)
    assert (threshold == 0.0) == (within == 100.0)


def test_the_best_under_a_cap():
    references, ours, theirs, p = rows(60, seed=5)
    student, teacher = side(ours, references, 1), side(theirs, references, 2, Prices(10.0, 20.0))
    scores = student.scores["exact_match"], teacher.scores["exact_match"]
    for rule, keeps in (
        (Rule(None, max_asked=0.3), lambda asked: asked.mean() <= 0.3),
        (Rule(None, max_cost=0.1), lambda asked: 1000 * (teacher.cost * asked).mean() <= 0.1),
    ):
        chosen = p < rule.threshold(p, student, teacher, "exact_match")
        assert keeps(chosen)
        kept = [p < step for step in thresholds_of(p) if keeps(p < step)]
        assert quality_at(*scores, chosen) == pytest.approx(max(quality_at(*scores, asked) for asked in kept))


def test_a_rule_is_one_rule_and_a_cap_can_be_kept():
    for fields in ((None,), (1.0, 0.5), (1.0, None, 3.0)):
        with pytest.raises(ConfigError, match="one rule"):
            Rule(*fields)
    references, ours, theirs, p = rows()
    dear = side(ours, references, 1, Prices(1e6, 1e6))
    with pytest.raises(ConfigError, match="student alone costs more than 1"):
        Rule(None, max_cost=1.0).threshold(p, dear, side(theirs, references, 2), "exact_match")
