"""The Hugging Face hub, probed before use: without network, commands fail in seconds and not after many retries."""

import socket
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from genzoo.errors import UsageError

PROBE_S = 2.0  # timeout of the probe in seconds; huggingface_hub's own retries take 23


def is_reachable() -> bool:
    """Whether the hub, or the proxy on the way to it, accepts a connection within PROBE_S."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    target = urlsplit(constants.ENDPOINT)
    proxy = getproxies().get(target.scheme)
    if proxy and not proxy_bypass(target.hostname or ""):
        target = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    port = target.port or (80 if target.scheme == "http" else 443)
    try:
        socket.create_connection((target.hostname or "", port), timeout=PROBE_S).close()
    except OSError:
        return False
    return True


def download_optional(
    repo_id: str, filename: str, revision: str | None = None, token: str | bool | None = None, **options: Any
) -> str | None:
    """Returns what `download` does, or None where the repository has no such file.

    Warns where that is not known: without network, for a repository that was cached without asking for the file.

    Raises:
        UsageError: the hub refuses access; the message names the fix.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import RemoteEntryNotFoundError

    if options.get("local_files_only") or not is_reachable():
        known = try_to_load_from_cache(repo_id, filename, cache_dir=options.get("cache_dir"), revision=revision)
        if known is None:
            warnings.warn(f"Without network, {repo_id} is read without {filename}, if it has one.", stacklevel=2)
        return known if isinstance(known, str) else None
    try:
        return download(repo_id, filename, revision=revision, token=token, **options)
    except UsageError as error:
        if isinstance(error.__cause__, RemoteEntryNotFoundError):
            return None
        raise


def is_id(name: str) -> bool:
    """Whether a name has the form owner/name of a repository, and not that of a path."""
    if name.count("/") != 1 or name.startswith((".", "~", "/")):
        return False
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def download(
    repo_id: str,
    filename: str,
    revision: str | None = None,
    token: str | bool | None = None,
    *,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> str:
    """Returns the local path of a model repository's file, from the cache or the network.

    Raises:
        UsageError: it is in neither, or the hub refuses access; the message names the fix.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RemoteEntryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return hf_hub_download(
            repo_id,
            filename,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only or not is_reachable(),
        )
    except LocalEntryNotFoundError as error:
        raise UsageError(
            f"{repo_id} is not a local folder, is not in the hub's cache, and the hub does not answer: "
            "check the path or the network."
        ) from error
    except RevisionNotFoundError as error:
        raise UsageError(
            f"{repo_id} has no revision {revision}: check the name of the branch or tag, or the commit."
        ) from error
    except RemoteEntryNotFoundError as error:
        raise UsageError(f"{repo_id} has no {filename}: check the id, and the sub-folder.") from error
    except HfHubHTTPError as error:
        raise UsageError(
            f"The hub refuses {repo_id}/{filename} ({type(error).__name__}): "
            "check the id, or log in with `hf auth login`."
        ) from error
