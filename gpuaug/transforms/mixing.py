"""Blends of the samples of a batch: MixUp and CutMix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..lowering import Lowering
from ..mixing import PAIRS, PER, Mix
from ..program import Canvas
from .arguments import choice, flag, interval, number, whole
from .base import Transform
from .beta import ALPHAS, configuration

MOST_CLASSES = 1 << 24


@dataclass(frozen=True, kw_only=True)
class Mixer(Transform):
    """What MixUp and CutMix share.

    Where a pipeline mixes, labels become soft: `y, soft = augment(images, labels)`, float32 [B, K]. Hard labels [B]
    need `num_classes`; soft ones [B, K] stay so. Without labels the images come back alone.

    Behind it only ops may stand that need a pixel and its place alone (`ToDtype`, `Normalize`, colour ops without a
    statistic, erasing, noise). A pipeline has one blend; a `RandomChoice` of several counts as one.

    Args:
        alpha: of the distribution Beta(alpha, alpha) that lambda is drawn from, 0.01 to 1000.
        num_classes: of hard labels.
        labels_getter: "default"; accepted for torchvision's sake, labels are handed to the call.
        pair: sample i is mixed with i - 1, "roll" (torchvision), or with B - 1 - i, "flip" (timm). The partner depends
            on the batch, not on the sample's id. The middle of an odd batch under "flip", and a batch of one, stay as
            they are.
        per: whose draw it is: each "sample"'s by its id, one for the "batch" by the id of its first sample
            (torchvision), or one for each "pair" of pair="flip" by the id of its lower sample.
        label_smoothing: in [0, 1), of hard labels, as timm's: the class gets 1 - s + s / K, the others s / K.
    """

    alpha: float = 1.0
    num_classes: int | None = None
    labels_getter: str = "default"
    pair: str = "roll"
    per: str = "sample"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        name = type(self).__name__
        self._plain()
        self._set(alpha=number(name, "alpha", self.alpha, *ALPHAS))
        if self.num_classes is not None:
            self._set(num_classes=whole(name, "num_classes", self.num_classes, 1, MOST_CLASSES))
        choice(name, "labels_getter", self.labels_getter, ("default",))
        choice(name, "pair", self.pair, PAIRS)
        choice(name, "per", self.per, PER)
        if self.per == "pair" and self.pair != "flip":
            raise ValueError(f'{name}: per="pair" needs pair="flip"; under "roll" each sample is in two pairs')
        smoothing = number(name, "label_smoothing", self.label_smoothing, 0.0, 1.0)
        if smoothing == 1.0:
            raise ValueError(f"{name}: label_smoothing must be below 1, got {self.label_smoothing}")
        self._set(label_smoothing=smoothing)

    @property
    def sums(self) -> bool:
        return True

    @property
    def shared(self) -> bool:
        return self.per != "sample"

    def _mix(self) -> Mix:
        return Mix(self.pair, self.per, self.num_classes, self.label_smoothing)


@dataclass(frozen=True, kw_only=True)
class MixUp(Mixer):
    """lambda times a sample plus 1 - lambda times its partner (torchvision.transforms.v2.MixUp; Zhang et al., "mixup:
    Beyond Empirical Risk Minimization", arXiv 1710.09412).

    On uint8 images the sum is float32, and rounds half to even unless `ToDtype` stands in front. `describe` ends in
    {"op": "MixUp", "partner": j, "lam": lambda}.
    """

    __doc__ += Mixer.__doc__.partition("\n")[2]

    def lower(self, build: Lowering) -> None:
        build.blend(
            "mixup",
            self._mix(),
            call=lambda values, canvas: {"lam": 1.0 - values[0]},
            draw="draw_mixup",
            configuration=configuration(self.alpha),
            columns=("share",),
            shared=self.shared,
        )


@dataclass(frozen=True, kw_only=True)
class CutMix(Mixer):
    """A rectangle of a sample's partner in place of its own (torchvision.transforms.v2.CutMix; Yun et al., "CutMix",
    arXiv 1905.04899).

    The box is torchvision's: its centre is a pixel, drawn uniformly, and half its sides are 0.5 sqrt(1 - lambda) of the
    canvas's, truncated; what lies outside is cut off. `describe` ends in {"op": "CutMix", "partner": j, "lam": lambda,
    "box": (x1, y1, x2, y2)}.
    """

    __doc__ += Mixer.__doc__.partition("\n")[2] + (
        """    correct_lam: mix labels by the box's true share of the image (torchvision), else by lambda as drawn.
        minmax: (low, high) of timm's cutmix_minmax, in place of lambda: the box's sides are drawn from low to below
            high of the canvas's, in whole pixels, and it lies inside.
    """
    )

    correct_lam: bool = True
    minmax: Sequence[float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(correct_lam=flag("CutMix", "correct_lam", self.correct_lam))
        if self.minmax is not None:
            self._set(minmax=interval("CutMix", "minmax", self.minmax, 0.0, 1.0))

    def lower(self, build: Lowering) -> None:
        def call(values: Sequence[float], canvas: Canvas) -> dict:
            top, left, height, width = (int(v) for v in values[:4])
            return {"lam": 1.0 - values[4], "box": (left, top, left + width, top + height)}

        def fault(canvas: Canvas) -> str | None:
            low, high = self.minmax
            if all(int(side * low) < int(side * high) for side in canvas):
                return None
            return f"minmax={self.minmax} leaves no whole length of a box for an image of {canvas[0]}x{canvas[1]}"

        draw, drawn_from = "draw_cutmix" if self.correct_lam else "draw_cutmix_drawn", configuration(self.alpha)
        if self.minmax is not None:
            build.check_canvas(fault)
            draw, drawn_from = "draw_cutmix_between", self.minmax
        build.blend(
            "cutmix",
            self._mix(),
            call=call,
            draw=draw,
            configuration=drawn_from,
            columns=("top", "left", "height", "width", "share"),
            shared=self.shared,
        )
