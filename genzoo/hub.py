"""The Hugging Face hub, asked at once: no retries of half a minute on a machine without network."""

import socket
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from genzoo.errors import UsageError

PROBE_S = 2.0  # seconds to wait for the hub before it counts as out of reach; its own retries take 23


def is_reachable() -> bool:
    """Whether the hub, or the proxy on the way to it, takes a connection within PROBE_S."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    target = urlsplit(constants.ENDPOINT)
    proxy = None if proxy_bypass(target.hostname) else getproxies().get(target.scheme)
    if proxy:
        target = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    try:
        socket.create_connection((target.hostname, target.port or (80 if target.scheme == "http" else 443)), timeout=PROBE_S).close()
    except OSError:
        return False
    return True


def is_id(name: str) -> bool:
    """Whether a name can be a repository's, owner/name, and is no path."""
    return name.count("/") == 1 and not name.startswith((".", "~", "/"))


def download(repo_id: str, filename: str, revision: str | None = None, token: str | None = None) -> str:
    """Returns the local path of a model repository's file, from the cache or the network.

    Raises:
        UsageError: neither has it; the message says what to do.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return hf_hub_download(repo_id, filename, revision=revision, token=token, local_files_only=not is_reachable())
    except LocalEntryNotFoundError as error:
        raise UsageError(
            f"{repo_id} is no local folder, is not in the hub's cache, and the hub does not answer: check the path or the network."
        ) from error
    except HfHubHTTPError as error:
        raise UsageError(
            f"The hub refuses {repo_id}/{filename} ({error.__class__.__name__}): check the id, or log in with `hf auth login`."
        ) from error
