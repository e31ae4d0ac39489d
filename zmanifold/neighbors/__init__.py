"""Exact nearest neighbours, in bounded memory; a point is never its own neighbour.

Points come in; distances and row numbers go out, ties by row number. Open `api` first: it makes a
`Search` and hands it to the k-d tree (up to 12 features on a CPU), to tiles of products (CPU) or to
rows of products (GPU). A `Proposal` (float32, bfloat16 or projections) multiplies queries and
points and so proposes candidates; its bound, derived in docs/proofs.md, proves that no neighbour is
missing among them. `blocks` searches points that are made block by block and never held at once.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
