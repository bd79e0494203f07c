"""The part of the build that is not a table: a wheel of Linux holds the CPU engine, built ahead.

An editable install builds nothing: `make engine` does. On systems where no engine is built ahead the wheel is pure.
"""

import importlib
import importlib.util
import platform
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

MACHINES = ("x86_64", "aarch64")
NAME = "_gpuaug_kernels"  # the folder kernels without gpuaug, which needs torch


def builder():
    """The module kernels/cpu/build.py."""
    if NAME not in sys.modules:
        place = Path(__file__).parent / "kernels"
        spec = importlib.util.spec_from_file_location(
            NAME, place / "__init__.py", submodule_search_locations=[str(place)]
        )
        sys.modules[NAME] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return importlib.import_module(f"{NAME}.cpu.build")


class Binary(Distribution):
    def has_ext_modules(self):
        return platform.system() == "Linux" and platform.machine() in MACHINES


class BuildPy(build_py):
    def run(self):
        super().run()
        if not self.editable_mode and self.distribution.has_ext_modules():
            builder().build(Path(self.build_lib, "gpuaug", "kernels", "cpu"))


class BdistWheel(bdist_wheel):
    def get_tag(self):
        """Any Python 3: the engine is made for the system's C interface, not for Python's."""
        *tag, system = super().get_tag()
        return (*tag, system) if self.root_is_pure else ("py3", "none", system)


setup(distclass=Binary, cmdclass={"build_py": BuildPy, "bdist_wheel": BdistWheel})
