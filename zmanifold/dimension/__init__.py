"""Local intrinsic dimension from the spectra of neighbourhoods.

Points and neighbourhoods come in, one dimension a point goes out. Open `api` first. `_inertia`
counts eigenvalues above a threshold without computing them, `_inertia_small` for matrices up to
12 x 12, `_inertia_gpu` on a GPU.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
