"""An object of the application, by module and attribute, as servers take it: ``myapp:app``."""

from __future__ import annotations

import contextlib
import importlib
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, RPLogoutError

_MISSING = object()


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
    with _named_errors(f"{module} cannot be imported"):
        found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        with _named_errors(f"{name} cannot be read"):
            found = getattr(found, part, _MISSING)
        if found is _MISSING:
            raise ConfigurationError(f"{module} has no attribute {attribute!r}")
    return found


def make(name: str) -> Any:
    """Import the factory that ``name`` stands for, and return what it makes. Raises ``ConfigurationError``."""
    factory = load(name)
    if not callable(factory):
        raise ConfigurationError(f"{name} cannot be called: expected a function that returns the app")
    with _named_errors(f"{name} cannot be called"):
        return factory()


@contextlib.contextmanager
def _named_errors(failed: str) -> Iterator[None]:
    """Turn what code of the application raises, ``SystemExit`` included, into a ``ConfigurationError``."""
    try:
        with warnings.catch_warnings(record=True):  # the server shows them
            yield
    except KeyboardInterrupt:
        raise
    except RPLogoutError as error:
        raise ConfigurationError(f"{failed}: {error}") from error
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{failed}: there is no module {error.name!r}") from error
    except BaseException as error:
        raise ConfigurationError(f"{failed}: {_place_of(error)}") from error


def _place_of(error: BaseException) -> str:
    """Return what was raised and where: in the last line of the application's own, if it is in the current folder."""
    frames = traceback.extract_tb(error.__traceback__)
    here = Path.cwd()
    files = [(frame, Path(frame.filename)) for frame in frames]
    own = [frame for frame, file in files if file.is_relative_to(here) and "site-packages" not in file.parts]
    last = (own or frames)[-1:]
    where = f" in {last[0].filename}, line {last[0].lineno}" if last else ""
    return f"{type(error).__name__}{where}"
