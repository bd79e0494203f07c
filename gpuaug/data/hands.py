"""What opens and decodes the samples of a batch, where their code runs: in a thread, or in a worker process."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .cache import scaled
from .decode import DataError, Encoded, Files, Header, Slice, header, load, read, rows_into
from .jpeg import ends
from .reading import Part
from .rooms import Room

KEPT_BYTES = 1 << 19  # of a file: larger ones are read once for their header, and again when they are decoded


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


class Known(NamedTuple):
    """What is known of a sample that has been opened.

    Attributes:
        header: what the image says of itself.
        bytes: of the file. held: bytes that are kept in memory until it is decoded.
        whole: all of the file is in memory, and ends as it should.
    """

    header: Header
    bytes: int
    held: int
    whole: bool


class Wanted(NamedTuple):
    """What is to be decoded of a sample.

    Attributes:
        part: of the image. offset: where it begins in the room.
        rows: so many rows are decoded as they are (`decode.straight`); 0: the part alone.
    """

    part: Part
    offset: int
    rows: int = 0


class Hands:
    """Opens samples of a source and decodes parts of them, in the thread that asks.

    Args:
        items: the source's. begin: is told each sample's place before its code runs.
    """

    def __init__(self, items: Sequence[Any], begin: Callable[[int], None] = lambda place: None):
        self.items, self.begin = items, begin
        self._files = Files()
        self._opened: dict[int, Opened] = {}

    def open(self, places: Sequence[int], check: Callable[[], None]) -> list[Known | str]:
        """Of each sample what is known then, or what is wrong with it. `check` is called between samples."""

        def act(place: int) -> Known:
            image, known, size = self._opened[place] = opened(self.items[place], self._files)
            if not isinstance(image, Encoded):
                return Known(known, size, 0, False)
            return Known(known, size, len(image.data) or image.pixels.nbytes, ends(image.data))

        return self._each(places, act, check)

    def read(
        self,
        wanted: dict[int, Wanted],
        room: Room,
        check: Callable[[], None],
        shorter: int | None = None,
    ) -> list[str | None]:
        """Decode parts of samples that are open, by place; of each, what is wrong, or None.

        Args:
            room: where each part begins at its offset.
            shorter: the parts are whole images, scaled as `cache.scaled` does it.
        """

        def act(place: int) -> None:
            (part, at, rows), (image, known, _) = wanted[place], self._opened[place]
            (h, w), begin = part.size, self._files.end
            out = room.pixels[at : at + 3 * h * w].reshape(h, w, 3)
            if rows:
                return rows_into(image, rows, part.shrink, out)
            if not isinstance(image, Encoded):
                image = self._files.load(image)
            if shorter is not None:
                scaled(image, known, shorter, out)
            else:
                whole = part[2:4] == (known.height, known.width)
                read(image, None if whole else part[:4], part.shrink, out=out)
            self._files.clear(begin)

        return self._each(list(wanted), act, check)

    def forget(self) -> None:
        """Let go of what is open."""
        self._opened.clear()
        self._files.clear()

    def _each(self, places: Sequence[int], act: Callable[[int], Any], check: Callable[[], None]) -> list[Any]:
        found = []
        for place in places:
            check()
            self.begin(place)
            try:
                found.append(act(place))
            except DataError as error:
                found.append(str(error))
        return found
