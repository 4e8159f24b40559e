"""FastAPI building blocks, each a module of its own: importing this package imports none."""

__all__ = ("__version__",)

__version__ = "0.1.0"
