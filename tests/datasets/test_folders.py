"""Folders of images: what is added, dropped, refused and said."""

from __future__ import annotations

import os
import tracemalloc

import numpy as np
import pytest
import zmanifold as zm
from PIL import Image
from zmanifold._base.errors import InputError
from zmanifold.datasets import has_splits, train_test

RNG = np.random.default_rng(0)
COLOUR = Image.fromarray(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8))
GREY = COLOUR.convert("L")


def save(root, names, image=COLOUR, **options):
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        kind = {"jfif": "JPEG", "jpe": "JPEG", "pnm": "PPM", "apng": "PNG"}
        ending = file.suffix[1:].lower()
        image.save(file, kind.get(ending) or Image.registered_extensions()[f".{ending}"], **options)


def pixels(loaded):
    return (loaded.points.reshape(-1, *loaded.image_shape) * 255).round().astype(np.uint8)


def test_hidden_and_nested(tmp_path):
    names = ["a/0.png", "a/1.png", "b/0.png", "b/s/1.png", "c/0.jfif", ".ipynb_checkpoints/0.png"]
    save(tmp_path, names)
    for rest in ("a/._0.png", "a/.DS_Store", "b/Thumbs.db", "b/desktop.ini", "notes.txt",
                 "__MACOSX/a/._0.png", "a/x.heic", "b/.git/0.png", "c/@eaDir/0.png"):  # fmt: skip
        (tmp_path / rest).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / rest).write_bytes(b"nothing")
    loaded = zm.load_dataset(tmp_path)
    assert loaded.class_names == ("a", "b", "c")
    assert loaded.labels.tolist() == [0, 0, 1, 1, 2]
    said = str(loaded.read)
    for part in ("images in folders below b", ".ipynb_checkpoints", "._0.png", "Thumbs.db",
                 "x.heic", "notes.txt", "5 images of 6 x 8 in colour"):  # fmt: skip
        assert part in said or part in "".join(loaded.read.skipped) or "..." in said, part
    assert len(loaded.read.skipped) == 2


@pytest.mark.parametrize(
    "ending", ["apng", "jpg", "JPEG", "jpe", "jfif", "bmp", "gif", "tif", "TIFF", "webp", "ppm",
               "pnm", "PNG"]
)  # fmt: skip
def test_endings(tmp_path, ending):
    save(tmp_path, [f"a/0.{ending}", f"b/1.{ending}"])
    assert zm.load_dataset(tmp_path).points.shape == (2, 144)


def test_class_with_subfolder_of_images(tmp_path):
    save(tmp_path, ["a/images/0.png", "b/images/0.png"])
    loaded = zm.load_dataset(tmp_path)
    assert loaded.class_names == ("a", "b")
    assert "images in folders below a, b" in loaded.read.notes


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/0.png", "b/0.png", "c/"], "the class folder c without an image that is read .nothing"),
        (["a/0.png", "b/0.heic", "c/1.avif"], r"folders b, c without an image .*only .heic in b"),
        (["set/a/0.png", "set/b/0.png"], "holds the one folder 'set', with images in a, b: give"),
        (["0.png", "1.png"], r"holds no class folders with images .* 2 image\(s\) outside of them"),
        ([".a/0.png"], "holds no class folders with images"),
    ],
)
def test_refused(tmp_path, names, message):
    for name in names:
        if name.endswith("/"):
            (tmp_path / name).mkdir()
        elif name.endswith("png"):
            save(tmp_path, [name])
        else:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(InputError, match=message):
        zm.load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("train", "test"),
    [("train", "test"), ("train", "val"), ("training", "validation"), ("Train", "Valid"),
     ("training", "testing")],
)  # fmt: skip
def test_splits(tmp_path, train, test):
    save(tmp_path, [f"{train}/a/0.png", f"{train}/b/0.png", f"{train}/b/1.png"])
    save(tmp_path, [f"{test}/a/0.png", f"{test}/b/0.png"])
    assert has_splits(tmp_path)
    parts = train_test(tmp_path)
    assert [len(part.points) for part in parts] == [3, 2]
    save(tmp_path, ["more/a/0.png"])
    read = zm.load_dataset(tmp_path, split="test").read
    assert read.skipped == (f"more (beside {train} and {test})",)


def test_all_three_splits(tmp_path):
    save(tmp_path, [f"{part}/{name}/0.png" for part in ("train", "val", "test") for name in "ab"])
    loaded = zm.load_dataset(tmp_path, split="test")
    assert loaded.read.source == str(tmp_path / "test")
    assert loaded.read.skipped == ("val (beside train and test)",)


