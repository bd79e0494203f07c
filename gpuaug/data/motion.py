"""Clips of camera motions, made of real photos: eight classes that no single frame tells, and that a flip changes.

    python -m gpuaug.data.motion clips

writes `clips/train/pan_left/000/00.jpg` and so on, which `gpuaug.data.clips` reads. Classes say what the camera does:
where it pans to the left, what it sees goes to the right; where it turns (rolls) to the left, that turns clockwise.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import gpuaug as ga

from .errors import DataError
from .folders import folder
from .items import load
from .sources import Parts, Source, ids_of

CLASSES = ("pan_down", "pan_left", "pan_right", "pan_up", "turn_left", "turn_right", "zoom_in", "zoom_out")
PAN, ZOOM, TURN = (0.12, 0.35), (1.2, 1.5), (12.0, 35.0)  # over a clip: of its side, as a factor, in degrees
LEAN, SCALE = 20.0, 1.25  # the middle frame is turned by up to so many degrees, and enlarged by up to so much
LEVELS = (2.0, 2.6, 3.2)  # shorter side of a photo, in sides of a clip: twice holds every frame of every motion
LOOKED_AT = 4  # places of which the one with the most contrast is taken: in a plain sky nothing moves
QUALITY = 92  # of JPEGs

TURNED = {"turn_left": "turn_right", "turn_right": "turn_left"}
FLIPPED = {"pan_left": "pan_right", "pan_right": "pan_left", **TURNED}  # by a horizontal flip
FLIPPED_VERTICALLY = {"pan_up": "pan_down", "pan_down": "pan_up", **TURNED}
REVERSED = FLIPPED | FLIPPED_VERTICALLY | {"zoom_in": "zoom_out", "zoom_out": "zoom_in"}  # played backwards
TOWARDS = {"pan_left": (-1.0, 0.0), "pan_right": (1.0, 0.0), "pan_up": (0.0, -1.0), "pan_down": (0.0, 1.0)}


@dataclass(frozen=True)
class Move:
    """A motion over T frames, as :func:`gpuaug.functional.affine` takes it.

    Attributes:
        angle: degrees, clockwise. translate: (x, y) in pixels. scale: factors. Each [T], about the middle of a frame.
    """

    angle: torch.Tensor
    translate: torch.Tensor
    scale: torch.Tensor

    @classmethod
    def of(cls, motion: str, frames: int, amount: float, lean: float = 0.0, scale: float = 1.0) -> Move:
        """``motion``: one of CLASSES. ``amount``: from the first frame to the last, in pixels, as a factor, in degrees.
        ``lean``, ``scale``: of the middle of the clip."""
        steps = torch.linspace(-0.5, 0.5, frames) if frames > 1 else torch.zeros(1)
        angle, zoom, shift = torch.full((frames,), lean), torch.full((frames,), scale), torch.zeros(frames, 2)
        if motion in TOWARDS:
            shift = -amount * steps[:, None] * torch.tensor(TOWARDS[motion])
        elif motion in TURNED:
            angle = angle + amount * steps * (1 if motion == "turn_left" else -1)
        else:
            zoom = zoom * amount ** (steps * (1 if motion == "zoom_in" else -1))
        return cls(angle, shift, zoom)

    def over(self, picture: torch.Tensor, size: int) -> torch.Tensor:
        """uint8 [T, 3, size, size]: the middle of a picture uint8 [3, H, W] as the camera moves, each frame sampled
        from the picture itself, once."""
        frames = picture.expand(len(self.scale), -1, -1, -1)
        moved = ga.functional.affine(frames, self.angle, self.translate, self.scale, [0.0, 0.0], "bilinear")
        return ga.functional.center_crop(moved, size)


def make(
    photos: str | Path | None = None,
    *,
    size: int = 64,
    frames: int = 8,
    train: int = 40,
    test: int = 15,
    val: int = 0,
    seed: int = 0,
) -> Parts:
    """The data set in memory: clips uint8 [N, T, 3, size, size] as `items` of each part.

    Args:
        photos: a folder of photos; None: scikit-learn's two, which are embedded. Of three and more, a third is for
            validation and test alone; of fewer, a third of each photo, at its right or lower end.
        size: side in pixels. frames: T. train, test, val: clips of each class; val=0: no such part.
        seed: of what is drawn for each clip: photo, place, its scale and lean, and how far the camera moves.

    Raises:
        DataError: no photos, or one that cannot be read.
        ValueError: fewer than two frames, no clips, a side below 8.
    """
    for name, value, least in (("size", size, 8), ("frames", frames, 2), ("train", train, 1), ("test", test, 1)):
        if value < least:
            raise ValueError(f"motion: {name} must be at least {least}, got {value}")
    seen, held_out = _scenes(photos, size, seed)
    named = "motion" if photos is None else Path(photos).resolve().name
    made = {
        part: _part(scenes, size, frames, count, (seed, k))
        for k, (part, scenes, count) in enumerate((("train", seen, train), ("test", held_out, test)))
    }
    validated = _part(held_out, size, frames, val, (seed, 2)) if val else None
    return Parts(named, made["train"], validated, made["test"])


def write(out: str | Path, photos: str | Path | None = None, **options) -> Path:
    """Write the clips of :func:`make` as JPEGs below ``out``: PART/CLASS/CLIP/FRAME.jpg. Ids are the same. Returns
    ``out``; raises as `make`, and DataError where there is something already."""
    from PIL import Image

    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: not empty; give a folder that is not there yet, or remove what it holds")
    parts = make(photos, **options)
    for part in ("train", "val", "test"):
        source = getattr(parts, part)
        for i, clip in enumerate(() if source is None else source.items):
            place = out / part / _path(source, i)
            place.mkdir(parents=True)
            for t, frame in enumerate(clip.permute(0, 2, 3, 1).numpy()):
                Image.fromarray(frame).save(place / f"{t:02d}.jpg", quality=QUALITY)
    return out


def relabel(labels: torch.Tensor, params: ga.Params, classes: Sequence[str] = CLASSES) -> torch.Tensor:
    """Labels int64 [B] of clips behind what a pipeline drew for them (``augment.sample``): a flip, a turn by 90
    degrees, or playing backwards makes another motion of one.

    It follows the linear part of `Params.matrix`: a pan becomes the one whose direction is nearest to where it then
    points, and a turn the other one where the clip is mirrored. Raises as `Params.matrix` does.
    """
    linear, backwards = params.matrix[:, :2, :2].double().cpu(), _backwards(params)
    found = []
    for label, a, back in zip(labels.tolist(), linear, backwards, strict=True):
        name = classes[label]
        if name in TOWARDS:
            pointed = a @ torch.tensor(TOWARDS[name]).double()
            name = max(TOWARDS, key=lambda other: float(pointed @ torch.tensor(TOWARDS[other]).double()))
        elif name in TURNED and torch.det(a) < 0:
            name = TURNED[name]
        found.append(classes.index(REVERSED[name] if back else name))
    return torch.tensor(found, dtype=labels.dtype).to(labels.device)


def _backwards(params: ga.Params) -> list[bool]:
    """Which clips play backwards."""
    found = []
    for i in range(len(params)):
        ways = [call["frames"] for call in params.describe(i) if "frames" in call]
        found.append(sum(one[0] > one[-1] for one in ways) % 2 == 1)
    return found


# --- photos -----------------------------------------------------------------------------------------------------------
def _scenes(photos: str | Path | None, size: int, seed: int) -> tuple[list, list]:
    """What is seen in training and what is held out: of each photo its levels, uint8 [3, H, W]."""
    if photos is None:
        from sklearn.datasets import load_sample_images

        found = [torch.from_numpy(image.transpose(2, 0, 1).copy()) for image in load_sample_images().images]
    else:
        items = folder(photos, labelled=False).items
        found = [_loaded(items[i]) for i in np.random.default_rng(seed).permutation(len(items))]
    if len(found) > 2:
        third = max(round(len(found) / 3), 1)
        return [_levels(one, size) for one in found[third:]], [_levels(one, size) for one in found[:third]]
    seen, held_out = [], []
    for one in found:
        axis = 2 if one.shape[2] >= one.shape[1] else 1
        at = one.shape[axis] * 2 // 3
        first, last = one.split([at, one.shape[axis] - at], axis)
        seen.append(_levels(first, size))
        held_out.append(_levels(last, size))
    return seen, held_out


def _loaded(item) -> torch.Tensor:
    from .decode import read

    return torch.from_numpy(np.array(read(load(item)))).permute(2, 0, 1).contiguous()


def _levels(photo: torch.Tensor, size: int) -> list[torch.Tensor]:
    photo = photo.contiguous()
    return [ga.functional.resize(photo, round(level * size), antialias=True) for level in LEVELS]


# --- clips ------------------------------------------------------------------------------------------------------------
def _part(scenes: list, size: int, frames: int, count: int, seed: tuple[int, int]) -> Source:
    clips = torch.empty(len(CLASSES) * count, frames, 3, size, size, dtype=torch.uint8)
    paths = [f"{name}/{i:03d}" for name in CLASSES for i in range(count)]
    for n, path in enumerate(paths):
        rng = np.random.default_rng([*seed, n])
        clips[n] = _clip(path.split("/")[0], scenes, size, frames, rng)
    labels = torch.arange(len(CLASSES)).repeat_interleave(count)
    return Source(clips, ids_of(paths, "motion"), labels, CLASSES, size=size)


def _clip(motion: str, scenes: list, size: int, frames: int, rng: np.random.Generator) -> torch.Tensor:
    levels = scenes[rng.integers(len(scenes))]
    picture, side = levels[rng.integers(len(levels))], 2 * size
    places = [[rng.integers(n - side + 1) for n in picture.shape[1:]] for _ in range(LOOKED_AT)]
    views = [picture[:, y : y + side, x : x + side] for y, x in places]
    inner = slice(size // 2, size // 2 + size)
    view = max(views, key=lambda one: float(one[:, inner, inner].float().mean(0).std()))
    least, most = PAN if motion in TOWARDS else TURN if motion in TURNED else ZOOM
    amount = rng.uniform(least, most) * (size if motion in TOWARDS else 1)
    return Move.of(motion, frames, amount, rng.uniform(-LEAN, LEAN), rng.uniform(1.0, SCALE)).over(view, size)


def _path(source: Source, i: int) -> str:
    """CLASS/CLIP of the i-th clip of a part that `make` has made."""
    label = int(source.labels[i])
    return f"{source.classes[label]}/{i - int((source.labels < label).sum()):03d}"


def main(args: Sequence[str] | None = None) -> int:
    """``python -m gpuaug.data.motion``; returns the exit status: 0, or 2 after one line of error."""
    import argparse

    parser = argparse.ArgumentParser(prog="gpuaug.data.motion", description="Write clips of camera motions.")
    parser.add_argument("out", type=Path, help="folder that is written to")
    parser.add_argument("--photos", type=Path, help="a folder of photos; without it scikit-learn's two")
    for name, value in {"size": 64, "frames": 8, "train": 40, "test": 15, "val": 0, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = vars(parser.parse_args(args))
    try:
        print(f"wrote {write(**options)}")
    except (ValueError, OSError) as error:
        print(f"gpuaug.data.motion: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
