"""One way to write a file: it appears whole or not at all, and an old one stays until then."""

import contextlib
import errno
import os
import pathlib
import re
import tempfile

_FULL = {
    number: "Free some space and try again; what was there before is still whole"
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
}
_FORBIDDEN = dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "Choose a folder that you may write into")
_REMEDIES = {**_FULL, **_FORBIDDEN, errno.ENOENT: "Make its folder first", errno.ENOTDIR: "Choose another folder"}
_KEPT = 60  # characters of a file's name in that of its draft: 4 bytes each at most, and 255 bytes is the limit


def cache_folder() -> pathlib.Path:
    """This package's folder in the user's cache, perhaps not there yet; use it for what can be made again."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache", "tf_terngrad")


@contextlib.contextmanager
def replacing(path):
    """Give a draft beside a file; at the end it takes the file's place, and where the body fails it vanishes.

    Use it for whatever a program leaves behind: a kill, a full disk or an error in the middle leaves the old file.

    Args:
        path: of the file. Its folder exists.

    Yields:
        The `pathlib.Path` of the draft, an empty file: a hidden name in the same folder that ends as the file's does.

    Raises:
        OSError: the file cannot be written, before the body runs if that can be told: no such folder, no right to
            write, a folder in its place; or the disk fills. It names the file and says what to do.

    Example:

    ```python
    with replacing("model.keras") as draft:
        model.save(draft)
    ```
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, f"Cannot write {path}: it is a folder. Give the name of a file")
    with _told(path):
        number, name = tempfile.mkstemp(prefix=".", suffix=f".{path.name[-_KEPT:]}", dir=path.absolute().parent)
        os.close(number)
    draft = pathlib.Path(name)
    try:
        with _told(path, only=_FULL):
            yield draft
        with _told(path):
            # mkstemp lets the owner alone read it; a new file has what the process's umask allows.
            draft.chmod(0o666 & ~_umask())
            _flush(draft)
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    _flush_folder(path.absolute().parent)


def write(path, content: bytes) -> None:
    """Write a file of these bytes, whole or not at all.

    Use it when the content is at hand: a page, a table, a TFLite model.

    Raises:
        OSError: as for `replacing`.
    """
    with replacing(path) as draft:
        draft.write_bytes(content)


def save_model(model, path) -> None:
    """Save a Keras model as a .keras or .h5 file, whole or not at all.

    Use it in place of `model.save(path)`, which leaves half a file where the disk fills or the process is killed.

    Raises:
        OSError: as for `replacing`.
    """
    with replacing(path) as draft:
        model.save(draft)


def drafts(path) -> list[pathlib.Path]:
    """The drafts of a file that killed processes left behind; nothing reads them, and they can be removed.

    Use it to tell them from files that somebody wants.
    """
    path = pathlib.Path(path)
    left = re.compile(rf"\.\w{{8}}\.{re.escape(path.name[-_KEPT:])}")
    return sorted(file for file in path.parent.iterdir() if left.fullmatch(file.name))


@contextlib.contextmanager
def _told(path, only=None):
    """Let an error of the system (of these numbers only) name the file that was wanted, and not its draft."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # HDF5 raises the second kind where closing a file fails
        number = _number(error)
        if number is None or (only and number not in only):
            raise
        remedy = _REMEDIES.get(number, "What was there before is still whole")
        raise OSError(number, f"Cannot write {path}: {os.strerror(number)}. {remedy}") from error


def _number(error):
    """The number of an error; HDF5 has it in its text alone, as in "errno = 28"."""
    found = re.search(r"errno = (\d+)", str(error))
    return getattr(error, "errno", None) or (int(found.group(1)) if found else None)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flush(draft):
    """Have the disk hold the content before the name points to it."""
    with open(draft, "rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(folder):
    """Have the disk hold the name too: behind this line a power failure cannot bring the old file back."""
    with contextlib.suppress(OSError):  # some file systems have no folders to flush
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
