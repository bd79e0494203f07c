"""Loader: a source's samples, decoded by threads as far as the pipeline needs them, augmented, in an order that depends
on (seed, epoch) alone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ..compose import Compose
from ..messages import shown, warn
from .batches import Batch, Launched, Maker
from .cache import Cache
from .decode import DataError
from .feed import Feed
from .resident import Resident
from .sources import Source

DECODES = ("full", "scaled", "nvjpeg")
AHEAD = 2  # batches that are ready or on their way, beside those that threads make
MOST_NAMED = 8  # files in an error


@dataclass
class Report:
    """What a pass has done so far.

    Attributes:
        epoch: its number. images: handed out.
        bytes: of the files that were read. pixels: that were decoded, of all channels one.
        waited: seconds that the loop waited for the decoders. seconds: since the pass began.
        bad: what is wrong with each file that was left out, by name.
    """

    epoch: int = 0
    images: int = 0
    bytes: int = 0
    pixels: int = 0
    waited: float = 0.0
    seconds: float = 0.0
    bad: list[str] = field(default_factory=list)


class Loader:
    """Batches (images, labels, ids) of a source, augmented, on the device.

    A draw is a function of (seed, epoch, id). So the loader first asks the pipeline which part of each image it will
    read, and decodes no more than that. Threads do, ahead of the loop, and no more than a few batches.

    Args:
        source: where the images come from, see `gpuaug.data.folder`.
        batch_size: samples of a batch.
        augment: the pipeline. None: images come as they are, uint8, in a list of [3, H, W]; those that lie in the
            device's memory in one tensor come in one, [B, 3, H, W].
        device: where batches are wanted. On CUDA they are copied and augmented on a stream of their own.
        shuffle: in an order that is drawn for each epoch; else as the source has them.
        drop_last: leave out the last batch where it is smaller.
        seed: of the order. The pipeline has its own.
        workers: threads that decode; 0: the loop itself does.
        decode: "scaled" decodes a JPEG at 1/2, 1/4 or 1/8 of its size where the crop remains at least as large as the
            output; "full" gives the very pixels that whole images would; "nvjpeg" has a CUDA device decode whole
            JPEGs, by torchvision: a few levels off those of a CPU.
        cache: a folder on disk, where whole images are kept, decoded: the first pass decodes and writes them, later
            ones, in this process or another, open no file whose size and time of change are as they were. Images that
            are no files are made each time. It takes the place of `decode`.
        cache_size: the most that the shorter side of an image has in the cache, scaled down (antialiased bilinear);
            None: as it is.
        resident: keep all images, decoded whole, in the device's memory: the first pass waits for that. None: those of
            a source that has them in memory already.
        strict: stop at the first file that cannot be read. Else such files are left out of their batches, which are
            smaller then; `report.bad` names them.
        max_bad: the largest part of the source that may be left out so, 0 to 1.
        rank, world: this process and how many share each epoch; shuffled, each gets equally many samples.

    Each pass is the epoch after the last. Labels are None where the source has none, and soft where the pipeline mixes.

    Raises:
        ValueError: arguments that cannot be.
        DataError: while a pass goes on: a file that cannot be read, under `strict`; more of them than `max_bad`.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        augment: Compose | None = None,
        *,
        device: torch.device | str = "cpu",
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        workers: int = 2,
        decode: str = "scaled",
        cache: str | Path | None = None,
        cache_size: int | None = 512,
        resident: bool | None = None,
        strict: bool = False,
        max_bad: float = 0.01,
        rank: int = 0,
        world: int = 1,
    ):
        for name, value, least in (("batch_size", batch_size, 1), ("workers", workers, 0), ("world", world, 1)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if not 0 <= rank < world:
            raise ValueError(f"rank must lie in 0 .. {world - 1}, got {rank}")
        if drop_last and len(source) // world < batch_size:
            raise ValueError(
                f"drop_last leaves no batch: {len(source)} samples over {world} process(es) are fewer than batch_size "
                f"{batch_size}; lower the batch size"
            )
        if decode not in DECODES:
            raise ValueError(f"decode must be one of {', '.join(DECODES)}, got {decode!r}")
        if augment is not None and not isinstance(augment, Compose):
            raise TypeError(f"augment must be a gpuaug.Compose or None, got {shown(augment)}")
        if cache_size is not None and cache_size < 1:
            raise ValueError(f"cache_size must be at least 1, or None, got {cache_size}")
        if not 0.0 <= max_bad <= 1.0:
            raise ValueError(f"max_bad must lie in 0 .. 1, got {max_bad}")
        self.source, self.batch_size, self.augment, self.device = source, batch_size, augment, torch.device(device)
        self.shuffle, self.drop_last, self.seed, self.workers = shuffle, drop_last, seed, workers
        self.decode, self.strict, self.max_bad, self.rank, self.world = decode, strict, max_bad, rank, world
        self.resident = source.images is not None if resident is None else resident
        self.epoch, self.report = 0, Report()
        self._position = 0  # of the epoch's samples, of all processes: where the next pass begins
        self._current: _Pass | None = None
        kept = None if cache is None or source.images is not None else Cache(cache, cache_size)
        self._maker = Maker(source, augment, decode, self.device, kept)
        self._kept: Resident | None = None

    def set_epoch(self, epoch: int) -> None:
        """The next pass is epoch `epoch`, from its beginning; without a call, each is one further than the last."""
        self.epoch, self._position, self._current = epoch, 0, None

    def __len__(self) -> int:
        """Batches of a whole pass."""
        return self._batches(len(self.order(0)) if not self.shuffle else len(self.source) // self.world)

    def _batches(self, n: int) -> int:
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def order(self, epoch: int, position: int = 0) -> np.ndarray:
        """Places in the source, int64, that this process visits in an epoch, behind its first `position` samples (of
        all processes)."""
        n = len(self.source)
        everyone = np.random.default_rng([self.seed, epoch]).permutation(n) if self.shuffle else np.arange(n)
        rest = everyone[position:]
        if self.shuffle:
            rest = rest[: len(rest) - len(rest) % self.world]
        return rest[self.rank :: self.world]

    def state_dict(self) -> dict[str, int]:
        """Where the last pass stands: its epoch and how many of the epoch's samples all processes have had. Each has
        to have had as many batches."""
        if self._current is not None and not self._current.finished:
            return {"epoch": self._current.epoch, "position": self._current.position, "seed": self.seed}
        return {"epoch": self.epoch, "position": self._position, "seed": self.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Have the next pass go on where a `state_dict` stood, with any batch size, workers and number of processes.

        Raises:
            ValueError: a state of another seed, which has another order.
        """
        if state["seed"] != self.seed:
            raise ValueError(
                f"the state is of seed {state['seed']}, and this loader has {self.seed}; make it with that"
            )
        self.set_epoch(state["epoch"])
        self._position = state["position"]

    def __iter__(self) -> Iterator[tuple]:
        epoch, position = self.epoch, self._position
        self.epoch, self._position = epoch + 1, 0
        self._current = _Pass(self, epoch, position)
        self.report = self._current.report
        return self._current.batches()

    def keep(self) -> Resident:
        """All images, whole, in the device's memory."""
        if self._kept is None:
            self._kept = Resident.of(self._maker, self.workers)
        return self._kept


class _Pass:
    """One pass over a loader.

    Attributes:
        position: how many of the epoch's samples all processes have had, those before a resume among them.
    """

    def __init__(self, loader: Loader, epoch: int, position: int):
        self.loader, self.epoch, self.position, self.finished = loader, epoch, position, False
        self.report, self.begin = Report(epoch), time.perf_counter()
        order = loader.order(epoch, position)
        size = loader.batch_size
        self.parts = [order[i * size : (i + 1) * size] for i in range(loader._batches(len(order)))]

    def batches(self) -> Iterator[tuple]:
        batches = self._resident() if self.loader.resident else self._decoded()
        for part, batch in zip(self.parts, batches, strict=True):
            self.position += len(part) * self.loader.world
            self.report.seconds = time.perf_counter() - self.begin
            self.finished = part is self.parts[-1]
            if batch is not None:
                self.report.images += len(batch[-1])
                yield batch
        self.finished = True
        if self.report.bad:
            warn(f"{len(self.report.bad)} files were left out of epoch {self.epoch}: {_named(self.report.bad)}")

    def _decoded(self) -> Iterator[tuple | None]:
        loader, maker = self.loader, self.loader._maker
        ahead = loader.workers + AHEAD
        if maker.cache is not None:
            maker.cache.follow()
        feed: Feed[Batch] = Feed(self._make, len(self.parts), loader.workers, ahead)
        try:
            for launched in self._launched(feed, maker):
                yield launched if launched is None else maker.handed(launched)
        finally:
            feed.close()
            if maker.cache is not None:
                maker.cache.flush()

    def _launched(self, feed: Feed[Batch], maker: Maker) -> Iterator[Launched | None]:
        """Batches on their way, in order. A CUDA device gets the next one while the loop works on the one before, if
        it is decoded by then; an error comes up where its turn is."""
        ready: deque[Launched | Exception | None] = deque()
        while True:
            while not ready or (maker.side is not None and len(ready) < 2 and feed.is_ready()):
                try:
                    batch = next(feed)
                    self.report.waited = feed.waited
                    self.report.bytes += batch.bytes
                    self.report.pixels += batch.pixels
                    self._judge(batch.bad)
                    ready.append(maker.launch(batch) if len(batch.positions) else None)
                except Exception as error:
                    ready.append(error)
                    break
            first = ready.popleft()
            if isinstance(first, StopIteration):
                return
            if isinstance(first, Exception):
                raise first
            yield first

    def _make(self, n: int, check: Callable[[], None]) -> Batch:
        return self.loader._maker.make(self.parts[n], self.epoch, check)

    def _resident(self) -> Iterator[tuple | None]:
        begin = time.perf_counter()
        kept = self.loader.keep()
        self.report.waited = time.perf_counter() - begin
        self.report.bytes, self.report.pixels = kept.bytes, kept.pixels
        self._judge(kept.bad)
        for part in self.parts:
            yield kept.batch(part, self.epoch)

    def _judge(self, bad: list[str]) -> None:
        """Note files that could not be read.

        Raises:
            DataError: there must be none, or not so many.
        """
        loader, found = self.loader, self.report.bad
        found += bad
        if bad and loader.strict:
            raise DataError(bad[0])
        if len(found) > loader.max_bad * len(loader.source):
            if len(found) == 1:
                raise DataError(found[0])
            raise DataError(
                f"{len(found)} of {len(loader.source)} files cannot be read, more than max_bad={loader.max_bad:g} "
                f"allows: {_named(found)}"
            )


def _named(bad: list[str]) -> str:
    return "; ".join(bad[:MOST_NAMED]) + ("; ..." if len(bad) > MOST_NAMED else "")
