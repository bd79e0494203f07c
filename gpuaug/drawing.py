"""Pictures with words: text of any script that wraps, and boxes, masks and keypoints drawn over images."""

from __future__ import annotations

import colorsys
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gpuaug.messages import warn

INK, FAINT, PAPER = (32, 34, 40), (120, 124, 134), (255, 255, 255)
GAP, MARGIN, TEXT, LINE = 10, 24, 11, 15  # pixels; the last two of captions
NAME = 9  # pixels; of class names in boxes
VEIL = 0.45  # how much of a mask's colour covers its pixels
Colour = tuple[int, int, int]


# --- text -------------------------------------------------------------------------------------------------------------
@functools.lru_cache(64)
def font(size: int) -> ImageFont.FreeTypeFont:
    """The sheets' typeface, which has Latin, Greek, Cyrillic, Hebrew, Arabic, Armenian and Georgian letters."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)


@functools.lru_cache(256)
def _letters(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(path).get_charmap())


@functools.lru_cache(4096)
def font_for(word: str, size: int) -> ImageFont.FreeTypeFont:
    """The sheets' typeface, or another installed one where it lacks letters of a word; warns where none has them."""
    own, wanted = font(size), {ord(c) for c in word if not c.isspace()}
    if wanted <= _letters(str(own.path)):
        return own
    from matplotlib.font_manager import fontManager

    files = {entry.fname for entry in fontManager.ttflist if "LastResort" not in entry.fname}
    for path in sorted(files, key=lambda path: ("Regular" not in path, path)):
        if wanted <= _letters(path):
            return ImageFont.truetype(path, size)
    lacking = "".join(map(chr, sorted(wanted - _letters(str(own.path)))))
    warn(f"no installed font has the letters {lacking!r}; install one that has, such as Noto Sans of that script")
    return own


def width_of(text: str, size: int) -> float:
    """Of a line, in pixels."""
    return sum(font_for(word, size).getlength(word) for word in _words(text))


def _words(line: str) -> list[str]:
    """A line's words, each with the space behind it."""
    words = line.split(" ")
    return [f"{word} " for word in words[:-1]] + words[-1:]


def wrapped(text: str, width: float, size: int) -> list[str]:
    """A text in lines that fit a width in pixels: broken at spaces, and in words that are longer than a line."""
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}".strip()
            if width_of(longer, size) <= width:
                line = longer
                continue
            lines += [line] if line else []
            line = word
            while width_of(line, size) > width and len(line) > 1:
                n = next((n for n in range(len(line) - 1, 1, -1) if width_of(line[:n], size) <= width), 1)
                lines.append(line[:n])
                line = line[n:]
        lines += [line] if line else []
    return lines


def write(pen: ImageDraw.ImageDraw, x: float, y: float, line: str, colour: Colour, size: int, centred=False) -> None:
    """Write a line with its upper left corner, or the middle of its upper edge, at a place."""
    x = x - width_of(line, size) / 2 if centred else x
    for word in _words(line):
        face = font_for(word, size)
        pen.text((x, y + font(size).getmetrics()[0]), word, colour, font=face, anchor="ls")
        x += face.getlength(word)


# --- marks ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Marks:
    """What lies over a picture, in its pixels.

    Attributes:
        boxes: [N, 4], left, top, right, bottom; a row of NaN or without area is left out.
        classes: of the boxes, whole numbers that choose their colours.
        masks: [H, W] of numbers, 0 for none, or [N, H, W], one for each object.
        keypoints: [..., 2], (x, y); those outside of the picture are left out.
        names: of the classes; one stands in each box that is wide enough for it.
    """

    boxes: np.ndarray | None = None
    classes: Sequence[int] | None = None
    masks: np.ndarray | None = None
    keypoints: np.ndarray | None = None
    names: Sequence[str] = ()


def colour_of(number: int) -> Colour:
    """One of many colours that are easily told apart."""
    hue = (0.02 + 0.381966 * number) % 1.0  # steps of the golden angle
    r, g, b = colorsys.hls_to_rgb(hue, 0.5, 0.9)
    return round(255 * r), round(255 * g), round(255 * b)


def fitted(image: Image.Image, side: int) -> Image.Image:
    """Scaled to fit a square of ``side``: small images by a whole factor with hard pixels, large ones smoothly."""
    longer = max(image.size)
    if longer * 2 <= side:
        factor = side // longer
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    width, height = (max(1, round(s * side / longer)) for s in image.size)
    return image if longer == side else image.resize((width, height), Image.Resampling.LANCZOS)


def marked(image: Image.Image, marks: Marks, side: int) -> Image.Image:
    """A picture, fitted to a square of ``side``, and what lies over it."""
    picture = fitted(image, side).convert("RGB")
    scale = np.array([picture.width / image.width, picture.height / image.height])
    if marks.masks is not None:
        picture = _veiled(picture, marks.masks, marks.classes)
    pen = ImageDraw.Draw(picture)
    if marks.boxes is not None:
        classes = marks.classes if marks.classes is not None else [0] * len(marks.boxes)
        for box, number in zip(np.asarray(marks.boxes, float), classes, strict=True):
            if np.isfinite(box).all() and (box[2:] > box[:2]).all():
                _box(pen, (box.reshape(2, 2) * scale).ravel(), number, marks.names)
    if marks.keypoints is not None:
        for i, (x, y) in enumerate(np.asarray(marks.keypoints, float).reshape(-1, 2) * scale):
            if 0 <= x <= picture.width and 0 <= y <= picture.height:
                pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=colour_of(i), outline=PAPER, width=1)
    return picture


