"""
What MkDocs adds to the pages in C{docs/}: the documents at the root of the
project, under names of their own, and the reference of the options, which is
made from the options themselves.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from redcouch.backends.registry import schemes
from redcouch.options import Options

_ROOT = Path(__file__).parent.parent.parent
_PAGES = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
_DEFAULT = re.compile(r" ?\[default: (?P<short>.*?)\]| Default: (?P<long>.*?)\.(?= [A-Z]|$)")
_LINK = re.compile(r"\]\((?!https?:|#)([^)#]*)(#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in C{docs/}."""
    for document, page in _PAGES.items():
        text = _LINK.sub(_from_root, (_ROOT / document).read_text())
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "configuration.md", content=reference()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links out of C{docs/} lead to where their targets are on the site."""
    return _LINK.sub(_from_docs, markdown)


def _from_root(link: re.Match[str]) -> str:
    path = link[1].removeprefix("docs/")
    return _linked(_PAGES.get(path, path), link[2])


def _from_docs(link: re.Match[str]) -> str:
    path = link[1]
    if path.startswith("../"):
        path = _PAGES.get(path.removeprefix("../"), path)
    return _linked(path, link[2])


def _linked(path: str, anchor: str | None) -> str:
    """A link; where the target is no page of the site, its name in the source instead."""
    if path.startswith("../") or path == "LICENSE":
        return f"] (`{path.removeprefix('../')}` in the source)"
    return f"]({path}{anchor or ''})"


# -- the reference of options --------------------------------------------------------------------


def reference() -> str:
    """Every option of C{twistd redcouch}, as a page."""
    rows = "".join(_row(*option) for option in sorted(_options()))
    urls = "".join(
        f"| `{scheme}:` | {summary} |\n" for scheme, summary in sorted(schemes().items())
    )
    return (
        "# Configuration\n\n"
        "The options of `twistd redcouch`, as `twistd redcouch --help` has them. `twistd`'s own, "
        "such as `-n`, `--logfile` and `--pidfile`, stand before the word `redcouch`.\n\n"
        "| option | default | meaning |\n|---|---|---|\n"
        f"{rows}\n"
        "## Storage URLs\n\n"
        "| scheme | storage |\n|---|---|\n"
        f"{urls}\n"
        "[Operations](operations.md#storage) has their forms and parameters.\n"
    )


def _options() -> list[tuple[str, str | None, str, str]]:
    """Name, letter, default and meaning of each."""
    found = [
        (name, letter, *_default_of(text, default))
        for name, letter, default, text, *_ in Options.optParameters
    ]
    found += [(name, letter, "`off`", text) for name, letter, text in Options.optFlags]
    for attribute in dir(Options):
        method = getattr(Options, attribute)
        name = attribute.removeprefix("opt_").replace("_", "-")
        if attribute.startswith("opt_") and len(name) > 1 and attribute in vars(Options):
            text = " ".join((method.__doc__ or "").split())
            letter = next((other for other in _letters(method)), None)
            found.append((name, letter, *_default_of(text, None)))
    return found


def _default_of(text: str, default: Any) -> tuple[str, str]:
    """The default of an option, and its meaning without what it says of that."""
    if default is not None:
        return f"`{default}`", text
    said = _DEFAULT.search(text)
    if said is None:
        return "none", text
    shown = f"`{said['short']}`" if said["short"] else said["long"]
    return shown, _DEFAULT.sub("", text)


def _letters(method: Any) -> list[str]:
    """The one-letter names of an option that is a method."""
    return [
        name.removeprefix("opt_")
        for name, other in vars(Options).items()
        if other is method and len(name) == len("opt_x")
    ]


def _row(name: str, letter: str | None, default: str, text: str) -> str:
    names = (f"`-{letter}`, " if letter else "") + f"`--{name}`"
    return f"| {names} | {default} | {text.replace('|', chr(92) + '|')} |\n"
