"""Folders of images, one folder a class, decoded by Pillow in a child process."""

from __future__ import annotations

import contextlib
import io
import re
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zmanifold._base.errors import InputError
from zmanifold.datasets.formats._sandbox import decode_apart
from zmanifold.datasets.formats._streams import LEAST_UNPACKED, MOST_GROWTH
from zmanifold.datasets.formats._wording import first_line
from zmanifold.datasets.formats.folders import find_images
from zmanifold.datasets.formats.registry import Contents
from zmanifold.datasets.reading import Reading

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["read_image_folder"]

# Without a list Pillow tries all formats that it knows, including those that start other programs.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_MOST_PIXELS = 2**24

# Pillow's modes of images that stay one channel.
_GREY = ("1", "L", "LA", "La")

# The EXIF tag of the orientation, and its values that exchange width and height.
_ORIENTATION = 0x0112
_ON_ITS_SIDE = (5, 6, 7, 8)
# The orientations' values of Pillow's Transpose: FLIP_LEFT_RIGHT, ROTATE_180, FLIP_TOP_BOTTOM,
# TRANSPOSE, ROTATE_270, TRANSVERSE and ROTATE_90.
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}

# Memory for each pixel: four channels in the decoder, in the image, in its copies and over white;
# three channels as they are sent, and a copy of these; the rest for an animation's previous frame.
_BYTES_A_PIXEL = 36

# The size in bytes of the largest file that is read: 2**24 pixels uncompressed, and metadata.
_LARGEST_FILE = 2**27

# Before the pixels of an image: width, height, channels, and flags of the remarks that apply.
_HEADER = struct.Struct("<4I")

_REMARKS = (
    "{} of several frames, of which the first is taken",
    "{} turned as the orientation in the file says",
    "{} with transparent pixels, laid over white",
    "{} of CMYK or other colours, converted to RGB",
)
_FRAMES, _TURNED, _TRANSPARENT, _CONVERTED = (1 << i for i in range(len(_REMARKS)))


