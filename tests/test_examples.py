"""The examples run as their users run them, on a few images of real data."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torchvision", reason="the fine-tuning extra is not installed: torchvision")

ROOT = Path(__file__).resolve().parents[1]


def run(name: str, *arguments: str | Path) -> str:
    """What an example prints."""
    command = [sys.executable, ROOT / "examples" / f"{name}.py", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout


def losses(text: str) -> list[float]:
    found = [float(x) for x in re.findall(r"loss ([\d.]+)", text)]
    assert all(map(math.isfinite, found)), text
    return found


@pytest.fixture
def classes(data_dir: Path, tmp_path: Path) -> Path:
    """A folder of class folders: 32 images of two classes."""
    for name in ("frog", "ship"):
        (tmp_path / name).mkdir()
        found = sorted((data_dir / "cifar10" / "train" / name).iterdir())[:16]
        if len(found) < 16:
            pytest.skip(f"no images in {data_dir / 'cifar10'}")
        for path in found:
            (tmp_path / name / path.name).symlink_to(path)
    return tmp_path


def needed(folder: Path) -> Path:
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: set GPUAUG_DATA to the folder of the real data")
    return folder


def test_classification(classes: Path) -> None:
    assert len(losses(run("classification", classes, "--epochs", 2, "--batch-size", 16))) == 2


def test_video_clips() -> None:
    text = run("video_clips", "--clips", 4, "--size", 32, "--epochs", 1, "--follow")
    assert len(losses(text)) == 1 and re.search(r"test accuracy [\d.]+%", text)


def test_video_finetune(tmp_path: Path) -> None:
    text = run("video_finetune", "--clips", 2, "--size", 32, "--epochs", 1, "--out", tmp_path)
    assert "no flip: it would make pan_left and pan_right of each other" in text
    assert re.search(r"clip 0: \w+ \(\d+%\), is pan_down", text) and re.search(r"test accuracy [\d.]+%", text)


def test_detection(data_dir: Path) -> None:
    text = run("detection", needed(data_dir / "blood_cells" / "test"), "--size", 96, "--batch-size", 2)
    assert len(losses(text)) == 1 and int(re.search(r"(\d+) boxes", text)[1]) > 0


def test_segmentation(data_dir: Path) -> None:
    text = run("segmentation", needed(data_dir / "nuclei" / "test"), "--size", 96, "--epochs", 2, "--batch-size", 8)
    first, last = losses(text)
    assert last < first, text


def test_video(data_dir: Path) -> None:
    text = run("video", needed(data_dir / "photos"), "--size", 64)
    assert len(losses(text)) == 2 and "clips (4, 8, 3, 64, 64)" in text


def test_simclr(classes: Path) -> None:
    (loss,) = losses(run("simclr", classes, "--batch-size", 16))
    assert loss < math.log(31) * 1.5, "worse than guessing among the 31 others"


def needs(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


@pytest.mark.parametrize("name, packages", [("collate", ["sklearn"]), ("accelerate_loop", ["sklearn", "accelerate"])])
def test_loops_over_digits(name: str, packages: list[str]) -> None:
    needs(*packages)
    first, last = losses(run(name, "--epochs", 2))
    assert last < first


def test_timms_loader(classes: Path) -> None:
    needs("timm")
    assert len(losses(run("timm_loader", classes, "--epochs", 2, "--batch-size", 16))) == 2


@pytest.mark.parametrize(
    "name, packages", [("lightning_callback", ["lightning"]), ("hf_trainer", ["transformers", "datasets"])]
)
def test_trainers_over_digits(name: str, packages: list[str]) -> None:
    """A model that guesses has 10%."""
    needs("sklearn", *packages)
    text = run(name, "--epochs", 2)
    assert len(losses(text)) == 1 and float(re.search(r"accuracy ([\d.]+)%", text)[1]) > 30


def test_text_tokens(data_dir: Path) -> None:
    """Of two classes, better than guessing by several standard errors."""
    needs("tokenizers")
    text = run("text_tokens", needed(data_dir / "text" / "sentence_polarity"), "--each", 300, "--epochs", 4)
    found = losses(text)
    assert found[-1] < found[0] and float(re.search(r"accuracy ([\d.]+)%", text)[1]) > 56


def test_text_finetune(data_dir: Path, tmp_path: Path) -> None:
    needs("tokenizers", "accelerate", "timm", "tqdm", "matplotlib")
    folder = needed(data_dir / "text" / "sentence_polarity")
    text = run("text_finetune", folder, "--each", 100, "--epochs", 4, "--out", tmp_path)
    assert float(re.search(r"accuracy ([\d.]+)%", text)[1]) > 54 and "a moving film" in text


def test_each_is_short(tracked: list[Path]) -> None:
    long = {
        p.name: n
        for p in tracked
        if p.parent.name == "examples" and p.suffix == ".py"
        if (n := len(p.read_text().splitlines())) >= 80
    }
    assert not long
