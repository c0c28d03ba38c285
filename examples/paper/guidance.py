"""Experiment 3: what guidance gives, and what it takes.

    python examples/paper/guidance.py

The model of the factor 4 of `compression_factors.py` draws each class at several scales of classifier-
free guidance, as the paper's table 3 does at one, and, from no class at all, led by a classifier of
noisy latents that is trained here (appendix C). Guidance makes pictures more typical (precision) and
less varied (recall); the Fréchet distance wants both. In `runs/paper/`:

    guidance.png            distance by scale, and precision against recall
    guidance_samples.png    pictures by scale
    guidance.md             the numbers

About 5 minutes on 2 cores, 15 if `compression_factors.py` has not run before.
"""

import keras
import numpy as np
from common import CLASSES, Measuring, Run, Study, markdown, study
from fashion_mnist import NO_CLASS, kept
from figures import curves, rows

import keras_ldm as kl

FREE_SCALES = (1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
CLASSIFIER_SCALES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
RUN = Run()


def train_classifier(s: Study, ldm: kl.tasks.LatentDiffusion) -> kl.tasks.NoisyLatentClassifier:
    """Tells the class from noisy latents."""
    network = kl.models.UNetClassifier(
        len(CLASSES), (32, 48), ldm.autoencoder.latent_channels, num_res_blocks=1,
        attention_levels=(1,), num_heads=4, scale_shift=True, groups=16, dropout=0.1,
    )  # fmt: skip
    task = kl.tasks.NoisyLatentClassifier(ldm.latent_space, network, ldm.schedule)
    task.compile(keras.optimizers.AdamW(1e-3, weight_decay=0.05))
    images, labels = s.training
    data = {"moments": ldm.encode_moments(images), "class_label": labels}
    s.train(task, data, Measuring(s.minutes / 2, None))
    return task


def main() -> None:
    """Trains what is not there yet, measures, draws."""
    s = study(__doc__.splitlines()[0])
    ldm, _ = s.diffusion(RUN)
    classifier = kept(s.output / "classifier_f4.keras", lambda: train_classifier(s, ldm))
    nothing = {"class_label": np.full(len(s.labels), NO_CLASS)}
    settings = {
        "classifier-free": [(scale, {"guidance_scale": scale}) for scale in FREE_SCALES],
        "classifier": [
            (scale, {"conditions": nothing, "classifier": classifier, "classifier_labels": s.labels,
                     "classifier_scale": scale})
            for scale in CLASSIFIER_SCALES
        ],
    }  # fmt: skip
    drawn, lines = {"test pictures": s.real_shown}, []
    scores = {name: {} for name in settings}
    for name, by_scale in settings.items():
        for scale, options in by_scale:
            label = f"{name} {scale:g}"
            found, drawn[label] = s.drawn(label, lambda options=options: s.draw(ldm, **options))
            scores[name][scale] = found
            cells = [f"{found[key]:.2f}" for key in ("fid", "is", "precision", "recall")]
            lines.append([name, f"{scale:g}", *cells])
    panels = {
        ("scale", "Fréchet distance"): {
            name: (list(found), [x["fid"] for x in found.values()]) for name, found in scores.items()
        },
        ("recall", "precision"): {
            name: ([x["recall"] for x in found.values()], [x["precision"] for x in found.values()])
            for name, found in scores.items()
        },
    }
    curves(s.output / "guidance.png", panels)
    rows(s.output / "guidance_samples.png", drawn)
    table = markdown(["guidance", "scale", "distance", "score", "precision", "recall"], lines)
    (s.output / "guidance.md").write_text(table, encoding="utf-8")
    print("\n" + table)


if __name__ == "__main__":
    main()
