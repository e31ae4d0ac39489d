"""Data sets by name, by file or made from a formula: points, labels, image shape, class names.

A name or a path comes in, a `Dataset` goes out. Open `load` first; `manifolds` makes the synthetic
ones, and each file format has its own reader.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
