"""Every error that deblur raises on purpose. Each message is one line: what, and what to do about it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

INTERRUPTED = "interrupted; run the same command again to go on"

# What a network file system or a busy disk says now and not a minute later.
PASSING = {
    getattr(errno, name)
    for name in (
        *(
            "EIO",
            "ESTALE",
            "EAGAIN",
            "EBUSY",
            "EINTR",
            "ETIMEDOUT",
            "ECONNRESET",
            "ECONNREFUSED",
            "ECONNABORTED",
        ),
        *("ENOTCONN", "EPIPE", "ENETDOWN", "ENETUNREACH", "EHOSTDOWN", "EHOSTUNREACH", "EREMOTEIO"),
    )
    if hasattr(errno, name)
}


class DeblurError(Exception):
    """Base of all: catch this to catch everything deblur raises on purpose.

    `exit_code` is what the command line leaves with: 2 for wrong usage or configuration, 1 for failed work.
    """

    exit_code = 1
    passing = False  #: whether another try may help: see `may_pass`

    def __reduce__(self) -> tuple[Any, ...]:
        return (
            type(self),
            self.args,
            self.__dict__ | {"passing": may_pass(self)},
        )  # what caused it isn't pickled


class ConfigError(DeblurError):
    """A setting, argument or key is wrong or missing; nothing was touched."""

    exit_code = 2


class ArrayError(DeblurError, ValueError):
    """An array given to the maths has the wrong shape, type or content."""

    exit_code = 2


class ReadError(DeblurError):
    """A source file is missing, unreadable, broken, or of a kind that is refused by name."""


class StoreError(DeblurError):
    """A store is missing, damaged, or written by something else."""


class LeaseError(DeblurError):
    """Somebody else is working on this sequence."""


class PlanError(DeblurError):
    """The plan can't be carried out here: too much memory, mismatched shards, nothing to do it with."""

    exit_code = 2


class NumericsError(DeblurError, ArithmeticError):
    """A computation left the finite numbers."""


def meant(word: str, known: Iterable[str]) -> str:
    """What somebody may have meant, to be appended to a message: " (did you mean 'run'?)", or nothing.

    >>> meant("exposure_fracton", ["exposure_fraction", "frame_rate"])
    " (did you mean 'exposure_fraction'?)"
    """
    from difflib import get_close_matches

    close = get_close_matches(word, list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def near(path: Path) -> str:
    """The same for a path that isn't there: a name beside it that may have been meant."""
    try:
        names = (entry.name for entry in islice(os.scandir(path.parent), 1000))
        return meant(path.name, [name for name in names if not name.startswith(".")])
    except OSError:
        return ""


def may_pass(error: BaseException | None) -> bool:
    """Whether trying again may help: beneath it is a fault of storage or network of the kind that passes.

    >>> may_pass(OSError(errno.EIO, "Input/output error")), may_pass(OSError(errno.ENOSPC, "No space left on device"))
    (True, False)
    """
    while error is not None:
        if getattr(error, "passing", False) or isinstance(error, TimeoutError | ConnectionError):
            return True
        if isinstance(error, OSError) and error.errno in PASSING:
            return True
        error = error.__cause__ or error.__context__
    return False
