"""Our own documents, written in a small part of Markdown, as HTML: headings, paragraphs, lists, tables, bold, code.

Everything is escaped; a form it does not know comes out as text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup, escape


def render_markdown(text: str) -> Markup:
    """The HTML of a document whose blocks are apart by empty lines."""
    return Markup("\n").join(_block(block.splitlines()) for block in re.split(r"\n{2,}", text.strip()))


def _block(lines: Sequence[str]) -> Markup:
    heading = re.fullmatch(r"(#{1,4}) (.*)", lines[0])
    if heading and len(lines) == 1:
        return Markup("<h{0}>{1}</h{0}>").format(len(heading[1]), _inline(heading[2]))
    if all(line.startswith("- ") for line in lines):
        items = Markup().join(Markup("<li>{}</li>").format(_inline(line[2:])) for line in lines)
        return Markup("<ul>{}</ul>").format(items)
    if len(lines) > 1 and re.fullmatch(r"\|( --- \|)+", lines[1]):
        head, rows = _row(lines[0], Markup('<th scope="col">{}</th>')), [_row(line, Markup("<td>{}</td>")) for line in lines[2:]]
        return Markup("<table><thead>{}</thead><tbody>{}</tbody></table>").format(head, Markup().join(rows))
    return Markup("<p>{}</p>").format(_inline(" ".join(lines)))


def _row(line: str, cell: Markup) -> Markup:
    cells = (cell.format(_inline(part.strip())) for part in line.strip("| ").split(" | "))
    return Markup("<tr>{}</tr>").format(Markup().join(cells))


def _inline(text: str) -> Markup:
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html))  # noqa: S704 - escaped just before
