"""FastAPI building blocks: each block is its own module, and importing this package imports none."""

__all__ = ("__version__",)

__version__ = "0.1.0"
