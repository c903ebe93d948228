"""What the drawings of a report share: colours, headings, grids, and how they become bytes."""

import base64
import io

from matplotlib.figure import Figure
from matplotlib.image import imsave

BEFORE, AFTER = "#c3d3e3", "#0c447c"
INK = "#7a828c"  # reads on white and on black


def blank(width, height, **options):
    """An empty `matplotlib.figure.Figure`, in inches; what is drawn in it leaves room for its titles."""
    return Figure(figsize=(width, height), layout="constrained", **options)


def heading(part, title):
    """The title of a section, above all that is drawn in its part."""
    part.suptitle(title, x=0.012, ha="left", fontsize=12, fontweight="bold")


def rows_of(items, columns):
    """How many rows a grid needs.

    >>> rows_of("abcde", 2)
    3
    """
    return -(-len(items) // columns)


def grid(part, items, columns):
    """One place to draw in for each item, row by row."""
    places = part.subplots(rows_of(items, columns), columns, squeeze=False).ravel()
    for empty in places[len(items) :]:
        empty.set_axis_off()
    return places[: len(items)]


def rendered(drawing, kind, **options):
    """The bytes of a figure."""
    stream = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {}
    drawing.savefig(stream, format=kind, dpi=150, metadata=metadata, **options)
    return stream.getvalue()


def png(image):
    """The bytes of an array (height, width, 3) as a PNG picture."""
    stream = io.BytesIO()
    imsave(stream, image, format="png")
    return stream.getvalue()


def inline(content, kind):
    """An address that holds the picture itself, for an HTML page that needs no other file.

    Args:
        content: the picture's bytes.
        kind: "png" or "svg+xml".
    """
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
