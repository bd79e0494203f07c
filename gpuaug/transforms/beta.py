"""The distribution Beta(alpha, alpha) as numbers for `kernels.shared.draw.symmetric_beta`."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

ALPHAS = (0.01, 1000.0)
STEP = 2.0**-24  # of a uniform draw
TERMS = 8  # of the polynomial


@lru_cache(maxsize=256)
def configuration(alpha: float) -> tuple[float, ...]:
    """Twelve numbers for `kernels.shared.draw.symmetric_beta`, which is right to 2e-6 for alpha from 0.1 to 2, to 1e-5
    up to 3, and to 5e-4 elsewhere.

    With I_x(alpha, alpha) = x^alpha (1 - x)^alpha / (alpha B) sum_n (2 alpha)_n / (alpha + 1)_n x^n (Abramowitz and
    Stegun 26.5.4, 15.3.3), s = (alpha B I_x)^(1 / alpha) is a function of x, and h = x / s is fitted over s.
    """
    of_half = (math.log(0.5 * alpha) + 2.0 * math.lgamma(alpha) - math.lgamma(2.0 * alpha)) / alpha
    lowest, highest = math.exp(math.log(STEP) / alpha + of_half), math.exp(of_half)
    low, high = 0.0, 0.5
    for _ in range(80):
        middle = 0.5 * (low + high)
        if middle * float(_steepness(middle, alpha)) < lowest:
            low = middle
        else:
            high = middle
    x = 0.5 * (low + 0.5) + 0.5 * (0.5 - low) * np.cos(np.pi * (np.arange(400) + 0.5) / 400)
    steepness = _steepness(x, alpha)
    scale = 1.0 / (highest - lowest)
    z = (x * steepness - lowest) * scale
    fitted = np.polynomial.Chebyshev.fit(z, 1.0 / steepness, TERMS - 1, domain=[0.0, 1.0])
    terms = fitted.convert(kind=np.polynomial.Polynomial, domain=[-1.0, 1.0]).coef
    return (1.0 / alpha, of_half, scale, -lowest * scale, *terms.tolist())


def _steepness(x: Any, alpha: float) -> np.ndarray:
    """s / x of `configuration`."""
    x = np.asarray(x, np.float64)
    term, total, n = np.ones_like(x), np.ones_like(x), 0
    while bool((term > 1e-17 * total).any()):
        term = term * x * (2.0 * alpha + n) / (alpha + 1.0 + n)
        total, n = total + term, n + 1
    return np.exp(np.log1p(-x) + np.log(total) / alpha)
