"""What a model of texts is fed with: tokens that lie on the device, augmented there, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpuaug import text
from gpuaug.data import Loader, Source
from gpuaug.text.tokenizer import Tokenizer

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class TokenInput:
    """What the model wants of texts.

    Attributes:
        tokenizer: of the model. longest: tokens of a text, at most; what is behind them is cut off.
        compose: the further arguments of every pipeline: seed, backend.
        size: the same as ``longest``: what a saved model says of itself. The rest is of images.
    """

    tokenizer: Tokenizer
    longest: int
    compose: Mapping[str, Any]
    resize: None = None
    interpolation: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        return self.longest

    def plain(self) -> text.Compose:
        """Tokens as they are: what is tested."""
        return self.augmented("none")

    def augmented(self, spec: str) -> text.Compose:
        """The preset, or the ops, that ``spec`` names; see :func:`gpuaug.text.presets.ops_of`. It is as wide as the
        longest text may be, so that what is cut does not depend on the others in a batch."""
        return text.presets.get(spec, tokenizer=self.tokenizer, max_length=self.longest, **self.compose)


def growth(augment: Any) -> int | None:
    """How many times longer a pipeline may make a text, at most; None: it is not known."""
    if not isinstance(augment, text.Compose):
        return None
    return 2 ** sum(isinstance(op, text.RandomInsertion) for op in augment.transforms)


class Rows:
    """The tokens of texts on a device, int32 [N, T], and how many each has.

    Args:
        texts: N of them. longest: tokens that are kept of each.

    Attributes:
        cut: how many texts were longer.
    """

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer, longest: int, device: torch.device):
        made, self.cut = tokenizer.encode(list(texts), max_length=longest)
        self.ids = made["input_ids"].to(torch.int32).to(device)
        self.lengths = made["attention_mask"].sum(1)
        self.on_device = self.lengths.to(device)

    def all(self) -> Batch:
        """Every text's."""
        return self.batch(np.arange(len(self.lengths)))[0]

    def batch(self, places: np.ndarray) -> tuple[Batch, Tensor]:
        """(tokens and mask int64 [B, W] of the texts at these places, W being the longest of them; the places)."""
        width = int(self.lengths[places].max())
        there = torch.from_numpy(places).to(self.ids.device)
        mask = torch.arange(width, device=self.ids.device) < self.on_device[there, None]
        return {"input_ids": self.ids[there, :width].long(), "attention_mask": mask.long()}, there


class TokenFeed:
    """(x, labels, ids) of texts, in the order in which a Loader takes samples; x is a dict of input_ids and
    attention_mask, int64 [B, W].

    Args:
        augment: of (batch, ids=, epoch=); None: tokens as they are.
        order: of the Loader: shuffle, drop_last, seed, rank, world.
    """

    waited = 0.0

    def __init__(
        self,
        source: Source,
        rows: Rows,
        batch_size: int,
        augment: Callable | None,
        **order: Any,
    ):
        self.rows, self.batch_size, self.augment = rows, batch_size, augment
        device = rows.ids.device
        self.labels, self.ids = source.labels.to(device), source.ids.to(device)
        self.loader = Loader(Source(range(len(source)), source.ids), batch_size, **order)  # its order alone
        self.epoch = self.position = 0

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Batch, Tensor, Tensor]]:
        order, size = self.loader.order(self.epoch, self.position), self.batch_size
        grows = growth(self.augment)
        for at in range(0, len(order) - (size - 1 if self.loader.drop_last else 0), size):
            x, there = self.rows.batch(order[at : at + size])
            self.position += len(there) * self.loader.world
            ids = self.ids[there]
            if self.augment is not None:
                width = x["input_ids"].shape[1]
                x = self.augment(x, ids=ids, epoch=self.epoch)
                x = x if grows is None else {name: value[:, : width * grows] for name, value in x.items()}
            yield x, self.labels[there], ids
        self.epoch, self.position = self.epoch + 1, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch, self.position = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]
