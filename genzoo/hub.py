"""The model and dataset hub, asked once and at once: no retries of half a minute on a machine without network."""

import functools
import os
import socket
from urllib.parse import urlsplit

from genzoo.errors import UsageError


@functools.cache
def reachable(timeout_s: float = 2.0) -> bool:
    """Whether the hub's host answers; False at once when HF_HUB_OFFLINE is set."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return False
    from huggingface_hub.constants import ENDPOINT

    address = urlsplit(ENDPOINT)
    try:
        socket.create_connection((address.hostname, address.port or 443), timeout_s).close()
    except OSError:
        return False
    return True


def download(repo_id: str, filename: str, revision: str | None = None, token: str | None = None) -> str:
    """Returns the local path of a model repository's file, from the cache or the network.

    Raises:
        UsageError: neither has it; the message says what to do.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return hf_hub_download(repo_id, filename, revision=revision, token=token, local_files_only=not reachable())
    except LocalEntryNotFoundError as error:
        raise UsageError(f"{repo_id} is no local folder, is not in the hub's cache, and the hub does not answer: check the path or the network.") from error
    except HfHubHTTPError as error:
        raise UsageError(f"The hub refuses {repo_id}/{filename} ({error.__class__.__name__}): check the id, or log in with `hf auth login`.") from error
