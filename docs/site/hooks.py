"""What MkDocs is told beyond mkdocs.yml: pages that are not in docs/, and where links that leave docs/ lead.

Pages are written so that their links work in the repository. In the site

- README.md, CONTRIBUTING.md and CHANGELOG.md are pages too;
- any other file of the repository that a page links to is copied to `repository/`, so that no link needs a host;
- the reference is made when the site is: from docstrings, from the command line, from spec.schema.json.
"""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))  # MkDocs runs this file by its path

from command_page import command_page  # noqa: E402  the line above finds it
from python_pages import python_pages  # noqa: E402
from spec_page import spec_page  # noqa: E402

ROOT_PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
REPLACED = {"docs/spec.schema.json": "reference/spec.md"}
"""Files that the site has a readable page for."""
LINK = re.compile(r"(?<=\]\()(?P<target>[^)#:\s]+)(?P<anchor>#[^)\s]*)?(?=\))")
FENCED = re.compile(r"^```.*?^```$", flags=re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, those of the root, and the files that pages link to."""
    made = {"reference/spec.md": spec_page(), "reference/commands.md": command_page(), **python_pages(ROOT / "factory")}
    for uri, content in made.items():
        files.append(File.generated(config, uri, content=content))
    for name, uri in ROOT_PAGES.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / name)))
    sources = {ROOT / name for name in ROOT_PAGES} | {Path(file.abs_src_path) for file in files.documentation_pages()
               if file.abs_src_path and file.generated_by is None}  # fmt: skip
    linked = {path for source in sources for path in outside(source)}
    for path in sorted(linked):
        files.append(File.generated(config, f"repository/{path}", abs_src_path=str(ROOT / path)))
    return files


def outside(source: Path) -> Iterator[str]:
    """Yield the files of the repository, relative to its root, that a page links to and the site has no page of."""
    for match in LINK.finditer(FENCED.sub("", source.read_text(encoding="utf-8"))):
        path = in_repository(source, match["target"])
        if path and not path.startswith("docs/") and path not in ROOT_PAGES and (ROOT / path).is_file():
            yield path


def in_repository(source: Path, target: str) -> str | None:
    """Return the path, relative to the root, that a link leads to; None if it leaves the repository."""
    path = Path(os.path.normpath(source.parent / target))
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else None


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that work in the repository into links that work in the site."""
    from_root = {uri: ROOT / name for name, uri in ROOT_PAGES.items()}
    source = from_root.get(page.file.src_uri) or ROOT / "docs" / page.file.src_uri

    def lead(match: re.Match[str]) -> str:
        path = in_repository(source, match["target"])
        if path is None:
            return match[0]  # MkDocs will say that it leads nowhere
        inside = path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}"
        readable = REPLACED.get(path) if REPLACED.get(path) != page.file.src_uri else None
        uri = ROOT_PAGES.get(path) or readable or inside
        here = PurePosixPath(page.file.src_uri).parent
        return os.path.relpath(uri, here).replace(os.sep, "/") + (match["anchor"] or "")

    # Code that looks like a link stays as it is.
    parts, at = [], 0
    for code in FENCED.finditer(markdown):
        parts += [LINK.sub(lead, markdown[at : code.start()]), code[0]]
        at = code.end()
    return "".join([*parts, LINK.sub(lead, markdown[at:])])
