"""``gpuaug finetune``: its options are the fields of :class:`gpuaug.finetune.Config`."""

from __future__ import annotations

from gpuaug.finetune.config import Config


def run(command: Config) -> None:
    """Fine-tune."""
    from gpuaug.finetune import finetune

    finetune(command)
