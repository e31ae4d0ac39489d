from __future__ import annotations

import io
import pickle
import shlex
import sqlite3
import struct
import zipfile
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zmanifold as zm
from PIL import Image
from zmanifold.datasets import hold_out
from zmanifold.sweep.journal import Journal
from zmanifold.sweep.plan import Sweep
from zmanifold.training import loop as classifiers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 3))
Y = np.arange(200) % 3
IMAGES = RNG.random((40, 8, 8))


def npy(x):
    stream = io.BytesIO()
    np.save(stream, x)
    return stream.getvalue()


def header(shape, dtype="<f8", content=b"\0" * 48):
    """Return a .npy file with the given header, by default of 6 floats."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def zipped(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def idx(values):
    x = np.asarray(values, np.uint8)
    return struct.pack(f">BBBB{x.ndim}I", 0, 0, 8, x.ndim, *x.shape) + x.tobytes()


PIXELS, DIGITS = idx(np.zeros((6, 4, 4))), idx(np.arange(6))


def idx_folder(name, pixels=PIXELS, digits=DIGITS):
    def write():
        Path(name).mkdir()
        Path(name, "train-images-idx3-ubyte").write_bytes(pixels)
        Path(name, "train-labels-idx1-ubyte").write_bytes(digits)

    return write


def cifar_folder(name, content, classes="a\nb\nc\nd\ne\nf\ng\nh\ni\nj"):
    def write():
        Path(name).mkdir()
        for i in range(1, 6):
            Path(name, f"data_batch_{i}.bin").write_bytes(content)
        Path(name, "batches.meta.txt").write_text(classes)

    return write


def pictures(name, **folders):
    """Write class folders, each with two images of a size and mode, or with given bytes."""

    def write():
        Path(name).mkdir()
        for folder, content in folders.items():
            path = Path(name, *folder.split("_"))
            path.mkdir(parents=True)
            for i in range(2):
                if isinstance(content, bytes):
                    (path / f"{i}.png").write_bytes(content)
                elif content is not None:
                    mode, size = content
                    Image.new(mode, size).save(path / f"{i}.png")

    return write


def database(path, *statements):
    def write():
        if not statements[0].startswith("CREATE"):
            Journal(path).close()
        connection = sqlite3.connect(path)
        for statement in statements:
            connection.execute(statement)
        connection.close()

    return write


def journal_of_tiny():
    data = zm.load_dataset("tiny.npz")
    zm.sweep_id(data, mixers=[None], n_neighbors=8, seeds=1, journal="begun.journal")


def checkpoint(path, change=lambda content: content):
    def write():
        data, _ = hold_out(zm.load_dataset("images.npz"), 32, random_state=0)
        classifiers.train(data, batch_size=8, epochs=1, checkpoint=Path(path), progress=False)
        Path(path).write_bytes(change(Path(path).read_bytes()))

    return write


def parquet(frame):
    stream = io.BytesIO()
    frame.to_parquet(stream)
    return stream.getvalue()


OBJECTS = npy(np.array([{"a": 1}, None], dtype=object))
GREY = ("L", (8, 8))

# The files that exist before a command with the key among its words: the content of a file, or a
# function that writes into the working folder.
THERE = {
    "tiny.npz": npz(x=X, y=Y),
    "other.npz": npz(x=X + 1, y=Y),
    "images.npz": npz(x=IMAGES, y=np.arange(40) % 2),
    # arrays
    "empty.npy": b"",
    "text.npy": b"a,b\n1,2\n",
    "objects.npy": OBJECTS,
    "pickle.npy": pickle.dumps(X),
    "short.npy": npy(X)[:-8],
    "promise.npy": header((2**40, 2**20)),
    "negative.npy": header((-2, -3)),
    "truth.npy": header((True, 6)),
    "nothing.npy": header((10**18, 2), "<U0", b""),
    "sub.npy": header((1, 3), ("<f8", (2,))),
    "line.npy": npy(X[:, 0]),
    "point.npy": npy(X[:1]),
    "none.npy": npy(X[:0]),
    "no-image.npy": npy(np.zeros((0, 2, 2))),
    "narrow.npy": npy(X[:, :1]),
    "nan.npy": npy(np.where(X[7, 1] == X, np.nan, X)),
    "inf.npy": npy(np.where(X[7, 1] == X, -np.inf, X)),
    "complex.npy": npy(X + 1j),
    "strings.npy": npy(X.astype(str)),
    "dates.npy": npy(np.zeros((9, 2), "<M8[s]")),
    "mine.txt": b"1 2\n",
    "mine": b"1 2\n",
    # archives
    "z.npz": npz(z=X),
    "text.npz": b"x: 1, 2",
    "cut.npz": npz(x=X)[:-30],
    "objects.npz": zipped(x=npy(X), y=OBJECTS),
    "promise.npz": zipped(x=header((2**40,))),
    "few-labels.npz": npz(x=X, y=Y[:5]),
    "no-label.npz": npz(x=X, y=np.where(Y == 1, np.nan, Y)),
    "twice.npz": npz(x=X, y=2.0 * np.eye(3)[Y]),
    "many-hot.npz": npz(x=X, y=1 - np.eye(3, dtype=int)[Y]),
    # tables
    "empty.csv": b"",
    "ragged.csv": b"a,b\n1,2\n3,4,5,6\n",
    "words.csv": b"a,b\n1,x\n2,y\n",
    "labels.csv": b"a,y,label\n1,2,3\n4,5,6\n",
    "header.csv": b"a,b\n",
    "only-y.csv": b"y\n1\n2\n3\n",
    "gap.csv": b"a,b\n1,\n2,3\n",
    "unlabelled.csv": b"a,b,y\n1,2,cat\n2,3,\n4,5,dog\n",
    "bytes.csv": bytes(range(256)),
    "text.parquet": b"a,b\n1,2\n",
    "framed.parquet": b"PAR1" + b"\xff" * 40 + b"PAR1",
    "words.parquet": parquet(pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})),
    # folders
    "void": pictures("void"),
    "bare": pictures("bare", a=None, b=None),
    "flat.npy": lambda: Path("flat.npy").mkdir(),
    "unequal": pictures("unequal", a=GREY, b=("L", (8, 9))),
    "broken": pictures("broken", a=GREY, b=b"\x89PNG"),
    "deep": pictures("deep", a=GREY, b=("I;16", (8, 8))),
    "small": pictures("small", a=("L", (3, 3)), b=("L", (3, 3))),
    "grey": pictures("grey", a=GREY, b=GREY),
    "larger": pictures(
        "larger", train_a=GREY, train_b=GREY, test_a=("L", (9, 9)), test_b=("L", (9, 9))
    ),
    "stranger": pictures("stranger", train_a=GREY, train_b=GREY, test_a=GREY, test_c=GREY),
    "magic": idx_folder("magic", b"\x00\x00\x0d\x03" + PIXELS[4:]),
    "cut": idx_folder("cut", PIXELS[:-1]),
    "long": idx_folder("long", PIXELS + b"x"),
    "mismatch": idx_folder("mismatch", digits=idx(np.arange(5))),
    "eleven": idx_folder("eleven", digits=idx([0, 1, 2, 3, 4, 10])),
    "part": cifar_folder("part", b"\0" * 3074),
    "wide": cifar_folder("wide", b"\xff" * 3073),
    "names": cifar_folder("names", b"\0" * 3073, "plane\ncar\n"),
    # outputs
    "there.csv": b"a\n1\n",
    "there.png": b"\x89PNG",
    "there.pt": b"a model",
    "sidecar.csv": lambda: Path("sidecar.json").write_text("{}"),
    "sidecar.pt": lambda: Path("sidecar.json").write_text("{}"),
    "journal.csv": lambda: Path("journal.journal").write_bytes(b"a journal"),
    "folder.csv": lambda: Path("folder.csv").mkdir(),
    "folder.png": lambda: Path("folder.png").mkdir(),
    "folder.pt": lambda: Path("folder.pt").mkdir(),
    "mine.csv": b"a,b\n" + b"1,2\n3,5\n" * 100,
    # journals and checkpoints
    "prose.csv": lambda: Path("prose.journal").write_text("Dear diary, " * 99),
    "alien.csv": database("alien.journal", "CREATE TABLE a (b)"),
    "newer.csv": database("newer.journal", "PRAGMA user_version = 9"),
    "begun.csv": journal_of_tiny,
    "model.pt": checkpoint("model.pt"),
    "cut.pt": checkpoint("cut.pt", lambda content: content[:-9]),
    "prose.pt": b"Dear diary, " * 99,
    "pickle.pt": pickle.dumps({"model": 1}),
    # for vicinity
    "test.npz": npz(x=X[:20], y=Y[:20]),
    "unlabelled.npz": npz(x=X),
    "fourth.npz": npz(x=X[:20], y=np.arange(20) % 4),
    "animals.npz": npz(x=X[:20], y=np.array(["cat", "dog"])[Y[:20] % 2]),
    "one-class.npz": npz(x=X, y=0 * Y),
    "soft.npz": npz(x=X, y=np.eye(3)[Y]),
    "wider.npz": npz(x=np.ones((20, 5)), y=Y[:20]),
    "zero.npz": npz(x=X * (np.arange(200) != 9)[:, None], y=Y),
    "constant.npz": npz(x=np.ones((200, 3)), y=Y),
    "few.npz": npz(x=X[:60], y=Y[:60]),
    # for train
    "no-labels.npz": npz(x=IMAGES),
    "soft-images.npz": npz(x=IMAGES, y=np.eye(2)[np.arange(40) % 2]),
    "one-class-images.npz": npz(x=IMAGES, y=np.zeros(40, int)),
    "lone.npz": npz(x=IMAGES, y=np.arange(40) // 39),
    "volumes.npz": npz(x=IMAGES.reshape(40, 1, 2, 4, 8), y=np.arange(40) % 2),
}

SWEEP = "sweep-id tiny.npz"
TRAIN = "train images.npz --batch-size 8"
NEAR = "vicinity --train tiny.npz --test test.npz"
HELP, SWEEP_HELP = "Try 'zmanifold --help'.", "Try 'zmanifold sweep-id --help'."
TRAIN_HELP = "Try 'zmanifold train --help'."
A_RANGE = "give START:STOP:STEP with 0 <= START <= STOP, STEP > 0 and at most 10000 values"

# Name, command, exit code, and one or several parts of the message.
ROWS = [
    # --- the command line itself
    ("unknown command", "shake", 2, "No such command 'shake'"),
    ("nearly a command", "sweep", 2, ("'sweep'", "'sweep-id'")),
    (
        "option without a command",
        "--out run.csv",
        2,
        ("No such option: --out", "Try 'zmanifold --help'."),
    ),
    ("flag with a value", "--version=2", 2, "'--version' does not take a value"),
    (
        "sweep-id of nothing",
        "sweep-id",
        2,
        ("Missing argument 'datasets'", SWEEP_HELP),
    ),
    ("vicinity of nothing", "vicinity", 2, "Missing option '--train'"),
    ("train on nothing", "train", 2, "Missing argument 'dataset'"),
    ("nearly an option", f"{SWEEP} --gama 2", 2, ("No such option: --gama", "--gamma")),
    ("option of another command", f"{NEAR} --seeds 3", 2, "No such option: --seeds"),
    ("option without its value", f"{SWEEP} --gamma", 2, "'--gamma' requires an argument"),
    ("two data sets to train", "train tiny.npz other.npz", 2, "unexpected extra argument"),
    # --- datasets
    ("datasets with an argument", "datasets digits", 2, "unexpected extra argument"),
    ("datasets with an option", "datasets --all", 2, "No such option: --all"),
    (
        "datasets of a missing folder",
        "datasets --data-dir nowhere",
        2,
        "data_dir='nowhere' is not a folder: give one that exists",
    ),
    ("datasets of a file", "datasets --data-dir tiny.npz", 2, "data_dir='tiny.npz' is not a"),
    # --- sweep-id --gamma
    ("gamma reversed", f"{SWEEP} --gamma 5:1:1", 2, ("--gamma 5:1:1 is empty, reversed", A_RANGE)),
    ("gamma step zero", f"{SWEEP} --gamma 0:5:0", 2, ("--gamma 0:5:0 is", A_RANGE)),
    ("gamma step negative", f"{SWEEP} --gamma 0:5:-1", 2, ("--gamma 0:5:-1 is", A_RANGE)),
    ("gamma step NaN", f"{SWEEP} --gamma 0:5:nan", 2, ("--gamma 0:5:nan is", A_RANGE)),
    ("gamma range negative", f"{SWEEP} --gamma -1:5:1", 2, "--gamma -1:5:1 is empty, reversed"),
    ("gamma range endless", f"{SWEEP} --gamma 0:inf:1", 2, ("--gamma 0:inf:1 is", A_RANGE)),
    ("gamma range huge", f"{SWEEP} --gamma 0:999999:1e-6", 2, ("or too fine", A_RANGE)),
    ("gamma range a value too many", f"{SWEEP} --gamma 0:10000:1", 2, ("too fine", A_RANGE)),
    ("gamma range of two", f"{SWEEP} --gamma 0:5", 2, ("--gamma 0:5 is not a range", A_RANGE)),
    ("gamma range of four", f"{SWEEP} --gamma 0:5:1:2", 2, "--gamma 0:5:1:2 is not a range"),
    ("gamma range of text", f"{SWEEP} --gamma a:b:c", 2, "--gamma a:b:c is not a range"),
    ("gamma text", f"{SWEEP} --gamma 2,x", 2, "--gamma 2,x is not a range or a list of numbers"),
    ("gamma negative", f"{SWEEP} --gamma 2,-3", 2, ("--gamma 2,-3 is empty or", A_RANGE)),
    ("gamma NaN", f"{SWEEP} --gamma nan", 2, "--gamma nan is empty or holds a number outside"),
    ("gamma infinite", f"{SWEEP} --gamma inf", 2, "--gamma inf is empty or holds a number outside"),
    ("gamma empty", f"{SWEEP} --gamma ''", 2, ("--gamma is empty or holds", A_RANGE)),
    ("gamma a comma", f"{SWEEP} --gamma ,", 2, "--gamma , is empty"),
    # --- sweep-id --neighbors
    ("neighbors 0", f"{SWEEP} --neighbors 0", 2, "n_neighbors=0 is too small: give an integer"),
    ("neighbors 1", f"{SWEEP} --neighbors 8,1", 2, "n_neighbors=1 is too small: give an integer"),
    ("neighbors negative", f"{SWEEP} --neighbors -8", 2, "n_neighbors=-8 is too small"),
    (
        "neighbors as many as points",
        f"{SWEEP} --neighbors 200",
        2,
        "n_neighbors=200 needs more than 200 points, got 200: lower n_neighbors",
    ),
    ("neighbors huge", f"{SWEEP} --neighbors 9{'0' * 30}", 2, "got 200: lower n_neighbors"),
    ("neighbors text", f"{SWEEP} --neighbors 8,x", 2, "--neighbors 8,x is not a list of whole"),
    ("neighbors float", f"{SWEEP} --neighbors 2.5", 2, "--neighbors 2.5 is not a list of whole"),
    ("neighbors empty", f"{SWEEP} --neighbors ''", 2, "n_neighbors is empty: give at least"),
    # --- sweep-id's mixers
    ("mixer unknown", f"{SWEEP} --mixer zeta,shuffle", 2, "unknown mixer 'shuffle': known are"),
    ("nearly a mixer", f"{SWEEP} --mixer mixpu", 2, "'mixpu': did you mean 'mixup'? Known are"),
    ("mixer twice", f"{SWEEP} --mixer zeta,none,zeta", 2, "mixer 'zeta' is given twice: name"),
    ("mixer empty", f"{SWEEP} --mixer ''", 2, "mixers is empty: give at least one mixer"),
    ("alpha 0", f"{SWEEP} --alpha 0", 2, "alpha=0.0 must be a positive number: 1.0 makes"),
    ("alpha negative", f"{SWEEP} --alpha -1", 2, "alpha=-1.0 must be a positive number"),
    ("alpha NaN", f"{SWEEP} --alpha nan", 2, "alpha=nan must be a positive number"),
    ("alpha infinite", f"{SWEEP} --alpha inf", 2, "alpha=inf must be a positive number"),
    (
        "alpha text",
        f"{SWEEP} --alpha weak",
        2,
        ("'--alpha'", "'weak'", SWEEP_HELP),
    ),
    ("alpha of no mixer", f"{SWEEP} --mixer none --alpha -1", 2, "alpha=-1.0 must be a positive"),
    ("n-mix 0", f"{SWEEP} --n-mix 0", 2, "n_mix=0 is too small: give an integer >= 2"),
    ("n-mix 1", f"{SWEEP} --n-mix 1", 2, "n_mix=1 is too small: give an integer >= 2"),
    ("n-mix of no mixer", f"{SWEEP} --mixer mixup --n-mix -2", 2, "n_mix=-2 is too small"),
    (
        "n-mix text",
        f"{SWEEP} --n-mix all",
        2,
        ("'--n-mix'", "'all'", SWEEP_HELP),
    ),
    (
        "n-mix above the batch",
        f"{SWEEP} --n-mix 33",
        2,
        "n_mix=33 samples cannot be chosen from a batch of 32: lower n_mix or enlarge the batch",
    ),
    # --- sweep-id's numbers
    ("batch size 0", f"{SWEEP} --batch-size 0", 2, "batch_size=0 is too small: give an integer"),
    ("batch size 1", f"{SWEEP} --batch-size 1", 2, "batch_size=1 is too small: give an integer"),
    (
        "batch size above n",
        f"{SWEEP} --batch-size 201",
        2,
        "batch_size=201 is above the 200 points: lower batch_size",
    ),
    ("batch size text", f"{SWEEP} --batch-size many", 2, ("'--batch-size'", "'many'")),
    ("batch size float", f"{SWEEP} --batch-size 2.5", 2, ("'--batch-size'", "'2.5'")),
    ("batch size after =", f"{SWEEP} --batch-size=2.5", 2, ("'--batch-size'", "'2.5'")),
    ("seeds 0", f"{SWEEP} --seeds 0", 2, "seeds=0 is too small: give an integer >= 1"),
    ("seeds negative", f"{SWEEP} --seeds -1", 2, "seeds=-1 is too small: give an integer >= 1"),
    (
        "seeds huge",
        f"{SWEEP} --seeds 1000000000000",
        2,
        "seeds=1000000000000 is too large: give an integer <= 1000000",
    ),
    (
        "seeds a list",
        f"{SWEEP} --seeds 0,1",
        2,
        ("'--seeds'", "'0,1'", SWEEP_HELP),
    ),
    ("queries 0", f"{SWEEP} --n-queries 0", 2, "n_queries=0 is too small: give an integer"),
    ("queries 1", f"{SWEEP} --n-queries 1", 2, "n_queries=1 is too small: give an integer"),
    ("queries text", f"{SWEEP} --n-queries all", 2, ("'--n-queries'", "'all'")),
    (
        "queries above n",
        f"{SWEEP} --n-queries 201",
        2,
        "n_queries=201 is above the 200 points: lower n_queries",
    ),
    ("samples 0", f"{SWEEP} --n-samples 0", 2, "n_samples=0 is too small: give an integer"),
    ("samples 1", f"{SWEEP} --n-samples 1", 2, "n_samples=1 is too small: give an integer"),
    ("samples text", f"{SWEEP} --n-samples x", 2, ("'--n-samples'", "'x'")),
    (
        "samples above n",
        f"{SWEEP} --n-samples 201",
        2,
        "n_samples=201 but 'tiny' has 200 samples: lower n_samples",
    ),
    (
        "samples that no array holds",
        f"sweep-id spirals --n-samples 1{'0' * 30}",
        2,
        "is too large: give an integer <= 1000000000",
    ),
    (
        "samples below the batch",
        "sweep-id spirals --n-samples 20 --neighbors 8",
        2,
        "batch_size=32 is above the 20 points",
    ),
    ("data seed negative", f"{SWEEP} --data-seed -1", 2, ("'--data-seed'", "-1")),
    ("data seed too large", f"{SWEEP} --data-seed 4294967296", 2, ("'--data-seed'", "4294967296")),
    ("data seed text", f"{SWEEP} --data-seed x", 2, ("'--data-seed'", "'x'")),
    # --- sweep-id's device and memory
    ("device unknown", f"{SWEEP} --device gpu", 2, "unknown device 'gpu':"),
    ("nearly a device", f"{SWEEP} --device cpuu", 2, "'cpuu': did you mean 'cpu'? Known are"),
    ("device of torch alone", f"{SWEEP} --device meta", 2, "unknown device 'meta':"),
    ("device empty", f"{SWEEP} --device ''", 2, "unknown device '': known are 'auto', 'cpu'"),
    ("no cluster", f"{SWEEP} --dask here", 2, "dask='here' is no cluster: give tcp://HOST:PORT"),
    ("cluster empty", f"{SWEEP} --dask ''", 2, "dask='' is no cluster: give tcp://HOST:PORT"),
    ("cluster of no workers", f"{SWEEP} --dask local:0", 2, "dask='local:0' is no cluster:"),
    ("cluster without a host", f"{SWEEP} --dask tcp://", 2, "dask='tcp://' is no cluster:"),
    ("cluster and a bad k", f"{SWEEP} --dask local:2 --neighbors 0", 2, "n_neighbors=0 is too"),
    ("cluster and a bad device", f"{SWEEP} --dask local:2 --device gpu", 2, "unknown device 'gpu'"),
    ("search unknown", f"{SWEEP} --neighbors-method fast", 2, "unknown neighbors_method 'fast'"),
    ("search empty", f"{SWEEP} --neighbors-method ''", 2, "unknown neighbors_method ''"),
    (
        "nearly a search",
        f"{SWEEP} --neighbors-method aproximate",
        2,
        "'aproximate': did you mean 'approximate'",
    ),
    ("device missing", f"{SWEEP} --device cuda:99", 2, ("'cuda:99'", "use device='cpu' or")),
    ("memory text", f"{SWEEP} --memory-limit lots", 2, "--memory-limit lots is not a size: give"),
    ("memory negative", f"{SWEEP} --memory-limit -1GiB", 2, "--memory-limit -1GiB is not a size"),
    ("memory unit unknown", f"{SWEEP} --memory-limit 5XB", 2, "--memory-limit 5XB is not a size"),
    ("memory empty", f"{SWEEP} --memory-limit ''", 2, "--memory-limit is not a size: give 512MiB"),
    ("memory endless", f"{SWEEP} --memory-limit 1{'0' * 400}", 2, "is not a size: give 512MiB"),
    ("memory 0", f"{SWEEP} --memory-limit 0", 2, "memory_limit=0 is too small: give an integer"),
    (
        "memory tiny",
        f"{SWEEP} --memory-limit 1k",
        2,
        "memory_limit=1024 is below 1 MiB (2**20 bytes): allow at least that much",
    ),
    # --- sweep-id's data sets and splits
    ("data set unknown", "sweep-id unheard-of", 2, "unknown data set 'unheard-of': known are"),
    ("nearly a data set", "sweep-id digts", 2, "unknown data set 'digts': did you mean 'digits"),
    ("second data set unknown", f"{SWEEP} helix-r33", 2, "'helix-r33': did you mean 'helix-r3'"),
    ("data set empty", "sweep-id ''", 2, "unknown data set '': known are 'digits'"),
    (
        "nearly a manifold",
        "sweep-id skdim:M7_Rol",
        2,
        "unknown scikit-dimension manifold 'M7_Rol': did you mean 'M7_Roll'?",
    ),
    (
        "data set twice",
        f"{SWEEP} tiny.npz",
        2,
        "'tiny.npz' and 'tiny.npz' are both called 'tiny' in the table: sweep one of them, or",
    ),
    ("file missing", "sweep-id nowhere.npz", 2, "'nowhere.npz' does not exist: give a file, a"),
    ("folder missing", "sweep-id no/where", 2, "'no/where' does not exist: give a file, a folder"),
    ("home missing", "sweep-id ~no-such-user/x.npz", 2, "'~no-such-user/x.npz' does not exist"),
    ("split unknown", f"{SWEEP} --split tset", 2, "unknown split 'tset': did you mean 'test'?"),
    ("split missing in a file", f"{SWEEP} --split test", 2, "'tiny.npz' has no 'test' split:"),
    ("split missing in a set", "sweep-id digits --split test", 2, "'digits' has no 'test' split"),
    ("split missing in a folder", "sweep-id grey --split test", 2, "'grey' has no 'test' split"),
    ("data dir missing", "sweep-id digits --data-dir no", 2, "data_dir='no' is not a folder:"),
    ("data dir a file", "sweep-id mnist --data-dir mine.txt", 2, "data_dir='mine.txt' is not a"),
    (
        "data set not here",
        "sweep-id cifar10 --data-dir .",
        2,
        ("'cifar10' is not here: searched", "cifar-10-binary.tar.gz", "$ZMANIFOLD_DATA"),
    ),
    # --- outputs of sweep-id
    ("out of unknown ending", f"{SWEEP} --out r.xlsx", 2, "unknown ending of the output '.xlsx"),
    ("out without ending", f"{SWEEP} --out run", 2, "unknown ending of the output 'run': known"),
    ("out empty", f"{SWEEP} --out ''", 2, "unknown ending of the output '': known are '.parquet"),
    ("out in no folder", f"{SWEEP} --out no/r.csv", 2, "the output folder 'no' does not exist"),
    ("out in a file", f"{SWEEP} --out there.csv/r.csv", 2, "the output folder 'there.csv' does"),
    ("out a folder", f"{SWEEP} --out folder.csv", 2, "the output 'folder.csv' is a folder: give"),
    (
        "out that exists",
        f"{SWEEP} --out there.csv",
        2,
        "the output 'there.csv' exists: give --resume to go on, --overwrite to begin anew or",
    ),
    ("out with settings there", f"{SWEEP} --out sidecar.csv", 2, "'sidecar.json' exists: give"),
    ("out with a journal there", f"{SWEEP} --out journal.csv", 2, "'journal.journal' exists: give"),
    (
        "journal with a long name",
        f"{SWEEP} --out {'n' * 240}.csv",
        2,
        ("(File name too long", "give another name"),
    ),
    ("out with a long name", f"{SWEEP} --out {'n' * 300}.csv", 2, "(File name too long): choose"),
    (
        "out the input",
        "sweep-id mine.csv --out mine.csv --overwrite",
        2,
        "the output 'mine.csv' is an input, too: give another name",
    ),
    ("plot of unknown ending", f"{SWEEP} --plot r.gif", 2, "unknown ending of the output '.gif"),
    ("plot empty", f"{SWEEP} --plot ''", 2, "unknown ending of the output '': known are '.png"),
    ("plot in no folder", f"{SWEEP} --plot no/r.png", 2, "the output folder 'no' does not exist"),
    ("plot a folder", f"{SWEEP} --plot folder.png", 2, "the output 'folder.png' is a folder:"),
    ("plot that exists", f"{SWEEP} --plot there.png", 2, "'there.png' exists: give --overwrite"),
    ("bad plot, good out", f"{SWEEP} --out r.csv --plot r.gif", 2, "unknown ending of the output"),
    (
        "bad options with overwrite",
        f"{SWEEP} --out begun.csv --overwrite --batch-size 1",
        2,
        "batch_size=1 is too small",
    ),
    # --- sweep-id --resume
    ("resume without out", f"{SWEEP} --resume", 2, "--resume goes with --out and without"),
    (
        "resume with overwrite",
        f"{SWEEP} --out begun.csv --resume --overwrite",
        2,
        "--resume goes with --out and without --overwrite: name the run's table",
    ),
    (
        "resume without a journal",
        f"{SWEEP} --out there.csv --resume",
        2,
        "'there.csv' has no journal 'there.journal' to go on from: give --overwrite, or another",
    ),
    (
        "resume with other settings",
        f"{SWEEP} --out begun.csv --resume --batch-size 16",
        2,
        ("'begun.journal' holds 'tiny' with batch_size=32, now 16: go on", "or write to another"),
    ),
    (
        "resume with other settings of the second",
        "sweep-id other.npz tiny.npz --out begun.csv --resume --n-queries 50",
        2,
        "'begun.journal' holds 'tiny' with n_queries=200, now 50: go on with the same settings",
    ),
    (
        "journal of prose",
        f"{SWEEP} --out prose.csv --resume",
        2,
        ("the journal 'prose.journal' cannot be used (", "give another name, or remove the file"),
    ),
    (
        "journal of another program",
        f"{SWEEP} --out alien.csv --resume",
        2,
        "'alien.journal' is a database of another program: give another name",
    ),
    (
        "journal of a newer version",
        f"{SWEEP} --out newer.csv --resume",
        2,
        ("'newer.journal' has version 9, this program reads up to", "or another name"),
    ),
    # --- files of arrays
    ("npy empty", "sweep-id empty.npy", 2, "empty.npy is not a NumPy array file"),
    ("npy of text", "sweep-id text.npy", 2, "text.npy is not a NumPy array file"),
    (
        "npy of objects",
        "sweep-id objects.npy",
        2,
        "objects.npy holds pickled Python objects, which are never loaded: save numbers, np.save",
    ),
    ("npy that is a pickle", "sweep-id pickle.npy", 2, "pickle.npy is not a NumPy array file"),
    (
        "npy cut short",
        "sweep-id short.npy",
        2,
        "short.npy is cut short: it promises 4800 bytes of data but holds 4792: get it again",
    ),
    ("npy that promises more", "sweep-id promise.npy", 2, "promise.npy is cut short: it promises"),
    ("npy of negative shape", "sweep-id negative.npy", 2, "promises the shape (-2, -3): save"),
    ("npy of a truth value", "sweep-id truth.npy", 2, "truth.npy promises the shape (True, 6)"),
    ("npy of empty values", "sweep-id nothing.npy", 2, "nothing.npy holds values of type"),
    (
        "npy of arrays",
        "sweep-id sub.npy",
        2,
        "sub.npy holds values of type ('<f8', (2,)): save numbers",
    ),
    ("npy 1-D", "sweep-id line.npy", 2, "line: x has 1 dimension(s) but must be 2-D, (points"),
    ("npy of one point", "sweep-id point.npy", 2, "point: x has 1 point(s) (n_samples=1) but"),
    ("npy of no point", "sweep-id none.npy", 2, "none: x has 0 point(s) (n_samples=0) but at"),
    ("npy of no image", "sweep-id no-image.npy", 2, "no-image: x has 0 point(s)"),
    ("npy of one feature", "sweep-id narrow.npy", 2, "has 1 feature(s) (shape=(200, 1)) while"),
    ("npy with NaN", "sweep-id nan.npy", 2, "nan: x holds 1 NaN or inf, the first is nan at row"),
    ("npy with inf", "sweep-id inf.npy", 2, "first is -inf at row 7, column 1: remove or impute"),
    ("npy complex", "sweep-id complex.npy", 2, "complex: x is complex"),
    ("npy of strings", "sweep-id strings.npy", 2, ("strings: x has dtype <U32", "convert it with")),
    (
        "npy of dates",
        "sweep-id dates.npy",
        2,
        "dates.npy holds values of type datetime64[s]: save numbers",
    ),
    ("file of unknown ending", "sweep-id mine.txt", 2, "'mine.txt' ends in '.txt': files end"),
    ("file without ending", "sweep-id mine", 2, "'mine' ends in '': files end in .npy, .npz"),
    ("npz without x", "sweep-id z.npz", 2, "z.npz holds z.npy but no array x: save it with"),
    ("npz of text", "sweep-id text.npz", 2, "text.npz is not a whole .npz file"),
    ("npz cut short", "sweep-id cut.npz", 2, "cut.npz is not a whole .npz file"),
    ("npz of objects", "sweep-id objects.npz", 2, "objects.npz:y.npy holds pickled Python objects"),
    ("npz that promises more", "sweep-id promise.npz", 2, "promise.npz:x.npy is cut short: it"),
    ("npz with few labels", "sweep-id few-labels.npz", 2, "y has shape (5,) for 200 points: give"),
    (
        "npz with missing labels",
        "sweep-id no-label.npz",
        2,
        "no-label: y holds nan as label in row 1: remove such samples",
    ),
    (
        "npz with bad soft labels",
        "sweep-id twice.npz",
        2,
        ("twice: y holds 200 row(s) that are no soft labels, the first is row 0", "that sum to 1"),
    ),
    ("npz with many labels", "sweep-id many-hot.npz", 2, "many-hot: y has shape (200, 3)"),
    # --- tables
    ("csv empty", "sweep-id empty.csv", 2, "empty.csv is not a .csv table"),
    ("csv ragged", "sweep-id ragged.csv", 2, "ragged.csv is not a .csv table"),
    ("csv of bytes", "sweep-id bytes.csv", 2, "bytes.csv is not a .csv table"),
    ("csv with words", "sweep-id words.csv", 2, "columns that are not numbers (b): encode or"),
    ("csv with two labels", "sweep-id labels.csv", 2, "the label columns y, label: keep one"),
    ("csv of a header", "sweep-id header.csv", 2, "header.csv has 0 rows and 2 columns: give a"),
    ("csv of labels alone", "sweep-id only-y.csv", 2, "only-y: x has 0 feature(s)"),
    ("csv with a gap", "sweep-id gap.csv", 2, "gap: x holds 1 NaN or inf, the first is nan at"),
    (
        "csv with a missing label",
        "sweep-id unlabelled.csv",
        2,
        "unlabelled: y holds 1 missing label(s), the first in row 1: remove such samples",
    ),
    ("parquet of text", "sweep-id text.parquet", 2, "text.parquet is not a .parquet table"),
    ("parquet damaged", "sweep-id framed.parquet", 2, "framed.parquet is not a .parquet table"),
    ("parquet with words", "sweep-id words.parquet", 2, "columns that are not numbers (b): encode"),
    # --- images
    ("folder empty", "sweep-id void", 2, "void holds no class folders with images"),
    ("folder without images", "sweep-id bare", 2, "bare holds no class folders with images"),
    ("folder named as a file", "sweep-id flat.npy", 2, "flat.npy holds no class folders with"),
    (
        "images of unequal sizes",
        "sweep-id unequal",
        2,
        "has 8 x 9 pixels but unequal/a/0.png 8 x 8: resize the images to one size",
    ),
    ("image broken", "sweep-id broken", 2, ("broken/b/0.png is not a readable image", "remove")),
    ("image of 16 bits", "sweep-id deep", 2, ("deep/b/0.png has more than 8 bits", "convert")),
    (
        "IDX of another kind",
        "sweep-id mnist --data-dir magic",
        2,
        "train-images-idx3-ubyte does not start as an IDX file of 3-D bytes does (00 00 0d 03)",
    ),
    ("IDX cut short", "sweep-id mnist --data-dir cut", 2, "promises 96 bytes of data but holds"),
    ("IDX too long", "sweep-id mnist --data-dir long", 2, "goes on after the (6, 4, 4) values"),
    ("IDX mismatched", "sweep-id mnist --data-dir mismatch", 2, ("holds 6 images", "5 labels")),
    (
        "IDX of eleven classes",
        "sweep-id mnist --data-dir eleven",
        2,
        "eleven holds label 10 but 'mnist' has 10 classes: get its files again",
    ),
    (
        "CIFAR of another size",
        "sweep-id cifar10 --data-dir part",
        2,
        "has 3074 bytes, which is not a whole number of 3073-byte records: get the binary",
    ),
    (
        "CIFAR of other classes",
        "sweep-id cifar10 --data-dir wide",
        2,
        "wide holds label 255 but 'cifar10' has 10 classes: get its files again",
    ),
    (
        "CIFAR with few names",
        "sweep-id cifar10 --data-dir names",
        2,
        "names/batches.meta.txt has 2 names but 'cifar10' has 10 classes: get it again",
    ),
    # --- train
    ("train nearly a data set", "train digts", 2, "unknown data set 'digts': did you mean 'digits"),
    ("train a missing file", "train no.npz", 2, "'no.npz' does not exist: give a file, a folder"),
    ("train a damaged file", "train cut.npz", 2, "cut.npz is not a whole .npz file"),
    (
        "train no images",
        "train tiny.npz",
        2,
        "'tiny' holds no images (image_shape=None) but a network needs them: save x with shape",
    ),
    ("train volumes", "train volumes.npz", 2, "'volumes' holds no images (image_shape=(1, 2,"),
    ("train without labels", "train no-labels.npz", 2, "'no-labels' has no hard labels: give one"),
    ("train soft labels", "train soft-images.npz", 2, "'soft-images' has no hard labels: give"),
    ("train one class", "train one-class-images.npz", 2, "holds a single class but a classifier"),
    ("train a lone sample", "train lone.npz", 2, ("cannot be cut in two", "remove classes with")),
    (
        "train small images",
        "train small --n-train 2 --batch-size 2",
        2,
        "images of 3 x 3 pixels are too small for 'small': it needs at least 4 x 4, enlarge them",
    ),
    (
        "test images of another size",
        "train larger --batch-size 2",
        2,
        "test images of shape (1, 9, 9) but training images of shape (1, 8, 8): bring them to one",
    ),
    (
        "test images of another class",
        "train stranger --batch-size 2",
        2,
        "test images of class 'c' but training images of 'a', 'b': remove such images, or add",
    ),
    ("train's mixer unknown", f"{TRAIN} --mixer zta", 2, "unknown mixer 'zta': did you mean 'zeta"),
    ("train's mixer empty", f"{TRAIN} --mixer ''", 2, "--mixer '' names 0 mixers: train with one"),
    (
        "two mixers to train",
        f"{TRAIN} --mixer zeta,mixup",
        2,
        "'zeta,mixup' names 2 mixers",
    ),
    ("train's gamma negative", f"{TRAIN} --mixer zeta --gamma -1", 2, "gamma=-1.0 must be a"),
    ("train's gamma NaN", f"{TRAIN} --gamma nan", 2, "gamma=nan must be a number >= 0"),
    ("train's gamma a range", f"{TRAIN} --gamma 0:5:1", 2, ("'--gamma'", "'0:5:1'")),
    ("train's alpha negative", f"{TRAIN} --alpha -1", 2, "alpha=-1.0 must be a positive number"),
    (
        "train's n-mix above the batch",
        f"{TRAIN} --mixer zeta --n-mix 9",
        2,
        "n_mix=9 samples cannot be chosen from a batch of 8: lower n_mix or enlarge the batch",
    ),
    ("architecture unknown", f"{TRAIN} --arch resnet", 2, "'resnet': did you mean 'resnet18'?"),
    ("epochs 0", f"{TRAIN} --epochs 0", 2, "epochs=0 is too small: give an integer >= 1"),
    (
        "epochs text",
        f"{TRAIN} --epochs ten",
        2,
        ("'--epochs'", "'ten'", TRAIN_HELP),
    ),
    ("train's batch size 1", f"{TRAIN} --batch-size 1", 2, "batch_size=1 is too small: give an"),
    (
        "train's batch size above n",
        f"{TRAIN} --batch-size 33",
        2,
        "batch_size=33 is above the 32 images: lower batch_size",
    ),
    ("learning rate NaN", f"{TRAIN} --learning-rate nan", 2, "learning_rate=nan must be a"),
    ("learning rate negative", f"{TRAIN} --learning-rate -1", 2, "learning_rate=-1.0 must be"),
    ("learning rate 0", f"{TRAIN} --learning-rate 0", 2, "learning_rate=0.0 must be a positive"),
    ("learning rate text", f"{TRAIN} --learning-rate x", 2, ("'--learning-rate'", "'x'")),
    ("weight decay negative", f"{TRAIN} --weight-decay -1", 2, "weight_decay=-1.0 must be a"),
    ("weight decay NaN", f"{TRAIN} --weight-decay nan", 2, "weight_decay=nan must be a number"),
    ("crop negative", f"{TRAIN} --crop -1", 2, "crop=-1 is too small: give an integer >= 0"),
    ("crop beyond the image", f"{TRAIN} --crop 9", 2, "crop=9 is too large: give an integer <"),
    ("n-train 0", f"{TRAIN} --n-train 0", 2, "n_train=0 is too small: give an integer >= 1"),
    (
        "n-train above n",
        f"{TRAIN} --n-train 39",
        2,
        "n_train=39 of 40 samples leaves a part without one of each of the 2 classes: give 2 to 38",
    ),
    (
        "n-train of a data set with splits",
        "train larger --n-train 2",
        2,
        "n_train=2 would cut 'larger', which has a test split: leave it out",
    ),
    (
        "train's seed negative",
        f"{TRAIN} --seed -1",
        2,
        ("'--seed'", "-1", TRAIN_HELP),
    ),
    ("train's device unknown", f"{TRAIN} --device gpu", 2, "unknown device 'gpu':"),
    ("train's device missing", f"{TRAIN} --device cuda:99", 2, ("'cuda:99'", "use device='cpu'")),
    ("train's data dir missing", f"{TRAIN} --data-dir no", 2, "data_dir='no' is not a folder:"),
    ("model of unknown ending", f"{TRAIN} --out m.bin", 2, "unknown ending of the output '.bin"),
    ("model in no folder", f"{TRAIN} --out no/m.pt", 2, "the output folder 'no' does not exist"),
    ("model a folder", f"{TRAIN} --out folder.pt", 2, "the output 'folder.pt' is a folder: give"),
    ("model that exists", f"{TRAIN} --out there.pt", 2, "'there.pt' exists: give --resume to"),
    ("model with history there", f"{TRAIN} --out sidecar.pt", 2, "'sidecar.json' exists: give"),
    ("train's resume without out", f"{TRAIN} --resume", 2, "--resume goes with --out and without"),
    (
        "train's resume with overwrite",
        f"{TRAIN} --out there.pt --resume --overwrite",
        2,
        "--resume goes with --out and without --overwrite: name the model",
    ),
    (
        "checkpoint of another architecture",
        f"{TRAIN} --epochs 1 --arch resnet18 --out model.pt --resume",
        2,
        "model.pt was begun with arch='small', now 'resnet18': give the same settings and data",
    ),
    ("checkpoint cut short", f"{TRAIN} --out cut.pt --resume", 2, "cut.pt is no whole checkpoint"),
    ("checkpoint of prose", f"{TRAIN} --out prose.pt --resume", 2, "prose.pt is no whole"),
    ("checkpoint a pickle", f"{TRAIN} --out pickle.pt --resume", 2, "pickle.pt is no whole"),
    (
        "a loss that diverges",
        f"{TRAIN} --learning-rate 1e30 --epochs 1 --out m.pt",
        1,
        "failed: FloatingPointError: the loss is nan in epoch 1: lower the learning rate",
    ),
    # --- vicinity
    ("vicinity without test", "vicinity --train tiny.npz", 2, "Missing option '--test'"),
    ("vicinity of arguments", "vicinity tiny.npz test.npz", 2, "Missing option '--train'"),
    ("vicinity of a missing file", f"{NEAR} --test no.npz", 2, "'no.npz' does not exist: give"),
    ("vicinity of bad soft labels", f"{NEAR} --train twice.npz", 2, "that are no soft labels"),
    (
        "test without labels",
        f"{NEAR} --test unlabelled.npz",
        2,
        "'unlabelled' has no labels: save them as array y of an .npz file, or as column y",
    ),
    ("training without labels", f"{NEAR} --train unlabelled.npz", 2, "'unlabelled' has no labels"),
    (
        "class that training lacks",
        f"{NEAR} --test fourth.npz",
        2,
        "test_y holds label '3' in row 3 but the classes are '0', '1', '2': remove such samples",
    ),
    (
        "names for soft columns",
        f"{NEAR} --train soft.npz --test animals.npz",
        2,
        "but the test labels are 'cat', 'dog': give the numbers of their columns",
    ),
    ("training of one class", f"{NEAR} --train one-class.npz", 2, "holds a single class, '0',"),
    ("soft test labels", f"{NEAR} --test soft.npz", 2, "test_y has shape (200, 3) but test"),
    (
        "soft test and training labels",
        f"{NEAR} --train soft.npz --test soft.npz",
        2,
        "test_y has shape (200, 3) but test samples have one class each, (n,): give hard labels",
    ),
    ("widths that differ", f"{NEAR} --test wider.npz", 2, "test_x has 5 features but train_x"),
    ("k 0", f"{NEAR} --k 0", 2, "n_neighbors=0 is too small: give an integer >= 1"),
    ("k text", f"{NEAR} --k two", 2, "--k two is not a list of whole numbers: give 8,128"),
    ("k empty", f"{NEAR} --k ''", 2, "n_neighbors is empty: give at least one number"),
    (
        "k above n",
        f"{NEAR} --k 201",
        2,
        "n_neighbors=201 needs at least 201 training samples, got 200: lower n_neighbors",
    ),
    ("metric unknown", f"{NEAR} --metric l1", 2, "unknown metric 'l1': known are 'euclidean',"),
    ("nearly a metric", f"{NEAR} --metric cosin", 2, "'cosin': did you mean 'cosine'? Known are"),
    (
        "cosine of zero",
        f"{NEAR} --train zero.npz --metric cosine",
        2,
        "train_x holds 1 zero vector(s), the first in row 9, but metric='cosine' needs a",
    ),
    ("vicinity's device", f"{NEAR} --device cuda:99", 2, ("'cuda:99'", "use device='cpu' or")),
    ("vicinity's memory", f"{NEAR} --memory-limit 9", 2, "memory_limit=9 is below 1 MiB (2**20"),
    ("vicinity's data dir", f"{NEAR} --data-dir no", 2, "data_dir='no' is not a folder: give one"),
    ("vicinity's out", f"{NEAR} --out r.txt", 2, "unknown ending of the output '.txt': known are"),
    ("vicinity's out exists", f"{NEAR} --out there.csv", 2, "'there.csv' exists: give --overwrite"),
    ("vicinity's settings exist", f"{NEAR} --out sidecar.csv", 2, "'sidecar.json' exists: give"),
    ("embed of unknown ending", f"{NEAR} --embed r.gif", 2, "unknown ending of the output '.gif"),
    ("embed that exists", f"{NEAR} --embed there.png", 2, "'there.png' exists: give --overwrite"),
    ("lines without embed", f"{NEAR} --lines", 2, "--lines goes with --embed: name the picture"),
    (
        "embed of few samples",
        f"{NEAR} --train few.npz --out r.csv --embed r.png",
        2,
        "below a third of the 60 training samples: lower it, or give more samples",
    ),
    (
        "embed of samples all alike",
        f"{NEAR} --train constant.npz --out r.csv --embed r.png",
        2,
        "train_x holds samples that are all alike, of which the t-SNE embedding would not be",
    ),
]


def contents(folder):
    return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@pytest.mark.parametrize(
    ("command", "code", "said"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_bad_input_gives_one_sentence_and_leaves_nothing(
    run, command, code, said, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZMANIFOLD_DATA", raising=False)
    arguments = shlex.split(command)
    for word in dict.fromkeys(part for a in arguments for part in (a, a.split("/")[0])):
        content = THERE.get(word, b"")
        if callable(content):
            content()
        elif word in THERE:
            Path(word).write_bytes(content)
    before = contents(tmp_path)
    if code == 2:
        vicinity = import_module("zmanifold.measures._vicinity")
        for place, name in ((Sweep, "run"), (vicinity, "search"), (classifiers, "randomness")):
            monkeypatch.setattr(place, name, lambda *a, **k: pytest.fail("work has begun"))
    found, out, err = run(*arguments)
    if code == 1 and err.startswith("images.npz: an archive"):
        # Work that has begun has said what it read.
        _, err = err.split("\n", 1)
    assert err.startswith("zmanifold: ")
    for part in (said,) if isinstance(said, str) else said:
        assert part in err
    assert err.endswith(".\n")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert (found, out) == (code, "")
    assert contents(tmp_path) == before
