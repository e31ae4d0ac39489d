"""Mixing augmentations, one family a file.

A batch and its labels come in, the mixed batch and its soft labels go out. Open `linear` first: it
holds what all mixers by weights share; `batches` mixes whole data sets.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
