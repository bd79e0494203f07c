"""AugMix: a sample blended with chains of ops on itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..lowering import Lowering
from ..messages import shown
from ..mixing import Mix
from .arguments import Fills, flag, number, whole
from .base import Transform
from .policies import UNLEVELLED, Policy, Space, lower_op

BINS = 10
WIDEST = 6
LONGEST = 8
DRAWN_DEPTH = 3
SPACE = Space(shear=0.3, pixels=0.0, part=1.0 / 3.0, turn=30.0, factor=0.9, bits=4)
SOME = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Posterize", "Solarize", "AutoContrast", "Equalize")
ALL = (*SOME, "Brightness", "Color", "Contrast", "Sharpness")


@dataclass(frozen=True)
class AugMix(Policy):
    """The weighted sum of a sample and of `mixture_width` chains of ops on it (torchvision.transforms.v2.AugMix;
    Hendrycks et al., arXiv 1912.02781). Every sample draws its own chains. Unlike torchvision's, takes floating-point
    images too; uint8 truncates the sum, as torchvision does.

    Behind it only ops may stand that need a pixel and its place alone; of blends a pipeline has one. `describe` gives
    {"op": "AugMix", "weights": the image's, then each chain's, "chains": each one's records}.

    Args:
        severity: of the ops, 1 to 10.
        mixture_width: how many chains, 1 to 6.
        chain_depth: ops in each, at most 8; below 1, 1 to 3 are drawn for each chain.
        alpha: of the distributions of the weights, Beta and Dirichlet: 1 is offered.
        all_ops: brightness, colour, contrast and sharpness, too.
        interpolation, fill: as `RandAugment`, and so are the errors.
    """

    severity: int = 3
    mixture_width: int = 3
    chain_depth: int = -1
    alpha: float = 1.0
    all_ops: bool = True
    interpolation: Any = "bilinear"
    fill: Fills = None

    def __post_init__(self) -> None:
        self._check_warps()
        name = "AugMix"
        self._set(
            severity=whole(name, "severity", self.severity, 1, BINS),
            mixture_width=whole(name, "mixture_width", self.mixture_width, 1, WIDEST),
            chain_depth=whole(name, "chain_depth", self.chain_depth, -LONGEST, LONGEST),
            alpha=number(name, "alpha", self.alpha),
            all_ops=flag(name, "all_ops", self.all_ops),
        )
        if self.alpha != 1.0:
            raise ValueError(f"{name}: alpha is offered as 1, torchvision's default, got {shown(self.alpha)}")

    def lower(self, build: Lowering) -> None:
        ops = [partial(self._lower, build, op) for op in (ALL if self.all_ops else SOME)]
        lower_chains(build, self, self.mixture_width, self.chain_depth, ops)

    def _lower(self, build: Lowering, op: str) -> None:
        drawn = {}
        if op not in UNLEVELLED:
            level = SPACE.level(op, BINS, 0, self.severity, build.bound)
            if op == "Posterize":  # from 4 bits down, not from 8
                level = (*level[:-1], 1.0 / 16.0)
            drawn = {"draw": "draw_level", "configuration": level, "columns": ("magnitude",)}
        lower_op(build, op, self.interpolation, self.fill, **drawn)


def lower_chains(
    build: Lowering, transform: Transform, width: int, depth: int, ops: Sequence[Callable[[], None]]
) -> None:
    """A blend of the image with `width` chains of `ops`, each of so many, or of 1 to 3 where `depth` is below 1."""

    def lower_chain(chain: int) -> None:
        with build.op(chain, transform):
            drawn = None if depth > 0 else build.gate("draw_integer", (DRAWN_DEPTH, 1), "depth", counts=True)
            for step in range(depth if depth > 0 else DRAWN_DEPTH):
                with build.op(step, transform), build.behind(drawn, step) if drawn else nullcontext():
                    build.branches(ops, None)

    build.of_layers([lambda: None, *(partial(lower_chain, chain) for chain in range(width))])
    build.blend(
        "augmix",
        Mix(None, layers=width + 1),
        call=lambda values, canvas: {"weights": list(values)},
        draw="draw_augmix",
        configuration=(width,),
        columns=("weight", *(f"weight{chain}" for chain in range(width))),
        shared=False,
    )
