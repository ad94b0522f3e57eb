"""A server to try sweep on: it speaks InvokeAI's protocol and paints images instead of diffusing them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
