"""Noise: counter-based, from two drawn seeds a sample, so that it is the same on every backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..lowering import Lowering
from ..program import Call, Canvas
from .arguments import ends, flag, interval, number, probability
from .base import Transform

SEEDS = ("seed0", "seed1")


@dataclass(frozen=True)
class GaussianNoise(Transform):
    """Add normal noise to each value (torchvision.transforms.v2.GaussianNoise).

    `describe` names torchvision's function, which draws noise of its own: it replays in distribution only.

    Args:
        mean, sigma: mean and standard deviation, of the range [0, 1]: for uint8 they count 255 times.
        clip: clamp the result to the range; False only for floating-point images.
    """

    mean: float = 0.0
    sigma: float = 0.1
    clip: bool = True

    def __post_init__(self) -> None:
        self._plain()
        number("GaussianNoise", "mean", self.mean)
        number("GaussianNoise", "sigma", self.sigma, 0.0)
        flag("GaussianNoise", "clip", self.clip)

    def lower(self, build: Lowering) -> None:
        if build.bound == 255 and not self.clip:
            raise build.fail(
                "clip=False would wrap around in uint8 images; leave clip=True, or put "
                "ToDtype(torch.float32, scale=True) in front"
            )
        kwargs = {"mean": self.mean, "sigma": self.sigma, "clip": bool(self.clip)}
        build.pixel(
            "gaussian_noise",
            (0, 0, self.mean, self.sigma, float(self.clip)),
            draw="draw_seeds",
            columns=SEEDS,
            needs="place",
            call=lambda values, canvas: [("gaussian_noise", dict(kwargs))],
        )


@dataclass(frozen=True)
class SaltAndPepper(Transform):
    """With probability `p`, make a share of the pixels white or black, all channels together.

    `describe` names `gpuaug.functional.salt_and_pepper`, and its seeds: torchvision lacks it.

    Args:
        amount: the share of the pixels in [0, 1], or (low, high) to draw it from.
        salt_vs_pepper: the share of white ones among them.
    """

    amount: float | Sequence[float]
    salt_vs_pepper: float = 0.5
    p: float = 0.5

    def __post_init__(self) -> None:
        name = "SaltAndPepper"
        self._plain()
        interval(name, "amount", ends(self.amount), 0.0, 1.0)
        probability(name, self.salt_vs_pepper, "salt_vs_pepper")
        probability(name, self.p)

    def lower(self, build: Lowering) -> None:
        def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
            kwargs = {"amount": values[2], "salt_vs_pepper": self.salt_vs_pepper, "seeds": list(values[:2])}
            return [("salt_and_pepper", kwargs)]

        with build.accept(self.p):
            build.pixel(
                "salt_and_pepper",
                (0, 0, 0, self.salt_vs_pepper),
                draw="draw_seeds",
                configuration=ends(self.amount),
                columns=(*SEEDS, "amount"),
                needs="place",
                call=call,
            )
