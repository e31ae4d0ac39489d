"""Data sets by name, from files and folders, or generated.

A name or a path comes in; a `Dataset` goes out: points, labels, image shape, class names, and what
the file was read as. Open `load` first: it asks `named` for sets that have names and `formats` for
files and folders, where each format is one file. `manifolds` generates the synthetic sets.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
