from .api import LocalPCA as LocalPCA
from .api import as_neighborhoods as as_neighborhoods
from .api import fukunaga_olsen as fukunaga_olsen
from .api import greatest_norm as greatest_norm
from .api import local_spectra as local_spectra