def read_image_folder(root: Path, *, resize: tuple[int, int] | None = None) -> Contents:
    """Read 8-bit images of one size from a folder of class folders.

    Parameters
    ----------
    root : Path
        The folder of class folders.
    resize : tuple of int, optional
        The (height, width) that all images are resized to.

    Returns
    -------
    Contents
        The pixels (n, channels, height, width) as uint8, the labels and the classes' names.

    Raises
    ------
    InputError
        If there are no images or a class has none; if an image is damaged, has another size than
        the first, more than 8 bits a channel or more than 2**24 pixels; or if all of them are much
        larger than their files.

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
    found = find_images(root)
    sizes = [file.stat().st_size for file in found.files]
    for file, size in zip(found.files, sizes, strict=True):
        if size > _LARGEST_FILE:
            raise InputError(
                f"{file} has {size} bytes, more than the {_LARGEST_FILE} of an image that is read: "
                "store it compressed, or remove it."
            )
    memory = _BYTES_A_PIXEL * _MOST_PIXELS + 2 * max(sizes)
    limit = max(LEAST_UNPACKED, MOST_GROWTH * sum(sizes))
    images = decode_apart(
        _decode, found.files, library="PIL.Image", memory=memory, limit=limit, resize=resize
    )
    headers = [_HEADER.unpack_from(image) for image in images]
    width, height, *_ = headers[0]
    n_channels = max(header[2] for header in headers)
    pixels = np.empty((len(images), n_channels, height, width), np.uint8)
    for row, image, (_, _, channels, _) in zip(pixels, images, headers, strict=True):
        # In a set with colour images, grey ones are repeated in all three channels.
        values = np.frombuffer(image, np.uint8, offset=_HEADER.size)
        row[:] = values.reshape(height, width, channels).transpose(2, 0, 1)
    reading = Reading(
        str(root),
        "image folder",
        labels="the class folders",
        classes=found.classes,
        notes=(*_notes(headers, resize), *found.notes),
        skipped=found.skipped,
    )
    labels = np.array(found.labels, dtype=np.int64)
    return Contents(pixels, labels, pixels.shape[1:], found.classes, reading)


def _notes(headers: list[tuple[int, ...]], resize: tuple[int, int] | None) -> Iterator[str]:
    width, height, *_ = headers[0]
    grey = sum(header[2] == 1 for header in headers)
    colour = "in grey" if grey == len(headers) else "in colour"
    resized = ", to which they were resized" if resize else ""
    yield f"{len(headers)} images of {height} x {width} {colour}{resized}"
    if 0 < grey < len(headers):
        yield f"{grey} in grey, repeated in all three channels"
    for i, remark in enumerate(_REMARKS):
        if count := sum(header[3] >> i & 1 for header in headers):
            yield remark.format(count)


def _decode(files: list[Path], limit: int, resize: list[int] | None) -> Iterator[bytes]:
    """Yield images of one size: a header, then the pixels by rows."""
    from PIL import Image

    # Pillow's warnings are about metadata that it ignores.
    warnings.simplefilter("ignore")
    # `_check` has a lower limit, and a message of its own.
    Image.MAX_IMAGE_PIXELS = None
    size = (resize[1], resize[0]) if resize else None
    total = 0
    first: tuple[Path, tuple[int, int]] | None = None
    for file in files:
        with _opened(file) as image:
            _check(image, file)
            upright = _upright_size(image)
            first = first or (file, upright)
            if not resize:
                _check_size(file, upright, *first)
            channels = 1 if image.mode in _GREY else 3
            width, height = size or upright
            total += channels * width * height
        if total > limit:
            raise InputError(
                f"{file} is one of {len(files)} images that take more than {limit} bytes, which is "
                f"{LEAST_UNPACKED >> 20} MiB or {MOST_GROWTH} times their files: make them smaller "
                "with resize, or read fewer."
            )
    for file in files:
        with _opened(file) as image:
            flat, remarks = _flat(image)
            if size:
                flat = flat.resize(size, Image.Resampling.BILINEAR)
            elif first is not None:
                # A damaged image may have another size than its header says.
                _check_size(file, flat.size, *first)
            yield _HEADER.pack(*flat.size, len(flat.getbands()), remarks) + flat.tobytes()


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """Open an image; an exception of its decoder becomes one sentence."""
    from PIL import Image

    try:
        # From memory: Pillow's decoders allocate as many bytes as a file promises to have.
        with Image.open(io.BytesIO(file.read_bytes()), formats=_FORMATS) as image:
            yield image
    except InputError:
        raise
    except MemoryError:
        raise InputError(
            f"{file} takes more memory than {_MOST_PIXELS} pixels do: make the images smaller."
        ) from None
    except Exception as error:
        # Pillow raises many kinds of exceptions for a damaged file, whose messages name the buffer.
        said = re.sub(r" ?<_io\.BytesIO object at 0x[0-9a-f]+>", "", first_line(error))
        raise InputError(f"{file} is not a readable image ({said}): remove it.") from None


def _upright_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    # Pillow rotates TIFF images itself, and reports the size after that.
    on_its_side = image.format != "TIFF" and _orientation(image) in _ON_ITS_SIDE
    return (height, width) if on_its_side else (width, height)


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and "exif" not in image.info:
        # Pillow would decode the image to look for EXIF data after the pixels.
        return 1
    value = image.getexif().get(_ORIENTATION, 1)
    return value if isinstance(value, int) else 1


def _flat(image: Image.Image) -> tuple[Image.Image, int]:
    """Return an image in grey or RGB as a viewer shows it, and flags of the remarks that apply."""
    from PIL import Image

    remarks = 0
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        remarks |= _FRAMES
    mode = image.mode
    transparent = mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info
    turn = _TURNS.get(_orientation(image))
    if turn is not None:
        remarks |= _TURNED
        if image.format != "TIFF":
            image = image.transpose(Image.Transpose(turn))
    if transparent:
        clear = image.convert("RGBA")
        if clear.getchannel("A").getextrema() != (255, 255):
            white = Image.new("RGBA", clear.size, (255, 255, 255, 255))
            image = Image.alpha_composite(white, clear)
            remarks |= _TRANSPARENT
    elif mode not in ("1", "L", "P", "RGB"):
        remarks |= _CONVERTED
    return image.convert("L" if mode in _GREY else "RGB"), remarks


def _check(image: Image.Image, file: Path) -> None:
    width, height = image.size
    if width * height > _MOST_PIXELS:
        raise InputError(
            f"{file} promises {width} x {height} pixels, more than the {_MOST_PIXELS} that are "
            "read: make the images smaller."
        )
    if image.mode.startswith(("I", "F")) or _is_deep(image):
        raise InputError(
            f"{file} has more than 8 bits a pixel (mode {image.mode}): convert the images to 8 "
            "bits, or give their values as .npy."
        )


def _check_size(file: Path, size: tuple[int, int], first: Path, expected: tuple[int, int]) -> None:
    if size != expected:
        raise InputError(
            f"{file} has {size[0]} x {size[1]} pixels but {first} {expected[0]} x {expected[1]}: "
            "resize the images to one size, with resize."
        )


def _is_deep(image: Image.Image) -> bool:
    """Tell whether the file holds more bits a channel than Pillow's image keeps."""
    tiles: list[tuple[Any, ...]] = getattr(image, "tile", [])
    for *_, how in tiles:
        arguments = how if isinstance(how, tuple) else (how,)
        # The raw mode, such as "RGB;16B"; for PPM also the largest value.
        if any(isinstance(a, str) and re.search(r";(1[0-6]|32)", a) for a in arguments):
            return True
        if image.format == "PPM" and any(isinstance(a, int) and a > 255 for a in arguments[1:]):
            return True
    return False
