"""An object of the application, by module and attribute, as servers take it: ``myapp:app``."""

from __future__ import annotations

import importlib
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, RPLogoutError


def load(name: str) -> Any:
    """Import the object that ``name`` stands for: ``module:attribute``, from the current folder too.

    Raises ``ConfigurationError``. Of an error that the application raises, its type and place are shown and not its
    text, which may hold a setting. A name of another form is not shown either: it may be a URL without its scheme.
    """
    module, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), *attribute.split(".")]):
        raise ConfigurationError("this names no object of the app: expected module:attribute, such as myapp:app")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        with warnings.catch_warnings(record=True):  # the server shows them
            found: Any = importlib.import_module(module)
    except RPLogoutError as error:
        raise ConfigurationError(f"{module} cannot be imported: {error}") from error
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{module} cannot be imported: there is no module {error.name!r}") from error
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise ConfigurationError(f"{module} cannot be imported: {_place_of(error)}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigurationError(f"{module} has no attribute {attribute!r}")
        found = getattr(found, part)
    return found


def _place_of(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
