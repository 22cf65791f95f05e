"""The text of a file, bounded: only a regular file is opened, and no more of it is read than a configuration can be."""

from __future__ import annotations

import stat
from pathlib import Path

from losses.core.errors import ConfigError

MOST_BYTES = 2**20
"""How long a file may be: 1 MiB."""

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def text_of(file: Path) -> str:
    """Return the text of a file in UTF-8, with or without a byte order mark.

    Raises:
        ConfigError: there is none, it is no regular file, longer than ``MOST_BYTES``, or not UTF-8.
    """
    try:
        content = _bytes_of(file)
    except ConfigError:
        raise
    except FileNotFoundError:
        raise ConfigError("there is no such file") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read: {error}") from None
    if b"\0" in content:
        raise ConfigError("cannot be read as text: it holds the byte 0, as UTF-16 does; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot be read as text: {error}; save it as UTF-8") from None


def _bytes_of(file: Path) -> bytes:
    status = file.stat()  # before it is opened: to open a device may do something
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        raise ConfigError(f"cannot be read: it is {KINDS.get(kind, 'something else')}, expected a regular file")
    with file.open("rb") as stream:
        content = stream.read(MOST_BYTES + 1)  # whatever the size says: a file may grow, and /proc says 0
    if len(content) > MOST_BYTES:
        raise ConfigError(f"has {max(status.st_size, len(content)):,} bytes, at most {MOST_BYTES:,} are read")
    return content
