"""Files that outlive a crash: written whole or not at all, on the disk before anything counts on them, known by their
checksum."""

import hashlib
import json
import os
from pathlib import Path


def write_bytes(path: Path, data: bytes) -> None:
    """Whole or not at all: a temporary file beside it, then a rename."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync(path.parent)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def append_rows(path: Path, rows: list[dict]) -> None:
    """JSON lines at the end of a file. Killed on the way, it holds some of them: what counts is the size noted
    afterwards."""
    with open(path, "ab") as file:
        file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """A file's content, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(path: Path, size: int | None = None) -> str:
    """SHA-256 of a file, or of its first `size` bytes; empty where there is no such file or it is shorter."""
    if not path.is_file() or (size is not None and path.stat().st_size < size):
        return ""
    if size is None:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(path.read_bytes()[:size]).hexdigest()
