"""The Mermaid diagrams of a text: a drawing, its words, and its source behind a fold."""

from __future__ import annotations

import html
import re

_DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_TITLE = re.compile(r"^\s*accTitle: (.+)$", re.MULTILINE)
_WORDS = re.compile(r"^\s*accDescr: (.+)$", re.MULTILINE)


def drawn(text: str, can_draw: bool) -> str:
    """A text with HTML for each diagram; `can_draw` says whether the site has Mermaid."""

    def figure(found: re.Match[str]) -> str:
        source = found[1]
        title, words = _TITLE.search(source), _WORDS.search(source)
        name = title[1] if title else "Diagram"
        caption = words[1] if words else ""
        shown = html.escape(source)
        # An empty line would end the HTML block of Markdown.
        shown = re.sub(r"\n\s*\n", "\n", shown).rstrip("\n")
        lines = ['<figure class="diagram">']
        if can_draw:
            lines += [
                f'<div class="mermaid" role="img" aria-label="{html.escape(name)}" hidden>',
                f"{shown}</div>",
            ]
        if caption:
            lines.append(f"<figcaption>{html.escape(caption)}</figcaption>")
        label = "The diagram as text" if can_draw else f"The diagram as text: {html.escape(name)}"
        lines += [
            f'<details class="source"><summary>{label}</summary>',
            f'<pre tabindex="0">{shown}</pre></details></figure>',
        ]
        return "\n".join(lines)

    return _DIAGRAM.sub(figure, text)