def _box(pen: ImageDraw.ImageDraw, box: np.ndarray, number: int, names: Sequence[str]) -> None:
    """A box of a class in pixels of the picture, with its name where there is room for it."""
    left, top, right, bottom = box
    pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour_of(number), width=2)
    name = names[number] if number < len(names) else ""
    wide = width_of(name, NAME) + 6
    if name and wide <= right - left and bottom - top >= NAME + 8:
        pen.rectangle((left, top, left + wide, top + NAME + 4), fill=colour_of(number))
        write(pen, left + 3, top + 1, name, PAPER, NAME)


def _veiled(picture: Image.Image, masks: np.ndarray, classes: Sequence[int] | None) -> Image.Image:
    planes: list[tuple[Colour, np.ndarray]]
    if masks.ndim == 3:
        numbers = classes if classes is not None and len(classes) == len(masks) else range(len(masks))
        planes = [(colour_of(n), mask != 0) for n, mask in zip(numbers, masks, strict=True)]
    else:
        planes = [(colour_of(int(n)), masks == n) for n in np.unique(masks) if n]
    for colour, plane in planes:
        shade = Image.fromarray((plane * round(255 * VEIL)).astype(np.uint8))
        picture.paste(colour, (0, 0), shade.resize(picture.size, Image.Resampling.BILINEAR))
    return picture


# --- sheets -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Tile:
    """One picture of a sheet, what lies over it, and the words under it."""

    image: Image.Image
    caption: str = ""
    marks: Marks | None = None


def place(sheet: Image.Image, tile: Tile, x: int, y: int, side: int, tall: int, dark: bool) -> None:
    """Put a tile in a field of ``side`` x ``tall`` pixels of a sheet, and its caption below, the first paragraph dark
    if so asked."""
    picture = fitted(tile.image, side) if tile.marks is None else marked(tile.image, tile.marks, side)
    sheet.paste(picture, (x + (side - picture.width) // 2, y + (tall - picture.height) // 2))
    pen, line_at = ImageDraw.Draw(sheet), y + tall + 4
    for i, paragraph in enumerate(tile.caption.split("\n")):
        for line in wrapped(paragraph, side, TEXT):
            write(pen, x + side / 2, line_at, line, INK if dark and i == 0 else FAINT, TEXT, centred=True)
            line_at += LINE


def heights_of(tiles: Sequence[Tile], side: int) -> tuple[int, int]:
    """(of the pictures of a row, with their captions), pixels."""
    tall = max(fitted(tile.image, side).height for tile in tiles)
    return tall, tall + LINE * max(len(wrapped(tile.caption, side, TEXT)) for tile in tiles) + 12


def contact_sheet(
    rows: Sequence[Sequence[Tile]],
    title: str,
    subtitle: str = "",
    side: int = 160,
    legend: Sequence[str] = (),
    first: int = 0,
) -> Image.Image:
    """A sheet with a row of tiles for each image, the original first, set apart from what became of it.

    ``side``: of a tile in pixels. Images are scaled to fit, keeping their shape. ``legend``: the classes' names, from
    the number ``first`` on.
    """
    columns = max(len(row) for row in rows)
    width = 2 * MARGIN + columns * side + columns * GAP  # one gap more after the originals
    inner = width - 2 * MARGIN
    titles, notes = wrapped(title, inner, 24), wrapped(subtitle, inner, TEXT + 2)
    entries = [wrapped(name, inner - 20, TEXT + 2) for name in legend]
    head = MARGIN + 34 * len(titles) + 20 * len(notes) + 8
    spots, x, y = [], 0, head
    for lines in entries:
        wide = 20 + max(width_of(line, TEXT + 2) for line in lines) + 16
        if x and x + wide - 16 > inner:
            x, y = 0, y + 20 * max(len(spot[2]) for spot in spots if spot[1] == y)
        spots.append((x, y, lines))
        x += wide
    head = y + (20 * max(len(spot[2]) for spot in spots if spot[1] == y) + 8 if spots else 0)
    heights = [heights_of(row, side) for row in rows]
    sheet = Image.new("RGB", (width, head + sum(whole for _, whole in heights) + MARGIN // 2), PAPER)
    pen = ImageDraw.Draw(sheet)
    for i, line in enumerate(titles):
        write(pen, MARGIN, MARGIN - 6 + 34 * i, line, INK, 24)
    for i, line in enumerate(notes):
        write(pen, MARGIN, MARGIN - 4 + 34 * len(titles) + 20 * i, line, FAINT, TEXT + 2)
    for number, (x, y, lines) in enumerate(spots):
        pen.rectangle((MARGIN + x, y + 2, MARGIN + x + 12, y + 14), fill=colour_of(first + number))
        for i, line in enumerate(lines):
            write(pen, MARGIN + x + 20, y + 20 * i, line, INK, TEXT + 2)
    y = head
    for row, (tall, whole) in zip(rows, heights, strict=True):
        for c, tile in enumerate(row):
            place(sheet, tile, MARGIN + c * (side + GAP) + (GAP if c else 0), y, side, tall, dark=c == 0)
        y += whole
    return sheet
