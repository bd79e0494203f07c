"""The benchmark suite: pipelines against the peers behind a parity gate, scaling, pictures, kernels, two commits.

`gpuaug bench` and `make bench` run `run`; the other modules are commands of their own.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHECKOUT = (ROOT / "pyproject.toml").is_file()
RESULTS = Path(__file__).resolve().parent / "results" if CHECKOUT else Path("benchmark-results")
