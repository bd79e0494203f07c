"""The training loops of other libraries, in an environment with these libraries; in the one that has them already their
own tests run as they are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
LIBRARIES = ("lightning", "pytorch-lightning", "transformers", "datasets")


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the libraries, and sees all that the running one has."""
    home = tmp_path_factory.mktemp("loops")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    where = [python, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip())
    host = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"  # and reads the .pth files there
    (packages / "host.pth").write_text(host, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--disable-pip-version-check", *LIBRARIES]
    found = subprocess.run(list(map(str, pip)), capture_output=True, text=True, timeout=900)
    if found.returncode:
        pytest.skip(f"pip could not install {', '.join(LIBRARIES)}: {found.stderr.strip().splitlines()[-1:]}")
    return python


@pytest.mark.slow
def test_loops_of_other_libraries(environment: Path) -> None:
    """None of their tests is skipped there."""
    command = [
        environment,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "lightning or hugging_face or trainers",
    ]
    command += ["test_lightning.py", "test_hugging_face.py", "test_examples.py"]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    # from here, as transformers would take the folder kernels/ for the package of that name
    done = subprocess.run(list(map(str, command)), cwd=TESTS, env=variables, capture_output=True, text=True)
    assert done.returncode == 0 and "skipped" not in done.stdout, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 20, done.stdout[-3000:]
