"""How sure a number is: Wilson and bootstrap intervals, paired tests, and the Holm adjustment.

The unit of resampling is the input sentence. Where one input gave several values (several outputs, several
annotators), pass its id as ``clusters``: values of one input are then drawn together, never apart.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 10_000
_EDGE = 5.0  # wins or losses below which a mean is far from normal, as in the rule of thumb n p >= 5
_CELLS = 100_000  # of a resampling matrix at once: stays in the processor cache, whatever the number of inputs


class Interval(NamedTuple):
    """Both ends, inclusive."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, its interval, and ``n``, the values it rests on.

    ``value`` is ``None`` where n = 0, and ``low`` and ``high`` are ``None`` where one unit leaves nothing to resample:
    unknown, not zero.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    method: Literal["wilson", "bootstrap", "likelihood", "delta"]


def wilson(successes: float, n: float, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion, in [0, 1]; n = 0 knows nothing and gives (0, 1).

    Source: Wilson 1927. ``successes`` may be fractional (a tie as a half). Raises ``ValueError`` unless
    0 <= successes <= n and 0 < level < 1.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie in 0..n, got {successes} of {n}")
    z = normal_quantile(level)
    if n == 0:
        return Interval(0.0, 1.0)
    rate, weight = successes / n, z * z / n
    centre = (rate + weight / 2) / (1 + weight)
    half = z / (1 + weight) * float(np.sqrt(rate * (1 - rate) / n + weight / (4 * n)))
    # the ends are exact at 0 and n of n; rounding would leave 1e-17 there
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(low, high)


def proportion(successes: float, n: int, level: float = 0.95) -> Estimate:
    """``successes / n`` with its Wilson interval. Raises as :func:`wilson` does."""
    low, high = wilson(successes, n, level)
    return Estimate(successes / n if n else None, low, high, n, "wilson")


def share(
    values: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Mean of values in [0, 1] with the interval that suits them.

    Wilson where every value is 0 or 1 and stands for its own unit; otherwise the cluster bootstrap. Units that all agree,
    or nearly do, leave a bootstrap next to no width: it never draws what was not seen. Where the units hold fewer than
    five wins' or five losses' worth, the interval therefore reaches at least as far as Wilson's for n /
    :func:`dispersion` judgments, which stands alone where nothing varies. Raises ``ValueError`` for values outside
    [0, 1].
    """
    data = _finite(values, "values")
    if np.any((data < 0) | (data > 1)):
        raise ValueError("values must lie in 0..1")
    if data.size == 0:
        return proportion(0, 0, level)
    index = cluster_index(data.size, clusters)
    units, mean = int(index.max()) + 1, float(data.mean())
    if units == data.size and bool(np.all((data == 0) | (data == 1))):
        return proportion(float(data.sum()), data.size, level)
    sums, sizes = by_cluster(data, clusters)
    alike = units == 1 or bool(np.ptp(sums / sizes) <= 1e-12)
    judgments = units if alike else data.size / dispersion(data, np.full(data.size, mean), index)
    low, high = wilson(min(mean * judgments, judgments), judgments, level)
    if alike:
        return Estimate(mean, low, high, data.size, "wilson")
    drawn = bootstrap_mean(values, clusters=clusters, level=level, resamples=resamples, seed=seed)
    if drawn.low is None or drawn.high is None or units * min(mean, 1 - mean) >= _EDGE:
        return drawn
    return Estimate(mean, min(low, drawn.low), max(high, drawn.high), data.size, "bootstrap")


def bootstrap_mean(
    values: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Mean of ``values`` with the percentile bootstrap interval over units (Efron and Tibshirani 1993, ch. 13).

    Raises ``ValueError`` for a value that is not finite, or when ``clusters`` has another length.
    """
    data = _finite(values, "values")
    if data.size == 0:
        return Estimate(None, None, None, 0, "bootstrap")
    sums, sizes = by_cluster(data, clusters)
    mean = float(sums.sum() / sizes.sum())
    if sums.size == 1:
        return Estimate(mean, None, None, data.size, "bootstrap")
    drawn = np.concatenate([(counts @ sums) / (counts @ sizes) for counts in resampled(sums.size, resamples, seed)])
    low, high = percentiles(drawn, level)
    return Estimate(mean, low, high, data.size, "bootstrap")


def paired_bootstrap(
    a: Sequence[float],
    b: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Mean of a - b over the same inputs, resampled as pairs (Koehn 2004).

    ``a[i]`` and ``b[i]`` are the scores of two students on input i against the same opponent. Raises ``ValueError``
    when the two have unlike lengths.
    """
    differences = _differences(a, b).tolist()
    return bootstrap_mean(differences, clusters=clusters, level=level, resamples=resamples, seed=seed)


def sign_flip_test(
    a: Sequence[float],
    b: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> float:
    """Two-sided p-value that two students score alike: flip the sign of each unit's difference at random.

    Exact where all 2^units flips number no more than ``resamples``; else (1 + hits) / (1 + resamples), which never
    gives 0 (Phipson and Smyth 2010). Units without a difference cannot matter and are left out.
    """
    # scipy's permutation_test gives the same exact values, but doubles the smaller tail where it samples (a noisier p)
    # and takes 18 times as long and gigabytes of memory for 1,000 units and more
    sums, _ = by_cluster(_differences(a, b), clusters)
    sums = sums[sums != 0]
    if sums.size == 0:
        return 1.0
    bar = abs(float(sums.sum())) - 1e-9 * float(np.abs(sums).sum())  # rounding must not hide an equal total
    if 2**sums.size <= resamples:
        bits = (np.arange(2**sums.size)[:, None] >> np.arange(sums.size)) & 1
        return float(np.mean(np.abs((2 * bits - 1) @ sums) >= bar))
    rng, hits = np.random.default_rng(seed), 0
    for rows in chunks(resamples, sums.size):
        signs = rng.integers(0, 2, (rows, sums.size)) * 2 - 1
        hits += int(np.count_nonzero(np.abs(signs @ sums) >= bar))
    return (1 + hits) / (1 + resamples)


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value of McNemar's test (1947) from the discordant inputs: won by a alone, by b alone."""
    if only_a < 0 or only_b < 0:
        raise ValueError(f"counts cannot be negative, got {only_a} and {only_b}")
    from scipy.special import bdtr  # takes long to import

    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's (1979) step-down adjusted p-values, in the order given: reject where the adjusted value is <= alpha."""
    raw = _finite(p_values, "p-values")
    if np.any((raw < 0) | (raw > 1)):
        raise ValueError("p-values must lie in 0..1")
    order = np.argsort(raw, kind="stable")
    stepped = raw[order] * np.arange(raw.size, 0, -1)
    adjusted = np.empty_like(raw)
    # a larger p-value may never end below a smaller one: running maximum
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return tuple(adjusted.tolist())


def dispersion(target: Floats, fitted: Floats, units: NDArray[np.int64]) -> float:
    """Variance of the judgments over what as many independent answers of 0 or 1 would have (quasi-likelihood,
    Wedderburn 1974).

    1 for independent wins and losses, less for ties and other soft scores (Var y = p (1 - p) - E y (1 - y)), more where
    judgments of one unit (``units``: its number, for each judgment) go together. One unseen judgment of the least
    likely kind is added, so that 20 scores of 0.999 prove no more than 20 wins. The value never exceeds that of units
    that answer as one, sum m^2 / sum m for units of m judgments, which also stands where nothing varies.
    """
    sizes = np.bincount(units).astype(np.float64)
    worst = float((sizes @ sizes) / sizes.sum())
    if sizes.size == 1 or np.ptp(target) <= 1e-12:
        return worst
    residual = target - fitted
    sums = np.bincount(units, weights=residual)
    binary = float((fitted * (1 - fitted)).sum())
    alone = max(0.0, binary - float((target * (1 - target)).sum()))
    together = max(0.0, float(sums @ sums - residual @ residual)) * sizes.size / (sizes.size - 1)
    return min(worst, (alone + together + worst) / (binary + 1))


def by_cluster(values: Floats, clusters: Sequence[Hashable] | None) -> tuple[Floats, Floats]:
    """Sum and number of values of each cluster, in order of first appearance; without ids every value is its own."""
    index = cluster_index(len(values), clusters)
    return np.bincount(index, weights=values).astype(np.float64), np.bincount(index).astype(np.float64)


def cluster_index(n: int, clusters: Sequence[Hashable] | None) -> NDArray[np.int64]:
    """The cluster number (0, 1, …) of each of ``n`` values. Raises ``ValueError`` for another number of ids."""
    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise ValueError(f"{n} values need {n} cluster ids, got {len(clusters)}")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in clusters], dtype=np.int64)


def resampled(units: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each of ``units`` is drawn in each bootstrap resample: matrices of (some resamples, units)."""
    rng = np.random.default_rng(seed)
    for rows in chunks(resamples, units):
        drawn = rng.integers(0, units, (rows, units)) + np.arange(rows)[:, None] * units
        yield np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units).astype(np.float64)


def percentiles(drawn: Floats, level: float) -> Interval:
    """The central ``level`` of the bootstrap distribution ``drawn``."""
    normal_quantile(level)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def chunks(resamples: int, units: int) -> Iterator[int]:
    """``resamples`` cut into row counts whose matrices of ``units`` columns are small."""
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    rows = max(1, _CELLS // units)
    for start in range(0, resamples, rows):
        yield min(rows, resamples - start)


def normal_quantile(level: float) -> float:
    """z of a two-sided interval: 1.96 for 0.95. Raises ``ValueError`` unless 0 < level < 1."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    from scipy.special import ndtri  # takes long to import

    return float(ndtri((1 + level) / 2))


def _finite(values: Sequence[float], what: str) -> Floats:
    data = np.asarray(values, dtype=np.float64)
    if not np.all(np.isfinite(data)):
        raise ValueError(f"{what} must be finite numbers; leave unparsed ones out and count them")
    return data


def _differences(a: Sequence[float], b: Sequence[float]) -> Floats:
    if len(a) != len(b):
        raise ValueError(f"paired scores need the same inputs, got {len(a)} and {len(b)}")
    return _finite(a, "scores") - _finite(b, "scores")
