"""Statistical evidence for the stream: moments, chi², Kolmogorov-Smirnov, tails, lags, streams against each other.

    python benchmarks/stream_quality.py [--log2 30]

Each statistic is printed with its distance from what is expected, in standard errors, or with its probability under
the null hypothesis. The seed was fixed before the first run. Nothing but torch is needed.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from initframe import stream

CHUNK = 1 << 22
LAGS = (1, 2, 3, 4, 5, 8, 64, 1024, 4096)
DISTRIBUTIONS = {"uniform": (0.0, 1.0), "normal": (0.0, 1.0), "truncated_normal": (0.0, 1.0, -2.0, 2.0)}
BINS = {"uniform": 1 << 16, "normal": 1 << 16, "truncated_normal": 1 << 12}
"""The truncated normal lies on a grid of 2^24 floats: finer bins would see the grid."""
MASS = math.erf(2 / math.sqrt(2))
DENSITY = math.exp(-2) / math.sqrt(2 * math.pi)


def chunks(distribution: str, n: int) -> Iterator[Tensor]:
    """The first n elements of a stream, in float64."""
    memory, key = torch.empty(1, min(CHUNK, n)), stream.key("quality", 0)
    for start in range(0, n, memory.numel()):
        stream.execute([stream.Draw(memory, distribution, DISTRIBUTIONS[distribution], key, start)])
        yield memory[0].double()


def cdf_of(distribution: str) -> Callable[[Tensor], Tensor]:
    """The distribution function."""
    if distribution == "uniform":
        return lambda x: x
    if distribution == "normal":
        return lambda x: torch.special.erfc(x * -(0.5**0.5)) / 2
    return lambda x: 0.5 + torch.erf(x * 0.5**0.5) / (2 * MASS)


def expected_moments(distribution: str) -> dict[int, float]:
    """The moments of orders 1 to 8; those of the uniform about one half."""
    if distribution == "uniform":
        return {k: 0.0 if k % 2 else 0.5**k / (k + 1) for k in range(1, 9)}
    moments = {0: 1.0}
    for k in range(2, 9, 2):  # by parts
        moments[k] = (k - 1) * moments[k - 2] - (2 * 2 ** (k - 1) * DENSITY / MASS if distribution != "normal" else 0.0)
    return {k: moments.get(k, 0.0) for k in range(1, 9)}


def examine(distribution: str, n: int) -> None:
    """One pass over n elements; print every statistic of one stream."""
    cdf, bins, expected = cdf_of(distribution), BINS[distribution], expected_moments(distribution)
    powers, counts, tails = torch.zeros(4), torch.zeros(bins, dtype=torch.int64), {5: 0, 6: 0}
    powers, lagged = powers.double(), {lag: 0.0 for lag in LAGS if lag < min(CHUNK, n)}
    for x in chunks(distribution, n):
        centred = x - 0.5 if distribution == "uniform" else x
        powers += torch.stack([(centred**k).sum() for k in range(1, 5)])
        counts += torch.bincount((cdf(x) * bins).long().clamp_(0, bins - 1), minlength=bins)
        for lag in lagged:
            lagged[lag] += float((centred[lag:] * centred[:-lag]).sum()) / (len(x) - lag)
        for edge in tails:
            tails[edge] += int((x.abs() > edge).sum())
    print(f"\n{distribution}{DISTRIBUTIONS[distribution]}, {n:,} elements")
    for k in range(1, 5):
        error = math.sqrt((expected[2 * k] - expected[k] ** 2) / n)
        moment = float(powers[k - 1]) / n
        print(f"  moment {k}: {moment:+.6f}, expected {expected[k]:+.6f}: {(moment - expected[k]) / error:+.2f} SE")
    print(f"  chi², {bins} bins: p = {chi2(counts, n):.3f}")
    print(f"  Kolmogorov-Smirnov at {bins} edges: p = {kolmogorov(counts, n):.3f}")
    pieces, variance = max(n / CHUNK, 1), expected[2]
    scores = {lag: total / pieces / variance * math.sqrt(n) for lag, total in lagged.items()}
    print("  lag correlations, SE: " + ", ".join(f"{lag}: {score:+.2f}" for lag, score in scores.items()))
    if distribution == "normal":
        for edge, found in tails.items():
            mean = n * math.erfc(edge / math.sqrt(2))
            print(f"  |z| > {edge}: {found}, expected {mean:.1f}: {(found - mean) / math.sqrt(mean):+.2f} SE")


def chi2(counts: Tensor, n: int) -> float:
    """The probability of counts that differ more from equal ones."""
    mean = n / len(counts)
    statistic = float(((counts - mean) ** 2 / mean).sum())
    half = torch.tensor([(len(counts) - 1) / 2, statistic / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))


def kolmogorov(counts: Tensor, n: int) -> float:
    """The probability of a larger distance between distribution functions (at the bins' edges)."""
    edges = torch.arange(1, len(counts) + 1, dtype=torch.float64) / len(counts)
    distance = float((counts.cumsum(0) / n - edges).abs().max()) * math.sqrt(n)
    return min(1.0, 2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * distance) ** 2) for k in range(1, 101)))


