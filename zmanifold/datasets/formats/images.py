"""Folders of images, one folder a class, decoded by Pillow in a process of its own."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zmanifold._base.errors import InputError
from zmanifold.datasets.formats._sandbox import decode_apart
from zmanifold.datasets.formats._wording import first_line
from zmanifold.datasets.formats.registry import Contents

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["read_image_folder"]

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")

# Pillow would try every format that it knows on any file, those that start a program, too.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_MOST_PIXELS = 2**24

# Four channels a pixel in the decoder, in the image and in its copy; three as they are sent, with a
# copy on the way; the rest is for what an animation keeps of the frame before.
_BYTES_A_PIXEL = 24

# Width, height, channels.
_HEADER = struct.Struct("<3I")


def read_image_folder(root: Path) -> Contents:
    """Read 8-bit images of one size from a folder of class folders.

    Parameters
    ----------
    root : Path
        The folder of class folders.

    Returns
    -------
    Contents
        The pixels (n, channels, height, width) as uint8, the labels and the classes' names.

    Raises
    ------
    InputError
        If there are no images, or one is damaged, of another size, of more than 8 bits a channel
        or of more than 2**24 pixels.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from zmanifold.datasets.formats.images import read_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "cats").mkdir()
    ...     Image.new("RGB", (4, 5)).save(Path(folder, "cats", "1.png"))
    ...     read_image_folder(Path(folder)).x.shape
    (1, 3, 5, 4)
    """
    classes = sorted(p.name for p in root.iterdir() if p.is_dir())
    files = [
        (label, file)
        for label, name in enumerate(classes)
        for file in sorted((root / name).iterdir())
        if file.suffix.lower() in _ENDINGS
    ]
    if not files:
        raise InputError(
            f"{root} holds no class folders with images ({', '.join(_ENDINGS)}): make one "
            "folder a class."
        )
    paths = [file for _, file in files]
    memory = _BYTES_A_PIXEL * _MOST_PIXELS + 2 * max(file.stat().st_size for file in paths)
    images = decode_apart(_decode, paths, library="PIL.Image", memory=memory)
    sizes = [_HEADER.unpack_from(image) for image in images]
    width, height, _ = sizes[0]
    pixels = np.empty((len(images), max(size[2] for size in sizes), height, width), np.uint8)
    for row, image, (*_, channels) in zip(pixels, images, sizes, strict=True):
        # A grey image fills all three channels of a colour set.
        values = np.frombuffer(image, np.uint8, offset=_HEADER.size)
        row[:] = values.reshape(height, width, channels).transpose(2, 0, 1)
    labels = np.array([label for label, _ in files], dtype=np.int64)
    return Contents(pixels, labels, pixels.shape[1:], tuple(classes))


def _decode(files: list[Path]) -> Iterator[bytes]:
    """Yield images of one size: a header, then the pixels by rows."""
    from PIL import Image

    # Of what it can do without, Pillow only warns.
    warnings.simplefilter("ignore")
    # Ours is lower.
    Image.MAX_IMAGE_PIXELS = None
    size: tuple[int, int] | None = None
    for file in files:
        try:
            # Pillow's decoders ask a file for as many bytes as its parts promise: one in memory
            # gives what it has.
            with Image.open(io.BytesIO(file.read_bytes()), formats=_FORMATS) as image:
                size = size or image.size
                _check(image, file, size, files[0])
                flat = image.convert("L" if image.mode in ("1", "L") else "RGB")
                yield _HEADER.pack(*size, len(flat.getbands())) + flat.tobytes()
        except InputError:
            raise
        except MemoryError:
            raise InputError(
                f"{file} takes more memory than {_MOST_PIXELS} pixels do: make the images smaller."
            ) from None
        except Exception as error:
            # Pillow raises many kinds for a damaged file.
            raise InputError(
                f"{file} is not a readable image ({first_line(error)}): remove it."
            ) from None


def _check(image: Image.Image, file: Path, size: tuple[int, int], first: Path) -> None:
    width, height = image.size
    if width * height > _MOST_PIXELS:
        raise InputError(
            f"{file} promises {width} x {height} pixels, more than the {_MOST_PIXELS} that are "
            "read: make the images smaller."
        )
    if image.size != size:
        raise InputError(
            f"{file} has {width} x {height} pixels but {first} {size[0]} x {size[1]}: resize the "
            "images to one size."
        )
    if image.mode.startswith(("I", "F")):
        raise InputError(
            f"{file} has more than 8 bits a pixel (mode {image.mode}): convert the images to 8 "
            "bits, or give their values as .npy."
        )
