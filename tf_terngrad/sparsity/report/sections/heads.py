"""The section of attention: the heads of each layer, which are left, and what they look at."""

from html import escape

import numpy as np

from tf_terngrad.console import plain_table
from tf_terngrad.sparsity.report.drawing import AFTER, INK, blank, heading, inline, rendered
from tf_terngrad.sparsity.report.pictures import brightness, matrix_picture
from tf_terngrad.sparsity.report.sections.section import Section

IN_PICTURE, ON_PAGE = 6, 24  # so many layers, at most
ROW = 0.22  # the height of a head, in inches
LEFT = "#b0692e"
HEAD = ["attention", "heads", "key dimensions", "value dimensions", "sees", "looks at"]


class Attention(Section):
    """The heads of each attention layer by the norms of their dimensions, and the offsets that they look at."""

    def text(self, report):
        return plain_table(HEAD, list(map(_cells, report.heads)), text=HEAD) if report.heads else ""

    def html(self, report):
        shown = report.heads[:ON_PAGE]
        if not shown:
            return ""
        more = f" The first {len(shown)} of {len(report.heads)} layers." if len(shown) < len(report.heads) else ""
        cards = "".join(map(_card, shown))
        return f'<h2>Attention</h2><p class="soft">{_KEY}{more}</p><div class="pairs wide">{cards}</div>'

    def height(self, report):
        shown = report.heads[:IN_PICTURE]
        return 0.5 + sum(map(_height, shown)) if shown else 0

    def draw(self, report, part):
        shown = report.heads[:IN_PICTURE]
        heading(part, "Attention: heads by the norms of their dimensions, and what they look at (sand: what left)")
        parts = np.atleast_1d(part.subfigures(len(shown), 1, height_ratios=list(map(_height, shown))))
        for each, heads in zip(parts, shown, strict=True):
            draw_heads(each, heads)


_KEY = (
    "One row a head, one column a dimension: deep blue is a large norm, sand is what left the model. On the right, how "
    "many steps back each head looks (ahead: below zero), each on a scale of its own."
)


def _height(heads):
    return 0.85 + ROW * max(2, len(heads.left))


def _cells(heads):
    """A row of the table in text."""
    stay = [(len(heads.left), int((~heads.left).sum()))]
    stay += [(len(kept), int(kept.sum())) for _, kept in heads.weights.values()]
    stay = [tuple(map(str, pair)) for pair in stay] + ["?"] * (3 - len(stay))
    return [heads.title, *stay, _sees(heads), _distance(heads)]


def _sees(heads):
    """How far the heads that stay see at most, in words, and the share of the scores."""
    if heads.reach is None or heads.scores == 1:
        return "" if heads.left.all() else "everywhere"
    behind, ahead = heads.reach
    words = [f"{steps} {where}" for steps, where in ((behind, "back"), (ahead, "ahead")) if steps]
    return f"{', '.join(words) or 'itself alone'} ({heads.scores:.0%} of scores)"


def _distance(heads):
    """How far a query looks on average, in words."""
    if heads.looks is None or heads.left.all():
        return ""
    far = [mean_distance(looks, heads.offsets) for looks in heads.looks[~heads.left]]
    low, high = (f"{each:.1f}" for each in (min(far), max(far)))
    return f"{low if low == high else f'{low} to {high}'} steps away"


def mean_distance(looks, offsets):
    """How many steps the keys that a head looks at are away, weighed by how much it looks.

    >>> mean_distance(np.array([0.0, 0.5, 0.5]), np.array([-1, 0, 1]))
    0.5
    """
    return float((looks * np.abs(offsets)).sum() / max(looks.sum(), 1e-12))


def _card(heads):
    """The drawing of a layer on the page."""
    drawing = blank(8.6, _height(heads))
    draw_heads(drawing, heads)
    source = inline(rendered(drawing, "svg", transparent=True), "svg+xml")
    image = f'<img style="width:100%;border:0" alt="{escape(heads.title)} heads" src="{source}">'
    return f'<div class="card pair">{image}</div>'


def draw_heads(part, heads):
    """One attention layer: a grid of keys, one of values, and one of offsets."""
    panels = [*heads.weights.items(), *([("offsets", None)] if heads.offsets is not None else [])]
    widths = [2.2 if panel is None else 1.0 for _, panel in panels]
    places = part.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0] if panels else []
    for place, (name, panel) in zip(places, panels, strict=True):
        _offsets(place, heads) if panel is None else _norms(place, name, *panel, heads.left)
        _plain(place, heads, first=place is places[0])
    part.suptitle(_title(heads), x=0.012, ha="left", fontsize=9, color=AFTER, fontweight="bold")


def _title(heads):
    stay, count = int((~heads.left).sum()), len(heads.left)
    left = f"{count} heads" if stay == count else f"{count} → {stay} heads"
    return f"{heads.title}   {left if stay else 'removed'}"


def _norms(place, name, norms, kept, left):
    picture = matrix_picture(norms, (~left, kept), brightness(norms, 400), 400)
    place.imshow(picture, aspect="auto", interpolation="nearest")
    count = f"{len(kept)} → {int(kept.sum())}" if not kept.all() else f"{len(kept)}"
    place.set_xlabel(f"{name.removesuffix('s')} dimensions: {count}", fontsize=8, color=INK)
    place.set_xticks([])


def _offsets(place, heads):
    """The offsets: how much each head looks there, or what it sees; what a mask hides is sand."""
    shown = heads.seen if heads.looks is None else heads.looks
    shown = shown / np.maximum(shown.max(1, keepdims=True), 1e-12)
    picture = matrix_picture(shown, (~heads.left, np.ones(len(heads.offsets), bool)), 1.0, 10**6)
    if heads.seen is not None and heads.looks is not None:
        hidden = (heads.seen == 0) & ~heads.left[:, None]
        picture[hidden] = [238, 238, 238]
    edges = (heads.offsets[0] - 0.5, heads.offsets[-1] + 0.5, len(heads.left) - 0.5, -0.5)
    place.imshow(picture, aspect="auto", interpolation="nearest", extent=edges)
    place.set_xlim(*_range(shown, heads.offsets))
    what = "mean weight by offset (grey: masked)" if heads.looks is not None else "what the learned mask leaves"
    place.set_xlabel(f"steps back: {what}", fontsize=8, color=INK)
    place.xaxis.get_major_locator().set_params(integer=True)


def _range(shown, offsets):
    """The offsets that are worth a look: three times as far as the heads look, each way; at least eight steps back."""
    there = offsets[(shown > 1e-3).any(0)] if shown.any() else offsets
    behind, ahead = max(3 * there.max(), 8), max(-3 * there.min(), 0)
    return max(offsets[0], -ahead) - 0.5, min(offsets[-1], behind) + 0.5


def _plain(place, heads, first):
    place.tick_params(length=0, labelsize=8, colors=INK)
    place.set_yticks([])
    if first:
        place.set_yticks(range(len(heads.left)), [f"head {number}" for number in range(len(heads.left))])
        for label, left in zip(place.get_yticklabels(), heads.left, strict=True):
            label.set_color(LEFT if left else INK)
    for spine in place.spines.values():
        spine.set(color=INK, linewidth=0.6)
