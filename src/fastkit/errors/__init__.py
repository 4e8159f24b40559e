"""RFC 9457 Problem Details for every error a FastAPI app answers.

`install_exception_handlers(app)` makes one error body of all of them: `HTTPException`, the router's
own 404 and 405, validation errors, the exceptions you declare, and the ones nobody handled.
"""

from fastkit.errors._handlers import ProblemHook
from fastkit.errors._install import install_exception_handlers
from fastkit.errors._openapi import problem_responses
from fastkit.errors._problem import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    Problem,
    ProblemError,
    ProblemMap,
    UnauthorizedError,
)

__all__ = (
    "BadRequestError",
    "ConflictError",
    "ForbiddenError",
    "NotFoundError",
    "Problem",
    "ProblemError",
    "ProblemHook",
    "ProblemMap",
    "UnauthorizedError",
    "install_exception_handlers",
    "problem_responses",
)
