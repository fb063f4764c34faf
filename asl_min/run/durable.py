"""Files that survive a crash: replaced as a whole or not at all, flushed to the disk, and known by their SHA-256."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".tmp"
"""How the names of files end that are not whole yet. A killed process may leave one."""


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to. It takes the place of `path` at the end of the block; after a crash the old file is still
    there. Several processes may write the same file: the last one's is kept."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file as a whole."""
    with replacing(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Replace a file as a whole, in UTF-8."""
    write_bytes(path, text.encode())


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write to, which takes the place of `folder` at the end of the block. What an interrupted block left
    is dropped by the next one."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    for path in partial.rglob("*"):
        sync(path)
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
    sync(folder.parent)


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's list of entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal; empty where there is no such file."""
    if not path.is_file():
        return ""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
