"""setuptools, with a compiler at hand where it is needed: for wheels, not for editable installs."""

from setuptools.build_meta import *  # noqa: F403
from setuptools.build_meta import get_requires_for_build_wheel as _requires

COMPILER = ["numba>=0.61", "numpy>=1.26"]


def get_requires_for_build_wheel(config_settings=None):
    return [*_requires(config_settings), *COMPILER]
