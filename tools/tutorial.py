"""Runs docs/tutorial.ipynb, and writes its outputs into it, and the same as a page: docs/tutorial.md and its pictures.

    make tutorial                              # CIFAR-10 is downloaded
    make tutorial TUTORIAL="--data_dir=DIR"    # or read from DIR/cifar10_jpeg.npz

To change the tutorial, edit the cells of docs/tutorial.ipynb, and run it. Nothing is written unless all cells run. The
files that the cells write are in the output folder.
"""

import base64
import copy
import json
import time
from pathlib import Path

from absl import app, flags

from tf_terngrad import files

ROOT = Path(__file__).parents[1]
DATA = flags.DEFINE_string("data_dir", None, "Folder with cifar10_jpeg.npz; without it CIFAR-10 is downloaded.")
DOCS = flags.DEFINE_string("docs", str(ROOT / "docs"), "Folder of tutorial.ipynb, for the page and its pictures too.")
OUTPUT = flags.DEFINE_string("output", "runs/tutorial", "Folder that the notebook runs in.")

# A cell that runs before the first one and is not kept: the reader's cells say keras.datasets, wherever the data are.
DATA_CELL = """
import sys

import keras

sys.path.insert(0, {root!r})
from models.data import datasets


def as_keras_has_it(images, labels):
    return (255 * images).round().astype("uint8"), labels[:, None].astype("uint8")


def load_data():
    return tuple(as_keras_has_it(*split) for split in datasets.load("cifar10", {data_dir!r}))


keras.datasets.cifar10.load_data = load_data
"""
# How pictures are drawn is no part of the story.
FOLDED = "<details>\n<summary>How this picture is drawn</summary>\n\n{}\n\n</details>"


def main(_):
    """Reads the command line."""
    make(Path(DOCS.value), DATA.value, Path(OUTPUT.value))


def make(docs: Path, data_dir: str | None, folder: Path) -> None:
    """Run the notebook, then write it, its pictures and the page.

    Args:
        docs: folder of tutorial.ipynb, for the page and its pictures too.
        data_dir: folder with cifar10_jpeg.npz; None: the cells download it.
        folder: to run in.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; nothing is written.
    """
    notebook = executed(read(docs / "tutorial.ipynb"), data_dir, folder)
    text, pictures = page(notebook)
    (docs / "tutorial").mkdir(exist_ok=True)
    for name in {path.name for path in (docs / "tutorial").glob("*.png")} - pictures.keys():
        (docs / "tutorial" / name).unlink()
    for name, content in pictures.items():
        files.write(docs / "tutorial" / name, content)
    files.write(docs / "tutorial.md", text.encode())
    files.write(docs / "tutorial.ipynb", written(notebook).encode())


def read(path) -> dict:
    """A notebook as the JSON that it is."""
    return json.loads(path.read_text(encoding="utf-8"))


def written(notebook: dict) -> str:
    """A notebook as Jupyter writes it."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def executed(notebook: dict, data_dir: str | None, folder: Path) -> dict:
    """The notebook, which stays as it is, with the outputs of all its cells."""
    running = copy.deepcopy(notebook)
    if data_dir is not None:
        running["cells"].insert(0, _data_cell(data_dir))
    folder.mkdir(parents=True, exist_ok=True)
    return tidy(notebook, run(running, folder)["cells"][-len(notebook["cells"]) :])


def _data_cell(data_dir):
    source = DATA_CELL.format(root=str(ROOT), data_dir=str(Path(data_dir).resolve()))
    cell = {"cell_type": "code", "id": "local-data", "metadata": {}, "source": source}
    return cell | {"execution_count": None, "outputs": []}


def run(notebook: dict, folder: Path) -> dict:
    """The notebook as Jupyter leaves it, after all cells have run in a process of its own."""
    import nbclient  # these come with `make tutorial` alone
    import nbformat

    def announce(cell, cell_index):
        if cell.cell_type == "code":
            print(f"{time.strftime('%X')} {cell.id}", flush=True)

    return nbclient.NotebookClient(
        nbformat.reads(json.dumps(notebook), as_version=4),
        timeout=None,
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        on_cell_execute=announce,
    ).execute()


def tidy(notebook: dict, cells: list) -> dict:
    """The notebook with the outputs of executed cells, without what differs from machine to machine.

    What TensorFlow logs as it starts, to stderr, says nothing of the tutorial.
    """
    result, number = copy.deepcopy(notebook), 0
    for cell, ran in zip(result["cells"], cells, strict=True):
        if cell["cell_type"] == "code":
            number += 1
            cell["execution_count"] = number
            cell["outputs"] = _one_text([kept for output in ran["outputs"] if (kept := _tidy_output(output, number))])
    return result


def _tidy_output(output, number):
    """One output in the shape of the file, or None if it does not stay."""
    if output["output_type"] == "stream":
        return None if output["name"] == "stderr" else {**output, "text": _lines(output["text"])}
    data = output["data"]
    if "image/png" in data:  # the text beside it says <Figure size ...>
        data = {"image/png": data["image/png"].strip()}
    else:
        data = {"text/plain": _lines(data["text/plain"])}
    kept = {"output_type": output["output_type"], "data": data, "metadata": {}}
    return kept | ({"execution_count": number} if output["output_type"] == "execute_result" else {})


def _one_text(outputs):
    """What is printed comes in pieces, as time passes; here as one."""
    joined = []
    for output in outputs:
        if joined and output["output_type"] == joined[-1]["output_type"] == "stream":
            joined[-1]["text"] = _lines([*joined[-1]["text"], *output["text"]])
        else:
            joined.append(output)
    return joined


def _lines(text):
    return "".join(text).splitlines(keepends=True)


def page(notebook: dict) -> tuple[str, dict[str, bytes]]:
    """The notebook in Markdown, and its pictures by file name; a picture is called like its cell.

    Raises:
        ValueError: two pictures of one cell.
    """
    parts, pictures = [], {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        code = f"```python\n{source}\n```"
        parts.append(FOLDED.format(code) if "drawing" in cell["metadata"].get("tags", ()) else code)
        for output in cell["outputs"]:
            content = output.get("data", {}).get("image/png")
            if content is None:
                text = "".join(output.get("text") or output["data"]["text/plain"]).rstrip()
                parts.append(f"```text\n{text}\n```")
                continue
            name = f"{cell['id']}.png"
            if name in pictures:
                raise ValueError(f"Cell {cell['id']!r}: expected one picture. Received: two")
            pictures[name] = base64.b64decode(content)
            parts.append(f"![{cell['id'].replace('-', ' ')}](tutorial/{name})")
    return "\n\n".join(parts) + "\n", pictures


if __name__ == "__main__":
    app.run(main)
