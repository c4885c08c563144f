"""Files whose names a user has chosen."""

import contextlib
import os
import secrets
from pathlib import Path


def sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def output_file(path):
    """The path to write to. A regular file appears whole or not at all, where a link leads; a device or pipe is written
    into. Throws OSError if nothing can be written there."""
    path = Path(path)
    if path.is_symlink():
        # Behind a link of these folders is what another process has opened.
        if str(path.parent.resolve()).startswith(("/dev", "/proc")):
            yield path
            return
        path = path.resolve(strict=True)
    if path.exists() and not path.is_file():
        yield path
        return
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.absolute().parent)
    finally:
        temporary.unlink(missing_ok=True)
