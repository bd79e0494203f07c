"""timm's policies by their strings, and its mixing by its arguments: they are drawn as timm does, by the formulas of
this library."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..lowering import Lowering
from ..messages import meant, shown, spelt
from .arguments import Fills, choice, number, probability, whole
from .augmix import LONGEST, WIDEST, lower_chains
from .base import DRAWN, Transform, either_filter
from .beta import ALPHAS
from .blur import lower_blur
from .color import half, lower_solarize_add
from .containers import RandomApply, RandomChoice
from .mixing import CutMix, MixUp
from .policies import WARPED, Policy, lower_op, lower_pairs
from .policy_tables import AUTOAUGMENT, V0, Pairs

MOST = 10.0  # of a magnitude, unless mmax says otherwise
FAR = 1e6
BLUR = (13, 13)  # three times the largest standard deviation to each side
POWER, UNIFORM = 1, 2


@dataclass(frozen=True)
class Argument:
    """How a magnitude becomes an op's argument (see `kernels.shared.draw.draw_noisy_level`), and which op it is."""

    op: str
    scale: float = 0.0
    offset: float = 0.0
    signed: bool = False
    whole: bool = False
    low: float = -FAR
    high: float = FAR
    kind: int = 0
    side: int = 0
    levels: bool = False  # counts the 256 levels of a pixel


ARGUMENTS = {
    "AutoContrast": Argument("AutoContrast"),
    "Equalize": Argument("Equalize"),
    "Invert": Argument("Invert"),
    "Rotate": Argument("Rotate", 30.0, signed=True),
    "Posterize": Argument("Posterize", 4.0, whole=True, kind=POWER),
    "PosterizeIncreasing": Argument("Posterize", -4.0, 4.0, whole=True, kind=POWER),
    "PosterizeOriginal": Argument("Posterize", 4.0, 4.0, whole=True, kind=POWER),
    "Solarize": Argument("Solarize", 256.0, whole=True, high=256.0, levels=True),
    "SolarizeIncreasing": Argument("Solarize", -256.0, 256.0, whole=True, low=0.0, levels=True),
    "SolarizeAdd": Argument("SolarizeAdd", 110.0, whole=True, high=128.0, levels=True),
    "ShearX": Argument("ShearX", 0.3, signed=True),
    "ShearY": Argument("ShearY", 0.3, signed=True),
    "TranslateX": Argument("TranslateX", 0.45, signed=True, side=1),
    "TranslateY": Argument("TranslateY", 0.45, signed=True, side=2),
    "Desaturate": Argument("Color", -0.5, 0.5, low=0.0, high=0.5),
    "GaussianBlur": Argument("GaussianBlur", 1.9, 0.1, low=0.1, high=2.0),
    "GaussianBlurRand": Argument("GaussianBlur", 2.0, low=0.0, high=2.0, kind=UNIFORM),
}
for _op in ("Color", "Contrast", "Brightness", "Sharpness"):
    ARGUMENTS[_op] = Argument(_op, 1.8, 0.1)
    ARGUMENTS[f"{_op}Increasing"] = Argument(_op, 0.9, 1.0, signed=True, low=0.1)


def configuration(a: Argument, magnitude: float, std: float, most: float, bound: float) -> tuple[float, ...]:
    """Configuration of `kernels.shared.draw.draw_noisy_level`; a negative `std` draws uniformly."""
    factor = bound / 255.0 if a.levels else 1.0
    shape = (a.scale, a.offset, a.signed, a.whole, a.low, a.high, factor, a.side, a.kind)
    return (magnitude, std, most, *shape)


