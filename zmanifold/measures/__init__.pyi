from ._embedding import Embedding as Embedding
from ._embedding import check_embeddable as check_embeddable
from ._embedding import embed as embed
from ._mixed_set import MixedSetMetrics as MixedSetMetrics
from ._mixed_set import mixed_set_metrics as mixed_set_metrics
from ._vicinity import VicinityResult as VicinityResult
from ._vicinity import vicinity as vicinity
