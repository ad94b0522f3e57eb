"""Keep every outcome and image of a run in its results folder, and read the results table from it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
