"""What an artifact holds, as one digest: two artifacts with equal bytes have equal digests, wherever they lie."""

from __future__ import annotations

import hashlib
from pathlib import Path


def digest(path: Path) -> str:
    """`sha256:<hex>` of a file's bytes, or of a folder's tree (names and contents, in sorted order).

    Raises:
        FileNotFoundError: nothing is there.
    """
    if path.is_dir():
        tree = hashlib.sha256(b"tree\0")
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            tree.update(file.relative_to(path).as_posix().encode() + b"\0" + _file(file).encode() + b"\0")
        return f"sha256:{tree.hexdigest()}"
    return f"sha256:{_file(path)}"


def size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return path.stat().st_size


def _file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
