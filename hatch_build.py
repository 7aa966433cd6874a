"""README and project URLs, as the page of a built package shows them.

README's links are relative, as a checkout needs them; on the page of an index they lead nowhere.
The place where a release is built knows where the project lives, and says so in `EQUIPOISE_HOME`
(the workflow for releases does). Then links lead to the files of that version. Without it their
words are kept, and pictures are left out: no link is better than a broken one.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_RELATIVE = r"(?!\w+:|#)"
_LINK = re.compile(rf"(!?)\[([^\]]*)\]\({_RELATIVE}([^)\s]+)\)")
_ATTRIBUTE = re.compile(rf'\b(src|srcset|href)="{_RELATIVE}([^"]+)"')
_PICTURE = re.compile(rf'<picture>.*?</picture>|<img\b[^>]*\bsrc="{_RELATIVE}[^>]*>', re.DOTALL)


class Hook(MetadataHookInterface):
    """Fills in what `pyproject.toml` calls dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        """See the module.

        Args:
            metadata: The table `[project]`.
        """
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        home = os.environ.get("EQUIPOISE_HOME", "").rstrip("/")
        version = f"v{metadata['version']}"
        shown = linked(text, home, version) if home else unlinked(text)
        metadata["readme"] = {"content-type": "text/markdown", "text": shown}
        metadata["urls"] = urls(home, version) if home else {}


def urls(home: str, version: str) -> dict[str, str]:
    """The links beside the page.

    Args:
        home: Where the repository lives.
        version: The tag of the release.
    """
    return {
        "Source": home,
        "Documentation": f"{home}/blob/{version}/README.md",
        "Changelog": f"{home}/blob/{version}/CHANGELOG.md",
        "Issues": f"{home}/issues",
    }


def linked(text: str, home: str, version: str) -> str:
    """The text with absolute links.

    Args:
        text: Markdown, with HTML in it or not.
        home: Where the repository lives.
        version: The tag of the release.
    """

    def absolute(path: str, *, shown: bool) -> str:
        return f"{home}/{'raw' if shown else 'blob'}/{version}/{path}"

    def link(found: re.Match[str]) -> str:
        mark, words, path = found.groups()
        return f"{mark}[{words}]({absolute(path, shown=bool(mark))})"

    def attribute(found: re.Match[str]) -> str:
        name, path = found.groups()
        return f'{name}="{absolute(path, shown=name != "href")}"'

    return _ATTRIBUTE.sub(attribute, _LINK.sub(link, text))


def unlinked(text: str) -> str:
    """The text with the words of its relative links alone, and without relative pictures.

    Args:
        text: Markdown, with HTML in it or not.
    """
    text = _PICTURE.sub("", text)
    return _LINK.sub(lambda found: "" if found[1] else found[2], text)
