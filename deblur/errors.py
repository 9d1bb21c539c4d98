"""Every error that deblur raises on purpose. Each message is one line: what, and what to do about it."""


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
