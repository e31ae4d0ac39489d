"""What mixed or test samples are to the originals around them.

Originals and other samples with their labels come in, one table row a sample and numbers of the
whole set go out. Open `_mixed_set` first (label error, distance, precision, recall, coverage);
`_vicinity` describes the neighbours of test samples, `_embedding` draws both in the plane.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
