"""PyAV, or the sentence that it is missing: whoever decodes or encodes imports it from here."""

from __future__ import annotations

from glpn_deploy.errors import MissingDependencyError

try:
    import av as av
except ImportError as error:
    raise MissingDependencyError(
        f"video is read and written with PyAV, which is not installed ({error})",
        fix='pip install "glpn-deploy[video]"',
    ) from None
