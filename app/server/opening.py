"""The page's HTML: Gradio's own, with the module static/opening.mjs next to the one that starts Gradio in the browser.

The module replaces methods of Gradio's component tree class, so it is added only for the Gradio version that it was
written for. With any other version, the page opens more slowly.
"""

import gradio
from jinja2 import BaseLoader, ChoiceLoader, DictLoader

from app.page.scripts import STATIC
from app.server import assets

GRADIO = "6.31.0"
TEMPLATE = "frontend/index.html"


def loader(others: BaseLoader | None) -> BaseLoader | None:
    """The loader that finds Gradio's templates, this page's HTML first."""
    html = page()
    return ChoiceLoader([DictLoader({TEMPLATE: html}), others]) if html and others else others


def page() -> str | None:
    """The template of the page; None for a Gradio version that the module was not written for."""
    if gradio.__version__ != GRADIO:
        return None
    module = (STATIC / "opening.mjs").read_text(encoding="utf-8").replace("CORE", assets.tree(assets.modules()))
    html = (assets.FRONTEND / "index.html").read_text(encoding="utf-8")
    return html.replace("</head>", f'<script type="module">{{% raw %}}{module}{{% endraw %}}</script>\n</head>', 1)
