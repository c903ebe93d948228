"""How the pictures of command lines look."""

INK = "#44546a"


def apply_style(axes) -> None:
    """Faint grid lines and two axes, all in one ink.

    Args:
        axes: of Matplotlib, drawn already.
    """
    axes.grid(color=INK, alpha=0.15, linewidth=0.6, which="both")
    axes.tick_params(colors=INK, which="both", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
        text.set_color(INK)