_PLAIN = "AutoContrast Equalize Invert Rotate"
_CHANGING = "Posterize Solarize SolarizeAdd Color Contrast Brightness Sharpness"
_MOVING = "ShearX ShearY TranslateX TranslateY"
RAND = tuple(f"{_PLAIN} {_CHANGING} {_MOVING}".split())
RAND_INCREASING = tuple(f"{op}Increasing" if f"{op}Increasing" in ARGUMENTS else op for op in RAND)
RAND_3A = ("SolarizeIncreasing", "Desaturate", "GaussianBlur")
_MIXED = "AutoContrast ColorIncreasing ContrastIncreasing BrightnessIncreasing SharpnessIncreasing Equalize Rotate"
AUGMIX = tuple(f"{_MIXED} PosterizeIncreasing SolarizeIncreasing {_MOVING}".split())
AUGMIX_SHIFT = 0.3  # of a side, in place of 0.45


def _renamed(pairs: Pairs, posterize: str) -> Pairs:
    return tuple(tuple((posterize if op == "Posterize" else op, p, m) for op, p, m in pair) for pair in pairs)


POLICIES: dict[str, Pairs] = {
    "original": _renamed(AUTOAUGMENT["imagenet"], "PosterizeOriginal"),
    "originalr": _renamed(AUTOAUGMENT["imagenet"], "PosterizeIncreasing"),
    "v0": V0,
    "v0r": _renamed(V0, "PosterizeIncreasing"),
    "3a": ((("Solarize", 1.0, 5),), (("Desaturate", 1.0, 10),), (("GaussianBlurRand", 1.0, 10),)),
}


@dataclass(frozen=True)
class Settings:
    """A string, read."""

    policy: str
    m: float = MOST
    n: int = 2
    p: float = 0.5
    mstd: float = 0.0
    mmax: float = MOST
    inc: bool = False
    t: str = ""
    w: int = 3
    d: int = -1
    a: float = 1.0
    b: bool = False

    @property
    def ops(self) -> tuple[str, ...]:
        if self.policy == "augmix":
            return AUGMIX
        return RAND_3A if self.t == "3a" else RAND_INCREASING if self.inc else RAND


_KINDS = {"m": int, "n": int, "p": float, "mstd": float, "mmax": int, "inc": int, "w": int, "d": int}
_KINDS |= {"a": float, "b": int}
_TAKEN = {"rand": {"m", "n", "p", "mstd", "mmax", "inc"}, "augmix": {"m", "w", "d", "a", "b", "mstd"}}
_DRAWN_POLICIES = tuple(_TAKEN)
_WEIGHTED = ("weights", "3aw")


def read(config: str) -> Settings:
    """The settings of a string such as "rand-m9-mstd0.5-inc1" or "original-mstd0.5".

    Raises:
        ValueError: an unknown policy, section or value, which it names.
    """
    if not isinstance(config, str):
        raise ValueError(f'timm_augment: config must be a string as "rand-m9-mstd0.5-inc1", got {shown(config)}')
    policy, *sections = config.split("-")
    policies = (*_DRAWN_POLICIES, *POLICIES)
    if policy not in policies:
        raise ValueError(
            f"timm_augment: config's policy must be one of {', '.join(policies)}, "
            f"got {shown(policy)}{meant(policy, policies)}"
        )
    known, values = _TAKEN.get(policy, {"mstd"}), {"m": 3, "mstd": -1.0} if policy == "augmix" else {}
    for section in sections:
        if policy == "rand" and section.startswith("t"):
            values["t"] = section[1:]
            if values["t"] in _WEIGHTED:
                raise ValueError(
                    f"timm_augment: section {shown(section)} draws ops without replacement, which is not offered; "
                    'leave it out, or use "t3a"'
                )
            if values["t"] != "3a":
                raise ValueError(f'timm_augment: section {shown(section)} names no set of ops; there is "t3a"')
            continue
        match = re.fullmatch(r"([a-z]+)(\d{1,9}(?:\.\d{0,9})?)", section)
        name = match.group(1) if match else ""
        if match is None or name not in known or (_KINDS[name] is int and not match.group(2).isdigit()):
            raise ValueError(
                f"timm_augment: cannot read section {shown(section)} of {shown(config)}; {policy} takes "
                f"{', '.join(sorted(known))}, each with a number"
            )
        values[name] = _KINDS[name](match.group(2))
    settings = Settings(policy, **values)
    if not 0.0 <= settings.p <= 1.0:
        raise ValueError(f"timm_augment: p must lie in [0, 1], got {settings.p:g} in {shown(config)}")
    whole("timm_augment", f"w of {shown(config)}", settings.w, 1, WIDEST)
    whole("timm_augment", f"d of {shown(config)}", settings.d, -1, LONGEST)
    if settings.a != 1.0:
        raise ValueError(f"timm_augment: a is offered as 1, timm's default, got {settings.a:g} in {shown(config)}")
    return settings


