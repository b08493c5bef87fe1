"""The reference of the Python code: a page for each floor, filled by mkdocstrings from docstrings."""

from collections.abc import Iterator
from pathlib import Path

NOT_FOR_CALLERS = {"__main__", "cli", "commands", "console", "cache_folder"}
"""The command line has a page of its own."""


def python_pages(package: Path) -> dict[str, str]:
    """Return the pages as Markdown.

    Args:
        package: The folder of the package.

    Returns:
        By their paths in the site. A page is about a module, or about a package with all its modules.
    """
    return {
        f"reference/python/{package.name}.{path.stem}.md": page(f"{package.name}.{path.stem}", path)
        for path in sorted(package.iterdir())
        if (path.suffix == ".py" or (path / "__init__.py").is_file())
        and not path.stem.startswith("_")
        and path.stem not in NOT_FOR_CALLERS
    }


def page(name: str, path: Path) -> str:
    """Return the page about a module or a package."""
    return "\n".join([f"# {name}", "", *(f"::: {module}\n" for module in modules(name, path))])


def modules(name: str, path: Path) -> Iterator[str]:
    """Yield a module, or a package and every module below it."""
    yield name
    if path.is_dir():
        for below in sorted(path.iterdir()):
            is_package = (below / "__init__.py").is_file()
            if (below.suffix == ".py" or is_package) and not below.stem.startswith("_"):
                yield from modules(f"{name}.{below.stem}", below)
