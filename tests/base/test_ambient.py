"""Ambient state of torch and NumPy neither changes a result of a public function nor is changed."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
import zmanifold as zm
from zmanifold._base.ambient import ambient_outside
from zmanifold._base.matmul import full_precision
from zmanifold.datasets import train_test
from zmanifold.training import load_training, train

X = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
WIDE = np.random.default_rng(1).normal(size=(200, 20))
Y = np.arange(200) % 3
IMAGES = torch.rand(150, 3, 4, 4, generator=torch.Generator().manual_seed(1))
CLASSES = torch.arange(150) % 3
WEIGHTS = zm.ZetaMixup().weights(150, generator=torch.Generator().manual_seed(1))
ORIGINALS = X[:150], Y[:150], X[150:], Y[150:]
DIGITS = zm.load_dataset("digits", n_samples=64, random_state=0)
MIXERS = {
    "mixup": zm.Mixup(num_classes=3),
    "mixup-per-sample": zm.Mixup(per_sample=True, num_classes=3),
    "zeta": zm.ZetaMixup(num_classes=3),
    "zeta-range": zm.ZetaMixup((1.0, 2.0), n_mix=4, anchored=True, num_classes=3),
}


def seeded():
    return torch.Generator("cpu").manual_seed(0)


def own(x, y):
    """Add a tensor of the default type on the default device, without a generator."""
    return x + torch.rand(len(x), 1), y


def swept(mixer):
    options = {"n_neighbors": (4, 8), "seeds": 1, "device": "cpu", "progress": False}
    return [row["id_mean"] for row in zm.sweep_id(WIDE, mixers=[mixer], **options).rows]


def trained(mixer):
    options = {"epochs": 1, "batch_size": 32, "flip": True, "crop": 1, "progress": False}
    done = train(DIGITS, mixer=mixer, device="cpu", **options)
    return [*done.model.state_dict().values(), done.history[0]["loss"], done.accuracy(DIGITS)]


CALLS = {
    **{
        f"{name}, {b} samples of {dtype}": lambda m=mixer, b=b, dtype=dtype: m(
            IMAGES[:b].to(dtype), CLASSES[:b], generator=seeded()
        )
        for name, mixer in MIXERS.items()
        for b, dtype in ((6, torch.float32), (150, torch.float16), (150, torch.float32))
    },
    "weights": lambda: zm.ZetaMixup().weights(150, generator=seeded(), dtype=torch.float32),
    "mix": lambda: zm.mix(WEIGHTS, IMAGES),
    **{
        f"mixed_set, {name}": lambda m=mixer: zm.mixed_set(X, Y, m, batch_size=150)
        for name, mixer in [*MIXERS.items(), ("none", None), ("own", own)]
    },
    **{
        f"sweep_id, {name}": lambda m=mixer: swept(m)
        for name, mixer in [("none", None), ("zeta", MIXERS["zeta"]), ("own", own)]
    },
    "mixed_set_metrics": lambda: zm.mixed_set_metrics(*ORIGINALS, device="cpu").summary(),
    "vicinity": lambda: (
        zm.vicinity(*ORIGINALS, n_neighbors=(4, 8), device="cpu").to_frame().to_numpy(dtype=float)
    ),
    **{
        f"{name}, {points.shape[1]} features": lambda f=function, points=points: f(points)
        for points in (X, WIDE)
        for name, function in {
            "kneighbors": lambda p: zm.kneighbors(p, 8, device="cpu"),
            "cosine": lambda p: zm.kneighbors(p, 8, metric="cosine", device="cpu"),
            "LocalPCA": lambda p: zm.LocalPCA(n_neighbors=8, device="cpu").fit(p).dimension_pw_,
            "local_spectra": lambda p: zm.local_spectra(p, np.eye(9, dtype=int), device="cpu"),
        }.items()
    },
    **{
        f"make_{name}": lambda name=name: getattr(zm, f"make_{name}")(random_state=0)
        for name in ("crescents", "spirals", "helix", "paraboloid")
    },
    # Its noise underflows.
    "make_helix, noise of 1e-310": lambda: zm.make_helix(noise=1e-310, random_state=0),
    "load_dataset": lambda: zm.load_dataset("digits", n_samples=64, random_state=0).points,
    "train_test": lambda: train_test("digits", n_train=100, random_state=0)[1].points,
    "gamma": lambda: (zm.gamma_min(), zm.gamma_min(100), zm.gamma_from_lambda(1e-300)),
    "train": lambda: trained(None),
    "train, zeta": lambda: trained(zm.ZetaMixup()),
    "train, own": lambda: trained(own_images),
}


def own_images(x, y):
    return x + torch.rand(len(x), 1, 1, 1), y


@contextlib.contextmanager
def changed(read, write, value):
    """Set a value, and assert that nobody within changes it."""
    before = read()
    write(value)
    try:
        yield
        assert read() == value
    finally:
        write(before)


def by_default(dtype):
    return changed(torch.get_default_dtype, torch.set_default_dtype, dtype)


def on_device(name):
    if name == "lazy":
        # Not a module of `check_generators`, whose process does not find it.
        from lazy_device import start_lazy

        start_lazy()
    # The device comes back with its number.
    return changed(lambda: torch.get_default_device().type, torch.set_default_device, name)


def deterministic():
    return changed(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True
    )


@contextlib.contextmanager
def strict():
    with np.errstate(all="raise"):
        yield
        assert set(np.geterr().values()) == {"raise"}


STATES = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", torch.float16),
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "device meta": lambda: on_device("meta"),
    "device lazy": lambda: on_device("lazy"),
    "float64": lambda: by_default(torch.float64),
    "float16": lambda: by_default(torch.float16),
    "bfloat16": lambda: by_default(torch.bfloat16),
    "deterministic": deterministic,
    "errstate": strict,
}


@pytest.fixture(scope="module")
def expected():
    return {name: call() for name, call in CALLS.items()}


@pytest.mark.parametrize("state", STATES)
def test_no_result_depends_on_it(expected, state):
    with STATES[state]():
        found = {name: call() for name, call in CALLS.items()}
    for name, value in found.items():
        assert same(value, expected[name]), name


def same(a, b):
    """Tell whether two results have the same types, devices and bits."""
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return (a.dtype, a.device) == (b.dtype, b.device) and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    return a == b


def test_labels_are_exact_under_autocast():
    x, y = torch.rand(32, 3, 16, 16), torch.randint(1000, (32,))
    for mixer in (zm.ZetaMixup(num_classes=1000), zm.Mixup(num_classes=1000)):
        with torch.autocast("cpu", torch.bfloat16):
            mixed, soft = mixer(x, y)
        assert mixed.dtype == soft.dtype == torch.float32
        torch.testing.assert_close(soft.sum(dim=1), torch.ones(32), rtol=0, atol=1e-6)


def test_other_generators_are_neither_read_nor_moved():
    # In a process of its own: the shape checker of this one draws from Python's generator.
    subprocess.run([sys.executable, __file__], check=True)


def check_generators():
    for name, call in CALLS.items():
        results = []
        for seed in (7, 8):
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            before = generator_states()
            results.append(call())
            assert generator_states() == before, name
        assert same(*results), name


def generator_states():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


def test_checkpoints_are_loaded_in_any_state(tmp_path):
    path = tmp_path / "m.safetensors"
    options = {"epochs": 1, "batch_size": 32, "checkpoint": path, "progress": False}
    done = train(DIGITS, device="cpu", **options)
    plain = load_training(path, device="cpu")
    for state in ("float64", "device lazy", "device meta", "inference_mode", "autocast"):
        with STATES[state]():
            loaded = load_training(path, device="cpu")
            assert same(loaded.model.logits(DIGITS.points), plain.model.logits(DIGITS.points))
            again = train(DIGITS, device="cpu", resume=True, **options)
        assert same([*again.model.parameters()], [*done.model.parameters()])
        assert all(parameter.requires_grad for parameter in loaded.model.parameters())


def test_errors_leave_the_state_as_it_was():
    with by_default(torch.float64), on_device("meta"), strict(), torch.autocast("cpu"):
        with pytest.raises(ValueError, match="n_neighbors"):
            zm.kneighbors(X, -1)
        assert torch.is_autocast_enabled("cpu")


def test_calls_that_overlap_put_the_users_type_back():
    """The first to enter leaves first: the second is inside still, and puts float64 back."""
    inside, leave = threading.Event(), threading.Event()

    def first():
        with ambient_outside():
            inside.set()
            leave.wait()

    with by_default(torch.float64):
        thread = threading.Thread(target=first)
        thread.start()
        inside.wait()
        with ambient_outside():
            leave.set()
            thread.join()
            assert torch.get_default_dtype() == torch.float32


PRECISIONS = {
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "allow_tf32": lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
    "newer, CUDA": lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
    "newer, oneDNN": lambda: setattr(torch.backends.mkldnn.matmul, "fp32_precision", "bf16"),
}


def precisions():
    def common():
        try:
            return torch.get_float32_matmul_precision()
        except RuntimeError:
            return "several"

    return (
        common(),
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.mkldnn.matmul.fp32_precision,
    )


@pytest.mark.skipif(
    getattr(torch.backends.cuda.matmul, "fp32_precision", None) is None, reason="before torch 2.9"
)
@pytest.mark.parametrize("name", PRECISIONS)
def test_searches_multiply_in_full_precision_however_it_was_lowered(expected, name):
    apart = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    before = [backend.fp32_precision for backend in apart]
    PRECISIONS[name]()
    try:
        users = precisions()
        with full_precision():
            assert precisions() == ("highest", "ieee", "ieee")
        call = "kneighbors, 20 features"
        assert same(CALLS[call](), expected[call])
        assert precisions() == users
    finally:
        for backend in apart:
            backend.fp32_precision = "ieee"
        torch.set_float32_matmul_precision("highest")
        for backend, precision in zip(apart, before, strict=True):
            backend.fp32_precision = precision


if __name__ == "__main__":
    check_generators()
