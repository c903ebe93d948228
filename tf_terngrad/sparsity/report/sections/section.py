"""What a section of a report is: a part with a text, a piece of the page and a drawing, or only some of these."""


class Section:
    """A part of a report, in every form that it has.

    Use it when a report shall show something more, such as the energy of each layer, and `report.add` is not enough.

    A section reads the report and changes nothing. What it does not define, it does not have.

    Example:

    ```python
    from tf_terngrad.sparsity.report import Section

    class Largest(Section):
        def text(self, report):
            return f"The widest layer: {max(report.rows, key=lambda row: row.width).name}"

    report = tt.compare(model, small)
    report.sections.append(Largest())
    print(report)
    ```
    """

    def text(self, report):
        """The section in `str(report)`, plain; nothing if it is empty."""
        return ""

    def html(self, report):
        """The section in the page, a piece of HTML that begins with <h2>; nothing if it is empty.

        Names and notes in it are escaped (`html.escape`). The page's style is in `page.py`; a section that needs more
        brings a <style> element.
        """
        return ""

    def height(self, report):
        """How high the section is in the picture, in inches; the picture is 10 wide. 0: it is not drawn."""
        return 0

    def draw(self, report, part):
        """Draw the section.

        Args:
            report: the `Report`.
            part: the `matplotlib.figure.SubFigure` that is the section's own; asked only if the height is not 0.
        """
