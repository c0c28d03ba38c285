"""Experiment 1: how much should the first stage compress?

    python examples/paper/compression_factors.py

The paper's figure 6: latent diffusion with first stages of the factors 1 (pixels), 2, 4, 8, 16 and 32,
U-Nets of about as many parameters, and equal compute. Each is measured as it trains. In `runs/paper/`:

    compression_factors.png            distance and score by steps and by minutes of CPU time
    compression_factors_samples.png    pictures that each draws at the end
    compression_factors.md             the numbers

About an hour on 2 cores.
"""

from common import Point, Run, markdown, study
from figures import curves, rows

FACTORS = (1, 2, 4, 8, 16, 32)


def panels(trained: dict[str, list[Point]]) -> dict:
    """The figure's four."""
    found = {}
    for score, title in (("fid", "Fréchet distance"), ("is", "Inception Score of the judge")):
        for axis, name in (("steps", "steps"), ("minutes", "minutes of CPU time")):
            found[name, title] = {
                label: ([getattr(p, axis) for p in points], [p.scores[score] for p in points])
                for label, points in trained.items()
            }
    return found


def main() -> None:
    """Trains what is not there yet, measures, draws."""
    s = study(__doc__.splitlines()[0])
    trained, lines, drawn = {}, [], {"test pictures": s.real_shown}
    for factor in FACTORS:
        run = Run(factor)
        task, points = s.diffusion(run)
        label = f"f{factor}"
        trained[label] = points
        lost = s.reconstruction(run)
        drawn[label] = s.drawn(run.name, lambda task=task: s.draw(task))[1]
        last = points[-1].scores
        lines.append([
            label, "x".join(map(str, (32 // factor, 32 // factor, task.autoencoder.latent_channels))),
            f"{task.unet.count_params() / 1e6:.2f} M", f"{lost['fid']:.2f}",
            "" if factor == 1 else f"{lost['psnr']:.1f} dB",
            f"{points[-1].steps:,}", f"{last['fid']:.2f}", f"{last['is']:.2f}",
            f"{last['precision']:.2f}", f"{last['recall']:.2f}",
        ])  # fmt: skip
    curves(s.output / "compression_factors.png", panels(trained), log_x=True)
    rows(s.output / "compression_factors_samples.png", drawn)
    header = ["", "latents", "U-Net", "first stage: distance", "PSNR", "steps", "distance", "score"]
    table = markdown([*header, "precision", "recall"], lines)
    (s.output / "compression_factors.md").write_text(table, encoding="utf-8")
    print("\n" + table)
    floor = s.scores("training_pictures", lambda: s.score(s.training[0][: len(s.labels)]))
    print(f"As many training pictures: distance {floor['fid']:.2f}, score {floor['is']:.2f}")


if __name__ == "__main__":
    main()
