"""The console's files as they are in the repository: what a browser will be given."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

import raftlog
from raftlog.console.assets import read_assets

PAGE = Path(raftlog.__file__).parent / "console" / "page"
SCRIPTS = sorted(PAGE.glob("*.js"))
LINES_MAX = 200
PACKED_BYTES_MAX = 120_000


def test_libraries_are_as_they_were_published() -> None:
    vendor = PAGE / "vendor"
    versions = json.loads((vendor / "versions.json").read_text())
    said = {name: file["sha256"] for package in versions.values() for name, file in package["files"].items()}
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in vendor.iterdir()}
    del found["versions.json"]
    assert found == said
    assert all(f"LICENSE.{name}" in found for name in versions)


def test_the_whole_page_is_small() -> None:
    assets = read_assets()
    assert "index.html" in assets and "vendor/preact.mjs" in assets
    assert sum(len(asset.packed) for asset in assets.values()) < PACKED_BYTES_MAX


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_is_read_in_one_sitting_and_makes_no_html_of_text(script: Path) -> None:
    text = script.read_text()
    assert text.count("\n") <= LINES_MAX
    assert text.startswith("// "), "it says what it is"
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text
    )
    assert not re.search(r"https?://", text), "nothing comes from elsewhere"


def test_every_import_is_exported() -> None:
    exported: dict[str, set[str]] = {}
    for script in SCRIPTS:
        text = script.read_text()
        names = set(re.findall(r"export (?:async )?(?:const|function|class) (\w+)", text))
        for group in re.findall(r"export \{([^}]*)\}", text):
            names |= {name.strip() for name in group.split(",")}
        exported[script.name] = names
    for script in SCRIPTS:
        for group, module in re.findall(r'import \{([^}]*)\} from "\./([\w.]+)"', script.read_text()):
            missing = {name.strip() for name in group.split(",") if name.strip()} - exported[module]
            assert not missing, (script.name, module)


def test_every_file_and_chapter_that_a_word_names_is_there() -> None:
    text = (PAGE / "words.js").read_text()
    files, chapters = re.findall(r'file: "([^"]+)"', text), re.findall(r'chapter: "([^"]+)"', text)
    assert len(files) == len(chapters) > 10
    package = PAGE.parents[1]
    assert [file for file in files if not (package / file).exists()] == []
    docs = Path(__file__).parents[2] / "docs"
    assert [chapter for chapter in chapters if not (docs / chapter).exists()] == []


def test_every_word_that_is_asked_for_is_explained() -> None:
    known = set(re.findall(r"^  (\w+): \{ name", (PAGE / "words.js").read_text(), re.MULTILINE))
    asked = {word for script in SCRIPTS for word in re.findall(r'word[=:] ?"(\w+)"', script.read_text())}
    assert asked <= known
