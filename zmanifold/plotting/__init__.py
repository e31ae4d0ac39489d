"""Figures of results, drawn on Axes that the caller gives.

Tables, samples with labels or embeddings come in, Axes or a Figure go out. Open `sweeps` first for
local dimension against a strength, `samples` for points and neighbourhoods; `style` holds the
colours and dashes.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
