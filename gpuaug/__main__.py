"""``python -m gpuaug`` is the command ``gpuaug``."""

from __future__ import annotations

from gpuaug.cli import main

raise SystemExit(main())
