"""One pass for all metrics: the numbers of each alone, refused where it cannot be, NaN where the generator diverged."""

import math
from collections.abc import Iterator

import pytest
import torch
from my_features import Quarters
from torch import Generator, Tensor

from metaopt.errors import ConfigError
from metaopt.metrics import (
    METRICS,
    Moments,
    RealReference,
    check_metrics,
    density_coverage,
    evaluate,
    fid_floor,
    frechet_distance,
    inception_score,
    kernel_distance,
    modes,
    precision_recall,
    real_reference,
    small_sample_warning,
)
from metaopt.metrics.real_statistics import MAX_FEATURES

ALL = tuple(METRICS)
EXTRACTOR = Quarters()


def images(n: int, seed: int, level: int = 0) -> tuple[Tensor, Tensor]:
    """Noise with one bright quarter, and which of the four it is."""
    random = Generator().manual_seed(seed)
    x = torch.randint(level, 120 + level, (n, 1, 8, 8), generator=random, dtype=torch.uint8)
    y = torch.randint(0, 4, (n,), generator=random)
    for image, k in zip(x, y.tolist(), strict=True):
        image[0, 4 * (k // 2) :, 4 * (k % 2) :][:4, :4] += 80
    return x, y


def reference(metrics: tuple[str, ...] = ALL, n: int = 400) -> RealReference:
    x, y = images(n, seed=0)
    return real_reference(x, y, EXTRACTOR, content_hash="a", cache_dir=None, metrics=metrics)


def random(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def test_the_table_names_every_number_once() -> None:
    keys = [key for metric in METRICS.values() for key in metric.keys]
    assert keys == [
        *("fid", "kid", "inception_score", "precision", "recall", "density", "coverage", "modes", "mode_balance")
    ]


def _rank(covariance: Tensor) -> float:
    """Participation ratio, from the eigenvalues."""
    eigenvalues = torch.linalg.eigvalsh(covariance)
    return float(eigenvalues.sum() ** 2 / eigenvalues.square().sum())


def test_each_number_is_that_of_its_function() -> None:
    real, (fake, _) = reference(), images(300, seed=1, level=10)
    found = evaluate(torch.split(fake, 70), real, EXTRACTOR, ALL, random())
    features, logits = EXTRACTOR.features_and_logits(fake)
    assert logits is not None
    assert real.classifier is not None
    both, other, shown = (
        precision_recall(real.features, features),
        density_coverage(real.features, features),
        modes(features, real.classifier),
    )
    expected = {
        "fid": frechet_distance(real.statistics, Moments.of(features)),
        "kid": kernel_distance(real.features, features, random()).mean,
        "inception_score": inception_score(logits).mean,
        "precision": both.precision,
        "recall": both.recall,
        "density": other.density,
        "coverage": other.coverage,
        "modes": shown.reached,
        "mode_balance": shown.balance,
        "feature_spread": float(features.double().var(0).sum() / real.features.double().var(0).sum()),
        "feature_rank": _rank(features.double().T.cov()) / _rank(real.statistics.covariance),
    }
    assert found == pytest.approx(expected, rel=1e-9)


def test_the_real_images_are_perfect() -> None:
    real = reference()
    found = evaluate([images(400, seed=0)[0]], real, EXTRACTOR, ALL, random())
    assert found["fid"] == pytest.approx(0, abs=1e-9 * float(real.statistics.covariance.trace()))
    assert (found["precision"], found["recall"], found["coverage"], found["modes"]) == (1, 1, 1, 4)
    assert (found["feature_spread"], found["feature_rank"]) == (pytest.approx(1), pytest.approx(1))
    assert found["mode_balance"] > 0.99


def test_a_collapsed_generator_shows_in_each() -> None:
    real, (x, y) = reference(), images(600, seed=2)
    one = x[y == 2][:100]
    found = evaluate([one], real, EXTRACTOR, ALL, random())
    assert found["modes"] == 1
    assert found["mode_balance"] < 0.1
    assert found["precision"] > 0.7
    assert found["recall"] < 0.5
    assert found["coverage"] < 0.5
    assert found["feature_spread"] < 0.3


def test_one_pass_serves_all() -> None:
    seen = []

    class Counting(Quarters):
        def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
            seen.append(len(images))
            return super().features_and_logits(images)

    def batches() -> Iterator[Tensor]:
        for seed in range(3):
            yield images(50 + seed, seed)[0]

    evaluate(batches(), reference(), Counting(), ALL, random())
    assert seen == [50, 51, 52]


@pytest.mark.parametrize("sizes", [[3], [2, 1], [4, 1], [1, 3, 8], [60]])
def test_any_batches_give_the_same(sizes: list[int]) -> None:
    """With fewer images than features, as many, and more."""
    fake, _ = images(sum(sizes), seed=3)
    real = reference(("fid",))
    found = evaluate(torch.split(fake, sizes), real, EXTRACTOR, ("fid",), random())
    features = EXTRACTOR(fake)
    # with few images, roots of rounding noise remain
    assert found["fid"] == pytest.approx(frechet_distance(real.statistics, Moments.of(features)), rel=1e-7)
    spread = float(features.double().var(0).sum() / real.statistics.covariance.trace())
    assert found["feature_spread"] == pytest.approx(spread, rel=1e-9)
    most = min(_rank(real.statistics.covariance), sum(sizes) - 1)
    assert found["feature_rank"] == pytest.approx(_rank(features.double().T.cov()) / most, rel=1e-9)


@pytest.mark.parametrize("n", [4, 100])
def test_k_images_again_and_again_vary_in_fewer_than_k_directions(n: int) -> None:
    real, (some, _) = reference(), images(3, seed=4)
    ranks = []
    for k in (1, 2, 3):
        found = evaluate([some[torch.arange(n) % k]], real, EXTRACTOR, ("fid",), random())
        ranks.append(found["feature_rank"] * min(_rank(real.statistics.covariance), n - 1))
    assert ranks[0] == pytest.approx(0, abs=1e-9)
    assert ranks[1] == pytest.approx(1, rel=1e-9)
    assert 1 < ranks[2] <= 2


def test_only_what_is_asked_for() -> None:
    found = evaluate([images(40, seed=4)[0]], reference(("fid", "kid")), EXTRACTOR, ("fid", "kid"), random())
    assert list(found) == ["fid", "kid", "feature_spread", "feature_rank"]


def test_the_generator_draws_kid_alone() -> None:
    real, fake = reference(n=700), [images(600, seed=5)[0]]
    first, again, other = (evaluate(fake, real, EXTRACTOR, ALL, random(seed)) for seed in (1, 1, 2))
    assert first == again
    assert {key for key in first if first[key] != other[key]} == {"kid"}


class _Diverged(Quarters):
    """One image is too much for it."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        features, logits = super().features_and_logits(images)
        features[-1, 2] = self.value
        return features, logits


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("n", [3, 100])
def test_features_that_are_not_finite_give_nan_everywhere(value: float, n: int) -> None:
    found = evaluate([images(n, seed=6)[0]], reference(), _Diverged(value), ALL, random())
    always = {"feature_spread", "feature_rank"}
    assert set(found) == {key for metric in METRICS.values() for key in metric.keys} | always
    assert all(math.isnan(each) for each in found.values())


def test_beyond_the_kept_features_moments_and_logits_go_on() -> None:
    """The last images are all of one class: FID and Inception Score see them, the count of modes does not."""
    metrics = ("fid", "inception_score", "modes")
    real = reference(metrics)
    first, _ = images(MAX_FEATURES, seed=7)
    x, y = images(5000, seed=8)
    one = x[y == 1]
    few = evaluate([first], real, EXTRACTOR, metrics, random())
    more = evaluate([first, one], real, EXTRACTOR, metrics, random())
    features = EXTRACTOR(torch.cat([first, one]))
    assert more["fid"] == pytest.approx(frechet_distance(real.statistics, Moments.of(features)), rel=1e-7)
    assert more["fid"] > few["fid"]
    assert more["inception_score"] != few["inception_score"]
    assert more["mode_balance"] == few["mode_balance"]


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (("fid", "kdi"), r"There is no metric 'kdi'; did you mean 'kid'\? Known: fid, kid, inception_score"),
        (("fid", "xyz"), r"There is no metric 'xyz'\. Known: fid"),
        (("kid",), "`metrics` must have `fid` and no name twice, but got kid"),
        ((), "`metrics` must have `fid` and no name twice, but got none"),
        (("fid", "kid", "kid"), "`metrics` must have `fid` and no name twice, but got fid, kid, kid"),
        (("fid", "inception_score"), "`inception_score` needs features with logits.*but got quarters"),
        (("fid", "modes"), "`modes` needs images with classes"),
    ],
)
def test_metrics_that_cannot_be_measured_are_refused(metrics: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_metrics(metrics, Quarters(n_logits=0), labelled=False, n_real=100, n_samples=100)


@pytest.mark.parametrize(("metric", "least"), [("fid", 2), ("inception_score", 10), ("precision_recall", 4)])
def test_too_few_images_are_refused_and_enough_are_measured(metric: str, least: int) -> None:
    metrics = tuple(dict.fromkeys(("fid", metric)))
    with pytest.raises(ConfigError, match=f"`n_samples >= {least}` must hold for '{metric}', but got {least - 1}"):
        check_metrics(metrics, EXTRACTOR, labelled=True, n_real=100, n_samples=least - 1)
    check_metrics(metrics, EXTRACTOR, labelled=True, n_real=100, n_samples=least)
    found = evaluate([images(least, seed=8)[0]], reference(metrics), EXTRACTOR, metrics, random())
    assert all(math.isfinite(value) for value in found.values())


@pytest.mark.parametrize(("metric", "least"), [("fid", 2), ("precision_recall", 4), ("density_coverage", 6)])
def test_too_few_real_images_are_refused_and_enough_are_measured(metric: str, least: int) -> None:
    metrics = tuple(dict.fromkeys(("fid", metric)))
    with pytest.raises(ConfigError, match=f"'{metric}' needs {least} real images or more, but there are {least - 1}"):
        check_metrics(metrics, EXTRACTOR, labelled=True, n_real=least - 1, n_samples=100)
    check_metrics(metrics, EXTRACTOR, labelled=True, n_real=least, n_samples=100)
    found = evaluate([images(20, seed=8)[0]], reference(metrics, n=least), EXTRACTOR, metrics, random())
    assert all(math.isfinite(value) for value in found.values())


def test_all_metrics_pass_where_there_are_logits_and_classes() -> None:
    check_metrics(ALL, EXTRACTOR, labelled=True, n_real=100, n_samples=100)


def test_the_floor_falls_with_the_number_of_images_and_no_generator_is_far_below() -> None:
    x, _ = images(400, seed=0)
    real = reference(("fid",))
    floors = [fid_floor(x, real, EXTRACTOR, n, random()) for n in (20, 100, 500, 2500)]
    assert floors == sorted(floors, reverse=True)
    assert floors[-1] > 0
    fresh = evaluate([images(500, seed=9)[0]], real, EXTRACTOR, ("fid",), random())["fid"]
    assert fresh > floors[2] / 3


def test_the_floor_is_the_mean_of_three_draws_with_replacement() -> None:
    x, _ = images(50, seed=0)
    real = reference(("fid",), n=50)
    generator, found = random(3), []
    for _ in range(3):
        index = torch.randint(50, (30,), generator=generator)
        found.append(frechet_distance(real.statistics, Moments.of(EXTRACTOR(x[index]))))
    assert fid_floor(x, real, EXTRACTOR, 30, random(3)) == pytest.approx(sum(found) / 3, rel=1e-9)
    assert fid_floor(x, real, EXTRACTOR, 30, random(3)) != fid_floor(x, real, EXTRACTOR, 30, random(4))


def test_too_few_images_for_a_covariance_are_warned_of() -> None:
    assert small_sample_warning(65, 64) == ""
    for n in (2, 64):
        text = small_sample_warning(n, 64)
        assert f"{n} images are too few for a covariance of 64 features" in text
