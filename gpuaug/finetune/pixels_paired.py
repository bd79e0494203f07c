"""Two segmenters on the same images: what each leaves for it, and how much higher the IoU of one is."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from .metrics import RESAMPLES, SEED, around
from .pixels import mean_of, parts_of
from .runs import write

SIDES = "pixels.npz"  # of a run or an evaluation: what its evaluation.json is the sum of


def write_sides(run: Any, ids: Tensor, confusions: Tensor) -> None:
    """pixels.npz of a run: ids int64 [N], and of each image and class [N, K] the pixels that are right, that are of
    the class ("truth") and that are called so ("answers")."""
    right, truth, answers = parts_of(confusions.numpy())
    known = {"right": right, "truth": truth, "answers": answers}
    content = io.BytesIO()
    np.savez(content, ids=ids.numpy(), **{name: value.astype(np.int64) for name, value in known.items()})
    write(run.path(SIDES), content.getvalue())


def sides_of(run: Any) -> dict[str, np.ndarray] | None:
    """What :func:`write_sides` left."""
    if not run.path(SIDES).is_file():
        return None
    with np.load(run.path(SIDES), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def paired(first: dict[str, np.ndarray], second: dict[str, np.ndarray], classes: Sequence[str]) -> dict[str, Any]:
    """How much higher the IoU of ``second`` is than that of ``first``, on the same images, in the same order.

    Returns {"difference", "interval": of 95%, by bootstrap over the images, "better", "worse": images on which the
    second one's own IoU is higher, or lower; "p": two-sided, of the test that swaps both at random on each image}.
    """
    both = np.stack([np.stack([one[name] for name in ("right", "truth", "answers")], -1) for one in (first, second)])

    def iou(sums: np.ndarray) -> np.ndarray:
        """Of sums [..., K, 3]."""
        right, truth, answers = np.moveaxis(np.asarray(sums, np.float64), -1, 0)
        with np.errstate(invalid="ignore"):
            return mean_of(right / (truth + answers - right), classes)

    n, rng = both.shape[1], np.random.default_rng(SEED)
    whole = iou(both.sum(1))
    difference = float(whole[1] - whole[0])
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    low, high = iou(np.tensordot(drawn, both[0], 1)), iou(np.tensordot(drawn, both[1], 1))
    swap = rng.integers(0, 2, (RESAMPLES, n))
    one, other = (np.tensordot(swap, a, 1) + np.tensordot(1 - swap, b, 1) for a, b in (both, both[::-1]))
    at_least = np.abs(iou(one) - iou(other)) >= abs(difference) - 1e-12
    each = iou(both)
    return {
        "difference": difference, "interval": around(difference, high - low, least=-1.0),
        "better": int((each[1] > each[0]).sum()), "worse": int((each[1] < each[0]).sum()),
        "p": float((1 + at_least.sum()) / (1 + RESAMPLES)),
    }  # fmt: skip
