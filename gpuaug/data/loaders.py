"""Batches of (images uint8 [B, 3, H, W], labels int64 [B], ids int64 [B]), all on the device, in an order that
depends on (seed, epoch) alone. A loader tells its ``pipelines`` the epoch, so draws keyed by ids change from epoch to
epoch and come back after a resume.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..compose import Compose
from .decode import DataError, decode
from .sources import Source

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class _Loader:
    def __init__(
        self,
        source: Source,
        batch_size: int,
        *,
        device: torch.device | str = "cpu",
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        pipelines: Iterable = (),
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if drop_last and len(source) // world < batch_size:
            raise ValueError(
                f"drop_last leaves no batch: {len(source)} samples over {world} process(es) are fewer than batch_size "
                f"{batch_size}; lower the batch size"
            )
        self.source, self.batch_size, self.device = source, batch_size, torch.device(device)
        self.shuffle, self.drop_last, self.seed, self.epoch = shuffle, drop_last, seed, 0
        self.pipelines, self.rank, self.world = tuple(pipelines), rank, world

    def set_epoch(self, epoch: int) -> None:
        """The next pass is epoch ``epoch``; without a call, each pass is one further than the last."""
        self.epoch = epoch

    def __len__(self) -> int:
        n = len(range(self.rank, len(self.source), self.world))
        if self.shuffle:
            n = len(self.source) // self.world
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """Positions int64 that this process visits in ``epoch``. Shuffled, each process gets equally many."""
        n = len(self.source)
        if not self.shuffle:
            return np.arange(self.rank, n, self.world)
        everyone = np.random.default_rng([self.seed, epoch]).permutation(n)
        return everyone[: n - n % self.world][self.rank :: self.world]

    def _start(self) -> np.ndarray:
        epoch, self.epoch = self.epoch, self.epoch + 1
        for pipeline in self.pipelines:
            pipeline.set_epoch(epoch)
        order = self.order(epoch)
        return order[: len(self) * self.batch_size]


class ResidentLoader(_Loader):
    """All images of ``source`` on ``device`` at once as uint8; a batch is one gather there, without a host sync.

    ``source``: a decoded :class:`Source`. ``transform``: a pipeline that makes the batches: it reads the images where
    they lie, and the gathered batch is never stored; the loader tells it the epoch. ``drop_last``: leave out the last,
    smaller batch. ``rank``, ``world``: this process and how many share the epoch. Raises ValueError for a source of
    files, or a batch size below 1 or above what ``drop_last`` allows.
    """

    def __init__(self, source: Source, batch_size: int, *, transform: Compose | None = None, **keywords) -> None:
        super().__init__(source, batch_size, **keywords)
        self.transform = transform
        if transform is not None:
            self.pipelines += (transform,)
        if source.images is None:
            raise ValueError("ResidentLoader needs decoded images: pass source.decoded(), or use StreamingLoader")
        self.images, self.labels, self.ids = (x.to(self.device) for x in (source.images, source.labels, source.ids))

    def __iter__(self) -> Iterator[Batch]:
        order = torch.from_numpy(self._start())
        if self.device.type == "cuda":
            order = order.pin_memory().to(self.device, non_blocking=True)
        for index in order.split(self.batch_size):
            labels, ids = self.labels[index], self.ids[index]
            if self.transform is None:
                yield self.images[index], labels, ids
            else:
                yield *self.transform(self.images, labels, index=index, ids=ids), ids


class _Files(Dataset):
    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | DataError:
        source = self.source
        try:
            image = decode(source.items[i], source.size) if source.images is None else source.images[i]
        except DataError as error:  # handed over whole: raised in a worker it would come wrapped in a traceback
            return error
        return image, source.labels[i], source.ids[i]


def _collate(samples: list) -> list[torch.Tensor] | DataError:
    for sample in samples:
        if isinstance(sample, DataError):
            return sample
    return [torch.stack(column) for column in zip(*samples, strict=True)]


class _Batches:
    """The batches of ``order``. It knows nothing of its loader: a reference cycle through a DataLoader would be freed
    queues first, and its workers wait for those until they are killed."""

    def __init__(self, size: int) -> None:
        self.size, self.order = size, np.empty(0, dtype=np.int64)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, len(self.order), self.size):
            yield self.order[start : start + self.size].tolist()


class StreamingLoader(_Loader):
    """Images decoded by ``workers`` processes through ``torch.utils.data.DataLoader``, copied to ``device`` from pinned
    memory: for data sets that do not fit. ``source`` may hold files or decoded images; other arguments as in
    :class:`ResidentLoader`. A damaged file raises :class:`DataError`, naming it.
    """

    def __init__(self, source: Source, batch_size: int, *, workers: int = 2, **keywords) -> None:
        super().__init__(source, batch_size, **keywords)
        self._batches, self._workers = _Batches(batch_size), workers
        self._stream = self._open()

    def _open(self) -> DataLoader:
        return DataLoader(
            _Files(self.source),
            batch_sampler=self._batches,
            num_workers=self._workers,
            collate_fn=_collate,
            pin_memory=self.device.type == "cuda",
            persistent_workers=self._workers > 0,
        )

    def __iter__(self) -> Iterator[Batch]:
        self._batches.order = self._start()
        for batch in self._stream:
            if isinstance(batch, DataError):
                break
            images, labels, ids = (x.to(self.device, non_blocking=True) for x in batch)
            yield images, labels, ids
        else:
            return
        self._stream = self._open()  # lets the old workers go at once; held by the traceback they would be waited for
        raise batch
