"""Mixing augmentations, one mixer a file.

A batch and its labels come in; the mixed batch and its soft labels go out. Open `base` first: it
says what a mixer is, and holds the one way to call, name and identify it. `linear` has the base
class of mixers by weights, `registry` finds mixers by name, and `batches` mixes whole data sets.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
