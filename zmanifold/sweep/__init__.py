"""Local intrinsic dimension against the mixing strength.

A data set and mixers come in. A table goes out, with a row for each cell: one mixer, strength,
estimator, neighbourhood size and seed. Open `api` first, then `plan` (checks and run) and `cells`
(the work of one cell); `many` sweeps over several data sets into one table; `journal` keeps
finished cells, `stream` handles data that does not fit into memory, `dask` computes on a cluster.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
