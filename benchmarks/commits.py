"""A commit's library in a folder and a process of its own, beside that of another commit."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import ROOT


class Side:
    """A commit's library in a process of its own, which answers lines with lines of JSON.

    Args:
        commit: a git revision, or None for the files as they are.
        folder: what `unpack` made of it.
        module: what runs there, with `arguments`.
        environment: what it sees beside this process's own; None takes a name away.
    """

    def __init__(
        self,
        commit: str | None,
        folder: Path,
        module: str,
        arguments: Sequence[str],
        environment: Mapping[str, str | None] | None = None,
    ):
        self.name = commit or "the files as they are"
        seen = os.environ | {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": ""} | (environment or {})
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=folder,
            env={name: value for name, value in seen.items() if value is not None},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, *words: object) -> None:
        """Ask for something; `hear` has the answer."""
        self.asked = " ".join(map(str, words))
        print(self.asked, file=self.process.stdin, flush=True)

    def hear(self) -> dict:
        """The next answer.

        Raises:
            RuntimeError: the process has ended.
        """
        answer = self.process.stdout.readline()
        if not answer:
            status = self.process.wait()
            raise RuntimeError(f"the process of {self.name} ended with status {status}, asked for {self.asked!r}")
        return json.loads(answer)

    def ask(self, *words: object) -> dict:
        """The answer to a line of words."""
        self.tell(*words)
        return self.hear()

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait(30)


def unpack(commit: str | None, folder: Path) -> None:
    """Lay a commit's `gpuaug` and `kernels` into a folder as they are installed, with this checkout's benchmarks."""
    if commit is None:
        for name, place in (("gpuaug", "gpuaug"), ("kernels", "gpuaug/kernels")):
            shutil.copytree(ROOT / name, folder / place, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        done = subprocess.run(["git", "archive", commit, "gpuaug", "kernels"], cwd=ROOT, capture_output=True)
        if done.returncode:
            raise ValueError(f"git archive {commit}: {done.stderr.decode().strip()}")
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")
        shutil.move(folder / "kernels", folder / "gpuaug" / "kernels")
    others = shutil.ignore_patterns("results", "__pycache__")
    shutil.copytree(ROOT / "benchmarks", folder / "gpuaug" / "benchmarks", ignore=others)
