"""How batches come to a CUDA device: a stream of their own, events, and nobody waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .crops import Crops
from .reading import Reading
from .rooms import Room, Rooms


class SideStream:
    """A stream on which batches are copied and augmented while the loop works on the one before.

    Attributes:
        source: on the device, with as much around the parts as a `Room` has.
        copying: rooms that may still be copied from.
    """

    def __init__(self, device: torch.device):
        self.device, self.stream = device, torch.cuda.Stream(device)
        self.source = torch.empty(0, dtype=torch.uint8, device=device)
        self.copying: list[tuple[torch.cuda.Event, Room]] = []

    def run(self, act: Callable[[], Any]) -> tuple[Any, torch.cuda.Event]:
        """What `act` gives, done on the stream, and the event behind it."""
        with torch.cuda.stream(self.stream):
            found = act()
            return found, self.stream.record_event()

    def copied(self, room: Room, reading: Reading | Crops, free: Rooms) -> tuple[torch.Tensor, int]:
        """The parts of a room, copied on the current stream, and how much later they begin there. Rooms that are copied
        go back to `free`."""
        size = sum(3 * part.size[0] * part.size[1] for part in reading.parts)
        margin = max(3 * h * w for h, w in reading.sizes)
        if len(self.source) < size + 2 * margin:
            self.source = torch.empty(2 * margin + size, dtype=torch.uint8, device=self.device)
        at = (len(self.source) - size) // 2
        self.source[at : at + size].copy_(room.payload(size), non_blocking=True)
        self.release(room, free)
        return self.source, at - room.margin

    def release(self, room: Room, free: Rooms) -> None:
        """Give a room back once what the current stream copies from it is copied."""
        while self.copying and self.copying[0][0].query():
            free.append(self.copying.pop(0)[1])
        self.copying.append((torch.cuda.current_stream(self.device).record_event(), room))

    def received(self, images: list[torch.Tensor], made: torch.cuda.Event) -> list[torch.Tensor]:
        """What another stream has made, for the current one."""
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(made)
        for image in images:
            image.record_stream(stream)
        return images

    def handed(self, found: Any, made: torch.cuda.Event) -> Any:
        """What was made on the stream, for the current one, which waits for it."""
        self.received([tensor for tensor in tensors(found) if tensor.is_cuda], made)
        return found


def tensors(found: Any) -> list[torch.Tensor]:
    """Those in a nest of tuples, lists and dicts."""
    if isinstance(found, torch.Tensor):
        return [found]
    found = list(found.values()) if isinstance(found, dict) else found
    return [tensor for one in found for tensor in tensors(one)] if isinstance(found, list | tuple) else []
