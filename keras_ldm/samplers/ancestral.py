"""The share of fresh noise in a step: what ancestral samplers have in common."""

import numpy as np


def ancestral_levels(sigma: float, sigma_next: float, eta: float) -> tuple[float, float]:
    r"""Where a step without noise has to end, and how much noise then leads to `sigma_next`.

        σ_up² = η² σ'² (1 - (σ'/σ)²),     σ_down² = σ'² - σ_up²

    Args:
        sigma: noise level before the step.
        sigma_next: noise level after it.
        eta: 0 for no noise, 1 for that of DDPM's posterior.

    Returns:
        σ_down and σ_up.

    Raises:
        ValueError: if `eta` is outside [0, 1].
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"Expected `eta` from 0 to 1. Received: {eta}")
    sigma_up = eta * sigma_next * np.sqrt(1 - (sigma_next / sigma) ** 2)
    return float(np.sqrt(sigma_next**2 - sigma_up**2)), float(sigma_up)


def check_eta(eta: float) -> None:
    """Refuses a share of noise below 0; solvers of the reverse SDE allow more than 1.

    Raises:
        ValueError: if `eta` is negative or not finite.
    """
    if not (np.isfinite(eta) and eta >= 0):
        raise ValueError(f"Expected `eta` >= 0. Received: {eta}")
