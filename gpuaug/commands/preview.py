"""``gpuaug preview``: a contact sheet of what an augmentation makes of photos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Preview:
    """Write a contact sheet: each photo, and what an augmentation makes of it."""

    images: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Photos, or folders of photos; boxes, masks and keypoints of a folder are drawn, too."""
    data: Path | None = None
    """One more folder: of photos, of images/ and masks/, with a COCO file (coco.json, annotations/*.json) or VOC's XML
    (annotations/*.xml); or with such parts, of which train/ is shown."""
    most: int = 8
    """Images of a folder with boxes, masks or keypoints."""
    clips: Path | None = None
    """Instead: a folder of class folders of clips (video files, or folders of frames), as strips of eight frames."""
    gallery: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Instead: every op and policy once, on scikit-learn's two sample photos."""
    augment: Annotated[str, tyro.conf.arg(aliases=["--preset"])] = "imagenet_train"
    """A preset of gpuaug.presets, with arguments if need be: geometric:degrees=30,flip=0."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("sheet.png")
    """The sheet; an image format by its ending."""
    draws: int = 6
    """Augmented versions of each photo."""
    seed: int = 0
    """Another seed draws other versions."""
    size: int = 224
    """Side of the model's input in pixels."""


def run(command: Preview) -> None:
    """Write the sheet."""
    from gpuaug.gallery import gallery
    from gpuaug.preview import preview, preview_clips

    paths = (*command.images, *([] if command.data is None else [command.data]))
    if command.clips is not None:
        if paths or command.gallery:
            raise ValueError("preview: --clips shows clips alone; leave out the photos, or --clips")
        from gpuaug.data import clips

        options = {name: getattr(command, name) for name in ("draws", "seed", "size", "most")}
        source = clips(command.clips, stride="fit", size=command.size * 8 // 7)
        print(f"wrote {preview_clips(source, command.augment, command.out, **options)}")
        return
    if command.gallery and paths:
        raise ValueError("preview: --gallery shows its own two photos; leave the photos out, or --gallery")
    if command.gallery:
        print(f"wrote {gallery(command.out)}")
        return
    options = {name: getattr(command, name) for name in ("draws", "seed", "size", "most")}
    print(f"wrote {preview(paths, command.augment, command.out, **options)}")