def test_classes_that_are_called_like_splits(tmp_path):
    save(tmp_path, ["train/0.png", "test/0.png", "bus/0.png", "train/.git/0.png"])
    assert zm.load_dataset(tmp_path).class_names == ("bus", "test", "train")
    (tmp_path / "bus" / "0.png").unlink()
    (tmp_path / "bus").rmdir()
    with pytest.raises(InputError, match=r"train holds no class folders with images .* 1 image"):
        zm.load_dataset(tmp_path)


def test_names(tmp_path, monkeypatch):
    save(tmp_path, ["im/a/0.png", "im/a/0.PNG", "im/A/0.png"])
    monkeypatch.chdir(tmp_path / "im")
    loaded = zm.load_dataset(".")
    assert loaded.name == "im"
    assert loaded.class_names == ("A", "a")
    assert loaded.labels.tolist() == [0, 1, 1]
    assert "classes A, a differ in case or accents' form alone" in loaded.read.notes
    monkeypatch.chdir(tmp_path / "im" / "a")
    assert zm.load_dataset("..").name == "im"


def test_names_that_are_not_utf_8(tmp_path):
    root = tmp_path / os.fsdecode(b"donn\xe9es")
    save(root, ["a/0.png", "b/0.png"])
    (root / "b").rename(root / os.fsdecode(b"\xff"))
    loaded = zm.load_dataset(root)
    assert loaded.name == r"donn\xe9es"
    assert loaded.class_names == ("a", r"\xff")
    assert str(loaded.read).isprintable()
    np.save(root / os.fsdecode(b"\xe9.npy"), np.ones((3, 2)))
    assert zm.load_dataset(root / os.fsdecode(b"\xe9.npy")).name == r"\xe9"


def png_16(mode):
    """A PNG of 16 bits, which Pillow itself writes in grey alone."""
    import struct
    import zlib

    def chunk(name, content):
        code = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + code

    n_channels = {2: 3, 4: 2, 6: 4}[mode]
    rows = b"".join(b"\0" + bytes(8 * 2 * n_channels) for _ in range(6))
    head = chunk(b"IHDR", struct.pack(">2I5B", 8, 6, 16, mode, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "content",
    [png_16(2), png_16(4), png_16(6), b"P6\n8 6\n65535\n" + bytes(288), b"P5 8 6 999 " + bytes(96)],
    ids=["RGB", "LA", "RGBA", "ppm", "pgm"],
)
def test_more_than_8_bits(tmp_path, content):
    ending = "png" if content.startswith(b"\x89") else "ppm"
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / f"0.{ending}").write_bytes(content)
    with pytest.raises(InputError, match="has more than 8 bits a pixel"):
        zm.load_dataset(tmp_path)


def veiled(mode):
    """Black, of which the left half is transparent."""
    image = Image.new("RGBA", (8, 6), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 4, 6))
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_transparency_is_laid_over_white(tmp_path, mode):
    if mode in ("P", "PA"):
        image = Image.new("P", (8, 6), 1)
        image.putpalette([0, 0, 0] * 2)
        image.paste(0, (0, 0, 4, 6))
        save(tmp_path, ["a/0.png", "b/0.png"], image, transparency=0)
    else:
        save(tmp_path, ["a/0.png", "b/0.png"], veiled(mode))
    loaded = zm.load_dataset(tmp_path)
    assert loaded.image_shape[0] == (1 if mode == "LA" else 3)
    assert (pixels(loaded)[..., :4] == 255).all()
    assert (pixels(loaded)[..., 4:] == 0).all()
    assert "2 with transparent pixels, laid over white" in loaded.read.notes


def test_opaque_images_stay_as_they_are(tmp_path):
    save(tmp_path, ["a/0.png"])
    save(tmp_path, ["b/0.png"], COLOUR.convert("RGBA"))
    loaded = zm.load_dataset(tmp_path)
    np.testing.assert_array_equal(*pixels(loaded))
    np.testing.assert_array_equal(pixels(loaded)[0], np.array(COLOUR).transpose(2, 0, 1))
    assert loaded.read.notes == ("2 images of 6 x 8 in colour",)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
