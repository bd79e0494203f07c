"""Nothing that a test sets, patches or writes outlives it: settings of the process, gpuaug's names, files of the clone.

A plugin of conftest. It looks before each test and after its teardown, and an error of the teardown says what the test
left behind. pytest itself puts the filters of warnings back, and `pytest_runtest_setup` here seeds the global
generators, so that no draw without a seed hangs on the tests before.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from operator import is_
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
SIGNALS = (signal.SIGINT, signal.SIGTERM)
ABSENT = object()
_modules: dict[str, ModuleType] = {}  # those watched
_names: dict[str, tuple[Mapping, dict]] = {}  # what stands in them, by place: as it is, and as it was
_settings: dict[str, object] = {}
_loaded = 0
_clone: dict[str, str | None] = {}


def settings() -> dict[str, object]:
    """What a test may set for the whole process, by name."""
    return {
        "torch's number of threads": torch.get_num_threads(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": torch.get_default_device(),
        "torch's grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "torch's autocast": torch.is_autocast_enabled("cpu"),
        "torch's matmul precision": torch.get_float32_matmul_precision(),
        "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "CUDA's sync debug mode": torch.cuda.get_sync_debug_mode() if torch.cuda.is_initialized() else 0,
        "the working folder": os.getcwd(),
        "sys.path": tuple(sys.path),
        "sys.argv": tuple(sys.argv),
        "the switch interval of threads": sys.getswitchinterval(),
        "the collection of garbage": gc.isenabled(),
        "the handlers of signals": tuple(map(signal.getsignal, SIGNALS)),
        **{f"${name}": value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
    }


def watch(module: ModuleType) -> None:
    """Remember the names of a module and of its classes, and what its public dicts hold; the other dicts are caches."""
    place = module.__name__
    _modules[place], _names[place] = module, (vars(module), dict(vars(module)))
    for name, value in _names[place][1].items():
        if isinstance(value, type) and value.__module__ == place:
            _names[f"{place}.{name}"] = vars(value), dict(vars(value))
        elif type(value) is dict and not name.startswith("_"):
            _names[f"{place}.{name}"] = value, dict(value)


def watch_what_is_new() -> None:
    """Watch the modules of gpuaug that were loaded since the last look."""
    global _loaded
    if _loaded != len(sys.modules):
        _loaded = len(sys.modules)
        for name, module in list(sys.modules.items()):
            if name not in _modules and name.partition(".")[0] == "gpuaug":
                watch(module)


def replaced() -> list[str]:
    """Names that stand for something else than before, for nothing, or in a namespace for the first time."""
    found = []
    for name, module in list(_modules.items()):
        if sys.modules.get(name) is not module:
            found.append(f"sys.modules[{name!r}]")
            del _modules[name]
    for place, (now, before) in _names.items():
        if len(now) == len(before) and all(map(is_, now.values(), before.values())):
            continue
        found += [f"{place}.{name}" for name, value in before.items() if now.get(name, ABSENT) is not value]
        if place in _modules or not isinstance(now, dict):  # a dict may grow, and a module get submodules
            new = [name for name in now.keys() - before.keys() if not isinstance(now[name], ModuleType)]
            found += [f"{place}.{name}" for name in new if not name.startswith("__")]
        _names[place] = now, dict(now)
    return found


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    watch_what_is_new()
    if isinstance(item, pytest.Function) and item.module.__name__ not in _modules:
        watch(item.module)
    _settings.clear()
    _settings.update(settings())
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    try:
        return (yield)
    finally:
        now = settings()
        changed = [name for name in {**_settings, **now} if _settings.get(name, ABSENT) != now.get(name, ABSENT)]
        left = [f"{name} ({_settings.get(name)} before, {now.get(name)} now)" for name in changed] + replaced()
        if left:
            pytest.fail(f"{item.nodeid} left behind: " + "; ".join(left), pytrace=False)


def git(*arguments: str) -> str | None:
    """What git says in the clone; None where this is no clone, or not one that git reads."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return None
    done = subprocess.run(["git", "--no-optional-locks", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None


def status() -> str | None:
    """The files of the clone that are changed, new or ignored, but for the caches of Python and pytest."""
    told = git("status", "--porcelain", "--ignored")
    caches = ("__pycache__/", ".pytest_cache/")
    return told and "".join(line for line in told.splitlines(True) if not line.rstrip().endswith(caches))


def pytest_sessionstart(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):
        _clone["before"] = status()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):
        _clone["after"] = status()
        if _clone["before"] != _clone["after"]:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    before, after = _clone.get("before"), _clone.get("after")
    if before != after:
        terminalreporter.section("files of the clone changed during the run", red=True)
        terminalreporter.line(f"before:\n{before}after:\n{after}")
