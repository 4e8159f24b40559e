"""The one wording for a missing optional dependency."""

from collections.abc import Generator
from contextlib import contextmanager

__all__ = ("requires",)


@contextmanager
def requires(title: str, /, *, by: str, module: str, install: str) -> Generator[None]:
    """Guard the imports of a block that needs a package which may not be installed.

    `title` is the package's name as people write it, `by` the block that needs it, `module` what
    is imported and `install` the requirement that brings it. Only the absence of `module` itself
    is reworded. A package that is there but broken (a submodule or a dependency of its own is
    missing) keeps its own error, which the advice given here would hide.

    Raises:
        ModuleNotFoundError: `module` is not installed. The message says how to install it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        message = (
            f'{by} needs {title}, which is not installed. Install it with: pip install "{install}"'
        )
        raise ModuleNotFoundError(message, name=module) from error
