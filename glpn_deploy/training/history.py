"""The record of a run: log.csv, and TensorBoard where it is installed."""

from __future__ import annotations

import csv
from pathlib import Path
from types import TracebackType
from typing import Any

from glpn_deploy.atomic import atomic_path
from glpn_deploy.errors import WriteError

METRICS = ("delta1", "delta2", "delta3", "abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog_half")
"""Validation metrics that the log has columns for."""
COLUMNS = ("step", "epoch", "lr", "loss", *(f"val_{name}" for name in METRICS))


class History:
    """Appends to ``OUT/log.csv``: a row a step, and a row with the metrics after each epoch.

    Args:
        step: Steps already done: later rows, of a run that was killed after its last state, are taken
            out, for they come again.
        validated: Epochs already validated; the same holds for their rows.
    """

    def __init__(self, out: Path, step: int, validated: int) -> None:
        self.path = out / "log.csv"
        kept = _rows_until(self.path, step, validated)
        with atomic_path(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(kept)
        try:
            self._file = self.path.open("a", newline="", encoding="utf-8")
        except OSError as error:
            raise WriteError(f"{self.path} could not be written ({error.strerror})") from None
        self._writer = csv.DictWriter(self._file, COLUMNS)
        self._board = _tensorboard(out, step)

    def __enter__(self) -> History:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()

    def add_step(self, step: int, epoch: int, lr: float, loss: float) -> None:
        """One step; ``step`` and ``epoch`` count from 1. The loss is written to its last digit."""
        self._writer.writerow({"step": step, "epoch": epoch, "lr": f"{lr:.6g}", "loss": repr(loss)})
        if self._board is not None:
            self._board.add_scalar("train/loss", loss, step)
            self._board.add_scalar("train/lr", lr, step)

    def add_validation(self, step: int, epoch: int, metrics: dict[str, float]) -> None:
        """The metrics after an epoch."""
        values = {f"val_{name}": f"{metrics[name]:.6f}" for name in METRICS}
        self._writer.writerow({"step": step, "epoch": epoch, **values})
        self.flush()
        if self._board is not None:
            for name in METRICS:
                self._board.add_scalar(f"val/{name}", metrics[name], step)

    def flush(self) -> None:
        """Hands to the system what was written."""
        self._file.flush()


def _rows_until(path: Path, step: int, validated: int) -> list[dict[str, str]]:
    if not step or not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = list(csv.DictReader(file))
    kept = []
    for row in rows:
        try:
            at, epoch = int(row["step"]), int(row["epoch"])
        except (KeyError, TypeError, ValueError):
            continue  # the line that a kill cut off
        if at <= step and (row["loss"] or epoch <= validated) and row.keys() == set(COLUMNS):
            kept.append(row)
    return kept


def _tensorboard(out: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(out / "tensorboard", purge_step=step + 1 if step else None)
