"""Experiment 5: diffusion in pixels and in latents, at equal time.

    python examples/paper/pixels_or_latents.py

The paper's section 4.1: what does the first stage buy? Diffusion in latents is that of the factor 4 of
`compression_factors.py`; diffusion in pixels has as much of the processor's time as that and its first
stage together. In `runs/paper/`:

    pixels_or_latents.png            the distance by minutes, those of the first stage included
    pixels_or_latents_samples.png    pictures of both at the end
    pixels_or_latents.md             the numbers, and the time to draw

About 10 minutes on 2 cores, 20 if `compression_factors.py` has not run before.
"""

import time

from common import Run, markdown, study
from figures import curves, rows

RUNS = {"pixels": Run(1, whole_time=True), "latents, f4": Run(4)}


def main() -> None:
    """Trains what is not there yet, measures the time to draw, draws."""
    s = study(__doc__.splitlines()[0])
    drawn, lines, by_minutes = {"test pictures": s.real_shown}, [], {}
    for label, run in RUNS.items():
        task, points = s.diffusion(run)
        before = 0.0 if run.factor == 1 else s.first_stage_minutes
        by_minutes[label] = ([p.minutes + before for p in points], [p.scores["fid"] for p in points])
        s.draw(task)  # traces
        start = time.process_time()
        drawn[label] = s.draw(task)[s.shown]
        seconds = (time.process_time() - start) / len(s.labels)
        last = points[-1]
        lines.append([
            label, f"{before:g} + {last.minutes:.1f}", f"{last.steps:,}",
            *(f"{last.scores[name]:.2f}" for name in ("fid", "precision", "recall")),
            f"{1000 * seconds:.0f} ms",
        ])  # fmt: skip
    panels = {("minutes of CPU time, first stage included", "Fréchet distance"): by_minutes}
    curves(s.output / "pixels_or_latents.png", panels, log_x=True)
    rows(s.output / "pixels_or_latents_samples.png", drawn)
    header = ["", "minutes: first stage + diffusion", "steps", "distance", "precision", "recall"]
    table = markdown([*header, "CPU time to draw a picture"], lines)
    (s.output / "pixels_or_latents.md").write_text(table, encoding="utf-8")
    print("\n" + table)


if __name__ == "__main__":
    main()
