"""Putting a checkpoint, or a part of one, on the Hugging Face hub."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glpn_deploy.errors import CheckpointError, first_line
from glpn_deploy.optional import needs


def push_folder(
    write: Callable[[Path], object],
    repo_id: str,
    *,
    commit_message: str = "",
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
) -> Any:
    """Writes files into a temporary folder and uploads them, making the repository where missing.

    Args:
        repo_id: ``owner/name``, or a name in one's own namespace.
        private: Whether a new repository is private; None takes the owner's default.
        token: As in `HubOptions`.
        create_pr: Open a pull request instead of committing.
    """
    with needs("uploading", "export"):
        import huggingface_hub
    api = huggingface_hub.HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        try:
            url = api.create_repo(repo_id, private=private, exist_ok=True)
            return api.upload_folder(
                repo_id=url.repo_id,
                folder_path=folder,
                commit_message=commit_message or f"Upload with glpn-deploy to {repo_id}",
                revision=revision,
                create_pr=create_pr,
            )
        except Exception as error:  # the hub client's three HTTP libraries share no base class
            raise CheckpointError(
                f"the hub did not take {repo_id} ({first_line(error)})",
                fix="run `hf auth login`, and check the name and the connection",
            ) from error
