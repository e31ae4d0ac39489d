"""Local intrinsic dimension from the spectra of neighbourhoods.

Points and neighbourhoods come in; one dimension a point goes out. Open `api` first, then `fo`, the
first estimator, and `registry`, which says what an estimator is. `_inertia` counts eigenvalues
above a threshold without computing them; `_inertia_small` does so for matrices up to 24 x 24, and
`_inertia_gpu` on a GPU.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
