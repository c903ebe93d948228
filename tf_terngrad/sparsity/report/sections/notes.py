"""The last section: sentences for the reader."""

from html import escape

from tf_terngrad.sparsity.report.sections.section import Section


class Notes(Section):
    """The notes of a report, such as what could not shrink and why; they are not in the picture."""

    def text(self, report):
        return "\n".join(f"- {note}" for note in report.notes)

    def html(self, report):
        if not report.notes:
            return ""
        notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
        return f'<h2>Notes</h2><div class="card"><ul>{notes}</ul></div>'
