"""An order of neighbourhoods in which most of their points are still in the cache."""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from jaxtyping import Float, Int64, Shaped

from zmanifold._base.kernels import kernel

__all__ = ["walk"]

_kernel = kernel()

# Points of up to this number of bytes are in a CPU's cache in any order.
_CACHE_BYTES = 4 * 2**20


# At a row whose whole list has been visited, the walk looks back this number of steps for a list
# with a row left.
_STEPS_BACK = 64


def walk(
    lists: Shaped[np.ndarray, "q c"], points: Float[np.ndarray, "n d"]
) -> Int64[np.ndarray, " q"]:
    """Return an order of the queries in which each shares points with those before it.

    From each row the walk goes to an unvisited one of its list, if there is one, so that most of
    the points that a query needs are in the cache from the last query. If the lists are not those
    of all points, or all points fit into the cache, the order is that of the rows.

    Parameters
    ----------
    lists : ndarray of int, shape (q, c)
        Row numbers of points for each query; -1 stands for no point.
    points : ndarray of shape (n, d)
        The points.

    Returns
    -------
    ndarray of shape (q,)
        A permutation.

    Examples
    --------
    >>> import numpy as np
    >>> from zmanifold._base.locality import walk
    >>> walk(np.array([[2], [2], [1]]), np.zeros((3, 2**19)))
    array([0, 2, 1])
    """
    if len(lists) != len(points) or points.nbytes <= _CACHE_BYTES:
        return np.arange(len(lists))
    order: Int64[np.ndarray, " q"] = _walk(lists)
    return order


@_kernel
@no_type_check
def _walk(lists):
    n, most = lists.shape
    seen = np.zeros(n, np.bool_)
    order = np.empty(n, np.int64)
    row, unseen = 0, 0
    for step in range(n):
        order[step] = row
        seen[row] = True
        found = False
        for back in range(step, max(-1, step - _STEPS_BACK), -1):
            for j in range(most):
                row = lists[order[back], j]
                if row >= 0 and not seen[row]:
                    found = True
                    break
            if found:
                break
        if not found:
            while unseen < n and seen[unseen]:
                unseen += 1
            row = unseen
    return order
