"""Loader: a source's samples, decoded ahead as far as the pipeline needs them, augmented, in an order that depends on
(seed, epoch) alone.
"""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from ..compose import Compose
from ..keys import VIEWS, whole
from ..messages import shown, warn
from ..multicrop import MultiCrop
from .batches import Batch, Launched, Maker
from .cache import Cache
from .crops import mixes
from .decode import DataError
from .feed import Feed, Turn
from .hands import Hands
from .processes import Workers
from .resident import Resident
from .sources import Source

DECODES = ("full", "scaled", "nvjpeg")
MODES = ("threads", "processes")
AHEAD = 2  # batches that are ready or on their way, beside those that workers make
AHEAD_BYTES, WORKER_BYTES = 512 << 20, 128 << 20  # what they may take, by default: at least, and for each worker
MOST_NAMED = 8  # files in an error


@dataclass
class Report:
    """What a pass has done so far.

    Attributes:
        epoch: its number. images: handed out.
        bytes: of the files that were read. pixels: of the parts that were decoded, of all channels one.
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
    """Batches (images, labels, ids) of a source, augmented, on the device; (images, labels, targets, ids) where it has
    targets: a dict with "masks", "boxes" and "keypoints", as far as they are known, and beside boxes of what there is
    one of for each of them, such as "labels"; each a list with a tensor for each image.

    A draw is a function of (seed, epoch, id). So the loader first asks the pipeline which part of each image it will
    read, and decodes no more than that. Workers do, ahead of the loop, and no more than a few batches.

    Args:
        source: where the images come from, see `gpuaug.data.folder`; or the clips, see `gpuaug.data.clips`, which
            threads decode for each epoch anew: "processes", "nvjpeg", `cache` and `resident` are for images.
        batch_size: samples of a batch.
        augment: the pipeline; or a MultiCrop, whose views come as a list of batches, beside labels as they are. None:
            images come as they are, uint8, in a list of [3, H, W]; those that lie in the device's memory in one tensor
            come in one, [B, 3, H, W]. Clips come in one, [B, T, 3, H, W].
        views: so many draws of each image, as the pipeline's call gives them: [V, B, C, H, W].
        device: where batches are wanted. On CUDA they are copied and augmented on a stream of their own.
        shuffle: in an order that is drawn for each epoch; else as the source has them.
        drop_last: leave out the last batch where it is smaller.
        seed: of the order, and of where clips begin. The pipeline has its own.
        workers: threads or processes that decode; 0: the loop itself does.
        mode: "threads"; or "processes", for items that are made by Python code, as those of a Dataset of one's own are,
            of which threads run only one at a time. Either gives the same. A process gets the source's items, so they
            have to be such that pickle takes them; it imports the program's main file, whose own part has to stand
            behind `if __name__ == "__main__":`. They begin at the first pass, serve all passes, and end with `close`,
            the loader, or the program.
        ahead_bytes: what decoded batches that are ready or being made may take together; None: 512 MiB, or 128 MiB for
            each worker where that is more. The next one in order is made however much it takes: a batch lies in memory
            as a whole.
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
        TypeError: items for processes that cannot be pickled.
        DataError: while a pass goes on: a file that cannot be read, under `strict`; more of them than `max_bad`.
        WorkerError: a worker process that has died.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        augment: Compose | MultiCrop | None = None,
        *,
        views: int | None = None,
        device: torch.device | str = "cpu",
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        workers: int = 2,
        mode: str = "threads",
        ahead_bytes: int | None = None,
        decode: str = "scaled",
        cache: str | Path | None = None,
        cache_size: int | None = 512,
        resident: bool | None = None,
        strict: bool = False,
        max_bad: float = 0.01,
        rank: int = 0,
        world: int = 1,
    ):
        self.source, self.batch_size, self.augment, self.device = source, batch_size, augment, torch.device(device)
        self.shuffle, self.drop_last, self.seed, self.workers = shuffle, drop_last, seed, workers
        if ahead_bytes is None:
            ahead_bytes = max(AHEAD_BYTES, workers * WORKER_BYTES)
        self.mode, self.ahead_bytes, self.views, self.cache_size = mode, ahead_bytes, views, cache_size
        self.decode, self.strict, self.max_bad, self.rank, self.world = decode, strict, max_bad, rank, world
        self.resident = source.images is not None if resident is None else resident
        self._check()
        self.epoch, self.report = 0, Report()
        self._position = 0  # of the epoch's samples, of all processes: where the next pass begins
        self._current: _Stand | None = None  # no pass itself: with the last one that holds it, the loader ends
        self._check_clips(cache)
        kept = None if cache is None or source.images is not None else Cache.at(cache, cache_size)
        keywords = {"views": views, "most": ahead_bytes, "shared": mode == "processes", "seed": seed}
        self._maker = Maker(source, augment, decode, self.device, kept, **keywords)
        self._kept: Resident | None = None
        self._workers = Workers(source.items)

    def _check(self) -> None:
        """Raise for arguments that cannot be."""
        for name, least in (("batch_size", 1), ("workers", 0), ("world", 1), ("ahead_bytes", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name, known in (("decode", DECODES), ("mode", MODES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank must lie in 0 .. {self.world - 1}, got {self.rank}")
        if self.drop_last and len(self.source) // self.world < self.batch_size:
            raise ValueError(
                f"drop_last leaves no batch: {len(self.source)} samples over {self.world} process(es) are fewer than "
                f"batch_size {self.batch_size}; lower the batch size"
            )
        if self.mode == "processes" and self.workers == 0:
            raise ValueError('mode="processes" needs at least one worker, got workers=0')
        if self.mode == "processes" and self.decode == "nvjpeg":
            raise ValueError('decode="nvjpeg" decodes on the device: it goes with mode="threads"')
        if self.resident and self.decode == "nvjpeg":
            raise ValueError('decode="nvjpeg" decodes for each batch; resident images take decode="full"')
        if self.cache_size is not None and self.cache_size < 1:
            raise ValueError(f"cache_size must be at least 1, or None, got {self.cache_size}")
        if not 0.0 <= self.max_bad <= 1.0:
            raise ValueError(f"max_bad must lie in 0 .. 1, got {self.max_bad}")
        self._check_augment()

    def _check_augment(self) -> None:
        augment, source = self.augment, self.source
        if augment is not None and not isinstance(augment, Compose | MultiCrop):
            raise TypeError(f"augment must be a gpuaug.Compose, a gpuaug.MultiCrop or None, got {shown(augment)}")
        if self.views is not None and (whole("views", self.views, VIEWS + 1) == 0 or type(augment) is not Compose):
            raise ValueError(f"views={self.views} takes at least one, and a Compose as augment, which draws them")
        if isinstance(augment, MultiCrop):
            if source.targets is not None:
                raise ValueError("augment: MultiCrop moves images alone, and this source has targets beside them")
            if source.labels is not None and any(mixes(pipeline.transforms) for pipeline in augment.pipelines):
                raise ValueError("augment: a pipeline of MultiCrop mixes samples, and would leave their labels")

    def _check_clips(self, cache: str | Path | None) -> None:
        if self.source.clips is None:
            return
        given = {"mode": self.mode == "processes", "decode": self.decode == "nvjpeg", "cache": cache is not None}
        for name in [name for name, wrong in (given | {"resident": self.resident}).items() if wrong]:
            raise ValueError(f"{name} is for images: the frames of clips are decoded by threads, for each epoch others")

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
        self._current, self.report = _Stand(epoch, position), Report(epoch)
        return _Pass(self, self._current, self.report).batches()

    def behind(self, augment: Compose | MultiCrop | None) -> Loader:
        """A loader of the same samples in the same order, behind another pipeline; images that are kept in memory are
        kept once."""
        other, maker = copy.copy(self), self._maker
        other.augment = augment
        other._check_augment()
        keywords = {"views": self.views, "most": self.ahead_bytes, "shared": self.mode == "processes"}
        other._maker = Maker(self.source, augment, self.decode, self.device, maker.cache, **keywords)
        other._kept = replace(self.keep(), maker=other._maker) if self.resident else None
        other._workers, other.report = Workers(self.source.items), Report()
        other.set_epoch(0)
        return other

    def keep(self) -> Resident:
        """All images, whole, in the device's memory."""
        if self._kept is None:
            hands = self._lease(self.workers if self.source.images is None else 0)
            try:
                self._kept = Resident.of(self._maker, hands, self.workers)
            finally:
                self._park(hands)
        return self._kept

    def close(self) -> None:
        """End worker processes. The next pass begins others."""
        self._workers.close()

    def _lease(self, count: int) -> list[Hands]:
        """What decodes in each of so many threads of a feed; for a pass of its own."""
        if self.mode == "threads":
            return [Hands(self.source.items) for _ in range(max(count, 1))]
        return self._workers.lease(count)

    def _park(self, hands: list[Hands]) -> None:
        if self.mode == "processes":
            self._workers.park(hands)


@dataclass
class _Stand:
    """Where a pass stands.

    Attributes:
        position: how many of the epoch's samples all processes have had, those before a resume among them.
    """

    epoch: int
    position: int
    finished: bool = False


class _Pass:
    """One pass over a loader, which tells where it stands and what it has done."""

    def __init__(self, loader: Loader, stand: _Stand, report: Report):
        self.loader, self.stand, self.report, self.epoch = loader, stand, report, stand.epoch
        self.begin, size = time.perf_counter(), loader.batch_size
        order = loader.order(stand.epoch, stand.position)
        self.parts = [order[i * size : (i + 1) * size] for i in range(loader._batches(len(order)))]

    def batches(self) -> Iterator[tuple]:
        batches = self._resident() if self.loader.resident else self._decoded()
        for part, batch in zip(self.parts, batches, strict=True):
            self.stand.position += len(part) * self.loader.world
            self.report.seconds = time.perf_counter() - self.begin
            self.stand.finished = part is self.parts[-1]
            if batch is not None:
                self.report.images += len(batch[-1])
                yield batch
        self.stand.finished = True
        if self.report.bad:
            warn(f"{len(self.report.bad)} files were left out of epoch {self.epoch}: {_named(self.report.bad)}")

    def _decoded(self) -> Iterator[tuple | None]:
        loader, maker = self.loader, self.loader._maker
        ahead, threads = loader.workers + AHEAD, min(loader.workers, len(self.parts))
        if maker.cache is not None:
            maker.cache.follow()
        hands = loader._lease(threads)

        def make(n: int, turn: Turn) -> Batch:
            return maker.make(self.parts[n], self.epoch, turn, hands[turn.thread])

        feed: Feed[Batch] = Feed(make, len(self.parts), threads, ahead, loader.ahead_bytes)
        try:
            for launched in self._launched(feed, maker):
                yield launched if launched is None else maker.handed(launched)
        finally:
            feed.close()
            loader._park(hands)
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
                    feed.let_go()
                except Exception as error:
                    ready.append(error)
                    break
            first = ready.popleft()
            if isinstance(first, StopIteration):
                return
            if isinstance(first, Exception):
                raise first
            yield first

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
                raise DataError(f"{found[0]}; 1 of {len(loader.source)}, more than max_bad={loader.max_bad:g} allows")
            raise DataError(
                f"{len(found)} of {len(loader.source)} files cannot be read, more than max_bad={loader.max_bad:g} "
                f"allows: {_named(found)}"
            )


def _named(bad: list[str]) -> str:
    return "; ".join(bad[:MOST_NAMED]) + ("; ..." if len(bad) > MOST_NAMED else "")
