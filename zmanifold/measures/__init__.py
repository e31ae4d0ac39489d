"""Measures of mixed or test samples against the original samples around them.

Original and other samples with their labels come in. A table with one row a sample, and numbers for
the whole set, go out. Open `_mixed_set` first (label error, distance, precision, recall, coverage);
`_vicinity` describes the neighbours of test samples, `_embedding` places both sets in the plane.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
