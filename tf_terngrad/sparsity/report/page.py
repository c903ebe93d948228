"""The report as one HTML page that needs no other file: the frame and the style of its sections."""

from html import escape

_STYLE = """
:root { color-scheme: light dark; --page: #f6f8fa; --card: #fff; --ink: #1c2733; --soft: #66727f; --line: #e3e8ee;
  --before: #d3dfea; --after: #0c447c; --sand: #b0692e; }
@media (prefers-color-scheme: dark) { :root { --page: #12171d; --card: #1a2129; --ink: #e4e9ee; --soft: #93a0ad;
  --line: #2b343e; --before: #31404f; --after: #6fa8dc; --sand: #dba36c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", Arial, sans-serif; font-variant-numeric: tabular-nums; }
main { max-width: 1040px; margin: 0 auto; padding: 40px 20px 56px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 44px 0 12px; }
p { margin: 4px 0 0; } .soft, footer { color: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px; margin-top: 24px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; }
.card h3 { font-size: 13px; font-weight: 500; color: var(--soft); margin: 0; }
.card strong { display: block; font-size: 25px; line-height: 1.35; color: var(--after); font-weight: 650; }
.card strong small { font-size: 15px; font-weight: 500; }
.card span { font-size: 13px; color: var(--soft); }
.card.scroll { overflow-x: auto; padding: 0; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; font-weight: 500; color: var(--soft); font-size: 13px; white-space: nowrap; }
th, td { padding: 8px 16px; border-bottom: 1px solid var(--line); } tr:last-child > * { border-bottom: 0; }
td { white-space: nowrap; } td:first-child { white-space: normal; overflow-wrap: anywhere; font-weight: 600; }
td:first-child small { display: block; font-weight: 400; color: var(--soft); }
td.n, th.n { text-align: right; } td.n small { color: var(--soft); font-size: inherit; }
.bar { display: block; width: 110px; height: 6px; border-radius: 3px; background: var(--before); margin-top: 4px;
  overflow: hidden; } .bar i { display: block; height: 100%; background: var(--after); }
.card .gone { color: var(--sand); font-size: inherit; }
.pairs { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 12px; }
.pairs.wide { grid-template-columns: 1fr; } .pair h3 { font-size: 14px; margin: 0 0 8px; overflow-wrap: anywhere; }
.pair h3 small { font-weight: 400; color: var(--soft); white-space: nowrap; }
.pair div { display: grid; grid-template-columns: 1fr 1fr; gap: 14px; align-items: start; }
.pair img { display: block; border: 1px solid var(--line); background: #fff; }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 12px; }
.curves img { width: 100%; display: block; }
ul { margin: 0; padding-left: 18px; } li { margin: 4px 0; overflow-wrap: anywhere; }
.keys { font-size: 13px; margin: 2px 0 10px; } .key { white-space: nowrap; }
.key i { display: inline-block; width: 11px; height: 11px; border: 1px solid var(--line); border-radius: 2px;
  margin: 0 5px 0 0; vertical-align: -1px; }
details { margin-top: 10px; color: var(--soft); font-size: 13px; overflow-wrap: anywhere; }
footer { margin-top: 48px; font-size: 13px; }
@media (max-width: 620px) { main { padding: 24px 14px 40px; } h1 { font-size: 23px; }
  .cards { grid-template-columns: 1fr 1fr; gap: 8px; } .card { padding: 10px 12px; } .card strong { font-size: 19px; }
  thead { display: none; } tr { display: grid; grid-template-columns: 1fr auto; padding: 10px 14px; gap: 2px 12px;
  border-bottom: 1px solid var(--line); } tr:last-child { border: 0; } td, tr.total td { border: 0; padding: 0; }
  td.n::before { content: attr(data-title) " "; color: var(--soft); font-weight: 400; float: left; }
  td.n { grid-column: 1 / -1; } td.w { text-align: right; } }
"""


def page(report):
    """The HTML text of a report."""
    title = escape(report.title)
    sections = "".join(section.html(report) for section in report.sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}, before and after compaction</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<header><h1>{title}</h1><p class="soft">The model before and after compaction, by tf_terngrad.</p></header>
{sections}
<footer>Multiply-adds are for one example and count the products of matrices: dense, convolutional, recurrent and
attention layers. Normalization, which folds into its neighbours, and element-wise operations count zero.</footer>
</main>
</body>
</html>
"""
