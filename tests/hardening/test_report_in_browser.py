"""The report with the worst strings known, in a real browser: no script of theirs runs, nothing of them is loaded, and the page keeps its shape."""

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "report"))
from test_page import HOSTILE, report  # noqa: E402

from minitox.report import page  # noqa: E402

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
ATTACKS = [
    "<script>document.title = 'pwned'</script>",
    "<img src=x onerror=\"document.title='pwned'\">",
    "<svg onload=document.title='pwned'>",
    "</title><script>document.title='pwned'</script>",
    "</style><script>document.title='pwned'</script>",
    "<svg><script>document.title='pwned'//",
    "\"><script>document.title='pwned'</script>",
    "' onmouseover='document.title=1' autofocus onfocus='document.title=1",
    "javascript:document.title='pwned'",
    "<iframe srcdoc=\"<script>parent.document.title='pwned'</script>\">",
    "<meta http-equiv=refresh content=0>",
    "<base href=//evil.example>",
    "<!--><script>document.title='pwned'</script>-->",
    "<![CDATA[<script>document.title='pwned'</script>]]>",
    "</section></main><h1>Not ours</h1>",
    "\u202e<script>\u202c",
    "\u2066" * 50 + "x",
    "nul\x00byte",
    "\x1b[31m",
    "\ud800",
    "e" + "\u0301" * 500,
    "x" * 1_000_000,
    "<b>" * 300_000,
    "\u0e49" * 1_000_000,
    "\ufdfd" * 400,
]
MEASURE = """<script>addEventListener("load", () => { document.documentElement.dataset.found = JSON.stringify({
  width: document.documentElement.scrollWidth, room: innerWidth, sections: document.querySelectorAll("body > section").length,
  tags: [...new Set([...document.querySelectorAll("body *")].map(e => e.tagName.toLowerCase()))].sort()})})</script>"""


def dumped(path: Path, folder: Path) -> str:
    """The tree of a page after its scripts, if any ran."""
    command = [
        BROWSER,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={folder / 'profile'}",
        "--window-size=1000,800",
        "--virtual-time-budget=3000",
        "--dump-dom",
        path.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-500:]
    return done.stdout.decode("utf-8")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report with every attack wherever a section takes words, and one with plain words."""
    folder, sections = tmp_path_factory.mktemp("page"), []
    for words in (*ATTACKS, *HOSTILE):
        sections += report(words)
    for name, found, title in (
        ("worst", sections, ATTACKS[0]),
        ("plain", report("plain"), "plain"),
    ):
        (folder / f"{name}.html").write_text(page.html(title, found), encoding="utf-8")
    return folder


def test_no_script_runs_even_where_the_page_would_allow_it(written):
    bare = re.sub(
        '<meta http-equiv="Content-Security-Policy"[^>]*>',
        "",
        (written / "worst.html").read_text("utf-8"),
    )
    assert (
        "Content-Security-Policy" not in bare
    )  # so that the escapes are tried, and not the policy
    (written / "bare.html").write_text(bare, encoding="utf-8")
    for name in ("worst", "bare"):
        text = dumped(written / f"{name}.html", written)
        title = html.unescape(re.search("<title>(.*?)</title>", text)[1])
        assert (
            title == page.shown(ATTACKS[0])
            and "<script" not in text
            and 'onerror="' not in re.sub(">[^<]*<", "><", text)
        )
        assert text.count("<section") == 2 * len(ATTACKS + HOSTILE) and text.count("<h1>") == 1


def test_this_browser_does_run_scripts(written):
    (written / "control.html").write_text(
        f"<!doctype html><title>a</title>{ATTACKS[1]}", encoding="utf-8"
    )
    assert "<title>pwned</title>" in dumped(written / "control.html", written)


def test_the_worst_strings_add_no_element_and_widen_nothing(written):
    found = {}
    for name in ("worst", "plain"):
        bare = re.sub(
            '<meta http-equiv="Content-Security-Policy"[^>]*>',
            "",
            (written / f"{name}.html").read_text("utf-8"),
        )
        (written / f"{name}-measured.html").write_text(bare + MEASURE, encoding="utf-8")
        told = re.search(
            'data-found="([^"]*)"', dumped(written / f"{name}-measured.html", written)
        )[1]
        found[name] = json.loads(html.unescape(told))
    assert found["worst"]["tags"] == found["plain"]["tags"]
    assert all(each["width"] <= each["room"] for each in found.values())
    assert found["worst"]["sections"] == len(ATTACKS + HOSTILE) * found["plain"]["sections"]
