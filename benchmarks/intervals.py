"""Do 95 % intervals hold the true mean 95 times in 100, and do tests at 5 % err 5 times?

    python benchmarks/intervals.py [--trials 1000]

Coverage of the mean's interval by number of photographs and shape of the scores: the percentile and BCa bootstrap, and
the studentized one that evaluations use. False positives of Wilcoxon's test on images and of the sign-flip test on
photographs, where a photograph gives five crops and the methods do not differ.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from scipy import stats

from seesr_pl.evaluation.statistics import mean_interval, mean_intervals, sign_flip_test

Draw = Callable[[np.random.Generator, int], np.ndarray]
# Scores with mean 0.
SHAPES: dict[str, Draw] = {
    "normal": lambda generator, n: generator.normal(0, 1, n),
    "skewed": lambda generator, n: generator.lognormal(0, 0.75, n) - np.exp(0.75**2 / 2),
    "heavy tails": lambda generator, n: generator.standard_t(4, n),
}
NUM_RESAMPLES = 1_000


def main() -> None:
    """Print both tables and the time of nine metrics of 3,000 images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1_000)
    trials = parser.parse_args().trials
    print("| scores | photographs | percentile | BCa | ours |\n| --- | ---: | ---: | ---: | ---: |")
    for shape, draw in SHAPES.items():
        for n in (3, 5, 10, 20, 50, 100):
            print(f"| {shape} | {n} | " + " | ".join(f"{found:.3f}" for found in coverage(draw, n, trials)) + " |")
    print("\n| photographs x crops | Wilcoxon on images | sign flips of photographs |\n| --- | ---: | ---: |")
    for n in (6, 10, 20, 50):
        wilcoxon, flips = false_positives(n, trials)
        print(f"| {n} x 5 | {wilcoxon:.3f} | {flips:.3f} |")
    start = time.process_time()
    mean_intervals(np.random.default_rng(0).normal(25, 3, (3_000, 9)))
    print(f"\nnine metrics of 3,000 images, 10,000 resamples: {time.process_time() - start:.2f} s of CPU time")


def coverage(draw: Draw, n: int, trials: int) -> tuple[float, ...]:
    """Return the share of trials whose interval holds 0: percentile, BCa, ours."""
    generator, held = np.random.default_rng(n), []
    for _ in range(trials):
        values = draw(generator, n)
        options = {"n_resamples": NUM_RESAMPLES, "rng": generator, "vectorized": True}
        bounds = [
            stats.bootstrap((values,), np.mean, method=method, **options).confidence_interval
            for method in ("percentile", "BCa")
        ]
        ours = mean_interval(values.tolist(), num_resamples=NUM_RESAMPLES)
        held.append([low <= 0 <= high for low, high in (*bounds, (ours.low, ours.high))])
    return tuple(np.mean(held, axis=0))


def false_positives(n: int, trials: int, *, crops: int = 5) -> tuple[float, float]:
    """Return how often two methods that do not differ are told apart at 5 %: by image, by photograph."""
    generator, told = np.random.default_rng(n), []
    groups = np.repeat(np.arange(n), crops).tolist()
    for _ in range(trials):
        values = np.repeat(generator.normal(0, 1, n), crops) + generator.normal(0, 0.5, n * crops)
        flips = sign_flip_test(values.tolist(), [0.0] * len(values), groups, num_flips=NUM_RESAMPLES)
        told.append([stats.wilcoxon(values).pvalue < 0.05, flips < 0.05])
    return tuple(np.mean(told, axis=0))


if __name__ == "__main__":
    main()
