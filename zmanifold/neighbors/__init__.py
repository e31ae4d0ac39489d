"""Exact nearest neighbours: without the point itself, ties by row number, memory bounded.

Points come in, distances and row numbers go out. Open `api` first: it chooses between the k-d tree
(up to 12 features on a CPU), tiles of float32 or bfloat16 products (CPU) and whole rows of products
(GPU). Products only propose candidates; a bound on their rounding proves that none is missing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
