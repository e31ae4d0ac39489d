"""Exact nearest neighbours: without the point itself, ties by row number, memory bounded.

Points come in, distances and row numbers go out. Open `api` first: it makes a `Search` and hands it
to the k-d tree (up to 12 features on a CPU), to tiles of products (CPU) or to rows of products
(GPU). A `Proposal` (float32, bfloat16 or projections) multiplies and lists candidates; its bound,
derived in docs/proofs.md, proves that none is missing. `blocks` searches sets that are not held.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
