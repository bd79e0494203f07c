"""JPEG files decoded on a CUDA device by nvJPEG, through torchvision; what it does not take comes from the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from .decode import DataError, Encoded, Header, header, load, read
from .jpeg import HUFFMAN
from .pictures import TURNS


class Decoder:
    """Decodes whole images on a device, on a stream of its own.

    nvJPEG's pixels are not those of libjpeg-turbo: it interpolates chroma and rounds otherwise.

    Raises:
        ValueError: the device is no CUDA device, or torchvision is missing or cannot decode there.
    """

    def __init__(self, device: torch.device):
        if device.type != "cuda":
            raise ValueError(f'decode="nvjpeg" needs a CUDA device, got {device}; take "scaled" or "full"')
        try:
            from torchvision.io import ImageReadMode, decode_jpeg
        except ImportError as error:
            raise ValueError(f'decode="nvjpeg" needs torchvision ({error}); take "scaled" or "full"') from None
        self.device, self.stream = device, torch.cuda.Stream(device)
        self._decode, self._rgb = decode_jpeg, ImageReadMode.RGB
        self._try()

    def _try(self) -> None:
        from io import BytesIO

        from PIL import Image

        Image.new("RGB", (16, 16)).save(file := BytesIO(), "JPEG")
        try:
            self._jpegs([file.getvalue()])
        except RuntimeError as error:
            told = str(error).splitlines()[0]
            raise ValueError(
                f'decode="nvjpeg": torchvision cannot decode on {self.device} ({told}); take "scaled"'
            ) from None

    def _jpegs(self, files: Sequence[bytes]) -> list[torch.Tensor]:
        data = [torch.from_numpy(np.frombuffer(file, np.uint8).copy()) for file in files]
        return self._decode(data, mode=self._rgb, device=self.device)

    def decoded(
        self, items: Sequence[Any], check: Callable[[], None] = lambda: None
    ) -> tuple[list[torch.Tensor | str], int]:
        """uint8 [3, H, W] each, upright, on `stream`, or what is wrong with it; and the bytes of their files. `check`
        is called between images."""
        found: list[torch.Tensor | str | None] = [None] * len(items)
        images: dict[int, Encoded] = {}
        for k, item in enumerate(items):
            check()
            try:
                images[k] = _with_header(item)
            except DataError as error:
                found[k] = str(error)
        places = [k for k, one in images.items() if suits(one.known)]
        with torch.cuda.stream(self.stream):
            for k, image in zip(places, self._tried([bytes(images[k].data) for k in places]), strict=True):
                found[k] = None if image is None else upright(image, images[k].known)
            for k in [k for k, one in enumerate(found) if one is None]:
                check()
                try:
                    found[k] = self._on_host(images[k])
                except DataError as error:
                    found[k] = str(error)
        return found, sum(len(one.data) for one in images.values())

    def _tried(self, files: list[bytes]) -> list[torch.Tensor | None]:
        """All in one call; where that fails, halves, so that only those that are damaged are None."""
        if not files:
            return []
        try:
            return list(self._jpegs(files))
        except RuntimeError:
            if len(files) == 1:
                return [None]
        half = len(files) // 2
        return self._tried(files[:half]) + self._tried(files[half:])

    def _on_host(self, image: Encoded) -> torch.Tensor:
        pixels = torch.from_numpy(np.array(read(image)))
        return pixels.pin_memory().to(self.device, non_blocking=True).permute(2, 0, 1)


def suits(known: Header) -> bool:
    """Whether nvJPEG takes such an image: 8 bits, grey or colour, Huffman's code."""
    frame = known.frame
    return frame is not None and frame.bits == 8 and frame.marker in HUFFMAN and known.channels in (1, 3)


def upright(image: torch.Tensor, known: Header) -> torch.Tensor | None:
    """Stored pixels [C, H, W] as they are to be seen; None where they are of another size than the file says."""
    rows, columns, swap = TURNS.get(known.orientation, (False, False, False))
    dims = [dim for dim, flip in ((1, rows), (2, columns)) if flip]
    image = image.flip(dims) if dims else image
    image = image.transpose(1, 2) if swap else image
    return image if image.shape[1:] == (known.height, known.width) else None


def _with_header(item: Any) -> Encoded:
    one = load(item)
    header(one)
    return one
