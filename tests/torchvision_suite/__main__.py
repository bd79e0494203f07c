"""torchvision's own tests of transforms.v2, run on gpuaug: `python tests/torchvision_suite FOLDER [pytest arguments]`.

FOLDER is `test/` of a source release of torchvision, 0.21 or later; nothing of it is kept here. The tests are copied to
a temporary folder, where their two imports, of `torchvision.transforms.v2` and its `functional`, are led to `adapter`.
Prints a line for each test class: how many passed, failed, and do not apply, with the reasons in `adapter.NOT_OURS`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
IMPORTS = {
    "import torchvision.transforms.v2 as transforms": "from adapter import transforms",
    "from torchvision.transforms.v2 import functional as F": "from adapter import F",
}


def adapted(source: Path, target: Path) -> None:
    """Copy the tests with their imports led to the adapter."""
    shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.pyc", "expect", "cpp"))
    test = target / "test_transforms_v2.py"
    text = test.read_text()
    for old, new in IMPORTS.items():
        if text.count(old) != 1:
            raise SystemExit(
                f"{test.name} of this release does not say {old!r} once; the adapter must be told its words"
            )
        text = text.replace(old, new)
    test.write_text(text)
    (target / "conftest.py").unlink(missing_ok=True)
    shutil.copy(HERE / "adapter.py", target)


def report(results: Path) -> str:
    """What became of the tests, by class."""
    counts: dict[str, Counter] = defaultdict(Counter)
    for case in ElementTree.parse(results).iter("testcase"):
        name = case.get("classname", "").split(".")[-1]
        name = name if name.startswith("Test") else case.get("name", "").split("[")[0]
        kinds = {child.tag for child in case}
        counts[name]["failed" if kinds & {"failure", "error"} else "apart" if "skipped" in kinds else "passed"] += 1
    total = sum(counts.values(), Counter())
    lines = [f"{'class':34s} passed failed  apart"]
    for name, count in [*counts.items(), ("all", total)]:
        lines.append(f"{name:34s} {count['passed']:6d} {count['failed']:6d} {count['apart']:6d}")
    judged = total["passed"] + total["failed"]
    return "\n".join([*lines, f"{total['passed'] / max(judged, 1):.1%} of those that apply passed"])


def main(folder: str, *arguments: str) -> int:
    with tempfile.TemporaryDirectory() as made:
        copy, results = Path(made, "test"), Path(made, "results.xml")
        adapted(Path(folder), copy)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "adapter",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:benchmark",
        ]
        command += [f"--junitxml={results}", f"--rootdir={copy}", "test_transforms_v2.py", *arguments]
        env = {
            **os.environ,
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": os.pathsep.join([str(copy), os.environ.get("PYTHONPATH", "")]),
        }
        code = subprocess.run(command, cwd=copy, env=env, check=False).returncode
        if results.exists():
            print(report(results))
    return code


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    raise SystemExit(main(*sys.argv[1:]))
