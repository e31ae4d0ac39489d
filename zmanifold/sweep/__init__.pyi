from .api import SweepResult as SweepResult
from .api import failed_cells as failed_cells
from .api import measured_recall as measured_recall
from .api import prepare_sweep as prepare_sweep
from .api import sweep_id as sweep_id
from .dask import check_dask as check_dask
from .dask import connected as connected
from .journal import Journal as Journal
