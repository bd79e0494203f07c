"""docs/motions.jpg: clips of three camera motions, and what a mirror makes of them.

python -m benchmarks.motions [PICTURE]
"""

from __future__ import annotations

import sys

import gpuaug as ga
from gpuaug.data import motion
from gpuaug.drawing import Tile, contact_sheet
from gpuaug.preview import strip

from . import ROOT

SHOWN = {"pan_left": 2, "turn_right": 0, "zoom_in": 0}  # of each class one


def main(out: str = str(ROOT / "docs" / "motions.jpg")) -> None:
    clips = motion.make(size=96, train=3, test=1).train
    flip, rows = ga.Compose([ga.RandomHorizontalFlip(1.0)], seed=0), []
    for name, number in SHOWN.items():
        i = int((clips.labels == motion.CLASSES.index(name)).nonzero()[number])
        clip, label = clips.images[i : i + 1], clips.labels[i : i + 1]
        params = flip.sample(clip, ids=[0], epoch=0)
        new = motion.CLASSES[int(motion.relabel(label, params))]
        words = f"mirrored: {new}" + (", as before" if new == name else "")
        rows.append([Tile(strip(clip[0]), name), Tile(strip(flip.apply(clip, params)[0]), words)])
    contact_sheet(rows, "What a flip makes of the label", side=480).save(out, quality=88)
    print(f"wrote {out}")


if __name__ == "__main__":
    main(*sys.argv[1:])
