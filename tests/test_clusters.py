"""Ray Data and Spark, in environments of their own: the examples, judged by one process on images decoded whole."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest
import torch

import gpuaug as ga

pa = pytest.importorskip("pyarrow", reason="tables need pyarrow")
pytest.importorskip("numba", reason="parts of images are read by the CPU engine")

from gpuaug.data import read  # noqa: E402
from gpuaug.data.sources import id_of  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


def environment(place: Path, package: str) -> Path:
    """The interpreter of a new environment, which has what this one has and the package."""
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    found = subprocess.run(
        [python, "-c", "import site; print(site.getsitepackages()[0])"], capture_output=True, text=True, timeout=60
    )
    lines = [f"import site; site.addsitedir({folder!r})\n" for folder in site.getsitepackages()]
    (Path(found.stdout.strip()) / "beside.pth").write_text("".join(lines))
    command = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", package]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if done.returncode:
        pytest.skip(f"pip could not install {package}: {done.stderr.strip().splitlines()[-1:]}")
    return python


@pytest.fixture(scope="module")
def with_ray(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("ray"), "ray[data]")


@pytest.fixture(scope="module")
def with_spark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("java") is None:
        pytest.skip("Spark needs java")
    return environment(tmp_path_factory.mktemp("spark"), "pyspark[sql]")


def run(python: Path, name: str, place: Path, *arguments: str | Path) -> str:
    """What an example prints."""
    command = [python, ROOT / "examples" / f"{name}.py", *map(str, arguments)]
    # Spark on two threads, at no address of the network
    about = {"PYSPARK_PYTHON": str(python), "SPARK_LOCAL_IP": "127.0.0.1", "MASTER": "local[2]"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=place, env=os.environ | about)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pixels(cell: object) -> np.ndarray:
    """Of a struct, or of a tensor's numbers."""
    if isinstance(cell, dict):
        return np.frombuffer(cell["data"], cell["dtype"]).reshape(cell["shape"])
    return np.array(cell, np.uint8).reshape(3, 64, 64)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("name", ["ray_data", "spark"])
def test_a_cluster_draws_as_one_process_does(
    name: str, parts: int, data_dir: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    import pyarrow.parquet as pq

    files = sorted((data_dir / "photos").glob("*.jpg"))
    if not files:
        pytest.skip(f"no *.jpg in {data_dir / 'photos'}")
    python = request.getfixturevalue("with_ray" if name == "ray_data" else "with_spark")
    how = ["--size", 64, "--epoch", 3, "--batch-size", 10, "--blocks" if name == "ray_data" else "--partitions", parts]
    text = run(python, name, tmp_path, data_dir / "photos", tmp_path / "out", *how)
    assert f"{len(files)} images (3, 64, 64)" in text

    written = list((tmp_path / "out").glob("*.parquet"))
    assert len(written) >= parts
    rows = [row for file in written for row in pq.read_table(file).to_pylist()]
    found = {row["id"]: pixels(row["image"]) for row in rows}
    assert sorted(found) == [file.name for file in files] and len(rows) == len(files)
    augment = ga.Compose([ga.RandomResizedCrop(64), ga.RandomHorizontalFlip(), ga.TrivialAugmentWide()], seed=0)
    whole = [torch.from_numpy(read(file).copy()).permute(2, 0, 1) for file in files]
    wanted = augment(whole, ids=[id_of(file.name) for file in files], epoch=3)
    assert all(np.array_equal(found[file.name], one) for file, one in zip(files, wanted.numpy(), strict=True))
