"""A loader's batches: what is decoded for one, where it lies, and what the pipeline makes of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch

from ..compose import Compose
from ..inputs import moved
from ..multicrop import MultiCrop
from ..recipe import asked_for
from .cache import Cache, Stamp, scaled_size, stamp, stamps
from .clips import Reader
from .crops import Crops
from .decode import DataError, straight
from .feed import Turn
from .hands import Hands, Known, Wanted
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
        clips: uint8 [B, T, H, W, 3] in the room, of a source of clips.
    """

    positions: np.ndarray
    epoch: int | None
    bad: list[str]
    bytes: int = 0
    pixels: int = 0
    reading: Reading | Crops | None = None
    parts: Sequence[Part] = ()
    room: Room | None = None
    source: torch.Tensor | None = None
    offsets: Sequence[int] = ()
    decoded: tuple[list[torch.Tensor], torch.cuda.Event] | None = None
    clips: torch.Tensor | None = None

    def pixels_of(self, k: int) -> np.ndarray:
        """Where the part of image k lies in the room, uint8 [H, W, 3]."""
        (h, w), at = self.parts[k].size, self.offsets[k]
        return self.room.pixels[at : at + 3 * h * w].reshape(h, w, 3)

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
        shared: others than threads decode: rooms are shared with them. seed: of where clips begin.

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
        seed: int = 0,
    ):
        self.source, self.augment, self.decode, self.device, self.cache = source, augment, decode, device, cache
        self.views, self.stamping = views, Lock()
        self.rooms = Rooms(most, device if device.type == "cuda" else None, shared)
        self.side = SideStream(device) if device.type == "cuda" else None
        self.decoder = Decoder(device) if decode == "nvjpeg" and cache is None else None
        self.reader = None if source.clips is None else Reader(source.clips, seed)

    @property
    def lends(self) -> bool:
        """Whether images that the pipeline gets may come out themselves, or be written to."""
        pipelines = self.augment.pipelines if isinstance(self.augment, MultiCrop) else [self.augment]
        return any(
            one is None or one.backend == "kornia" or one._recipes.is_staged(one.transforms) for one in pipelines
        )

    def make(
        self, positions: np.ndarray, epoch: int | None, turn: Turn | None = None, hands: Hands | None = None
    ) -> Batch:
        """Decode samples. Those that cannot be are left out before anything is drawn: a draw may hang on who is in the
        batch."""
        batch, turn, hands = Batch(positions, epoch, []), turn or Turn(), hands or Hands(self.source.items)
        if self.decoder is not None:
            self._on_device(batch, self.decoder, turn)
            return batch
        if self.reader is not None:
            self._clips(batch, self.reader, turn)
            return batch
        if self._all_cached(batch, turn):
            return batch
        stamps: dict[int, Stamp | None] = {}
        cached: dict[int, tuple[int, int, int]] = {}
        try:
            if self.cache is not None:
                self._look(batch, stamps, cached)
            known = self._open(batch, cached, hands, turn)
            held = sum(one.held for one in known.values())
            turn.reserve(held)
            while len(batch.positions):
                rows = self._place(batch, known, cached, turn)
                if self._read(batch, rows, cached, hands, turn):
                    break
            turn.release(held)
        finally:  # of a batch that is given up the room is given up, too: a process may still write there
            hands.forget()
        batch.bytes = sum(known[i].bytes for i in batch.positions.tolist() if i in known)
        if self.cache is not None:
            self._keep(batch, stamps, cached)
        return batch

    def _all_cached(self, batch: Batch, turn: Turn) -> bool:
        """Give a batch its images where they lie in the cache, if a pipeline reads them and all are in it."""
        if self.cache is None or self.augment is None or not len(batch.positions):
            return False
        with self.stamping:  # threads that ask for files at once would wake each other at each of them
            of = stamps([self.source.items[i] for i in batch.positions.tolist()])
        places = None if of is None else self.cache.find_all(self.source.ids[batch.positions].numpy(), of)
        if places is None:
            return False
        both, which = np.unique(places[:, 1] << 32 | places[:, 2], return_inverse=True)
        known = [(one >> 32, one & 0xFFFFFFFF) for one in both.tolist()]
        sizes = [known[k] for k in which.tolist()]  # few tuples: many wake the garbage collector
        batch.reading = self._reading(batch, sizes, "whole" if self.side is None else "full")
        batch.source, batch.offsets = self.cache.source, places[:, 0].tolist()
        if self.side is not None:  # a GPU gets no more than the parts
            batch.parts, begins = batch.reading.parts, batch.offsets
            self._into_room(batch, turn, sizes)
            for k, (begin, (h, w)) in enumerate(zip(begins, sizes, strict=True)):
                batch.pixels_of(k)[:] = self._cached(begin, h, w, batch.parts[k])
        return True

    def _on_device(self, batch: Batch, decoder: Decoder, turn: Turn) -> None:
        """Whole images, decoded by the device where it can."""
        places = batch.positions.tolist()
        found, batch.bytes = decoder.decoded([self.source.items[i] for i in places], turn.check)
        _leave_out(batch, {i: one for i, one in zip(places, found, strict=True) if isinstance(one, str)})
        images = [one for one in found if not isinstance(one, str)]
        batch.decoded = images, decoder.stream.record_event()
        batch.pixels = sum(image.shape[1] * image.shape[2] for image in images)

    def _clips(self, batch: Batch, reader: Reader, turn: Turn) -> None:
        """The frames that are taken of clips, one clip behind the other in a room."""
        shape, size, n = reader.taken.shape, math.prod(reader.taken.shape), len(batch.positions)
        turn.reserve(n * size)
        batch.room = self.rooms.take(n * size, 0)
        found, bad, done = batch.room.payload(n * size).view(n, *shape), {}, 0
        begins = reader.places(batch.epoch, self.source.ids[batch.positions])
        for i, begin in zip(batch.positions.tolist(), begins, strict=True):
            turn.check()
            try:
                batch.bytes += reader.read(self.source.items[i], begin, found[done].numpy())
                done += 1
            except DataError as error:
                bad[i] = str(error)
        _leave_out(batch, bad)
        batch.clips, batch.pixels = found[:done], done * size // 3

    def _cached(self, begin: int, h: int, w: int, part: Part) -> np.ndarray:
        """A part of an image in the cache."""
        image = self.cache.pixels[begin : begin + 3 * h * w].reshape(h, w, 3)
        return image[part.top : part.top + part.height, part.left : part.left + part.width]

    def _look(self, batch: Batch, stamps: dict, cached: dict) -> None:
        """Which samples are in the cache, by place: offset, height and width."""
        bad: dict[int, str] = {}
        for i in batch.positions.tolist():
            try:
                stamps[i] = stamp(self.source.items[i])
            except DataError as error:
                bad[i] = str(error)
                continue
            found = None if stamps[i] is None else self.cache.find(int(self.source.ids[i]), stamps[i])
            if found is not None:
                cached[i] = found
        _leave_out(batch, bad)

    def _open(self, batch: Batch, cached: dict, hands: Hands, turn: Turn) -> dict[int, Known]:
        """What is known of the samples that are not in the cache, by place."""
        wanted = [i for i in batch.positions.tolist() if i not in cached]
        found = dict(zip(wanted, hands.open(wanted, turn.check), strict=True)) if wanted else {}
        _leave_out(batch, {i: one for i, one in found.items() if isinstance(one, str)})
        return {i: one for i, one in found.items() if not isinstance(one, str)}

    def _place(self, batch: Batch, known: dict[int, Known], cached: dict, turn: Turn) -> list[int]:
        """Draw for a batch, and give what the pipeline reads its places; of each how many rows are decoded straight
        into it, 0 for the part alone."""
        places, rows = batch.positions.tolist(), [0] * len(batch.positions)
        shorter = None if self.cache is None else self.cache.shorter
        sizes = [
            cached[i][1:] if i in cached else scaled_size(known[i].header.height, known[i].header.width, shorter)
            for i in places
        ]
        if self.augment is None:
            batch.parts = [Part(0, 0, h, w) for h, w in sizes]
        elif self.cache is not None:
            batch.reading = self._reading(batch, sizes, "whole")
            batch.parts = batch.reading.parts
        else:
            batch.reading = self._reading(batch, sizes, self.decode, [known[i].header.shrinks for i in places])
            batch.parts = batch.reading.parts
            if self.side is None:  # a GPU gets no more than the parts
                rows = [_straight(known[i], part) for i, part in zip(places, batch.parts, strict=True)]
                batch.parts = batch.reading.parts = [
                    Part(0, 0, n, w, part.shrink) if n else part
                    for n, (_, w), part in zip(rows, sizes, batch.parts, strict=True)
                ]
        if self.side is None and batch.room is None and all(i in cached for i in places):
            batch.source, batch.offsets = self.cache.source, [cached[i][0] for i in places]
        else:
            self._into_room(batch, turn, sizes)
        return rows

    def _into_room(self, batch: Batch, turn: Turn, sizes: Sequence[tuple[int, int]]) -> None:
        """Give a batch's parts, of images of these sizes, their places in a room."""
        end = np.cumsum([0] + [3 * part.size[0] * part.size[1] for part in batch.parts]).tolist()
        margin = max(3 * h * w for h, w in sizes)
        if batch.room is None:
            turn.reserve(end[-1])
            batch.room = self.rooms.take(end[-1], margin)
        batch.room.reserve(end[-1], margin)
        batch.source, batch.offsets = batch.room.source, [batch.room.margin + at for at in end[:-1]]

    def _reading(
        self, batch: Batch, sizes: list, decode: str, shrinkable: Sequence[bool] | None = None
    ) -> Reading | Crops:
        keywords = {"decode": decode, "shrinkable": shrinkable}
        ids = self.source.ids[batch.positions]
        if isinstance(self.augment, MultiCrop):
            return Crops(self.augment, sizes, ids, batch.epoch, **keywords)
        return Reading(self.augment, sizes, ids, batch.epoch, asked=asked_for(self.views, None), **keywords)

    def _read(self, batch: Batch, rows: list[int], cached: dict, hands: Hands, turn: Turn) -> bool:
        """Bring the parts to their places; whether all are there. Those that are damaged are left out."""
        at = {i: k for k, i in enumerate(batch.positions.tolist())}
        wanted = {i: Wanted(batch.parts[k], batch.offsets[k], rows[k]) for i, k in at.items() if i not in cached}
        if wanted:
            shorter = None if self.cache is None else self.cache.shorter
            found = hands.read(wanted, batch.room, turn.check, shorter)
            bad = {i: one for i, one in zip(wanted, found, strict=True) if one is not None}
            batch.pixels = sum(one.part.size[0] * one.part.size[1] for one in wanted.values())
            if bad:
                _leave_out(batch, bad)
                return False
        for i in cached if batch.room is not None else ():
            if i in at:
                k = at[i]
                batch.pixels_of(k)[:] = self._cached(*cached[i], batch.parts[k])
        return True

    def _keep(self, batch: Batch, stamps: dict, cached: dict) -> None:
        """Add to the cache what was decoded of files that are as they were before."""
        for k, i in enumerate(batch.positions.tolist()):
            of = stamps[i]
            if i not in cached and of is not None and _still(self.source.items[i], of):
                self.cache.add(int(self.source.ids[i]), of, batch.pixels_of(k))

    def launch(self, batch: Batch) -> Launched:
        """What the pipeline makes of a batch, on the device; the room is free again."""
        if self.side is None:
            return Launched(self._made(batch))
        return Launched(*self.side.run(lambda: self._made(batch)))

    def handed(self, launched: Launched) -> tuple:
        """What was launched, for the current stream."""
        return launched.found if launched.made is None else self.side.handed(*launched)

    def _made(self, batch: Batch) -> tuple:
        if batch.clips is not None:
            return self._of_clips(batch, batch.clips)
        if batch.decoded is not None:
            return self.augmented(self.side.received(*batch.decoded), batch.positions, batch.epoch)
        if self.augment is None:
            images = [_own(image, self.device) for image in batch.images()]
            if self.side is None:
                self._free(batch)
            elif batch.room is not None:
                self.side.release(batch.room, self.rooms)
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

    def _of_clips(self, batch: Batch, clips: torch.Tensor) -> tuple:
        if self.side is not None:
            clips = clips.to(self.device, non_blocking=True)
            self.side.release(batch.room, self.rooms)
        elif self.lends:
            clips = clips.clone()
        found = self.augmented(clips.permute(0, 1, 4, 2, 3), batch.positions, batch.epoch)
        if self.side is None:
            self._free(batch)
        return found

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
            return (images, labels, ids) if targets is None else (images, labels, named_alike(targets), ids)
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

    def _targets(self, positions: np.ndarray) -> dict[str, Any] | None:
        """What is beside images by kind, each a list with a tensor for each sample; "objects" a dict of such lists."""
        if self.source.targets is None:
            return None
        known = [self.source.targets[i] for i in positions.tolist()]
        found = {kind: [getattr(one, kind) for one in known] for kind in KINDS}
        found = {kind: values for kind, values in found.items() if all(value is not None for value in values)}
        found: dict[str, Any] = {kind: self._beside(values) for kind, values in found.items()}
        if "boxes" in found:
            objects = [getattr(one, "objects", {}) for one in known]
            names = [name for name in objects[0] if all(name in one for one in objects)]
            if names:
                found["objects"] = {name: self._beside([one[name] for one in objects]) for name in names}
        return found

    def _beside(self, values: Sequence[Any]) -> list[torch.Tensor]:
        tensors = [torch.as_tensor(value) for value in values]
        return [moved(tensor, self.device, tensor.dtype) for tensor in tensors]


