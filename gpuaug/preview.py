"""Contact sheets: what an augmentation does to given photos, for the eye to judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import gpuaug as ga
from gpuaug import presets
from gpuaug.data import DataError, Loader, Source, decode
from gpuaug.data.annotated import Annotated
from gpuaug.data.annotated_parts import first_annotated
from gpuaug.data.decode import read
from gpuaug.drawing import PAPER, Marks, Tile, contact_sheet

SEAM = 2  # pixels between the frames of a clip
SPOKEN = ("factor", "threshold", "bits", "gamma", "sigma", "quality")


def to_image(
    pixels: torch.Tensor, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Image.Image:
    """A picture of [3, H, W]: uint8, or float in 0..1, or float normalised by ``mean`` and ``std``, which is undone."""
    pixels = pixels.detach().cpu()
    if pixels.dtype != torch.uint8:
        pixels = pixels.float()
        if mean is not None:
            pixels = pixels * torch.tensor(std).view(-1, 1, 1) + torch.tensor(mean).view(-1, 1, 1)
        pixels = pixels.mul(255).round().clamp(0, 255).byte()
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def one_line(pipeline) -> str:
    """``repr`` of a pipeline without its line breaks."""
    return " ".join(repr(pipeline).split()).replace("[ ", "[").replace(", ]", "]")


def caption(records: Sequence[dict]) -> str:
    """A few words for what ``Params.describe`` says of one sample: ``flip · ↻23° · +3,-1 · ×1.04``."""
    words = [word for record in records if (word := _said(record))]
    return " · ".join(words) if words else "unchanged"


def _said(record: dict) -> str:
    if "call" in record:
        return _word(record["call"], record["kwargs"]) or _drawn_size(record["op"], record["kwargs"])
    if "chains" in record:
        return "weights " + " ".join(f"{w:.2f}" for w in record["weights"])
    if "center" in record:
        return "four about {},{}".format(*record["center"])
    if "partner" in record and "seeds" in record:
        return f"with objects of sample {record['partner']}"
    return f"lambda {record['lam']:.2f}" if "lam" in record else f"frames {record['frames']}"


def _drawn_size(op: str, kw: dict) -> str:
    """Of ops that draw how large an image becomes, or what is added to it."""
    if op == "RandomZoomOut":
        left, top, right, bottom = kw["padding"]
        return f"+{left},{top} and +{right},{bottom}"
    if op in ("ScaleJitter", "RandomResize", "RandomShortestSize"):
        return "to " + "x".join(map(str, reversed(kw["size"])))
    return ""


def _word(call: str, kw: dict) -> str:
    match call:
        case "to_dtype" | "normalize" | "to_image" | "to_pure_tensor" | "center_crop" | "resize" | "pad":
            return ""  # the same for every sample
        case "horizontal_flip":
            return "flip"
        case "vertical_flip":
            return "upside down"
        case "resized_crop":
            return f"{kw['width']}x{kw['height']} at {kw['left']},{kw['top']}"
        case "crop":
            return f"at {kw['left']:+d},{kw['top']:+d}"
        case "affine":
            return _affine(kw)
        case "rotate":
            return _turn(-kw["angle"])
        case "erase":
            return f"erase {kw['w']}x{kw['h']} at {kw['j']},{kw['i']}"
        case "rgb_to_grayscale":
            return "grey"
        case "permute_channels":
            return "channels " + "".join(str(i) for i in kw["permutation"])
        case "solarize_add":
            return f"solarize +{kw['addition']:.3g}"
        case "gaussian_blur":
            return f"blur {kw['sigma'][0]:.2g} px"
        case "grid_mask":
            return f"grid {kw['side']} of {kw['period']} px"
        case "salt_and_pepper":
            return f"salt and pepper {kw['amount']:.1%}"
    numbers = [f"{v:.3g}" for k, v in kw.items() if k.endswith(SPOKEN)]
    return " ".join([call.removeprefix("adjust_").replace("_", " "), *numbers])


def _affine(kw: dict) -> str:
    """Turn, shift and zoom; lean in their place where there is nothing else."""
    x, y = (round(t) for t in kw["translate"])
    if kw["angle"] == x == y == 0 and kw["scale"] == 1:
        return f"lean {kw['shear'][0]:+.0f}°,{kw['shear'][1]:+.0f}°"
    if kw["angle"] == 0 and kw["scale"] == 1 and not any(kw["shear"]):
        return f"{x:+d},{y:+d}"
    return f"{_turn(kw['angle'])} · {x:+d},{y:+d} · ×{kw['scale']:.2f}"


def _turn(clockwise: float) -> str:
    return f"{'↻' if clockwise >= 0 else '↺'}{abs(round(clockwise))}°"


def draw_tiles(
    image: torch.Tensor, augment, ids: Sequence[int], mean: Sequence[float], std: Sequence[float], epoch: int = 0
) -> list[Tile]:
    """One tile for each of ``ids``: what ``augment`` makes of ``image`` (uint8 [3, H, W]) under that sample id.

    ``augment``: a :class:`gpuaug.Compose`, or another callable of (images, ids=), whose tiles get no captions.
    """
    batch = image.expand(len(ids), -1, -1, -1)
    if not isinstance(augment, ga.Compose):
        return [Tile(to_image(y, mean, std)) for y in augment(batch, ids=list(ids))]
    params = augment.sample(batch, ids=list(ids), epoch=epoch)
    pixels = augment.apply(batch, params)
    return [Tile(to_image(y, mean, std), caption(params.describe(i))) for i, y in enumerate(pixels)]


def check_sheet(out: str | Path) -> Path:
    """The path of a sheet; raises ValueError if it does not end like an image file."""
    out = Path(out)
    if out.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"{out}: no image format by this ending; name it like sheet.png")
    return out


def preview(
    paths: Sequence[str | Path],
    augment: str,
    out: str | Path,
    draws: int = 6,
    seed: int = 0,
    size: int = 224,
    side: int | None = None,
    most: int = 8,
) -> Path:
    """Write a contact sheet of photos under a preset, as fine-tuning would decode and augment them; returns its path.

    Where a folder has boxes, masks or keypoints, they are moved and drawn with its images (see
    :func:`gpuaug.data.annotated.annotated`; where it has train/, that of its training part), which then are not cut to
    a square before.

    ``paths``: image files, or folders of them. ``augment``: a preset of :mod:`gpuaug.presets`. ``size``: of the
    model's input, pixels. ``side``: of a tile; None: 160, with boxes 240. ``most``: images of an annotated folder.
    Raises :class:`DataError` for a file that is no image, and ValueError for an unknown preset or an output that is not
    an image file.
    """
    out = check_sheet(out)
    if draws < 1 or most < 1:
        name, value = ("draws", draws) if draws < 1 else ("most", most)
        raise ValueError(f"{name} must be at least 1, got {value}")
    known = _known(paths, most)
    mean, std = ga.IMAGENET_MEAN, ga.IMAGENET_STD
    pipeline = presets.get(augment, size=size, seed=seed, mean=mean, std=std)
    stored = presets.stored_size(augment, size)
    rows = _rows(known, pipeline, draws, stored, mean, std)
    legend = next((one.classes for one in known[::-1] if one.classes), ())
    side = side or (160 if all(one.boxes is None for one in known) else 240)
    out.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(rows, augment, one_line(pipeline), side, legend).save(out)
    return out


def _rows(known: Sequence[Annotated], pipeline: ga.Compose, draws: int, stored: int, mean, std) -> list[list[Tile]]:
    """A row for each image, with its own draws; those of which the same is known are a batch, and mixed as such."""
    found: dict[int, list[Tile]] = {}
    groups: dict[tuple[str, ...], list[int]] = {}
    for r, one in enumerate(known):
        if names := tuple(_kinds(one)):
            groups.setdefault(names, []).append(r)
            continue
        image, ids = decode(one.path, stored), range(r * draws, (r + 1) * draws)
        found[r] = [Tile(to_image(image), one.path.stem), *draw_tiles(image, pipeline, ids, mean, std)]
    for places in groups.values():
        ids = [range(r * draws, (r + 1) * draws) for r in places]
        rows = annotated_rows([known[r] for r in places], pipeline, ids, stored, mean, std)
        found |= dict(zip(places, rows, strict=True))
    return [found[r] for r in range(len(known))]


def preview_clips(
    source: Source,
    augment: str | ga.Compose,
    out: str | Path,
    draws: int = 2,
    seed: int = 0,
    size: int = 112,
    side: int = 480,
    most: int = 6,
) -> Path:
    """Write a contact sheet of clips as strips of their frames, each as it is and under ``augment``; returns its path.

    ``source``: of :func:`gpuaug.data.clips`, or of clips in memory. ``augment``: a preset of :mod:`gpuaug.presets`,
    or a pipeline whose output is uint8, or lies in 0..1. ``side``: of a strip. ``most``: clips, evenly spaced.
    Otherwise as :func:`preview`.
    """
    out, title = check_sheet(out), augment if isinstance(augment, str) else "clips"
    if draws < 1 or most < 1:
        name, value = ("draws", draws) if draws < 1 else ("most", most)
        raise ValueError(f"{name} must be at least 1, got {value}")
    mean, std = (ga.IMAGENET_MEAN, ga.IMAGENET_STD) if isinstance(augment, str) else (None, None)
    if isinstance(augment, str):
        augment = presets.get(augment, size=size, seed=seed, mean=mean, std=std)
    places = np.linspace(0, len(source) - 1, min(most, len(source))).astype(int)
    rows = []
    for r, (clip, labels, _) in enumerate(Loader(source.subset(places), 1, strict=True, workers=1)):
        name = f"clip {places[r]}" if labels is None else source.classes[int(labels[0])]
        ids, several = list(range(r * draws, (r + 1) * draws)), clip.expand(draws, -1, -1, -1, -1)
        params = augment.sample(several, ids=ids, epoch=0)
        made = augment.apply(several, params)
        strips = [Tile(strip(one, mean, std), caption(params.describe(i))) for i, one in enumerate(made)]
        rows.append([Tile(strip(clip[0]), name), *strips])
    out.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(rows, title, one_line(augment), side).save(out)
    return out


def strip(clip: torch.Tensor, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> Image.Image:
    """The frames [T, 3, H, W] of a clip beside each other, as :func:`to_image` takes each."""
    frames = [to_image(frame, mean, std) for frame in clip]
    wide = frames[0].width + SEAM
    row = Image.new("RGB", (len(frames) * wide - SEAM, frames[0].height), PAPER)
    for t, frame in enumerate(frames):
        row.paste(frame, (t * wide, 0))
    return row


def annotated_row(
    one: Annotated,
    pipeline: ga.Compose,
    ids: Sequence[int],
    stored: int | None,
    mean: Sequence[float],
    std: Sequence[float],
    epoch: int = 0,
) -> list[Tile]:
    """An image with what is known of it, its shorter side scaled to ``stored`` (None: as it is), and what becomes of
    both."""
    return annotated_rows([one], pipeline, [ids], stored, mean, std, epoch)[0]


def annotated_rows(
    known: Sequence[Annotated],
    pipeline: ga.Compose,
    ids: Sequence[Sequence[int]],
    stored: int | None,
    mean: Sequence[float],
    std: Sequence[float],
    epoch: int = 0,
) -> list[list[Tile]]:
    """As :func:`annotated_row` of images of which the same is known; those of a column are one batch."""
    plain = [_scaled(one, stored) for one in known]
    rows = [
        [Tile(to_image(image), one.path.stem, _marks(kinds, one.labels, one.classes))]
        for one, (image, kinds) in zip(known, plain, strict=True)
    ]
    images, names = [image for image, _ in plain], list(plain[0][1])
    given: dict[str, Any] = {name: [kinds[name] for _, kinds in plain] for name in names}
    if "boxes" in given:
        given["objects"] = {"labels": [torch.from_numpy(one.objects["labels"]) for one in known]}
    for column in zip(*ids, strict=True):
        params = pipeline.sample(images, boxes=given.get("boxes"), ids=list(column), epoch=epoch)
        pixels, *values = pipeline.apply(images, params, **given)
        moved = dict(zip(given, values, strict=True))
        labels = moved.pop("objects", {}).get("labels")
        for i, (row, y) in enumerate(zip(rows, pixels, strict=True)):
            mine = {name: _hard(value[i]) if name == "masks" else value[i] for name, value in moved.items()}
            marks = _marks(mine, known[i].labels if labels is None else labels[i].tolist(), known[i].classes)
            row.append(Tile(to_image(y, mean, std), caption(params.describe(i)), marks))
    return rows


def _kinds(one: Annotated) -> dict[str, np.ndarray]:
    """What is known of an image, in the order in which a pipeline gives it back."""
    kinds = {"masks": one.masks, "boxes": one.boxes, "keypoints": one.keypoints}
    return {name: value for name, value in kinds.items() if value is not None}


def _scaled(one: Annotated, stored: int | None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """An image and what is known of it, its shorter side scaled to ``stored``."""
    image = torch.from_numpy(np.array(read(one.path))).permute(2, 0, 1)
    kinds = {name: torch.from_numpy(value)[None] for name, value in _kinds(one).items()}
    if "masks" in kinds and kinds["masks"].shape[-2:] != image.shape[-2:]:
        raise DataError(f"{one.path}: its mask has the size {tuple(kinds['masks'].shape[-2:])}, not its own")
    front = ga.Identity() if stored is None else ga.Resize(stored)
    image, *values = ga.Compose([front], seed=0)(image[None], **kinds)
    return image[0], {name: value[0] for name, value in zip(kinds, values, strict=True)}


def _hard(value: torch.Tensor) -> torch.Tensor:
    """Of masks [K, H, W] of shares, as mixing makes them, the class that has most of each pixel; 255 where none has
    half. Masks of numbers as they are."""
    if not (value.ndim == 3 and value.is_floating_point()):
        return value
    return value.argmax(0).to(torch.uint8).masked_fill(value.sum(0) < 0.5, 255)


def _marks(kinds: dict[str, torch.Tensor], labels: Sequence[int], names: Sequence[str]) -> Marks:
    return Marks(**{name: value.numpy() for name, value in kinds.items()}, classes=list(labels) or None, names=names)


def _known(paths: Sequence[str | Path], most: int) -> list[Annotated]:
    known: list[Annotated] = []
    for path in map(Path, paths):
        known += first_annotated(path, most) if path.is_dir() else [Annotated(path)]
    if not known:
        raise DataError("name at least one photo")
    return known
