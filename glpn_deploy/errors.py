"""The one exception family; every message says what came, what was expected and what to do next."""

from __future__ import annotations

import re

_MOST_CHARACTERS = 600  # of each part of a message: a file's values are quoted in it
# Control characters would command the terminal, those of direction reorder what stands around them, and
# halves of surrogate pairs (bytes of a file name that are no UTF-8) cannot be printed.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Text that a terminal shows as it is: what commands it is written as an escape (``\\x1b``)."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def first_line(error: BaseException) -> str:
    """What another library says of a failure, in one line of at most 200 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _quoted(text: str) -> str:
    if len(text) > _MOST_CHARACTERS:
        half = _MOST_CHARACTERS // 2
        text = f"{text[:half]} … {text[-half:]}"
    return printable(text)


class GlpnError(Exception):
    """Base of every error this package raises for a reason the user can act on.

    Args:
        got: What was received, as a clause ("the checkpoint folder 'x' has no config.json").
        expected: What would have been accepted; left out where ``got`` already says it.
        fix: The next step, where possible a command to copy.

    Attributes:
        exit_code: Exit status of a command that ends with this error: 1 a check failed or the
            machine could not do it, 2 wrong use or bad input.
    """

    exit_code = 2

    def __init__(self, got: str, *, expected: str = "", fix: str = "") -> None:
        self.got, self.expected, self.fix = map(_quoted, (got, expected, fix))
        parts = [self.got.rstrip(".")]
        if expected:
            parts.append(f"expected {self.expected.rstrip('.')}")
        if fix:
            parts.append(self.fix.rstrip("."))
        super().__init__("; ".join(parts) + ".")


class ConfigError(GlpnError):
    """A model or processor configuration that cannot be used."""


class ConfigFileError(ConfigError, OSError):
    """A configuration file that is missing or not readable; an ``OSError`` too, as transformers raises."""


class CheckpointError(GlpnError, OSError):
    """A checkpoint that is missing, incomplete, damaged or not GLPN; an ``OSError`` too, as transformers'."""


class ImageError(GlpnError):
    """An image that cannot be read or whose size or mode is not usable."""


class VideoError(GlpnError):
    """A clip or camera that cannot be opened, ends before its time, or cannot be encoded."""


class InputError(GlpnError, ValueError):
    """An array or an option whose shape, dtype or value is not usable."""


class BundleError(GlpnError):
    """A bundle that is missing, incomplete, damaged or points outside its folder."""


class EngineError(BundleError):
    """A TensorRT engine that is not whole, or not of this GPU, TensorRT or bundle; ``fix`` rebuilds it."""


class DatasetError(GlpnError):
    """A data set whose files are missing, damaged or do not match."""


class WriteError(GlpnError):
    """A file that could not be written: no room, no permission, no such folder."""

    exit_code = 1


class BackendError(GlpnError):
    """A backend that cannot run here, or failed while running."""

    exit_code = 1


class MissingDependencyError(BackendError, ImportError):
    """A package that is not installed; ``fix`` holds the pip line that mends it."""

    exit_code = 2


class UnavailableError(BackendError):
    """What was asked for by name, and this machine or source cannot give: it is refused, not replaced."""

    exit_code = 2


class ExportError(GlpnError):
    """An export that could not be completed."""

    exit_code = 1


class ParityError(GlpnError):
    """An artefact whose depth differs from the reference by more than the tolerance."""

    exit_code = 1


class BudgetError(GlpnError):
    """A precision of which no graph is within its accuracy budget."""

    exit_code = 1
