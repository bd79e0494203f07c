"""The one error of data sets, and how whatever goes wrong becomes it."""

from __future__ import annotations


class DataError(ValueError):
    """The data set cannot be used as it is; the message names the file or folder and the mend."""


class named:
    """A context: whatever goes wrong inside becomes one :class:`DataError` that names the item and the mend.

    Args:
        what: the item is, or ought to be.
    """

    __slots__ = ("name", "what")

    def __init__(self, name: object, what: str = "image file"):
        self.name, self.what = name, what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, DataError):
            raise DataError(f"{self.name}: {_told(error, self.what)}") from None


def _told(error: Exception, wanted: str) -> str:
    """What is wrong, and the mend."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return f"a folder, where {'an' if wanted[0] in 'aeiou' else 'a'} {wanted} is wanted"
    if isinstance(error, PermissionError):
        return "may not be read; give this user the right to read it"
    if isinstance(error, MemoryError):
        return "does not fit in memory; make the image smaller"
    if type(error).__name__ == "DecompressionBombError":
        return f"more than Pillow decodes ({error}); raise PIL.Image.MAX_IMAGE_PIXELS"
    what = " ".join(f"{error}".split()) or type(error).__name__
    return f"damaged {wanted} ({what[:200]}); remove it or fetch it again"
