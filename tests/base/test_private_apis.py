"""Private APIs of torch and scikit-dimension that the package uses.

They may change in any release. Each row names the versions that have the API, and uses it as the
package does.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from numba.core.caching import FunctionCache, IndexDataCacheFile
from skdim.datasets import BenchmarkManifolds
from zmanifold._base.kernels import aligned_zeros, single

PACKAGE = Path(__file__).parents[2] / "zmanifold"


@dataclass(frozen=True)
class Private:
    """An API: its owner and name, the module that uses it, and the versions that have it."""

    owner: object
    name: str
    file: str
    distribution: str
    seen: tuple[str, ...]

    def get(self):
        found = getattr(self.owner, self.name, None)
        if found is None:
            pytest.fail(
                f"{self.distribution} {version(self.distribution)} has no {self.name}, which was "
                f"seen in {', '.join(self.seen)}: change zmanifold/{self.file}."
            )
        return found


TORCH = ("torch", ("2.13.0",))
GAMMA = Private(torch, "_standard_gamma", "mixers/mixup.py", *TORCH)
LINEAR = Private(torch.ops.mkldnn, "_linear_pointwise", "_base/matmul.py", *TORCH)
HAS_BFLOAT16 = Private(torch.cpu, "_is_avx512_bf16_supported", "_base/matmul.py", *TORCH)
HAS_TILES = Private(torch.cpu, "_is_amx_tile_supported", "_base/matmul.py", *TORCH)
FUNCTORCH = Private(torch._C, "_functorch", "mixers/zeta.py", *TORCH)
REBUILD = Private(torch._utils, "_rebuild_tensor_v2", "training/_pt.py", *TORCH)
CACHE = Private(FunctionCache, "_impl_class", "_base/_code_cache.py", "numba", ("0.68.1",))
TRUTH = Private(
    BenchmarkManifolds(), "_dict_truth", "datasets/load.py", "scikit-dimension", ("0.5.0",)
)


def test_the_cache_of_compiled_code():
    assert CACHE.get().__name__ == "CompileResultCacheImpl"
    # A cache has its implementation as `_impl` and its files as `_cache_file`; a compiled function
    # has its cache as `_cache`; an intrinsic has its function as `_defn`.
    cache = aligned_zeros._cache
    assert cache._impl.filename_base.startswith("kernels.aligned_zeros-")
    assert {"load", "save"} <= set(dir(IndexDataCacheFile))
    assert isinstance(cache, FunctionCache)
    assert single._defn.__name__ == "single"


def test_gamma_variates_of_a_generator():
    shape = torch.full((4000,), 2.5, dtype=torch.float64)
    draw = GAMMA.get()
    drawn, again = (draw(shape, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(drawn, again)
    # The mean and the variance of Gamma(2.5) are 2.5: five standard errors are 0.13 of the mean.
    assert abs(float(drawn.mean()) - 2.5) < 0.13


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
def test_products_by_onednn():
    a, b = torch.rand(3, 4), torch.rand(5, 4)
    torch.testing.assert_close(LINEAR.get()(a, b, None, "none", [], ""), a @ b.mT)


@pytest.mark.parametrize("api", [HAS_BFLOAT16, HAS_TILES], ids=lambda api: api.name)
def test_instructions_of_the_cpu(api):
    assert api.get()() in (True, False)


def test_what_torch_func_maps_is_seen():
    inside = []
    torch.func.vmap(lambda x: inside.append(FUNCTORCH.get().peek_interpreter_stack()) or x)(
        torch.ones(2)
    )
    assert FUNCTORCH.get().peek_interpreter_stack() is None
    assert inside[0] is not None


def test_tensors_of_archives():
    storage = torch.arange(6.0).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    made = REBUILD.get()(typed, 2, (2, 2), (2, 1), False, {})
    assert made.tolist() == [[2, 3], [4, 5]]


def test_the_true_dimensions_of_scikit_dimensions_manifolds():
    truth = TRUTH.get()
    assert truth["M1_Sphere"][:2] == (10, 11)
    assert all(isinstance(text, str) for _, _, text in truth.values())


def private_names(tree):
    """Return the private attributes that a module uses, and those that it defines."""
    taken, own = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            taken.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            own |= {getattr(target, "attr", getattr(target, "id", "")) for target in targets}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr"):
            name = node.args[1]
            first = name.values[0] if isinstance(name, ast.JoinedStr) else name
            taken.add(first.value if isinstance(first, ast.Constant) else "")
    return taken, own


def test_all_are_listed():
    names = [private_names(ast.parse(path.read_text())) for path in PACKAGE.rglob("*.py")]
    taken, own = (set().union(*parts) for parts in zip(*names, strict=True))
    foreign = {n for n in taken - own if n.startswith("_") and not n.startswith("__")}
    listed = {api.name for api in (FUNCTORCH, GAMMA, LINEAR, TRUTH)}
    # matmul.py builds "_is_" from the names of instructions. Python documents `_replace` of named
    # tuples and `os._exit`. `_inheriting` of multiprocessing is tested with Dask's workers.
    others = {"_is_", "_C", "_impl", "_defn", "_replace", "_exit", "_inheriting"}
    assert foreign == listed | others, "list each private API of another package above"
