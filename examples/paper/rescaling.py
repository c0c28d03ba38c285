"""Experiment 2: KL or VQ, and does it matter on which scale diffusion sees the latents?

    python examples/paper/rescaling.py

The paper's section 4.3.2 and appendix D.1: a first stage with a slight KL penalty has latents of any
variance, so that the same noise schedule destroys them sooner or later. Four trainings of equal compute
on first stages of the factor 4, two of each kind: with the latents as they are, and divided by their
standard deviation. One of them is that of `compression_factors.py`. In `runs/paper/`:

    rescaling.png            the distance by minutes of the processor's time
    rescaling_samples.png    pictures that each draws
    rescaling.md             the numbers

About 20 minutes on 2 cores, 30 if `compression_factors.py` has not run before.
"""

import numpy as np
from common import Run, Study, markdown, study
from figures import curves, rows

RUNS = {
    "KL, rescaled": Run(kind="kl"),
    "KL, as it is": Run(kind="kl", scale=1.0),
    "VQ, rescaled": Run(kind="vq"),
    "VQ, as it is": Run(kind="vq", scale=1.0),
}


def latent_std(s: Study, run: Run) -> float:
    """The standard deviation of the latents as they are."""
    moments = s.first_stage(run).moments_in_tiles(s.real[0][:1000])
    return float(np.std(moments[..., : s.make_diffusion(run).autoencoder.latent_channels]))


def main() -> None:
    """Trains what is not there yet, measures, draws."""
    s = study(__doc__.splitlines()[0])
    trained, lines, drawn = {}, [], {"test pictures": s.real_shown}
    for label, run in RUNS.items():
        task, trained[label] = s.diffusion(run)
        drawn[label] = s.drawn(run.name, lambda task=task: s.draw(task))[1]
        lost, last = s.reconstruction(run), trained[label][-1].scores
        scores = [f"{last[name]:.2f}" for name in ("fid", "is", "precision", "recall")]
        lines.append([label, f"{latent_std(s, run):.2f}", f"{lost['fid']:.2f}", *scores])
    points = {
        label: ([p.minutes for p in curve], [p.scores["fid"] for p in curve])
        for label, curve in trained.items()
    }
    curves(s.output / "rescaling.png", {("minutes of CPU time", "Fréchet distance"): points}, log_x=True)
    rows(s.output / "rescaling_samples.png", drawn)
    header = ["", "standard deviation of latents", "first stage: distance", "distance", "score"]
    table = markdown([*header, "precision", "recall"], lines)
    (s.output / "rescaling.md").write_text(table, encoding="utf-8")
    print("\n" + table)


if __name__ == "__main__":
    main()