def test_orientation(tmp_path, orientation, ending):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path, [f"{c}/0.{ending}" for c in "ab"], COLOUR, exif=exif, lossless=True)
    with Image.open(tmp_path / f"a/0.{ending}") as image:
        expected = np.array(ImageOps.exif_transpose(image).convert("RGB")).transpose(2, 0, 1)
    loaded = zm.load_dataset(tmp_path)
    np.testing.assert_array_equal(pixels(loaded)[0], expected)
    turned = "2 turned as the orientation in the file says" in loaded.read.notes
    assert turned == (orientation > 1)


def test_what_is_converted_is_said(tmp_path):
    save(tmp_path, ["a/0.jpg"], COLOUR.convert("CMYK"))
    save(tmp_path, ["b/0.gif"], GREY, save_all=True, append_images=[GREY.rotate(180)])
    save(tmp_path, ["c/0.png"], GREY)
    assert zm.load_dataset(tmp_path).read.notes == (
        "3 images of 6 x 8 in colour",
        "1 in grey, repeated in all three channels",
        "1 of several frames, of which the first is taken",
        "1 of CMYK or other colours, converted to RGB",
    )


def test_resize(tmp_path):
    save(tmp_path, ["a/0.png"])
    save(tmp_path, ["b/0.png"], COLOUR.resize((20, 20)))
    with pytest.raises(InputError, match=r"resize the images to one size, with resize\."):
        zm.load_dataset(tmp_path)
    loaded = zm.load_dataset(tmp_path, resize=(5, 4))
    assert loaded.image_shape == (3, 5, 4)
    expected = np.array(COLOUR.resize((4, 5), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    np.testing.assert_array_equal(pixels(loaded)[0], expected)
    with pytest.raises(InputError, match=r"label_column='a' is given for .* a folder of images"):
        zm.load_dataset(tmp_path, label_column="a")


# --- hostile folders --------------------------------------------------------------------------


def test_a_folder_of_images_that_are_much_larger_than_their_files(tmp_path):
    save(tmp_path, ["a/0.png"], Image.new("L", (4096, 4096)))
    for i in range(1, 6):
        os.link(tmp_path / "a/0.png", tmp_path / f"a/{i}.png")
    tracemalloc.start()
    try:
        message = "one of 6 images that take more than 67108864 bytes"
        with pytest.raises(InputError, match=message):
            zm.load_dataset(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    assert zm.load_dataset(tmp_path, resize=(8, 8)).points.shape == (6, 64)


def special(path, kind):
    path.parent.mkdir(exist_ok=True)
    match kind:
        case "a pipe":
            os.mkfifo(path)
        case "a device":
            path.symlink_to("/dev/zero")
        case "a link to a pipe":
            os.mkfifo(path.with_suffix(".pipe"))
            path.symlink_to(path.with_suffix(".pipe"))
        case "No such file":
            path.symlink_to("nowhere")


KINDS = ["a pipe", "a device", "a link to a pipe", "No such file"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_in_a_folder(tmp_path, kind):
    save(tmp_path, ["a/0.png", "b/0.png"])
    special(tmp_path / "a" / "1.png", kind)
    with pytest.raises(InputError, match=f"a/1.png (is|cannot be read).*{kind}"):
        zm.load_dataset(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["in.npy", "in.npz", "in.csv", "in.tsv", "in.parquet", "in.csv.gz"]
)
def test_what_is_no_file(tmp_path, kind, name):
    special(tmp_path / name, kind)
    with pytest.raises(InputError, match=f"{name} (is|cannot be read).*{kind}"):
        zm.load_dataset(tmp_path / name)


def test_sparse_files(tmp_path):
    save(tmp_path, ["im/a/0.png", "im/b/0.png"])
    for name in ("im/b/x.png", "x.csv", "x.parquet", "x.npz"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(3 * 2**30)
    for name, message in (
        ("im", "has 3221225472 bytes, more than the 134217728"),
        ("x.csv", "holds zero bytes"),
        ("x.parquet", "is not a .parquet table"),
        ("x.npz", "is not a whole .npz file"),
    ):
        tracemalloc.start()
        try:
            with pytest.raises(InputError, match=message):
                zm.load_dataset(tmp_path / name)
            assert tracemalloc.get_traced_memory()[1] < 2**24
        finally:
            tracemalloc.stop()


def test_links(tmp_path):
    save(tmp_path, ["elsewhere/0.png", "im/a/0.png"])
    (tmp_path / "im" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "im" / "a" / "up").symlink_to(tmp_path / "im" / "a")
    assert zm.load_dataset(tmp_path / "im").labels.tolist() == [0, 1]