@dataclass(frozen=True)
class TimmAugment(Policy):
    """What `timm_augment` gives."""

    config: str
    interpolation: Any = "bilinear"
    fill: Fills = None
    img_mean: Sequence[float] | None = None

    def __post_init__(self) -> None:
        read(self.config)
        self._check_warps((DRAWN,))
        if self.img_mean is not None:
            values = self.img_mean if isinstance(self.img_mean, tuple) and self.img_mean else (self.img_mean,)
            values = [number(type(self).__name__, "img_mean", v, 0.0, 1.0) for v in values]
            self._set(img_mean=tuple(values))

    def lower(self, build: Lowering) -> None:
        settings = read(self.config)
        if settings.policy == "augmix":
            step = partial(self._lower_step, build, settings)
            ops = [partial(step, op, settings.m) for op in settings.ops]
            lower_chains(build, self, settings.w, settings.d, ops)
        elif settings.policy == "rand":
            for k in range(settings.n):
                with build.op(k, self), build.accept(settings.p):
                    step = partial(self._lower_step, build, settings)
                    build.branches([partial(step, op, settings.m) for op in settings.ops], None)
        else:
            lower_pairs(build, self, POLICIES[settings.policy], partial(self._lower_step, build, settings))

    def _lower_step(self, build: Lowering, settings: Settings, op: str, magnitude: float) -> None:
        a = ARGUMENTS[op]
        if settings.policy == "augmix" and a.side:
            a = replace(a, scale=AUGMIX_SHIFT)
        std = -1.0 if settings.policy == "rand" and settings.mstd > 100 else settings.mstd
        noisy = configuration(a, magnitude, std, settings.mmax or MOST, build.bound)
        drawn = {"draw": "draw_noisy_level", "configuration": noisy, "columns": ("magnitude",)}
        fill = {"image": self._outside(build), "mask": 0} if self.fill is None else self.fill
        if a.op == "SolarizeAdd":
            lower_solarize_add(build, half(build), **drawn)
        elif a.op == "GaussianBlur":
            lower_blur(build, BLUR, **drawn)
        elif a.op in WARPED:
            either_filter(build, self.interpolation, lambda way: lower_op(build, a.op, way, fill, **drawn))
        else:
            lower_op(build, a.op, self.interpolation, fill, **drawn)

    def _outside(self, build: Lowering) -> Any:
        """What lies outside of an image where no fill is given."""
        if self.img_mean is None:
            return half(build)
        return tuple(min(255, round(255 * v)) if build.bound == 255 else v for v in self.img_mean)


