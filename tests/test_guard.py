"""The guard fails each test that leaves something behind, and blames no other; --shuffle changes the order alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
LEAKS = {
    "threads": ("torch.set_num_threads(torch.get_num_threads() + 1)", "torch's number of threads"),
    "dtype": ("torch.set_default_dtype(torch.float64)", "torch's default dtype"),
    "device": ("torch.set_default_device('meta')", "torch's default device"),
    "grad": ("torch.set_grad_enabled(False)", "torch's grad mode"),
    "precision": ("torch.set_float32_matmul_precision('medium')", "torch's matmul precision"),
    "environment": ("os.environ['LEFT'] = 'yes'", "$LEFT"),
    "folder": ("os.chdir('tests')", "the working folder"),
    "path": ("sys.path.append('left')", "sys.path"),
    "signal": ("signal.signal(signal.SIGINT, lambda *a: None)", "the handlers of signals"),
    "function": ("recipe.lower = None", "gpuaug.recipe.lower"),
    "method": ("ga.Compose.sample = None", "gpuaug.compose.Compose.sample"),
    "new_method": ("ga.Compose.left = None", "gpuaug.compose.Compose.left"),
    "gone": ("del compose.explain", "gpuaug.compose.explain"),
    "constant": ("ops.LEFT = 1", "gpuaug.transforms.ops.LEFT"),
    "entry": ("presets.PRESETS['none'] = None", "gpuaug.presets.PRESETS.none"),
    "module": ("del sys.modules['gpuaug.presets']", "sys.modules['gpuaug.presets']"),
    "own_name": ("global GIVEN; GIVEN = 2", "test_leaks.GIVEN"),
}
SOUND = {
    "patches": "monkeypatch.setattr(recipe, 'lower', None); monkeypatch.setenv('LEFT', 'no'); monkeypatch.chdir('/')",
    "caches": "backends._warned.add('sound')",
    "imports": "import gpuaug.benchmarks.timing",
    "draws": "DRAWN.append((torch.rand(()).item(), np.random.random(), random.random()))",
    "draws_again": "DRAWN.append((torch.rand(()).item(), np.random.random(), random.random()))",
    "drew_the_same": "assert len(set(DRAWN)) == 1",
}
HEAD = """
import os, random, signal, sys
import numpy as np
import torch
import gpuaug as ga
from gpuaug import backends, compose, presets, recipe
from gpuaug.transforms import ops
GIVEN, DRAWN = 1, []
"""


def pytest_of(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, "tests"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with conftest, the guard, and no test."""
    (tmp_path / "tests").mkdir()
    for name in ("conftest.py", "guard.py"):
        shutil.copy(HERE / name, tmp_path / "tests" / name)
    return tmp_path


def test_what_a_test_leaves_behind_fails_it_and_no_other(clone: Path) -> None:
    bodies = SOUND | {name: body for name, (body, _) in LEAKS.items()}
    tests = [f"def test_{name}(monkeypatch):\n    {body}\n" for name, body in bodies.items()]
    (clone / "tests" / "test_leaks.py").write_text(HEAD + "\n\n".join(tests))
    done = pytest_of(clone)
    told = dict(re.findall(r"^tests/test_leaks.py::test_(\w+) left behind: (.*)$", done.stdout, re.M))
    assert told.keys() == LEAKS.keys(), done.stdout
    for name, (_, what) in LEAKS.items():
        assert re.fullmatch(re.escape(what) + r"( \(.* before, .* now\))?", told[name]), told[name]
    assert f"{len(bodies)} passed, {len(LEAKS)} errors" in done.stdout and done.returncode == 1


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])  # which must agree on the order
def test_a_file_left_in_the_clone_fails_the_run(clone: Path, workers: int) -> None:
    """And is none of the project's files, which are those under version control."""
    tests = [f"def test_{name}():\n    open('{name}', 'w').close()\n" for name in ("left", "ignored", "other")]
    tests.append(
        "def test_files(tracked):\n    assert [path.name for path in tracked] == ['conftest.py', 'guard.py']\n"
    )
    (clone / "tests" / "test_files.py").write_text("\n".join(tests))
    (clone / ".gitignore").write_text("__pycache__/\n.pytest_cache/\nignored\n")
    subprocess.run(["git", "init", "-q"], cwd=clone, check=True)
    subprocess.run(["git", "add", "tests/conftest.py", "tests/guard.py"], cwd=clone, check=True)
    done = pytest_of(clone, "--shuffle", "1", "-n", str(workers))
    assert "4 passed" in done.stdout and done.returncode == 1
    before, after = (part.split() for part in re.search(r"before:\n(.*)after:\n(.*?)\n\n", done.stdout, re.S).groups())
    assert [word for word in after if word not in before] == ["left", "other", "!!", "ignored"]


def test_shuffled_tests_are_the_same_tests(clone: Path) -> None:
    (clone / "tests" / "test_many.py").write_text("\n".join(f"def test_{i}(): pass" for i in range(20)))
    order = re.findall(r"test_\d+$", pytest_of(clone, "--collect-only", "--shuffle", "1").stdout, re.M)
    written = [f"test_{i}" for i in range(20)]
    assert order != written and sorted(order) == sorted(written)
