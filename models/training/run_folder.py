"""One folder a training run: its configuration first, then everything the run leaves."""

import json
from pathlib import Path

from tf_terngrad.files import drafts, write

CONFIG = "config.json"


def open_run(path: str | Path, config: dict, resume: bool = False) -> Path:
    """Make a folder for a run, or open the one where the same run goes on.

    Args:
        path: the folder.
        config: what defines the run, plain JSON values by name; kept in `config.json`.
        resume: go on with a run of the same configuration if the folder holds one.

    Returns:
        The folder's path.

    Raises:
        ValueError: the folder holds another run, this run without `resume`, or files that are no run.
        OSError: the folder cannot be written.

    >>> import tempfile
    >>> folder = open_run(tempfile.mkdtemp(), {"epochs": 3})
    >>> (folder / "config.json").exists()
    True
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if (path / CONFIG).exists():
            _check_same(path, config, resume)
        elif set(path.iterdir()) - set(drafts(path / CONFIG)):
            raise ValueError(
                f"The output folder holds files that are no run; name an empty one. Received: {str(path)!r}"
            )
        write(path / CONFIG, json.dumps(config, indent=2).encode())
    except OSError as error:
        raise OSError(f"The output folder cannot be written; name another one. Received: {path} ({error})") from error
    return path


def _check_same(path: Path, config: dict, resume: bool) -> None:
    if not resume:
        raise ValueError(
            f"The output folder already holds a run; pass --resume to go on with it or name another folder. "
            f"Received: {str(path)!r}"
        )
    try:
        found = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path / CONFIG} is no configuration of a run; name another folder ({error})") from error
    differing = [key for key in sorted({*found, *config}) if found.get(key) != config.get(key)]
    if differing:
        changes = ", ".join(f"{key} was {found.get(key)!r}, now {config.get(key)!r}" for key in differing)
        raise ValueError(
            f"The run in the output folder had another configuration: {changes}. Resume it with its own flags or "
            f"name another folder. Received: {str(path)!r}"
        )
