"""Run the instances of a plan on servers, under bounded concurrency, and keep every outcome."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
