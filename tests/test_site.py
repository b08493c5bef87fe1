"""The documentation as a site: it builds without a warning, every page is in it, and it asks nothing of the network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FETCHED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^\"'> ]+")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    # Not --quiet: it drops the warnings that --strict counts.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Documentation built" in done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_page_is_in_the_site_and_in_its_menu(site: Path) -> None:
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    made = {str(page.with_suffix(".html")) for page in pages} | {"index.html", "contributing.html", "changelog.html"}
    assert sorted(name for name in made if not (site / name).is_file()) == []
    menu = (site / "index.html").read_text(encoding="utf-8")
    assert sorted(name for name in made - {"index.html"} if f'href="{name}"' not in menu) == []


def test_the_reference_has_commands_keys_and_docstrings(site: Path) -> None:
    reference = site / "reference"
    assert 'id="factory-cache-prune"' in (reference / "commands.html").read_text(encoding="utf-8")
    spec = (reference / "spec.html").read_text(encoding="utf-8")
    assert all(key in spec for key in ("<code>min_agreement</code>", 'id="teacherspec"', "must be given"))
    students = (reference / "python" / "factory.students.html").read_text(encoding="utf-8")
    assert 'id="factory.students.blend.Blend"' in students
    assert "Raises" in students


def test_no_page_fetches_anything_from_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    assert {match for page in pages for match in FETCHED.findall(page.read_text(encoding="utf-8"))} == set()
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^\"')]*", styles) == []


def test_a_link_to_a_file_outside_of_docs_leads_to_a_copy_of_it(site: Path) -> None:
    link = re.search(r'href="(\.\./repository/[^"]+)"', (site / "concepts" / "store.html").read_text(encoding="utf-8"))
    assert link
    assert (site / "concepts" / link[1]).is_file()
