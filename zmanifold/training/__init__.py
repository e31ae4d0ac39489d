"""Image classifiers trained on mixed batches.

A `Dataset` of images and a mixer come in, a trained network with its history goes out. Open `loop`
first; `networks` holds the architectures, `checkpoints` the file format.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
