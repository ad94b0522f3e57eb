"""Read an experiment file: what is fixed, what varies, and the lazy grid of variations."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
