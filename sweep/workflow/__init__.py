"""Read workflows of any format, find their roles, and check values against node schemas. Pure functions."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
