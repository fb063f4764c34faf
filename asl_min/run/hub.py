"""The Hugging Face hub: is it there? Asked once, with a short limit, before libraries ask it again and again."""

import re
from functools import lru_cache
from pathlib import Path

import httpx2
from huggingface_hub import constants, is_offline_mode, snapshot_download, try_to_load_from_cache

from asl_min.run.errors import InputError

SECONDS = 5.0
"""How long the hub has to answer."""


def is_id(name: str) -> bool:
    """Does it look like OWNER/NAME?"""
    return re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) is not None


def is_meant(name: str) -> bool:
    """Is the hub's OWNER/NAME meant, and not a path below a folder that there is?"""
    return is_id(name) and not Path(name).parent.exists()


def require(name: str, file: str) -> None:
    """Raises `InputError` where a file of the repository `name` is not in the hub's cache and the hub does not answer;
    offline by the user's wish, the libraries say what they lack."""
    if is_offline_mode() or reached() or isinstance(try_to_load_from_cache(name, file), str):
        return
    raise InputError(
        f"{name!r} is neither a folder nor in the hub's cache, and {constants.ENDPOINT} does not answer; "
        f"give a folder, or where there is a network: hf download {name}"
    )


def reached() -> bool:
    """Does the hub answer? If not, its cache is all that this process uses from here on."""
    constants.HF_HUB_OFFLINE = is_offline_mode() or not answers()
    return not constants.HF_HUB_OFFLINE


@lru_cache(1)
def answers() -> bool:
    """Does the hub answer, whatever it says?"""
    try:
        httpx2.head(constants.ENDPOINT, timeout=SECONDS)
    except httpx2.HTTPError:
        return False
    return True


def adapter(name: str) -> Path:
    """The folder of a peft adapter of the hub, downloaded if it is not in the cache. Raises `InputError` where it
    cannot be had, or is none."""
    require(name, "adapter_config.json")
    try:
        folder = Path(snapshot_download(name, allow_patterns=["adapter_*"]))
    except (OSError, ValueError, httpx2.HTTPError) as error:
        raise InputError(f"{name}: cannot be downloaded: {' '.join(str(error).split())[:200]}") from None
    if not (folder / "adapter_config.json").is_file():
        raise InputError(f"{name}: holds no peft adapter (no adapter_config.json)")
    return folder
