"""Links between the pages of the project: what they point to is there, and so is the heading."""

import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "docs/**/*.ipynb", "tf_metalearn/**/*.md", "saved_models/**/*.md")
    for page in ROOT.glob(pattern)
)


def text_of(page):
    """A page's Markdown; of a notebook that of its cells."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.sub(r"^( *)```.*?^\1```", "", text, flags=re.DOTALL | re.MULTILINE)


def targets(text):
    """What a page's links and pictures point to, in Markdown, references and HTML."""
    text = re.sub(r"`[^`\n]+`", "", text)
    return re.findall(r"\]\(<?([^)>\s]+)", text) + re.findall(r"""(?:src|href)=["']([^"']+)""", text)


def anchors(text):
    """The names of a page's headings, as GitHub makes them."""
    found = {}
    for heading in re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        name = re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
        times = found[name] = found.get(name, -1) + 1
        yield f"{name}-{times}" if times else name


def broken(page):
    """The links of a page that lead nowhere."""
    for target in targets(text_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        aim = (page.parent / path).resolve() if path else page
        if not aim.exists() or not aim.is_relative_to(ROOT):
            yield f"{target}: no such file"
        elif anchor and anchor not in anchors(text_of(aim)):
            yield f"{target}: no such heading"


def test_there_are_pages_and_links():
    assert {"README.md", "docs/concepts.md"} <= {page.relative_to(ROOT).as_posix() for page in PAGES}
    assert len(targets(text_of(ROOT / "README.md"))) > 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_of_a_page_leads_somewhere(page):
    assert list(broken(page)) == []


def test_links_that_lead_nowhere_are_found(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("# A `b` (c)\n[1](#a-b-c) [2](#d) [3](other.md) [4](page.md#a-b-c) [5](https://nowhere) `[6](x)`\n")
    assert list(broken(page)) == ["#d: no such heading", "other.md: no such file"]


def test_every_page_can_be_reached_from_the_readme():
    """But those that only the site of `make docs` has: its contents and the reference."""
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        seen.add(page)
        links = (target.partition("#")[0] for target in targets(text_of(page)) if ":" not in target)
        aims = {(page.parent / unquote(link)).resolve() for link in links if link}
        waiting += [aim for aim in aims - seen if aim.suffix in (".md", ".ipynb") and aim.is_file()]
    site = {ROOT / "docs" / "index.md", ROOT / "docs" / "cards.md", *(ROOT / "docs" / "api").glob("*.md")}
    pages = {page for page in PAGES if page.is_relative_to(ROOT / "docs") or page.parent == ROOT} - site
    assert {page.relative_to(ROOT).as_posix() for page in pages - seen} == set()
