"""Real files: images and image data sets of known formats."""

from __future__ import annotations

import io
import struct
import zlib
from functools import partial

import numpy as np
import zmanifold as zm
from PIL import Image

from fuzzing.tables import PIXELS, RNG, Seed, gz_joined


def png_parts(content):
    """Return the chunks of a PNG by name and number, with its pixels inflated."""
    parts, at = {}, 8
    while at < len(content):
        size, name = struct.unpack(">I4s", content[at : at + 8])
        body = content[at + 8 : at + 8 + size]
        parts[f"{len(parts)}{name.decode()}"] = zlib.decompress(body) if name == b"IDAT" else body
        at += size + 12
    return parts


def png_joined(parts):
    out = [b"\x89PNG\r\n\x1a\n"]
    for key, body in parts.items():
        name = key[-4:].encode()
        content = name + (zlib.compress(body, 1) if name == b"IDAT" else body)
        out.append(struct.pack(">I", len(content) - 4) + content)
        out.append(struct.pack(">I", zlib.crc32(content)))
    return b"".join(out)


def image_seeds():
    grey = Image.fromarray(RNG.integers(0, 256, (8, 9), dtype=np.uint8))
    colour = Image.fromarray(RNG.integers(0, 256, (8, 9, 3), dtype=np.uint8))
    veiled = colour.convert("RGBA")
    few = colour.quantize(7)
    made = [
        *[(image, "png", {}) for image in (grey, colour, veiled, few, grey.convert("1"))],
        (grey.convert("LA"), "png", {}),
        (few, "png", {"transparency": b"\x00\x80\xff"}),
        (Image.new("I;16", (9, 8), 999), "png", {}),
        (colour, "png", {"save_all": True, "append_images": [veiled.convert("RGB")]}),
        *[(image, "jpg", {}) for image in (grey, colour, colour.convert("CMYK"))],
        (colour, "jpg", {"progressive": True}),
        (few, "gif", {}),
        (few, "gif", {"save_all": True, "append_images": [few.rotate(90)], "transparency": 0}),
        *[(image, "bmp", {}) for image in (grey, colour, few, grey.convert("1"))],
        (grey, "tif", {}),
        (colour, "tif", {"save_all": True, "append_images": [grey]}),
        (grey.convert("1"), "tif", {"compression": "group4"}),
        *[(colour, "tif", {"compression": c}) for c in ("tiff_lzw", "jpeg", "packbits")],
        (few, "tif", {"compression": "tiff_adobe_deflate"}),
        (grey.convert("F"), "tif", {}),
        *[(image, "webp", {}) for image in (colour, veiled)],
        (veiled, "webp", {"lossless": True}),
        (veiled, "webp", {"save_all": True, "append_images": [veiled.rotate(90)]}),
        *[(image, "ppm", {}) for image in (grey, colour, grey.convert("1"))],
    ]
    good = io.BytesIO()
    colour.save(good, "png")
    seeds = []
    names = {"jpg": "jpeg", "tif": "tiff"}
    for number, (image, ending, options) in enumerate(made):
        stream = io.BytesIO()
        image.save(stream, names.get(ending, ending), **options)
        content = stream.getvalue()
        parts, join = (png_parts(content), png_joined) if ending == "png" else ({}, None)
        # The damaged file comes first or last: the first one sets the size of all.
        beside = {"a/5.png": good.getvalue(), "b/5.png": good.getvalue()}
        file = f"{'ab'[number % 2]}/{number % 2 * 9}.{ending}"
        seeds.append(Seed(file, content, load_folder, parts, join, beside))
        # The damaged file comes twice, so that its size is the common one.
        seeds.append(Seed(f"a/0.{ending}", content, load_folder, parts, join, twice=True))
    plain = b"P3\n# in plain text\n2 2\n255\n" + b"1 2 3 255 0 7\n" * 2
    return [*seeds, Seed("a/0.ppm", plain, load_folder, twice=True)]


def load_folder(path):
    return zm.load_dataset(path.parent.parent)


def idx_bytes(values):
    sizes = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return sizes + values.astype(np.uint8).tobytes()


def load_named(name, path):
    return zm.load_dataset(name, data_dir=path.parent)


def idx_seeds():
    contents = {
        "images-idx3-ubyte": idx_bytes(PIXELS),
        "labels-idx1-ubyte": idx_bytes(np.array([0, 3, 1, 9, 3, 2])),
    }
    seeds = []
    for name in ("mnist", "fashion-mnist"):
        for (file, content), other in zip(contents.items(), [*contents][::-1], strict=True):
            read = partial(load_named, name)
            beside = {f"train-{other}": contents[other]}
            seeds.append(Seed(f"train-{file}", content, read, beside=beside))
            parts = {"all": content}
            packed = gz_joined(parts)
            seeds.append(Seed(f"train-{file}.gz", packed, read, parts, gz_joined, beside))
    return seeds


def cifar_seeds():
    names = "".join(f"class {i}\n" for i in range(10)).encode()
    records = RNG.integers(0, 10, (2, 3073), dtype=np.uint8).tobytes()
    batches = {f"data_batch_{i}.bin": records for i in range(1, 6)} | {"batches.meta.txt": names}
    pairs = {
        "train.bin": RNG.integers(0, 20, (3, 3074), dtype=np.uint8).tobytes(),
        "fine_label_names.txt": b"".join(b"class %d\n" % i for i in range(100)),
    }
    return [
        Seed(
            file,
            content,
            partial(load_named, name),
            beside={other: c for other, c in files.items() if other != file},
        )
        for name, files in (("cifar10", batches), ("cifar100", pairs))
        for file, content in files.items()
    ]