@spelt
def timm_augment(
    config: str, interpolation: Any = "bilinear", fill: Fills = None, img_mean: Sequence[float] | None = None
) -> TimmAugment:
    """A policy by timm's string: its ops, probabilities, magnitudes, noise and signs (timm.data.auto_augment); what
    each op does to pixels is this library's, in place of Pillow's.

    Args:
        config: "rand" and, behind dashes, m (magnitude, 10), n (ops, 2), p (of each, 0.5), mstd (standard deviation of
            the magnitude, 0; above 100 it is uniform in [0, m]), mmax (largest magnitude, 10), inc1 (ops that grow with
            the magnitude), t3a (3-Augment's ops): "rand-m9-mstd0.5-inc1". Or AutoAugment as "original", "originalr",
            "v0" or "v0r", or 3-Augment as "3a", with mstd: "original-mstd0.5". Or AugMix as "augmix", with m (3), w
            (chains, 3), d (ops of each; 1 to 3 are drawn unless it is given), b1 (timm's other order of the same sum)
            and mstd (unless it is given, magnitudes are uniform in [0, m]): "augmix-m5-w4-d2". Behind AugMix stands
            what may stand behind a blend.
        interpolation: "nearest", "bilinear" or "bicubic", or "random": one of the last two, drawn for each op (timm).
        fill: outside of a turned, sheared or shifted image, in the units of the pixels; None is `img_mean`.
        img_mean: the same by channel as fractions of white (rounded to uint8's levels); None is mid-grey, 128 or 0.5.

    Raises:
        ValueError: an unknown section, or one of the weighted sets, which are drawn without replacement.
    """
    return TimmAugment(config, interpolation, fill, img_mean)


MODES = {"batch": "batch", "pair": "pair", "elem": "sample"}


@spelt
def timm_mixup(
    mixup_alpha: float = 1.0,
    cutmix_alpha: float = 0.0,
    cutmix_minmax: Sequence[float] | None = None,
    prob: float = 1.0,
    switch_prob: float = 0.5,
    mode: str = "batch",
    correct_lam: bool = True,
    label_smoothing: float = 0.1,
    num_classes: int = 1000,
) -> Transform:
    """timm's Mixup (timm.data.Mixup), its arguments and defaults, as the ops of this library that do the same.

    Args:
        mixup_alpha, cutmix_alpha: MixUp(alpha=...), CutMix(alpha=...), each with pair="flip"; 0 leaves it out, and the
            other stands alone.
        cutmix_minmax: CutMix(minmax=...); it makes cutmix_alpha 1.
        prob: RandomApply(..., p=prob), if it is below 1.
        switch_prob: RandomChoice([MixUp, CutMix], p=[1 - switch_prob, switch_prob]).
        mode: "batch" is per="batch", "pair" per="pair", "elem" per="sample". Samples are not dropped ("half").
        correct_lam: of CutMix.
        label_smoothing, num_classes: of both; labels that are not mixed are smoothed, too.

    CutMix's box is torchvision's, whose sides are even before they are cut off, unless cutmix_minmax is given.
    `multi_label` is not offered.

    Raises:
        ValueError: neither alpha is above 0, or a bad argument.
    """
    name = "timm_mixup"
    alphas = {"mixup_alpha": mixup_alpha, "cutmix_alpha": cutmix_alpha}
    alphas = {argument: number(name, argument, value, 0.0, ALPHAS[1]) for argument, value in alphas.items()}
    if cutmix_minmax is not None:
        alphas["cutmix_alpha"] = 1.0
    if not any(alphas.values()):
        raise ValueError(f"{name}: mixup_alpha or cutmix_alpha must be above 0, else nothing is mixed")
    prob, switch_prob = probability(name, prob, "prob"), probability(name, switch_prob, "switch_prob")
    shared = dict(pair="flip", per=MODES[choice(name, "mode", mode, tuple(MODES))])
    shared |= dict(num_classes=num_classes, label_smoothing=label_smoothing)
    blends = [MixUp(alpha=alphas["mixup_alpha"], **shared)] if alphas["mixup_alpha"] else []
    if alphas["cutmix_alpha"]:
        own = dict(correct_lam=correct_lam, minmax=cutmix_minmax)
        blends.append(CutMix(alpha=alphas["cutmix_alpha"], **own, **shared))
    blend = RandomChoice(blends, p=[1.0 - switch_prob, switch_prob]) if len(blends) == 2 else blends[0]
    return blend if prob == 1.0 else RandomApply([blend], p=prob)
