"""Shared fixtures: real data found through GPUAUG_DATA, and skips that say why."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

# Before torch, and for the subprocesses of tests. The workers of pytest-xdist share the cores; they inherit what the
# process that starts them sets, so that one sets no number. A thread that waits does not spin: others need the core.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    _share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _share)))
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

GIVEN = ("GPUAUG_DATA", "GPUAUG_ENGINE")  # the engine: see kernels/cpu/engine.py
for _name in [name for name in os.environ if name.startswith(("GPUAUG_", "ACCELERATE_")) and name not in GIVEN]:
    del os.environ[_name]  # what a user has set changes what is printed and chosen

# What compilers and libraries keep is kept with pytest's cache, not in the user's folders; `make clean` removes it.
ROOT = Path(__file__).resolve().parents[1]
for _name in ("HF_HOME", "MPLCONFIGDIR", "PIP_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TORCH_HOME", "TRITON_CACHE_DIR"):
    os.environ[_name] = str(ROOT / ".pytest_cache" / "kept" / _name)
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

# A shell's background job ignores Ctrl-C, and programs that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import guard  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

with contextlib.suppress(ImportError):
    import cv2  # noqa: E402, F401 - it sets LD_LIBRARY_PATH as it is imported: before the first test, not during one

OLDER_TRITON = "3.6.0"  # besides the installed one; torch 2.10 to 2.11 ship it
LONGEST = ("test_ptx", "test_triton_compile", "test_fuzz", "test_keys", "test_timm_train", "test_compiling")
AS_ON_A_GPU = ("test_random_pipelines",)  # what the interpreter runs with programs of a GPU's size


@pytest.fixture(autouse=True)
def few_programs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program costs Triton's interpreter as much whatever its size: larger tiles, fewer chunks of a statistic."""
    if os.environ.get("TRITON_INTERPRET") == "1" and request.path.stem not in AS_ON_A_GPU:
        from gpuaug.backends import triton

        monkeypatch.setattr(triton, "tile_of", lambda meets: (32, 32))
        monkeypatch.setattr(triton, "CHUNKS", 2)


@functools.cache
def languages(function: Callable) -> list[ModuleType]:
    """The modules of Triton's language among a function's globals."""
    from triton import language

    return [value for value in function.__globals__.values() if value is language or value is language.core]


@pytest.fixture(autouse=True)
def patched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's interpreter patches its language at each call of a device function, which is a third of its time and for
    nothing: the kernel that calls has done it."""
    if os.environ.get("TRITON_INTERPRET") != "1":
        return
    from triton.runtime import interpreter

    def patch(function: Callable) -> object:
        if all(place.range.__name__ == "_new_range" for place in languages(function)):
            return SimpleNamespace(restore=lambda: None)
        return original(function)

    original = interpreter._patch_lang
    monkeypatch.setattr(interpreter, "_patch_lang", patch)


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """accelerate keeps the first device and precision of a process; the next test chooses its own."""
    yield
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState, GradientState

        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


@pytest.fixture
def dynamo(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing compiled before; and what torch.compile keeps does not stay: names among globals, a path, a variable."""
    from gpuaug import compiling

    monkeypatch.setattr(sys, "path", [*sys.path])
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()
    gc.collect()
    os.environ.pop("_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR", None)
    os.environ.pop("TRITON_PTXAS_PATH", None)
    modules = [module for name, module in sys.modules.items() if name.startswith("gpuaug.")]
    for place in map(vars, (request.module, *modules)):
        for name in [name for name in place if name.startswith("gpuaug_program")]:
            if place[name] is not compiling.gpuaug_program:
                del place[name]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", type=int, metavar="SEED", help="run the tests in a random order")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(guard)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # long ones first: no worker ends with one
    items.sort(key=lambda item: (item.get_closest_marker("slow") is None, item.path.stem not in LONGEST))
    if config.option.shuffle is not None:
        random.Random(config.option.shuffle).shuffle(items)
    if torch.cuda.is_available():
        return
    no_gpu = pytest.mark.skip(reason="needs a CUDA device, torch.cuda.is_available() is False")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(no_gpu)


def _folder(path: Path) -> Path:
    if not path.is_dir():
        pytest.skip(f"no folder {path}: set GPUAUG_DATA to the folder of the real data")
    return path


@pytest.fixture(scope="session")
def tracked() -> list[Path]:
    """The project's files: those under version control, not what a user left beside them."""
    listed = guard.git("ls-files", "-z")
    if listed is None:
        pytest.skip("asks git for the project's files: needs git and a clone")
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="session")
def older_triton(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """A Triton that is installed beside: its version, and the environment of a process that imports it."""
    place = tmp_path_factory.mktemp("triton")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--disable-pip-version-check", "--target"]
    package = f"triton=={OLDER_TRITON}"
    found = subprocess.run([*command, place, package], capture_output=True, text=True, timeout=300)
    if found.returncode:
        pytest.skip(f"pip could not install {package} beside: {found.stderr.strip().splitlines()[-1:]}")
    paths = os.pathsep.join([str(place), str(ROOT)])
    return OLDER_TRITON, os.environ | {"PYTHONPATH": paths, "TRITON_CACHE_DIR": str(place / "cache")}


@pytest.fixture(scope="session")
def published(tracked: list[Path]) -> list[Path]:
    """The published results of the benchmark, of machines with a GPU last."""
    folder = ROOT / "benchmarks" / "results"
    return [path for kind in ("cpu", "gpu") for path in tracked if path.match(f"{folder}/{kind}-*.json")]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data (cifar10/, photos/): GPUAUG_DATA, default ../shared/data beside the checkout."""
    return _folder(Path(os.environ.get("GPUAUG_DATA", ROOT.parent / "shared" / "data")))


@pytest.fixture(scope="session")
def weights_dir(data_dir: Path) -> Path:
    """The folder of trained weights, beside the data."""
    return _folder(data_dir.parent / "weights")


@pytest.fixture(scope="session")
def photos(data_dir: Path) -> list[torch.Tensor]:
    """All real photographs, ordered by name: uint8 [3, H, W], or [1, H, W] where greyscale. Do not write."""
    image = pytest.importorskip("PIL.Image", reason="decoding photographs needs Pillow")
    paths = sorted(_folder(data_dir / "photos").glob("*.jpg"))
    if not paths:
        pytest.skip(f"no *.jpg in {data_dir / 'photos'}")
    arrays = [np.array(image.open(path)) for path in paths]
    return [torch.from_numpy(np.ascontiguousarray(np.atleast_3d(a).transpose(2, 0, 1))) for a in arrays]


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A folder of two class folders, whose images lie at several depths and in several formats."""
    from pets import NAMES, save

    for k, name in enumerate(NAMES):
        save(tmp_path / "pets" / name, k)
    return tmp_path / "pets"


@pytest.fixture(params=["simplejpeg", "Pillow"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What decodes JPEG."""
    from gpuaug.data import jpeg

    if request.param == "Pillow":
        monkeypatch.setattr(jpeg, "library", lambda: None)
    else:
        pytest.importorskip("simplejpeg", reason="the faster decoder is not installed")
    return request.param
