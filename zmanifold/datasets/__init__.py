"""Data sets by name, by file or made from a formula: points, labels, image shape, class names.

A name or a path comes in, a `Dataset` goes out. Open `load` first: it asks `named` for the sets
that have names and `formats` for files and folders, where each file format is one file; `manifolds`
makes the synthetic sets.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
