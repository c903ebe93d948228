"""The first section: what was measured on both models."""

from html import escape

from tf_terngrad.console import plain_table
from tf_terngrad.sparsity.report.drawing import AFTER, INK
from tf_terngrad.sparsity.report.sections.section import Section


class Summary(Section):
    """Every `Metric` of a report before and after: a table, cards, and the head of the picture."""

    def text(self, report):
        rows = [[metric.title, metric.texts[:2], metric.texts[2]] for metric in report.metrics]
        head = [report.title, "before → after", "change"]
        return plain_table(head, rows, text=head)

    def html(self, report):
        cards = []
        for metric in report.metrics:
            before, after, change = map(escape, metric.texts)
            figure, _, word = (change or after).partition(" ")
            cards.append(
                f'<div class="card"><h3>{escape(metric.title)}</h3><strong>{figure} <small>{word}</small></strong>'
                f"<span>{before} → {after}</span></div>"
            )
        return f'<div class="cards">{"".join(cards)}</div>'

    def height(self, report):
        return 0.9 + 0.28 * len(report.metrics)

    def draw(self, report, part):
        axes = part.subplots()
        axes.set_axis_off()
        axes.set(xlim=(0, 1), ylim=(len(report.metrics) + 1, -1.2))
        axes.text(0, -0.6, report.title, fontsize=17, fontweight="bold", color=AFTER, va="center")
        for place, metric in enumerate(report.metrics):
            before, after, change = metric.texts
            axes.text(0, place + 0.6, metric.title, color=INK, va="center")
            axes.text(0.2, place + 0.6, f"{before} → {after}", va="center")
            axes.text(0.48, place + 0.6, change, color=AFTER, fontweight="bold", va="center")
