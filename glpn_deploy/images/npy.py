"""Arrays from ``.npy`` files that may come from anyone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.reading import check_regular


def read_npy(path: Path) -> NDArray[Any]:
    """One array from a ``.npy`` file; archives and pickled objects are none."""
    size = check_regular(path)
    with path.open("rb") as file:
        try:
            array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        except OSError:
            raise
        except Exception as error:  # headers are Python literals: SyntaxError, TokenError, MemoryError ...
            raise ValueError(f"no plain .npy file: {type(error).__name__}: {error}") from None
    if array.nbytes > size:  # a shape of zero strides or sides would take no bytes
        raise ValueError("no plain .npy file: it is shorter than its header says")
    return array
