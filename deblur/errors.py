"""Every error that deblur raises on purpose. Each message is one line: what, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable


class DeblurError(Exception):
    """Base of all: catch this to catch everything deblur raises on purpose.

    `exit_code` is what the command line leaves with: 2 for wrong usage or configuration, 1 for failed work.
    """

    exit_code = 1


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


class TransientError(StoreError):
    """Storage hiccuped: the same may work when tried again."""


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
