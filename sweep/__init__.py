"""sweep: variation sweeps on image-generation servers, from an experiment file to a results table.

Everything the command line does is one call here; what a call needs is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
