"""The one error of data sets, and how whatever goes wrong becomes it."""

from __future__ import annotations

from contextlib import contextmanager


class DataError(ValueError):
    """The data set cannot be used as it is; the message names the file or folder and the mend."""


@contextmanager
def named(name: object):
    """Whatever goes wrong inside becomes one :class:`DataError` that names the item and the mend."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{name}: a folder, where an image file is wanted") from None
    except PermissionError:
        raise DataError(f"{name}: may not be read; give this user the right to read it") from None
    except MemoryError:
        raise DataError(f"{name}: does not fit in memory; make the image smaller") from None
    except Exception as error:
        if type(error).__name__ == "DecompressionBombError":
            raise DataError(f"{name}: more than Pillow decodes ({error}); raise PIL.Image.MAX_IMAGE_PIXELS") from None
        what = " ".join(f"{error}".split()) or type(error).__name__
        raise DataError(f"{name}: damaged image file ({what[:200]}); remove it or fetch it again") from None
