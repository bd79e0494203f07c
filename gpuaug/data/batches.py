"""A loader's batches: what is decoded for one, where it lies, and what the pipeline makes of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from ..compose import Compose
from ..inputs import moved
from .cache import Cache, decoded, stamp, stamps
from .decode import DataError, Encoded, Files, Header, Slice, header, load, read, rows_into, straight
from .feed import Room
from .nvjpeg import Decoder
from .reading import Part, Reading
from .side_stream import SideStream
from .sources import Source

KEPT_BYTES = 1 << 19  # of a file: larger ones are read once for their header, and again when they are decoded
KINDS = ("masks", "boxes", "keypoints")


class Opened(NamedTuple):
    """An item of a source whose header is known.

    Attributes:
        image: what `decode.read` takes. bytes: of the file.
    """

    image: Encoded | Any
    header: Header
    bytes: int


def opened(item: Any, files: Files) -> Opened:
    """An item, its header read, its bytes where they are few. Raises DataError."""
    if isinstance(item, (str, os.PathLike)):
        try:
            size = os.path.getsize(item)
        except OSError:
            size = 0  # `load` says what is wrong
        if size > KEPT_BYTES:
            return Opened(item, header(item), size)
    one = files.load(item) if isinstance(item, (str, os.PathLike, Slice)) else load(item)
    return Opened(one, header(one), len(one.data))


@dataclass(eq=False)
class Batch:
    """Some samples, decoded.

    Attributes:
        positions: int64 [B], their places in the source; without those that are damaged.
        bad: what is wrong with these. bytes: of the files. pixels: decoded.
        images: uint8 [H, W, 3] each, where no pipeline reads them.
        source: where the parts lie else, at these offsets; in a room, or in the cache.
        decoded: uint8 [3, H, W] each, where the device itself decoded them, once this event is behind it.
    """

    positions: np.ndarray
    epoch: int
    bad: list[str]
    bytes: int = 0
    pixels: int = 0
    reading: Reading | None = None
    room: Room | None = None
    source: torch.Tensor | None = None
    offsets: Sequence[int] = ()
    images: list[np.ndarray] | None = None
    decoded: tuple[list[torch.Tensor], torch.cuda.Event] | None = None


class Launched(NamedTuple):
    """What a batch has become, (images, labels, ids) or (images, labels, targets, ids); on a CUDA device once this
    event is behind it."""

    found: tuple
    made: torch.cuda.Event | None = None


class Maker:
    """Makes batches of a source in any thread, and finishes them in the one that takes them.

    Args:
        augment: the pipeline, or None. decode: "full", "scaled" or "nvjpeg". cache: of whole images, or None.

    Raises:
        ValueError: "nvjpeg" where that cannot be.
    """

    def __init__(
        self, source: Source, augment: Compose | None, decode: str, device: torch.device, cache: Cache | None = None
    ):
        self.source, self.augment, self.decode, self.device, self.cache = source, augment, decode, device, cache
        self.rooms: list[Room] = []  # those that nobody uses
        self.files: list[Files] = []  # likewise
        self.side = SideStream(device) if device.type == "cuda" else None
        self.decoder = Decoder(device) if decode == "nvjpeg" and cache is None else None

    def make(self, positions: np.ndarray, epoch: int, check: Callable[[], None] = lambda: None) -> Batch:
        """Decode samples. `check` is called between images."""
        batch = Batch(positions, epoch, [])
        if self.cache is not None:
            self._whole(batch, self.cache, check)
            return batch
        if self.decoder is not None:
            self._on_device(batch, self.decoder, check)
            return batch
        try:
            files = self.files.pop()
        except IndexError:
            files = Files()
        try:
            self._read(batch, files, check)
        finally:
            files.clear()
            self.files.append(files)
        return batch

    def _read(self, batch: Batch, files: Files, check: Callable[[], None]) -> None:
        """The parts that the pipeline reads of files."""
        at_hand: dict[int, Opened] = {}
        while len(batch.positions):
            good = self._each(
                batch, lambda i: at_hand.get(i) or at_hand.setdefault(i, opened(self.source.items[i], files)), check
            )
            if len(good) == len(batch.positions):
                found = [at_hand[i] for i in batch.positions.tolist()]
                good = self._decode(batch, found, files, check)
                if len(good) == len(batch.positions):
                    batch.bytes = sum(one.bytes for one in found)
                    break
            batch.positions = np.array(good, np.int64)  # a draw may hang on who is in the batch

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

    def _whole(self, batch: Batch, cache: Cache, check: Callable[[], None]) -> None:
        """Whole images, out of the cache where they are in it."""
        if self._all_cached(batch, cache):
            return
        places: list[tuple[int, int, int] | None] = []
        images: list[np.ndarray] = []

        def act(i: int) -> None:
            item, id = self.source.items[i], int(self.source.ids[i])
            of = stamp(item)
            place = None if of is None else cache.find(id, of)
            if place is None:
                image, size = decoded(item, cache.shorter)
                batch.bytes, batch.pixels = batch.bytes + size, batch.pixels + image.shape[0] * image.shape[1]
                if of is not None and stamp(item) == of:
                    cache.add(id, of, image)
            else:
                at, h, w = place
                image = cache.pixels[at : at + 3 * h * w].reshape(h, w, 3)
            places.append(place)
            images.append(image)

        batch.positions = np.array(self._each(batch, act, check), np.int64)
        if self.augment is None:
            batch.images = [image.copy() for image in images]
        elif images:
            sizes, ids = [image.shape[:2] for image in images], self.source.ids[batch.positions]
            batch.reading = Reading(self.augment, sizes, ids, batch.epoch, decode="whole")
            if None not in places and self.side is None:
                batch.source, batch.offsets = cache.source, [place[0] for place in places]
            else:
                self._into_room(batch, images)

    def _all_cached(self, batch: Batch, cache: Cache) -> bool:
        """Give a batch its images where they lie in the cache, if the pipeline reads them there and all are in it."""
        if self.augment is None or self.side is not None or not len(batch.positions):
            return False
        of = stamps([self.source.items[i] for i in batch.positions.tolist()])
        ids = self.source.ids[batch.positions]
        places = None if of is None else cache.find_all(ids.numpy(), of)
        if places is None:
            return False
        both, which = np.unique(places[:, 1] << 32 | places[:, 2], return_inverse=True)
        known = [(one >> 32, one & 0xFFFFFFFF) for one in both.tolist()]
        sizes = [known[k] for k in which.tolist()]  # few tuples: many wake the garbage collector
        batch.reading = Reading(self.augment, sizes, ids, batch.epoch, decode="whole")
        batch.source, batch.offsets = cache.source, places[:, 0].tolist()
        return True

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

    def _into_room(self, batch: Batch, images: list[np.ndarray]) -> None:
        self._place(batch)
        for image, at in zip(images, batch.offsets, strict=True):
            batch.room.pixels[at : at + image.size] = image.reshape(-1)

    def _place(self, batch: Batch) -> None:
        """Give a batch's parts their places in a room."""
        parts, room = batch.reading.parts, batch.room or self._room()
        ends = np.cumsum([0] + [3 * part.size[0] * part.size[1] for part in parts]).tolist()
        room.reserve(ends[-1], max(3 * h * w for h, w in batch.reading.sizes))
        batch.room, batch.source, batch.offsets = room, room.source, [room.margin + at for at in ends[:-1]]

    def _decode(self, batch: Batch, found: list[Opened], files: Files, check: Callable[[], None]) -> list[int]:
        """Decode what the pipeline reads; returns the samples for which it went well."""
        headers, places = [one.header for one in found], {i: k for k, i in enumerate(batch.positions.tolist())}
        sizes = [(one.height, one.width) for one in headers]
        if self.augment is None:
            parts = [Part(0, 0, h, w) for h, w in sizes]
            batch.images, rows = [np.empty((h, w, 3), np.uint8) for h, w in sizes], [0] * len(sizes)
        else:
            ids, shrinkable = self.source.ids[batch.positions], [one.shrinks for one in headers]
            batch.reading = Reading(self.augment, sizes, ids, batch.epoch, decode=self.decode, shrinkable=shrinkable)
            parts = list(batch.reading.parts)
            rows = [0 if self.side else self._rows(one, part) for one, part in zip(found, parts, strict=True)]
            for k, n in enumerate(rows):
                parts[k] = Part(0, 0, n, sizes[k][1], parts[k].shrink) if n else parts[k]
            batch.reading.parts = parts
            self._place(batch)

        def act(i: int) -> None:
            k, begin = places[i], files.end
            part, image = parts[k], found[k].image
            if batch.images is not None:
                out = batch.images[k]
            else:
                (h, w), at = part.size, batch.offsets[k]
                out = batch.room.pixels[at : at + 3 * h * w].reshape(h, w, 3)
            if rows[k]:
                return rows_into(image, rows[k], part.shrink, out)
            if not isinstance(image, Encoded):
                image = files.load(image)
            read(image, None if part[2:4] == sizes[k] else part[:4], part.shrink, out=out)
            files.clear(begin)

        batch.pixels = sum(part.size[0] * part.size[1] for part in parts)
        return self._each(batch, act, check)

    @staticmethod
    def _rows(one: Opened, part: Part) -> int:
        """How many rows are decoded into the room as they are, 0 where a part is."""
        return straight(one.image, part[:4], part.shrink) if isinstance(one.image, Encoded) else 0

    def _room(self) -> Room:
        try:
            return self.rooms.pop()
        except IndexError:
            return Room(pinned=self.side is not None)

    def launch(self, batch: Batch) -> Launched:
        """What the pipeline makes of a batch, on the device; the room is free again."""
        if self.side is not None:
            return Launched(*self.side.run(lambda: self._made(batch)))
        found = self._made(batch)
        if batch.room is not None:
            self.rooms.append(batch.room)
        return Launched(found)

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
            images = [torch.from_numpy(image).permute(2, 0, 1).to(self.device) for image in batch.images]
            return self.augmented(images, batch.positions, batch.epoch)
        source, shift = batch.source, 0
        if self.side is not None:
            source, shift = self.side.copied(batch.room, batch.reading, self.rooms)
        labels, targets, ids = self.beside(batch.positions)
        offsets = [at + shift for at in batch.offsets]
        return sample(batch.reading.run(source, offsets, labels=labels, targets=targets), labels, targets, ids)

    def augmented(
        self, images: torch.Tensor | list[torch.Tensor], positions: np.ndarray, epoch: int, index: Any = None
    ) -> tuple:
        """What the pipeline makes of whole images on the device, those of the samples at these positions; or, given
        their `index`, of a data set."""
        labels, targets, ids = self.beside(positions)
        if self.augment is None:
            return (images, labels, ids) if targets is None else (images, labels, targets, ids)
        found = self.augment(images, labels=labels, **(targets or {}), index=index, ids=ids, epoch=epoch)
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