def across(what: str, keys: list[stream.Key], n: int) -> None:
    """Correlate streams with each other: the largest of all pairs, and its probability."""
    x = torch.stack([stream.draw("normal", (0.0, 1.0), key, 0, n) for key in keys]).double()
    products = torch.triu(x @ x.T / math.sqrt(n), diagonal=1)
    pairs, largest = len(keys) * (len(keys) - 1) // 2, float(products.abs().max())
    p = -math.expm1(pairs * math.log1p(-math.erfc(largest / math.sqrt(2))))
    spread = float((products**2).sum()) / pairs
    print(f"  {len(keys)} {what}, {n:,} each: largest |correlation|·√n = {largest:.2f} (p = {p:.3f}), ", end="")
    print(f"mean square {spread:.4f}: {(spread - 1) / math.sqrt(2 / pairs):+.2f} SE")


def many_keys(keys: int, n: int) -> None:
    """chi² of the words' upper 16 bits under many keys: is the mean of the statistics what it should be?"""
    words, bins, scores = torch.empty(1, n, dtype=torch.int32), 1 << 16, []
    for k in range(keys):
        stream.execute([stream.Draw(words, "bits", (), stream.key(f"key {k}", 0))])
        counts = torch.bincount((words[0] >> 16) + bins // 2, minlength=bins)
        statistic = float(((counts - n / bins) ** 2 / (n / bins)).sum())
        scores.append((statistic - (bins - 1)) / math.sqrt(2 * (bins - 1)))
    z = torch.tensor(scores)
    print(f"  chi² of {keys} keys, {n:,} words each, {bins} bins: mean z {z.mean():+.3f} ± {keys**-0.5:.3f}, ", end="")
    print(f"standard deviation {z.std():.3f}, largest {z.max():+.2f}")


def main() -> None:
    """Run everything."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--log2", type=int, default=30, help="elements of each distribution, as a power of two")
    n, start = 1 << options.parse_args().log2, time.perf_counter()
    print(f"stream version {stream.VERSION}, backend {stream.backend_of('cpu')}, torch {torch.__version__}")
    for distribution in DISTRIBUTIONS:
        examine(distribution, n)
    print("\nstreams against each other, normal")
    size = min(n, 1 << 20)
    across("names", [stream.key(f"h.{k}.mlp.weight", 0) for k in range(128)], size)
    across("seeds", [stream.key("weight", seed) for seed in range(128)], size)
    across("purposes and names", [stream.key(f"{k // 2}", 0, ("", "perturb")[k % 2]) for k in range(128)], size)
    print("\nmany keys")
    many_keys(100, min(n, 1 << 24))
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
