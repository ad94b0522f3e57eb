"""sweep: variation sweeps on image-generation servers, from an experiment file to a results table.

Everything the command line does is one call here; what a call needs is imported when it is first used.
"""


def __getattr__(name: str) -> object:
    """Attach what the stub names when it is first used: the command line imports this before it handles Ctrl-C."""
    import lazy_loader

    attached, listed, names = lazy_loader.attach_stub(__name__, __file__)
    globals().update(__getattr__=attached, __dir__=listed, __all__=names)
    return names if name == "__all__" else attached(name)


def __dir__() -> object:
    return __getattr__("__all__")
