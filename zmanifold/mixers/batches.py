"""Mixed copies of whole data sets: shuffled, cut into batches and mixed, by one seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from numpy.typing import NDArray
from torch import Tensor

from zmanifold._base.ambient import ambient_outside
from zmanifold._base.arrays import as_points, as_real_tensor, point_dtype
from zmanifold._base.checks import check_count
from zmanifold._base.errors import InputError
from zmanifold._base.labels import as_labels, name_some
from zmanifold._base.mapped import MappedFile, Place
from zmanifold._base.memory import working_memory
from zmanifold._base.parallel import chunks
from zmanifold._base.scaling import largest_magnitude
from zmanifold.mixers.base import apply, check_mixer, draw_weights, fitted, is_linear, label_of

__all__ = ["Batches", "MixedRows", "check_batch_size", "mixed_set", "query_rows"]

# Each purpose has random numbers of its own from a seed, so that none changes those of another.
_SHUFFLE, _QUERIES, _BATCHES = range(3)


def _stream(seed: int, purpose: int) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, purpose])


def query_rows(seed: int, n: int, q: int) -> Int64[Tensor, " q"]:
    """Draw q of the n rows of a mixed set, ascending; they depend on the seed, not on the mixer."""
    if q == n:
        return torch.arange(n)
    chosen = np.random.default_rng(_stream(seed, _QUERIES)).choice(n, q, replace=False)
    return torch.from_numpy(np.sort(chosen))


@dataclass(frozen=True, eq=False)
class Batches:
    """A data set that can be shuffled, cut into batches and mixed.

    Attributes
    ----------
    points : torch.Tensor of shape (n, d)
        The points, of any real type and layout: a memory-mapped file is never converted as a whole.
    labels : ndarray of shape (n,) or (n, K), or None
        The labels, for mixers that are called.
    image_shape : sequence of int or None
        The shape of samples for such mixers, instead of rows.
    batch_size : int
        The number of samples that are mixed with each other.
    memory : int
        Bytes of working memory.
    place : Place, optional
        The place of the points in a file, which is sent to other processes instead of the points.
    file : MappedFile, optional
        The file that the points are mapped from. It is checked before they are read.
    """

    points: Shaped[Tensor, "n d"]
    labels: NDArray[Any] | None
    image_shape: Sequence[int] | None
    batch_size: int
    memory: int
    place: Place | None = None
    file: MappedFile | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Without cached properties, which each process computes again.
        kept = {field.name: getattr(self, field.name) for field in fields(self)}
        return kept | {"file": None} | ({} if self.place is None else {"points": None})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.place is not None:
            self.__dict__["points"] = as_real_tensor(self.place.open(), self.place.path)
            self.__dict__["file"] = MappedFile.of(self.place.path)

    def read(self) -> Shaped[Tensor, "n d"]:
        """Return the points to read their values now; raise if their file has changed."""
        if self.file is not None:
            self.file.check()
        return self.points

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the mixed points."""
        return point_dtype(self.points)

    def mixed(self, mixer: Any, seed: int) -> Float[Tensor, "n d"]:
        """Return the mixed set in shuffled order, which is that of the original set, too."""
        return self.rows(mixer, seed).all()

    def try_mixer(self, mixer: Any, seed: int) -> None:
        """Mix the first batch, to find errors of a mixer before any work."""
        self.rows(mixer, seed).take(torch.arange(1))

    def rows(self, mixer: Any, seed: int) -> MixedRows:
        """Return the mixed set as rows that are made when they are asked for.

        A mixer with ``fit`` is fitted to the whole set first.
        """
        if callable(getattr(mixer, "fit", None)):
            if self.place is not None:
                raise InputError(
                    f"mixer {label_of(mixer)!r} needs all samples at a time but "
                    f"{self.place.path} does not fit into memory_limit: raise it."
                )
            shape = self.image_shape or self.points.shape[1:]
            X = self.points.to(self.dtype).view(len(self.points), *shape)
            mixer = fitted(mixer, X, None if self.labels is None else self.label_tensor)
        return MixedRows(self, mixer, seed)

    @cached_property
    def label_tensor(self) -> Tensor:
        """The labels as a tensor on the points' device; zeros if there are none."""
        labels = np.zeros(len(self.points), np.int64) if self.labels is None else self.labels
        # A copy, because torch takes neither read-only arrays nor negative strides.
        return torch.from_numpy(labels.copy()).to(self.points.device)

    @cached_property
    def n_classes(self) -> int | None:
        """The number of classes of hard labels."""
        hard = self.label_tensor
        return None if hard.ndim > 1 or hard.is_floating_point() else int(hard.max()) + 1

    def mixed_with_labels(
        self, mixer: Any, seed: int, soft: Float[Tensor, "n K"]
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n K"]]:
        """Return the mixed set and its soft labels.

        The mixed points are those of `mixed`, but row i is the one at the place of sample i in its
        batch.
        """
        if mixer is None:
            return self.points.clone(), soft
        rows = self.rows(mixer, seed)
        order = rows.order
        mixed, mixed_soft = rows.mixed(rows.numbers, soft)
        as_labels(mixed_soft, len(soft), name="the mixed labels")
        points, labels = torch.empty_like(mixed), torch.empty_like(mixed_soft)
        points[order], labels[order] = mixed, mixed_soft
        return points, labels


@dataclass(frozen=True, eq=False)
class MixedRows:
    """The mixed set of a mixer and a seed, of which each batch can be made without the others."""

    batches: Batches
    mixer: Any
    seed: int

    def __len__(self) -> int:
        return len(self.batches.points)

    @property
    def n_features(self) -> int:
        """The number d of features."""
        return self.batches.points.shape[1]

    @cached_property
    def order(self) -> Int64[Tensor, " n"]:
        """The rows of the original set in the shuffled order, which is that of the mixed set."""
        points = self.batches.points
        shuffle = np.random.default_rng(_stream(self.seed, _SHUFFLE)).permutation(len(points))
        return torch.from_numpy(shuffle).to(points.device)

    @property
    def numbers(self) -> Int64[Tensor, " batches"]:
        """The numbers of all batches."""
        return torch.arange(-(-len(self) // self.batches.batch_size))

    @cached_property
    def _seeds(self) -> NDArray[np.unsignedinteger[Any]]:
        return _stream(self.seed, _BATCHES).generate_state(len(self.numbers), np.uint64)

    def all(self) -> Float[Tensor, "n d"]:
        """Make all rows."""
        if self.mixer is None:
            return self.batches.read()[self.order].to(self.batches.dtype)
        return self.mixed(self.numbers)[0]

    def take(self, positions: Int64[Tensor, " p"]) -> Float[Tensor, "p d"]:
        """Make the rows at some positions, ascending, by mixing their batches."""
        if self.mixer is None:
            return self.batches.read()[self.order[positions]].to(self.batches.dtype)
        b = self.batches.batch_size
        numbers, places = torch.unique_consecutive(positions // b, return_inverse=True)
        (mixed,) = self.mixed(numbers)
        return mixed[places * b + positions % b]

    def mixed(
        self, numbers: Int64[Tensor, " some"], soft: Float[Tensor, "n K"] | None = None
    ) -> list[Float[Tensor, "m _"]]:
        """Make some batches, ascending; given soft labels, return the mixed labels, too."""
        source = self.batches
        source.read()
        b = source.batch_size
        seeds = self._seeds[numbers.numpy()].tolist()
        # The last batch is filled up from the first.
        members = self.order[(numbers[:, None] * b + torch.arange(b)) % len(self)]
        out = [source.points.new_empty((members.numel(), self.n_features), dtype=source.dtype)]
        if soft is not None:
            out.append(soft.new_empty((members.numel(), soft.shape[1])))
        (self._mix_linearly if is_linear(self.mixer) else self._mix_by_call)(
            members, seeds, soft, out
        )
        for values in out:
            if not math.isfinite(largest_magnitude(values)):
                raise InputError(
                    f"mixer {self.mixer!r} made values that are not finite: check its arithmetic."
                )
        surplus = max(0, (int(numbers[-1]) + 1) * b - len(self))
        return [values[: len(values) - surplus] for values in out]

    def _mix_linearly(
        self,
        members: Int64[Tensor, "batches b"],
        seeds: list[int],
        soft: Float[Tensor, "n K"] | None,
        out: list[Float[Tensor, "m _"]],
    ) -> None:
        b, d = self.batches.batch_size, self.n_features
        sources = [self.batches.points] if soft is None else [self.batches.points, soft]
        generator, device = torch.Generator(), self.batches.points.device
        for part in chunks(len(members), min(self.batches.memory, 2**25) // (16 * b * (b + d))):
            drawn = [
                draw_weights(self.mixer, b, generator.manual_seed(seed), seed=seed)
                for seed in seeds[part]
            ]
            for which, (source, target) in enumerate(zip(sources, out, strict=True)):
                # Mixed in float64 and rounded once, so that points that coincide exactly (γ = 0)
                # stay equal.
                weights = torch.stack([pair[which] for pair in drawn]).to(device)
                mixed = weights @ source[members[part]].double()
                target[part.start * b : part.stop * b] = mixed.flatten(0, 1)

    def _mix_by_call(
        self,
        members: Int64[Tensor, "batches b"],
        seeds: list[int],
        soft: Float[Tensor, "n K"] | None,
        out: list[Float[Tensor, "m _"]],
    ) -> None:
        b, d = self.batches.batch_size, self.n_features
        points, shape = self.batches.points, self.batches.image_shape
        y = self.batches.label_tensor
        n_classes = soft.shape[1] if soft is not None else self.batches.n_classes
        generator = torch.Generator()
        for i, (batch, seed) in enumerate(zip(members, seeds, strict=True)):
            x = points[batch].to(self.batches.dtype)
            x = x.view(b, *shape) if shape else x
            generator.manual_seed(seed)
            mixed, mixed_y, _ = apply(
                self.mixer, x, y[batch], generator, batch, num_classes=n_classes, seed=seed
            )
            part = slice(i * b, (i + 1) * b)
            out[0][part] = mixed.detach().reshape(b, d)
            if soft is not None:
                classes = np.arange(soft.shape[1])
                given_y = as_labels(mixed_y, b, name="the mixer's labels", classes=classes)
                out[1][part] = given_y.distributions()


@ambient_outside()
def mixed_set(
    X: Any,
    y: Any,
    mixer: Any,
    *,
    batch_size: int = 32,
    seed: int = 0,
    num_classes: int | None = None,
    memory_limit: int | None = None,
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Mix a whole data set once, as one epoch of training would: shuffled, batch by batch.

    The mixed points are those that `sweep_id` measures for the same seed and batch size.

    Parameters
    ----------
    X : array-like or torch.Tensor of shape (n, ...)
        Samples of any shape; a mixer that is called sees batches of that shape.
    y : array-like of shape (n,) or (n, K)
        Classes 0..K-1, or soft labels.
    mixer : mixer or None
        A mixer of any kind (see `zmanifold.mixers.base`). None returns the originals with one-hot
        labels.
    batch_size : int, default=32
        The number of samples that are mixed with each other. A short last batch is filled up from
        the start of the shuffled set, and only its own rows are kept.
    seed : int, default=0
        The source of randomness.
    num_classes : int, optional
        The number K of classes of hard labels; the largest one plus 1 by default.
    memory_limit : int, optional
        Bytes of working memory besides the data and its mixed copy.

    Returns
    -------
    X_mixed : ndarray of shape (n, ...)
        The mixed samples, in the float dtype of `X`. Row i has the place of sample i in its batch:
        with an anchored mixer, and with mixup at λ > 1/2, sample i has the largest weight in it.
    y_soft : ndarray of float64, shape (n, K)
        The labels, mixed with the same weights.

    Raises
    ------
    InputError
        If an argument is out of its range.

    Examples
    --------
    >>> import zmanifold as zm
    >>> X, y = zm.make_crescents(random_state=0)
    >>> X_mixed, y_soft = zm.mixed_set(X, y, zm.ZetaMixup(2.8))
    >>> X_mixed.shape, y_soft.shape
    ((512, 2), (512, 2))
    """
    check_mixer(mixer, latent=False)
    tensor = as_real_tensor(X, "X")
    shape = tensor.shape[1:]
    points = as_points(tensor.flatten(1) if tensor.ndim > 2 else tensor, device=torch.device("cpu"))
    n = len(points)
    size = check_batch_size(batch_size, n)
    given = as_labels(y, n, name="y")
    if given.soft is None:
        if given.classes.dtype.kind not in "biu" or given.classes[0] < 0:
            raise InputError(
                f"y holds the labels {name_some(given.classes)} but mixing needs classes 0..K-1: "
                "give codes, np.unique(y, return_inverse=True)[1]."
            )
        n_classes = int(given.classes[-1]) + 1
        if num_classes is not None:
            n_classes = check_count("num_classes", num_classes)
        elif n_classes > 10 * max(n, 1000):
            raise InputError(
                f"y holds class {n_classes - 1} but has {n} samples: give codes 0..K-1, "
                "np.unique(y, return_inverse=True)[1], or num_classes."
            )
        given = as_labels(y, n, name="y", classes=np.arange(n_classes))
    elif num_classes not in (None, len(given.classes)):
        raise InputError(
            f"num_classes={num_classes} but y has {len(given.classes)} columns: leave it out for "
            "soft labels."
        )
    batches = Batches(
        points,
        given.codes.numpy() if given.soft is None else given.soft.numpy(),
        shape,
        size,
        working_memory(memory_limit, points.device),
    )
    seed = check_count("seed", seed, least=0)
    mixed, soft = batches.mixed_with_labels(mixer, seed, given.distributions())
    return mixed.view(n, *shape).numpy(), soft.numpy()


def check_batch_size(batch_size: Any, n: int) -> int:
    """Return the batch size, checked: at least 2, so that there is something to mix, at most n.

    Examples
    --------
    >>> from zmanifold.mixers.batches import check_batch_size
    >>> check_batch_size(32, 512)
    32
    """
    size = check_count("batch_size", batch_size, least=2)
    if size > n:
        raise InputError(f"batch_size={size} is above the {n} points: lower batch_size.")
    return size
