"""A loader's batches: what is decoded for one, where it lies, and what the pipeline makes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch

from ..compose import Compose
from ..inputs import moved
from ..multicrop import MultiCrop
from .cache import Cache, Stamp, scaled_size, stamp, stamps
from .crops import Crops, Views
from .decode import DataError, Encoded, header, load
from .feed import Turn
from .hands import Hands, Known
from .nvjpeg import Decoder
from .reading import Part, Reading
from .rooms import Room, Rooms
from .side_stream import SideStream
from .sources import Source

KINDS = ("masks", "boxes", "keypoints")


@dataclass(eq=False)
class Batch:
    """Some samples, decoded.

    Attributes:
        positions: int64 [B], their places in the source; without those that are damaged.
        bad: what is wrong with these. bytes: of the files. pixels: decoded.
        reading: of the pipeline; None without one. parts: what is decoded of each image.
        room: where the parts lie, or None: they lie in the cache.
        source: uint8, one axis, where the parts lie at these offsets.
        decoded: uint8 [3, H, W] each, where the device itself decoded them, once this event is behind it.
    """

    positions: np.ndarray
    epoch: int
    bad: list[str]
    bytes: int = 0
    pixels: int = 0
    reading: Reading | Crops | None = None
    parts: Sequence[Part] = ()
    room: Room | None = None
    source: torch.Tensor | None = None
    offsets: Sequence[int] = ()
    decoded: tuple[list[torch.Tensor], torch.cuda.Event] | None = None

    def images(self) -> list[torch.Tensor]:
        """The parts, uint8 [3, H, W], where they lie."""
        sizes = [part.size for part in self.parts]
        places = zip(self.offsets, sizes, strict=True)
        return [self.source[at : at + 3 * h * w].view(h, w, 3).permute(2, 0, 1) for at, (h, w) in places]


class Launched(NamedTuple):
    """What a batch has become, (images, labels, ids) or (images, labels, targets, ids); on a CUDA device once this
    event is behind it."""

    found: tuple
    made: torch.cuda.Event | None = None


class Maker:
    """Makes batches of a source in any thread, and finishes them in the one that takes them.

    Args:
        augment: the pipeline, or None. decode: "full", "scaled" or "nvjpeg". cache: of whole images, or None.
        views: of each image, as the pipeline's call takes them. most: bytes that rooms may take while nobody uses them.
        shared: others than threads decode: rooms are shared with them.

    Raises:
        ValueError: "nvjpeg" where that cannot be.
    """

    def __init__(
        self,
        source: Source,
        augment: Compose | MultiCrop | None,
        decode: str,
        device: torch.device,
        cache: Cache | None = None,
        *,
        views: int | None = None,
        most: int = 0,
        shared: bool = False,
    ):
        self.source, self.augment, self.decode, self.device, self.cache = source, augment, decode, device, cache
        self.views = views
        self.stamping = Lock()  # threads that ask for files at once wake each other at each of them
        self.rooms = Rooms(most, pinned=device.type == "cuda", shared=shared)
        self.side = SideStream(device) if device.type == "cuda" else None
        self.decoder = Decoder(device) if decode == "nvjpeg" and cache is None else None

    def make(self, positions: np.ndarray, epoch: int, turn: Turn | None = None, hands: Hands | None = None) -> Batch:
        """Decode samples. Those that cannot be are left out before anything is drawn: a draw may hang on who is in the
        batch."""
        batch, turn, hands = Batch(positions, epoch, []), turn or Turn(), hands or Hands(self.source.items)
        if self.decoder is not None:
            self._on_device(batch, self.decoder, turn.check)
            return batch
        if self._all_cached(batch):
            return batch
        of: dict[int, Stamp | None] = {}
        cached: dict[int, tuple[int, int, int]] = {}
        try:
            if self.cache is not None:
                self._look(batch, of, cached)
            known = self._open(batch, cached, hands, turn)
            held = sum(one.held for one in known.values())
            turn.reserve(held)
            while len(batch.positions):
                self._place(batch, known, cached, hands, turn)
                if self._read(batch, known, cached, hands, turn):
                    break
            turn.release(held)
        finally:  # of a batch that is given up the room is given up, too: a process may still write there
            hands.forget()
        batch.bytes = sum(known[i].bytes for i in batch.positions.tolist() if i in known)
        if self.cache is not None:
            self._keep(batch, of, cached)
        return batch

    def _all_cached(self, batch: Batch) -> bool:
        """Give a batch its images where they lie in the cache, if the pipeline reads them there and all are in it."""
        if self.cache is None or self.augment is None or self.side is not None or not len(batch.positions):
            return False
        with self.stamping:
            of = stamps([self.source.items[i] for i in batch.positions.tolist()])
        places = None if of is None else self.cache.find_all(self.source.ids[batch.positions].numpy(), of)
        if places is None:
            return False
        both, which = np.unique(places[:, 1] << 32 | places[:, 2], return_inverse=True)
        known = [(one >> 32, one & 0xFFFFFFFF) for one in both.tolist()]
        sizes = [known[k] for k in which.tolist()]  # few tuples: many wake the garbage collector
        batch.reading = self._reading(batch, sizes, None)
        batch.source, batch.offsets = self.cache.source, places[:, 0].tolist()
        return True

    def _look(self, batch: Batch, of: dict[int, Stamp | None], cached: dict) -> None:
        """Which samples are in the cache, by place: offset, height and width; and the stamps of all."""
        bad: dict[int, str] = {}
        for i in batch.positions.tolist():
            try:
                of[i] = stamp(self.source.items[i])
            except DataError as error:
                bad[i] = str(error)
                continue
            found = None if of[i] is None else self.cache.find(int(self.source.ids[i]), of[i])
            if found is not None:
                cached[i] = found
        _leave_out(batch, bad)

    def _open(self, batch: Batch, cached: dict, hands: Hands, turn: Turn) -> dict[int, Known]:
        """What is known of the samples that are not in the cache, by place."""
        wanted = [i for i in batch.positions.tolist() if i not in cached]
        found = dict(zip(wanted, hands.open(wanted, turn.check), strict=True)) if wanted else {}
        _leave_out(batch, {i: one for i, one in found.items() if isinstance(one, str)})
        return {i: one for i, one in found.items() if not isinstance(one, str)}

    def _place(self, batch: Batch, known: dict[int, Known], cached: dict, hands: Hands, turn: Turn) -> None:
        """Draw for a batch, and give what the pipeline reads its places."""
        places = batch.positions.tolist()
        shorter = None if self.cache is None else self.cache.shorter
        sizes = [cached[i][1:] if i in cached else scaled_size(*known[i][:2], shorter) for i in places]
        if self.augment is None:
            batch.parts = [Part(0, 0, h, w) for h, w in sizes]
        else:
            batch.reading = self._reading(batch, sizes, [i in known and known[i].shrinks for i in places])
            batch.parts = batch.reading.parts
            if self.cache is None and self.side is None:
                self._straighten(batch, hands.straight(places, batch.parts, turn.check))
        if self.side is None and batch.room is None and all(i in cached for i in places):
            batch.source, batch.offsets = self.cache.source, [cached[i][0] for i in places]
            return
        ends = np.cumsum([0] + [3 * part.size[0] * part.size[1] for part in batch.parts]).tolist()
        margin = max(3 * h * w for h, w in sizes)
        if batch.room is None:
            turn.reserve(ends[-1])
            batch.room = self.rooms.take(ends[-1], margin)
        batch.room.reserve(ends[-1], margin)
        batch.source, batch.offsets = batch.room.source, [batch.room.margin + at for at in ends[:-1]]

    @staticmethod
    def _straighten(batch: Batch, rows: list[int]) -> None:
        """Have whole rows of those images that are decoded straight into the room, so many each."""
        for k, n in enumerate(rows):
            if n:
                batch.parts[k] = Part(0, 0, n, batch.reading.sizes[k][1], batch.parts[k].shrink)
        batch.reading.parts = batch.parts

    def _reading(self, batch: Batch, sizes: list, shrinkable: list[bool] | None) -> Reading | Crops:
        decode = self.decode if self.cache is None else "whole"
        keywords = {"decode": decode, "shrinkable": shrinkable}
        ids = self.source.ids[batch.positions]
        if isinstance(self.augment, MultiCrop):
            return Crops(self.augment, sizes, ids, batch.epoch, **keywords)
        if self.views is not None:
            return Views(self.augment, range(self.views), sizes, ids, batch.epoch, **keywords)
        return Reading(self.augment, sizes, ids, batch.epoch, **keywords)

    def _read(self, batch: Batch, known: dict, cached: dict, hands: Hands, turn: Turn) -> bool:
        """Bring the parts to their places; whether all are there. Those that are damaged are left out."""
        at = {i: k for k, i in enumerate(batch.positions.tolist())}
        wanted = [i for i in at if i not in cached]
        if wanted:
            parts, offsets = [batch.parts[at[i]] for i in wanted], [batch.offsets[at[i]] for i in wanted]
            shorter = None if self.cache is None else self.cache.shorter
            found = hands.read(wanted, parts, batch.room, offsets, turn.check, shorter)
            bad = {i: one for i, one in zip(wanted, found, strict=True) if one is not None}
            batch.pixels = sum(part.size[0] * part.size[1] for part in parts)
            if bad:
                _leave_out(batch, bad)
                return False
        for i in at if batch.room is not None else ():
            if i in cached:
                begin, h, w = cached[i]
                to = batch.offsets[at[i]]
                batch.room.pixels[to : to + 3 * h * w] = self.cache.pixels[begin : begin + 3 * h * w]
        return True

    def _keep(self, batch: Batch, of: dict[int, Stamp | None], cached: dict) -> None:
        """Add to the cache what was decoded of files that are as they were before."""
        for k, i in enumerate(batch.positions.tolist()):
            if i not in cached and of[i] is not None and _still(self.source.items[i], of[i]):
                at, (h, w) = batch.offsets[k], batch.parts[k].size
                pixels = batch.room.pixels[at : at + 3 * h * w].reshape(h, w, 3)
                self.cache.add(int(self.source.ids[i]), of[i], pixels)

    def _each(self, batch: Batch, act: Callable[[int], Any], check: Callable[[], None]) -> list[int]:
        """Those samples for which it goes well; of the others it is noted what is wrong."""
        good = []
        for i in batch.positions.tolist():
            check()
            try:
                act(i)
                good.append(i)
            except DataError as error:
                batch.bad.append(str(error))
        return good

    def _on_device(self, batch: Batch, decoder: Decoder, check: Callable[[], None]) -> None:
        """Whole images, decoded by the device where it can."""
        at_hand: dict[int, Encoded] = {}
        good = self._each(batch, lambda i: at_hand.setdefault(i, _with_header(self.source.items[i])), check)
        with torch.cuda.stream(decoder.stream):
            images = dict(zip(good, decoder.decoded([at_hand[i] for i in good]), strict=True))
            batch.positions = np.array(good, np.int64)
            host = lambda i: images[i] is None and images.update({i: decoder.on_host(at_hand[i])})  # noqa: E731
            batch.positions = np.array(self._each(batch, host, check), np.int64)
            found = [images[i] for i in batch.positions.tolist()]
            batch.decoded = found, decoder.stream.record_event()
        batch.bytes = sum(len(at_hand[i].data) for i in batch.positions.tolist())
        batch.pixels = sum(image.shape[1] * image.shape[2] for image in found)

    def launch(self, batch: Batch) -> Launched:
        """What the pipeline makes of a batch, on the device; the room is free again."""
        if self.side is not None:
            return Launched(*self.side.run(lambda: self._made(batch)))
        return Launched(self._made(batch))

    def handed(self, launched: Launched) -> tuple:
        """What was launched, for the current stream."""
        return launched.found if launched.made is None else self.side.handed(*launched)

    def _made(self, batch: Batch) -> tuple:
        if batch.decoded is not None:
            images, decoded = batch.decoded
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(decoded)
            for image in images:
                image.record_stream(stream)
            return self.augmented(images, batch.positions, batch.epoch)
        if self.augment is None:
            images = [_own(image, self.device) for image in batch.images()]
            self._free(batch)
            return self.augmented(images, batch.positions, batch.epoch)
        source, shift = batch.source, 0
        if self.side is not None:
            source, shift = self.side.copied(batch.room, batch.reading, self.rooms)
        labels, targets, ids = self.beside(batch.positions)
        offsets = [at + shift for at in batch.offsets]
        found = batch.reading.run(source, offsets, labels=labels, targets=targets)
        if self.side is None:
            self._free(batch)
        return sample(found, labels, targets, ids)

    def _free(self, batch: Batch) -> None:
        if batch.room is not None:
            self.rooms.append(batch.room)

    def augmented(
        self, images: torch.Tensor | list[torch.Tensor], positions: np.ndarray, epoch: int, index: Any = None
    ) -> tuple:
        """What the pipeline makes of whole images on the device, those of the samples at these positions; or, given
        their `index`, of a data set."""
        labels, targets, ids = self.beside(positions)
        if self.augment is None:
            return (images, labels, ids) if targets is None else (images, labels, targets, ids)
        keywords = {"index": index, "ids": ids, "epoch": epoch}
        if isinstance(self.augment, MultiCrop):
            return self.augment(images, **keywords), labels, ids
        found = self.augment(images, labels=labels, views=self.views, **(targets or {}), **keywords)
        return sample(found, labels, targets, ids)

    def beside(self, positions: np.ndarray) -> tuple[torch.Tensor | None, dict | None, torch.Tensor]:
        """Labels, targets and ids of samples, on the device."""
        index, source = torch.from_numpy(positions), self.source
        labels = None if source.labels is None else moved(source.labels[index], self.device, source.labels.dtype)
        return labels, self._targets(positions), moved(source.ids[index], self.device, torch.int64)

    def _targets(self, positions: np.ndarray) -> dict[str, list[torch.Tensor]] | None:
        """What is beside images by kind, each a list with a tensor for each sample."""
        if self.source.targets is None:
            return None
        known = [self.source.targets[i] for i in positions.tolist()]
        found = {kind: [getattr(one, kind) for one in known] for kind in KINDS}
        found = {kind: values for kind, values in found.items() if all(value is not None for value in values)}
        return {
            kind: [moved(torch.as_tensor(value), self.device, torch.as_tensor(value).dtype) for value in values]
            for kind, values in found.items()
        }


def _leave_out(batch: Batch, bad: dict[int, str]) -> None:
    """Leave out samples, by place, and note what is wrong with them."""
    if bad:
        batch.bad += bad.values()
        batch.positions = np.array([i for i in batch.positions.tolist() if i not in bad], np.int64)


def _still(item: Any, of: Stamp) -> bool:
    try:
        return stamp(item) == of
    except DataError:
        return False


def _own(image: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A copy of an image [3, H, W] on a device, its channels innermost."""
    pixels = image.permute(1, 2, 0)
    return (pixels.clone() if device.type == "cpu" else pixels.to(device)).permute(2, 0, 1)


def sample(found: Any, labels: Any, targets: dict | None, ids: torch.Tensor) -> tuple:
    """(images, labels, ids) or (images, labels, targets, ids) of what a pipeline's call returned for such."""
    rest = list(found) if labels is not None or targets else [found]
    images = rest.pop(0)
    labels = None if labels is None else rest.pop(0)
    if targets is None:
        return images, labels, ids
    return images, labels, {kind: rest.pop(0) for kind in targets}, ids


def _with_header(item: Any) -> Encoded:
    one = load(item)
    header(one)
    return one
