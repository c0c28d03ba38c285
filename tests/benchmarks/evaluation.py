"""Measures of features: speed and memory beside torch-fidelity and `prdc`, on the same features.

    python tests/benchmarks/evaluation.py
    python tests/benchmarks/evaluation.py --rounds 5 --count 10000

FID is of two sets of `--count` features of 2,048 float32 numbers, from the features on: statistics of
both, then their distance. Precision and recall are of two sets of a fifth as many; `prdc` gives density
and coverage with them, so there is a row with these too. All take turns in one process, on one copy of
the features: seconds are medians of the rounds, memory is the most in any, above what the process had
before. The last column is how far apart the numbers are, relative to theirs. It needs the extra
`parity`, torch-fidelity and prdc.
"""

import argparse
import contextlib
import gc
import io
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # for `tests`, when run as a script

from tests.benchmarks.resident import resident

DIM = 2048
NEIGHBOURS = 3
ROWS = {  # what is ours, and what is theirs
    "FID": ("fid", "fid, torch-fidelity"),
    "Precision and recall": ("manifolds", "prdc"),
    "With density and coverage": ("manifolds and more", "prdc"),
}

Job = Callable[[], tuple[float, ...]]


def features(count: int, seed: int) -> np.ndarray:
    """Like those of a network: correlated, most of them small, none below 0."""
    rng, mixing = np.random.default_rng(seed), np.random.default_rng(9)
    directions = mixing.standard_normal((64, DIM), np.float32) / 8
    values = rng.gamma(0.5, 1 + 0.05 * seed, (count, 64)).astype(np.float32) @ directions
    values += 0.05 * rng.standard_normal((count, DIM), np.float32)
    return np.maximum(values, 0, out=values)


def jobs(count: int) -> dict[str, Job]:
    """What is measured, by name."""
    import torch
    from prdc import compute_prdc

    from keras_ldm.metrics import (
        FeatureStatistics,
        density_coverage,
        frechet_distance,
        precision_recall,
    )
    from tests.parity import fidelity

    real, generated = features(count, 0), features(count, 1)
    fewer = real[: count // 5], generated[: count // 5]
    tensors = [torch.from_numpy(x) for x in (real, generated)]

    def our_fid() -> tuple[float, ...]:
        found = [FeatureStatistics.of(x, "random") for x in (real, generated)]
        return (frechet_distance(*found),)

    def their_fid() -> tuple[float, ...]:
        found = [fidelity.fid_features_to_statistics(x) for x in tensors]
        return tuple(fidelity.fid_statistics_to_metric(*found, False).values())

    def manifolds() -> tuple[float, ...]:
        return precision_recall(*fewer, NEIGHBOURS)

    def all_four() -> tuple[float, ...]:
        return (*manifolds(), *density_coverage(*fewer, NEIGHBOURS))

    def prdc() -> tuple[float, ...]:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints how many there are
            found = compute_prdc(*fewer, NEIGHBOURS)
        return tuple(float(found[x]) for x in ("precision", "recall", "density", "coverage"))

    return {
        "fid": our_fid,
        "fid, torch-fidelity": their_fid,
        "manifolds": manifolds,
        "prdc": prdc,
        "manifolds and more": all_four,
    }


def measure(job: Job) -> tuple[float, float, tuple[float, ...]]:
    """Seconds, GiB above those before, and what came out."""
    gc.collect()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    start = time.perf_counter()
    values = job()
    return time.perf_counter() - start, resident("VmHWM") - before, values


def compare(count: int, rounds: int) -> None:
    """Prints the table."""
    found: dict[str, list[tuple[float, float, tuple[float, ...]]]] = {}
    measured = jobs(count)
    for _ in range(rounds):
        for name, job in measured.items():
            found.setdefault(name, []).append(measure(job))
    print("| | keras_ldm | theirs | ratio | keras_ldm, memory | theirs, memory | apart |")
    print("|---|---|---|---|---|---|---|")
    for row, names in ROWS.items():
        seconds = [statistics.median(x for x, _, _ in found[name]) for name in names]
        memory = [max(x for _, x, _ in found[name]) for name in names]
        pairs = zip(*(found[name][-1][2] for name in names), strict=False)
        apart = max(abs(ours - theirs) / max(abs(theirs), 1e-12) for ours, theirs in pairs)
        cells = [row, *(f"{x:.2f} s" for x in seconds), f"{seconds[1] / seconds[0]:.2f}"]
        print("| " + " | ".join([*cells, *(f"{x:.2f} GiB" for x in memory), f"{apart:.1e}"]) + " |")


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=50_000, help="features of a set, for FID")
    arguments = parser.parse_args()
    compare(arguments.count, arguments.rounds)


if __name__ == "__main__":
    main()
