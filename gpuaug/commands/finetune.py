"""``gpuaug finetune``: its options are the fields of :class:`gpuaug.finetune.Config`."""

from __future__ import annotations

from dataclasses import dataclass

from gpuaug.finetune.config import Config


class Refused(Exception):
    """What a :class:`Config` raised: no ValueError, which tyro would put in a box beside the wrong help."""


@dataclass(frozen=True)
class Finetune(Config):
    __doc__ = Config.__doc__

    def __post_init__(self) -> None:
        try:
            super().__post_init__()
        except ValueError as error:
            raise Refused(str(error)) from error


def run(command: Finetune) -> None:
    """Fine-tune."""
    from gpuaug.finetune import finetune

    finetune(Config(**vars(command)))
