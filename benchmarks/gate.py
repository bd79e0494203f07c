"""The parity gate: what is about to be timed is first replayed in torchvision, sample by sample.

A pipeline passes if each of its samples equals `params.describe(i)`, replayed by
`torchvision.transforms.v2.functional`: within 1e-3 of a [0, 1] image, and one level of 255 where uint8 was
interpolated. Left out are pixels that a smooth warp covers in part: torchvision blends their fill twice. Resampling of
uint8 is replayed in float32 and rounded once, as torchvision does on a GPU. A share of SPARED values may exceed the
limit where an op makes a difference of one level larger (solarize, equalize, ...), and where a nearest warp leaves ties
to rounding (turns by 45 degrees, shears by 0.2).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

import gpuaug as ga

FLOAT = 1e-3
LEVEL = 1 / 255
SAMPLES = 128
MOST_LEFT_OUT = 0.1
SPARED = 0.01
RESIZES = ("resize", "resized_crop")
WARPS = ("affine", "rotate", "perspective", "elastic")
ENLARGING = (
    "adjust_brightness",
    "adjust_contrast",
    "adjust_saturation",
    "adjust_hue",
    "adjust_gamma",
    "adjust_sharpness",
    "autocontrast",
    "equalize",
    "gaussian_blur",
    "jpeg",
    "posterize",
    "solarize",
    "solarize_add",
)
KEEPING = ("invert", "rgb_to_grayscale", "permute_channels", "erase")
MOVES = ("horizontal_flip", "vertical_flip", "crop", "center_crop", "pad", *RESIZES, *WARPS)


@dataclass
class Verdict:
    """The gate's answer.

    Attributes:
        passed, reason: whether times may be reported, and if not, why.
        samples: how many were replayed.
        worst: the largest error as a share of what is allowed; 1.0 is the limit.
        left_out: the share of pixels not judged.
        touched: the share of the source's pixels that lie in the samples' windows (1 where no crop comes first).
    """

    passed: bool
    reason: str | None
    samples: int = 0
    worst: float = 0.0
    left_out: float = 0.0
    touched: float = 1.0

    def as_dict(self) -> dict:
        """For JSON."""
        return asdict(self)


def parity(augment: ga.Compose, images: torch.Tensor, samples: int = SAMPLES) -> Verdict:
    """Call `augment(images)` as it will be timed, and judge up to `samples` of it against a twin's draws replayed in
    torchvision."""
    params = copy.deepcopy(augment).sample(images)
    output = augment(images).cpu()
    host, b = images.cpu(), images.shape[0]
    if b > 1 and params.columns and len(torch.unique(params.table.cpu(), dim=0)) == 1:
        return Verdict(False, "all samples have the same draw")
    count = min(b, samples)
    chosen = sorted({round(i * (b - 1) / max(1, count - 1)) for i in range(count)})
    worst = left_out = touched = 0.0
    for i in chosen:
        records, reference = replayed(params, host, i)
        dtype = next((r["kwargs"]["dtype"] for r in reversed(records) if r["call"] == "to_dtype"), host.dtype)
        if output[i].shape != reference.shape or output[i].dtype != dtype:
            got, right = f"{tuple(output[i].shape)} {output[i].dtype}", f"{tuple(reference.shape)} {dtype}"
            return Verdict(False, f"sample {i} is {got}, torchvision's {right}", len(chosen))
        skip = part_covered(host[i], records)
        error = (output[i].double() - reference.double()).abs() / allowed(records, host[i], reference, dtype)
        error = torch.where(skip, 0.0, error.nan_to_num(torch.inf))
        spared = SPARED if any(is_delicate(record) for record in records) else 0.0
        if (error > 1).double().mean() > spared:
            at = (error == error.max()).nonzero()[0].tolist()
            got, right = float(output[i][tuple(at)]), float(reference[tuple(at)])
            told = f"sample {i} at {at}: got {got:.6g}, torchvision {right:.6g}, {float(error.max()):.3g} x the limit"
            return Verdict(False, f"{told}; calls: {records}", len(chosen), float(error.max()))
        worst = max(worst, float(error.quantile(1 - spared)))
        left_out += float(skip.double().mean()) / len(chosen)
        touched += window(records, host.shape[-2:]) / len(chosen)
    if left_out > MOST_LEFT_OUT:
        return Verdict(False, f"{left_out:.0%} of the pixels could not be judged", len(chosen), worst, left_out)
    return Verdict(True, None, len(chosen), worst, left_out, touched)


def replayed(params: ga.Params, images: torch.Tensor, i: int) -> tuple[list[dict], torch.Tensor]:
    """The calls that made sample i, its partner's behind its own where it is mixed, and their replay."""
    records = params.describe(i)
    at = _blend_of(records)
    if at == len(records):
        return records, replay(images[i], records)
    blend, theirs = records[at], params.describe(records[at]["partner"])
    theirs = theirs[: _blend_of(theirs)]
    own, other = replay(images[i], records[:at]), replay(images[blend["partner"]], theirs)
    if blend["op"] == "CutMix":
        x1, y1, x2, y2 = blend["box"]
        own[:, y1:y2, x1:x2] = other[:, y1:y2, x1:x2]
    else:
        own = own * blend["lam"] + other * (1.0 - blend["lam"])
    behind = [record for record in theirs if record["call"] in ENLARGING]
    return [*records[:at], *behind, *records[at + 1 :]], replay(own, records[at + 1 :])


