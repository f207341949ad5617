"""The files that a network was loaded from, so that another process loads the same ones or says no."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from glpn_deploy.bundle.identity import HeldFiles
from glpn_deploy.errors import BundleError
from glpn_deploy.reading import files_digest

_OF_A_FOLDER = (".json", ".safetensors", ".bin", ".onnx")


class SourceFiles:
    """Files as they were when they were loaded.

    Args:
        source: What was loaded: a folder, of which configs and weights count, or a file.
        paths: The files, where not all of the folder's; a bundle's manifest speaks for its others.
    """

    def __init__(self, source: Path, paths: Iterable[Path] = ()) -> None:
        self.source = source.absolute()
        self._paths = [path.absolute() for path in paths] or self._all()
        self._held = HeldFiles(self._paths)

    def _all(self) -> list[Path]:
        if not self.source.is_dir():
            return [self.source]
        return sorted(path for path in self.source.iterdir() if path.suffix in _OF_A_FOLDER)

    def digest(self) -> str:
        """SHA-256 over the files' digests and names."""
        try:
            self._held.require_unchanged()
            return files_digest(self._paths)
        except (BundleError, OSError):
            raise changed(self.source) from None


def changed(source: Path) -> BundleError:
    """The refusal to hand over what is not there any more."""
    return BundleError(
        f"{source} is not what this estimator was loaded from any more",
        expected="the same files, which the other process loads anew",
        fix=f"load it again there: DepthEstimator.load({str(source)!r})",
    )
