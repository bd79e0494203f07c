"""Fine-tune on clips: `gpuaug finetune --task video` from Python, and what its model says of a clip.

    python examples/video_finetune.py                            # camera motions, made from scikit-learn's photos
    python examples/video_finetune.py clips --weights FILE.safetensors --model tf_efficientnet_lite0

A folder holds class folders of video files, or of folders of frames, with or without train/ and test/. Where a flip
would make another class of a clip, as of what goes to the left, the run leaves it out and says so; `--augment
video_train` asks for it nevertheless, and the run warns.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gpuaug as ga
from gpuaug.data import Parts, motion
from gpuaug.finetune import Config, finetune


def few_motions(clips: int, size: int) -> Parts:
    """A small set of camera motions: so many clips of each of eight, and half as many to test."""
    return motion.make(size=size, train=clips, test=max(clips // 2, 1))


def main(
    data: str | None = None,
    model: str | None = None,
    weights: str | None = None,
    augment: str | None = None,
    epochs: int = 4,
    clips: int = 40,
    size: int = 64,
    out: str = "runs",
) -> float:
    """Fine-tune, load what was saved, and ask it about test clips; returns the accuracy on the test part."""
    # A network whose weights are known stays as it is: what is learned is to read how its feature maps move.
    freeze = "backbone" if weights else None
    known = {"model": model, "weights": weights, "augment": augment, "freeze": freeze, "epochs": epochs}
    known |= {"data": data} if data else {}
    config = Config(task="video", size=size, out=Path(out), robustness=0, lr=5e-3, **known)
    parts = None if data else few_motions(clips, size)
    done = finetune(config, parts=parts)

    saved = ga.load(done.run)
    if parts is not None:
        for one, label in zip(saved.predict(parts.test.images[:4]), parts.test.labels.tolist(), strict=False):
            print(f"{one.path}: {one.answer} ({one.probability:.0%}), is {parts.test.classes[label]}")
    print(f"test accuracy {done.after:.1%}")
    return done.after


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", help="a folder of clips; without it camera motions are made")
    for name in ("model", "weights", "augment"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--out", default="runs", help="where runs lie")
    for name, value in {"epochs": 4, "clips": 40, "size": 64}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    main(**vars(parser.parse_args()))
