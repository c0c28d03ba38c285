"""Experiment 4: how many steps does which sampler need?

    python examples/paper/sampling_steps.py

The model of the factor 4 of `compression_factors.py` draws the same pictures, from the same noise, with
several samplers in 5 to 100 steps of the network. In `runs/paper/`:

    sampling_steps.png            the distance by evaluations of the network
    sampling_steps_samples.png    pictures in 5 and in 20 evaluations
    sampling_steps.md             the numbers

About 6 minutes on 2 cores, 15 if `compression_factors.py` has not run before.
"""

from common import Run, markdown, study
from figures import curves, rows

SAMPLERS = ("ddpm", "ddim", "euler_ancestral", "heun", "dpmpp_2m", "unipc")
EVALUATIONS = (5, 10, 20, 50, 100)
SHOWN = (5, 20)


def main() -> None:
    """Measures what is not there yet, draws."""
    s = study(__doc__.splitlines()[0])
    task, _ = s.diffusion(Run())
    drawn, lines, by_sampler = {"test pictures": s.real_shown}, [], {}
    for sampler in SAMPLERS:
        found = {}
        for evaluations in EVALUATIONS:
            # Heun's method evaluates the network twice in each step but the last: at most as often.
            steps = (evaluations + 1) // 2 if sampler == "heun" else evaluations
            options = {"sampler": sampler, "num_steps": steps}
            label = f"{sampler}, {evaluations}"
            scores, pictures = s.drawn(label, lambda options=options: s.draw(task, **options))
            found[evaluations] = scores["fid"]
            if evaluations in SHOWN:
                drawn[label] = pictures
        by_sampler[sampler] = (list(found), list(found.values()))
        lines.append([f"`{sampler}`", *(f"{distance:.2f}" for distance in found.values())])
    panels = {("evaluations of the network", "Fréchet distance"): by_sampler}
    curves(s.output / "sampling_steps.png", panels, log_x=True)
    rows(s.output / "sampling_steps_samples.png", drawn)
    table = markdown(["distance after", *map(str, EVALUATIONS)], lines)
    (s.output / "sampling_steps.md").write_text(table, encoding="utf-8")
    print("\n" + table)


if __name__ == "__main__":
    main()
