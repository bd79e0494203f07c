"""Contact sheets: what an augmentation does to given photos, for the eye to judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import torch
from PIL import Image, ImageDraw, ImageFont

import gpuaug as ga
from gpuaug import presets
from gpuaug.data import DataError, decode

INK, FAINT, PAPER = (32, 34, 40), (120, 124, 134), (255, 255, 255)
GAP, MARGIN, TEXT = 10, 24, 11
SPOKEN = ("factor", "threshold", "bits", "gamma", "sigma", "quality")


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet and the words under it."""

    image: Image.Image
    caption: str = ""


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
        return _word(record["call"], record["kwargs"])
    if "chains" in record:
        return "weights " + " ".join(f"{w:.2f}" for w in record["weights"])
    return f"lambda {record['lam']:.2f}" if "lam" in record else f"frames {record['frames']}"


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


def font(size: int) -> ImageFont.FreeTypeFont:
    """The sheets' typeface."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)


def _fit(image: Image.Image, side: int) -> Image.Image:
    """Scaled to fit a square of ``side``: small images by a whole factor with hard pixels, large ones smoothly."""
    longer = max(image.size)
    if longer * 2 <= side:
        factor = side // longer
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    width, height = (max(1, round(s * side / longer)) for s in image.size)
    return image if longer == side else image.resize((width, height), Image.Resampling.LANCZOS)


def shorten(text: str, width: float, font: ImageFont.FreeTypeFont) -> str:
    """As much of a text as fits a width in pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


def _wrap(text: str, width: float, font: ImageFont.FreeTypeFont) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        lines[-1:] = [longer] if font.getlength(longer) <= width else [lines[-1], word]
    return [line for line in lines if line]


def contact_sheet(rows: Sequence[Sequence[Tile]], title: str, subtitle: str = "", side: int = 160) -> Image.Image:
    """A sheet with a row of tiles for each image, the original first, set apart from what became of it.

    ``side``: of a tile in pixels. Images are scaled to fit, keeping their shape.
    """
    small, medium, large = font(TEXT), font(TEXT + 2), font(24)
    columns = max(len(row) for row in rows)
    width = 2 * MARGIN + columns * side + columns * GAP  # one gap more after the originals
    notes = _wrap(subtitle, width - 2 * MARGIN, medium)
    head = MARGIN + 34 + len(notes) * 20 + 8
    step = side + TEXT + 16
    sheet = Image.new("RGB", (width, head + len(rows) * step + MARGIN // 2), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN - 6), title, INK, font=large)
    for i, line in enumerate(notes):
        pen.text((MARGIN, MARGIN + 30 + 20 * i), line, FAINT, font=medium)
    for r, row in enumerate(rows):
        for c, tile in enumerate(row):
            x, y = MARGIN + c * (side + GAP) + (GAP if c else 0), head + r * step
            picture = _fit(tile.image, side)
            sheet.paste(picture, (x + (side - picture.width) // 2, y + (side - picture.height) // 2))
            words = shorten(tile.caption, side, small)
            pen.text((x + side / 2, y + side + 4), words, FAINT if c else INK, font=small, anchor="ma")
    return sheet


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
    side: int = 160,
) -> Path:
    """Write a contact sheet of photos under a preset, as fine-tuning would decode and augment them; returns its path.

    ``paths``: image files, or folders of them. ``augment``: a preset of :mod:`gpuaug.presets`. ``size``: of the
    model's input, pixels. ``side``: of a tile. Raises :class:`DataError` for a file that is no image, and ValueError
    for an unknown preset or an output that is not an image file.
    """
    out = check_sheet(out)
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    files = _files(paths)
    mean, std = ga.IMAGENET_MEAN, ga.IMAGENET_STD
    pipeline = presets.get(augment, size=size, seed=seed, mean=mean, std=std)
    rows = []
    for r, path in enumerate(files):
        image = decode(path, presets.stored_size(augment, size))
        tiles = draw_tiles(image, pipeline, range(r * draws, (r + 1) * draws), mean, std)
        rows.append([Tile(to_image(image), path.stem), *tiles])
    out.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(rows, augment, one_line(pipeline), side).save(out)
    return out


def _files(paths: Sequence[str | Path]) -> list[Path]:
    endings = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm"}
    files: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in endings) if path.is_dir() else [path]
        if not inside:
            raise DataError(f"{path}: no images in this folder")
        files += inside
    if not files:
        raise DataError("name at least one photo")
    return files
