"""Bind an experiment to a workflow: instances with keys, their order, and what a run would do. Pure functions."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
