"""The home page is the README: its links are made to hold from inside `docs/`."""

import re
from pathlib import Path
from typing import Any

_MARKER = "<!-- README.md -->"


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Puts README.md in the place of the marker on the home page."""
    if page.file.src_uri != "index.md":
        return markdown
    root = Path(config.config_file_path).parent
    readme = (root / "README.md").read_text(encoding="utf-8")
    return markdown.replace(_MARKER, from_docs(readme))


def from_docs(readme: str) -> str:
    """Rewrites links to `docs/…`, and turns links to other files of the repository to text."""
    readme = re.sub(r"(\]\(|src=\"|href=\")(?:\./)?docs/", r"\1", readme)
    local = r"(?<!!)\[([^\]]+)\]\((?!https?:|#|mailto:)([^)\s]+)\)"

    def keep_or_text(match: re.Match[str]) -> str:
        target = match[2].partition("#")[0]
        inside = (Path(__file__).parent / target).exists()
        return match[0] if inside else match[1]

    return re.sub(local, keep_or_text, readme)