def _blend_of(records: Sequence[dict]) -> int:
    return next((k for k, record in enumerate(records) if "partner" in record), len(records))


def replay(image: torch.Tensor, records: Sequence[dict]) -> torch.Tensor:
    """The calls of `params.describe(i)` on one image [C, H, W] through torchvision; floats stay float32."""
    from torchvision.transforms.v2 import functional

    for record in records:
        name, kwargs = record["call"], torchvision_kwargs(record["kwargs"])
        call = solarize_add if name == "solarize_add" else getattr(functional, name)
        if name == "to_dtype" and kwargs["dtype"].is_floating_point:
            kwargs["dtype"] = torch.float32
        if image.is_floating_point() or not is_smooth(record):
            image = call(image, **kwargs)
        else:
            image = call(image.float(), **kwargs).round_().clamp_(0, 255).to(image.dtype)
    return image


def torchvision_kwargs(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """A call's arguments as each torchvision takes them: before 0.28 none takes a word for an interpolation."""
    from torchvision.transforms.v2 import InterpolationMode

    mode = kwargs.get("interpolation")
    return {**kwargs, "interpolation": InterpolationMode(mode)} if isinstance(mode, str) else dict(kwargs)


def solarize_add(image: torch.Tensor, addition: float, threshold: float) -> torch.Tensor:
    """What timm has and torchvision lacks: add to what is below the threshold, and clamp."""
    most = 1.0 if image.is_floating_point() else 255.0
    added = (image.float() + addition).clamp_(0, most).to(image.dtype)
    return torch.where(image < threshold, added, image)


def is_smooth(record: dict) -> bool:
    """Whether a call interpolates."""
    return record["call"] in (*RESIZES, *WARPS) and record["kwargs"]["interpolation"] in ("bilinear", "bicubic")


def is_delicate(record: dict) -> bool:
    """Whether a call enlarges differences, or decides between pixels by rounding."""
    return record["call"] in ENLARGING or (record["call"] in WARPS and not is_smooth(record))


def allowed(records: Sequence[dict], image: torch.Tensor, reference: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The largest right error of each value [C, 1, 1] or [C, OH, OW]."""
    lattice, level, scale = not image.is_floating_point(), 0.0, torch.ones(image.shape[0], 1, 1, dtype=torch.double)
    for record in records:
        call, kwargs = record["call"], record["kwargs"]
        if lattice and is_smooth(record):
            level += LEVEL
        elif call == "to_dtype":
            level += 0.0 if lattice or kwargs["dtype"].is_floating_point else LEVEL  # truncated: one either way
            lattice = not kwargs["dtype"].is_floating_point
        elif call == "normalize":
            scale = scale / torch.tensor(kwargs["std"], dtype=torch.double)[:, None, None]
        elif call not in (*MOVES, *KEEPING, *ENLARGING):
            raise ValueError(f"the gate does not know how an error grows in {call}; teach it in benchmarks/gate.py")
    if lattice:
        return torch.full_like(scale, max(level / LEVEL, 1e-9))
    rounding = torch.finfo(dtype).eps / 2 * reference.double().abs()
    return (FLOAT + level) * scale + rounding


def part_covered(image: torch.Tensor, records: Sequence[dict]) -> torch.Tensor:
    """Bool [1, OH, OW]: the pixels that some smooth warp covers with the image only in part."""
    cover = torch.ones(1, *image.shape[-2:])
    for record in records:
        if record["call"] in MOVES:
            plain = {k: v for k, v in record["kwargs"].items() if k != "fill"}
            cover = replay(cover, [{"call": record["call"], "kwargs": plain}])
    return (cover > 1e-5) & (cover < 1 - 1e-5)


def window(records: Sequence[dict], canvas: Sequence[int]) -> float:
    """The share of the source in the window of the crop that comes first; 1.0 where another op does."""
    first = records[0] if records else {"call": None}
    if first["call"] not in ("crop", "resized_crop"):
        return 1.0
    top, left, height, width = (first["kwargs"][name] for name in ("top", "left", "height", "width"))
    h, w = canvas
    rows = max(0, min(h, top + height) - max(0, top))
    columns = max(0, min(w, left + width) - max(0, left))
    return rows * columns / (h * w)
