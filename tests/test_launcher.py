"""Triton's own launcher, on a driver that notes what it is asked for: it launches what the triton backend says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter launches nothing", allow_module_level=True)
pytest.importorskip("triton", reason="Triton is not installed here (it has wheels for Linux only)")

PTX = Path(__file__).resolve().parent / "ptx"


@pytest.mark.skipif(
    shutil.which("gcc") is None, reason="the driver and Triton's launcher need gcc, which is not on the PATH"
)
def test_the_launcher_passes_on_what_is_asked_for(tmp_path):
    """Name, grid, block, shared memory, stream and each argument; and asks the driver about no pointer."""
    built = ["gcc", "-O1", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", tmp_path / "libcuda.so.1"]
    subprocess.run([*built, PTX / "driver.c"], check=True)
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path), "TRITON_LIBCUDA_PATH": str(tmp_path)}
    command = [sys.executable, PTX / "launched.py"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for launch in found["launches"]:
        assert launch["launches"] == 1 and launch["told"] == launch["asked"]
        assert all(address % 16 == 0 for address in launch["aligned"])
    names = [launch["asked"]["name"] for launch in found["launches"]]
    one = ["plan_kernel", "ask_kernel", "write_kernel"]
    assert names == [*one, *one, "plan_kernel", *one] * 2, "with ids, counted, drawn apart and applied; in two layouts"
    assert sum(bool(launch["aligned"]) for launch in found["launches"]) == 4, "all outputs but those that are shifted"
    assert found["questions"] == 0
