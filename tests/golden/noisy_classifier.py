"""Makes `noisy_classifier.npz`: what the published classifier of noisy images computes.

    python tests/golden/noisy_classifier.py

needs PyTorch and OpenAI's guided-diffusion, whose `EncoderUNetModel` the original latent-diffusion code
took over, on `PYTHONPATH`. The weights follow from their names, as in `original.py`.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.golden.original import pseudo_random

SETTINGS = {  # of the original
    "adaptive": {"num_heads": 2, "use_scale_shift_norm": False, "resblock_updown": False},
    "attention": {"num_head_channels": 16, "use_scale_shift_norm": True, "resblock_updown": True},
}


def main() -> None:
    """Runs both poolings on the same images, and the gradient that guidance follows."""
    import torch
    from guided_diffusion.unet import EncoderUNetModel

    images = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    timesteps, labels = np.array([3, 700]), np.array([4, 1])
    arrays = {"images": images, "timesteps": timesteps, "labels": labels}
    for pool, settings in SETTINGS.items():
        model = EncoderUNetModel(
            image_size=8,
            in_channels=3,
            model_channels=32,
            out_channels=5,
            num_res_blocks=1,
            attention_resolutions=(2,),
            channel_mult=(1, 2),
            pool=pool,
            **settings,
        ).eval()
        state = model.state_dict()
        for name, value in state.items():
            state[name] = torch.from_numpy(pseudo_random(name, tuple(value.shape)))
        model.load_state_dict(state)
        x = torch.from_numpy(images).requires_grad_()
        logits = model(x, torch.from_numpy(timesteps))
        chosen = torch.log_softmax(logits, -1)[range(2), labels].sum()
        arrays[f"{pool}_logits"] = logits.detach().numpy()
        arrays[f"{pool}_gradient"] = torch.autograd.grad(chosen, x)[0].numpy()
        arrays[f"{pool}_names"] = np.array(sorted(state))
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **arrays)


if __name__ == "__main__":
    main()