def _leave_out(batch: Batch, bad: dict[int, str]) -> None:
    """Leave out samples, by place, and note what is wrong with them."""
    if bad:
        batch.bad += bad.values()
        batch.positions = np.array([i for i in batch.positions.tolist() if i not in bad], np.int64)


def _straight(known: Known, part: Part) -> int:
    return straight(known.header, part[:4], part.shrink, known.whole) if known.held else 0


def _still(item: Any, of: Stamp) -> bool:
    try:
        return stamp(item) == of
    except DataError:
        return False


def _own(image: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A copy of an image [3, H, W] on a device, its channels innermost."""
    pixels = image.permute(1, 2, 0)
    return (pixels.clone() if device.type == "cpu" else pixels.to(device, non_blocking=True)).permute(2, 0, 1)


def sample(found: Any, labels: Any, targets: dict | None, ids: torch.Tensor) -> tuple:
    """(images, labels, ids) or (images, labels, targets, ids) of what a pipeline's call returned for such."""
    rest = list(found) if labels is not None or targets else [found]
    images = rest.pop(0)
    labels = None if labels is None else rest.pop(0)
    if targets is None:
        return images, labels, ids
    return images, labels, named_alike({kind: rest.pop(0) for kind in targets}), ids


def named_alike(targets: dict[str, Any]) -> dict[str, Any]:
    """What is beside images, that of boxes by its own names beside them."""
    return {**{kind: value for kind, value in targets.items() if kind != "objects"}, **targets.get("objects", {})}
