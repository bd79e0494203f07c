"""``gpuaug preview``: a contact sheet of what an augmentation makes of photos."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

AUGMENT, DRAWS = "imagenet_train", 6
TEXT_AUGMENT, TEXT_DRAWS = "text_light", 3


@dataclass(frozen=True)
class Preview:
    """Write a contact sheet: each photo, and what an augmentation makes of it; or show texts."""

    images: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Photos, or folders of photos; boxes, masks and keypoints of a folder are drawn, too."""
    data: Path | None = None
    """One more folder: of photos, of images/ and masks/, with a COCO file (coco.json, annotations/*.json) or VOC's XML
    (annotations/*.xml); or with such parts, of which train/ is shown."""
    most: int = 8
    """Images of a folder with boxes, masks or keypoints, or texts."""
    clips: Path | None = None
    """Instead: a folder of class folders of clips (video files, or folders of frames), as strips of eight frames."""
    text: Path | None = None
    """Instead: a folder with train.csv and the like, or one such file: texts, and what of them is left out, put in,
    replaced and moved, on the screen, or in the .png or .html file of --out."""
    text_column: str | None = None
    """Of --text: the column of texts, by default one of the usual names."""
    gallery: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Instead: every op and policy once, on scikit-learn's two sample photos."""
    augment: Annotated[str | None, tyro.conf.arg(aliases=["--preset"])] = None
    """A preset of gpuaug.presets, with arguments if need be: geometric:degrees=30,flip=0; by default imagenet_train. Of
    --text none, text_light (by default), text_medium, text_strong, or rates: deletion=0.1,swap=(0, 0.2)."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """The sheet, by default sheet.png; an image format by its ending."""
    draws: int | None = None
    """Augmented versions of each photo, by default 6, or of each text, by default 3."""
    seed: int = 0
    """Another seed draws other versions."""
    size: int = 224
    """Side of the model's input in pixels."""


def run(command: Preview) -> None:
    """Write the sheet."""
    from gpuaug.gallery import gallery
    from gpuaug.preview import preview, preview_clips

    paths = (*command.images, *([] if command.data is None else [command.data]))
    instead = {"--clips": command.clips is not None, "--text": command.text is not None, "--gallery": command.gallery}
    named = [name for name, asked in instead.items() if asked]
    if len(named) > 1 or (named and paths):
        others = "the photos" if paths else named[1]
        told = {"--clips": "clips alone", "--text": "texts alone", "--gallery": "its own two photos"}[named[0]]
        raise ValueError(f"preview: {named[0]} shows {told}; leave out {others}, or {named[0]}")
    if command.text is not None:
        return _texts(command)
    out = command.out or Path("sheet.png")
    if command.gallery:
        print(f"wrote {gallery(out)}")
        return
    options = {name: getattr(command, name) for name in ("seed", "size", "most")} | {
        "draws": DRAWS if command.draws is None else command.draws
    }
    augment = command.augment or AUGMENT
    if command.clips is not None:
        from gpuaug.data import clips

        source = clips(command.clips, stride="fit", size=command.size * 8 // 7)
        print(f"wrote {preview_clips(source, augment, out, **options)}")
        return
    print(f"wrote {preview(paths, augment, out, **options)}")


def _texts(command: Preview) -> None:
    """Show texts, or write them."""
    from gpuaug.finetune.runs import write
    from gpuaug.text.preview import on_screen, page, picture, shown

    out, augment = command.out, command.augment or TEXT_AUGMENT
    if out is not None and out.suffix.lower() not in (".png", ".html"):
        raise ValueError(f"{out}: texts are written as .png or .html; name it so")
    draws = TEXT_DRAWS if command.draws is None else command.draws
    options = {"draws": draws, "seed": command.seed, "most": command.most, "column": command.text_column}
    rows, pipeline = shown(command.text, augment, **options)
    title = f"{command.text.resolve().name}: what {augment} makes of texts"
    if out is None:
        print(on_screen(rows, sys.stdout.isatty()))
        return
    write(out, picture(rows, title) if out.suffix.lower() == ".png" else page(rows, title, repr(pipeline)).encode())
    print(f"wrote {out}")
