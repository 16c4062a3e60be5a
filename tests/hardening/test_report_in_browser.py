"""The report with hostile strings, in a real browser.

None of their scripts runs, nothing of theirs is loaded, and the page keeps its shape.
"""

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

BROWSERS = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
BROWSER = next(filter(None, BROWSERS), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")
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
MEASURE = """
<script>
addEventListener("load", () => {
  const tags = [...document.querySelectorAll("body *")].map(e => e.tagName.toLowerCase());
  document.documentElement.dataset.found = JSON.stringify({
    width: document.documentElement.scrollWidth,
    room: innerWidth,
    sections: document.querySelectorAll("body > section").length,
    tags: [...new Set(tags)].sort(),
  });
});
</script>
"""


def tree_of(path: Path, folder: Path) -> str:
    """The HTML of a page after its scripts, if any, have run."""
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
    process = subprocess.run(command, capture_output=True, timeout=120)
    assert process.returncode == 0, process.stderr.decode("utf-8", "replace")[-500:]
    return process.stdout.decode("utf-8")


def without_policy(path: Path) -> str:
    """A page without its policy against scripts, so that only the escapes protect it."""
    policy = '<meta http-equiv="Content-Security-Policy"[^>]*>'
    return re.sub(policy, "", path.read_text("utf-8"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report with every attack wherever a section contains words, and one with plain words."""
    folder = tmp_path_factory.mktemp("page")
    sections = []
    for words in (*ATTACKS, *HOSTILE):
        sections += report(words)
    (folder / "worst.html").write_text(page.html(ATTACKS[0], sections), encoding="utf-8")
    (folder / "plain.html").write_text(page.html("plain", report("plain")), encoding="utf-8")
    return folder


def test_no_script_runs_even_where_the_page_would_allow_it(written):
    bare = without_policy(written / "worst.html")
    assert "Content-Security-Policy" not in bare
    (written / "bare.html").write_text(bare, encoding="utf-8")
    for name in ("worst", "bare"):
        text = tree_of(written / f"{name}.html", written)
        title = html.unescape(re.search("<title>(.*?)</title>", text)[1])
        assert title == page.shown(ATTACKS[0])
        assert "<script" not in text
        assert 'onerror="' not in re.sub(">[^<]*<", "><", text)
        assert text.count("<section") == 2 * len(ATTACKS + HOSTILE)
        assert text.count("<h1>") == 1


def test_this_browser_does_run_scripts(written):
    control = f"<!doctype html><title>a</title>{ATTACKS[1]}"
    (written / "control.html").write_text(control, encoding="utf-8")
    assert "<title>pwned</title>" in tree_of(written / "control.html", written)


def test_the_worst_strings_add_no_element_and_do_not_widen_the_page(written):
    measured = {}
    for name in ("worst", "plain"):
        path = written / f"{name}-measured.html"
        bare = without_policy(written / f"{name}.html")
        path.write_text(bare + MEASURE, encoding="utf-8")
        data = re.search('data-found="([^"]*)"', tree_of(path, written))[1]
        measured[name] = json.loads(html.unescape(data))
    worst = measured["worst"]
    plain = measured["plain"]
    assert worst["tags"] == plain["tags"]
    assert worst["width"] <= worst["room"] and plain["width"] <= plain["room"]
    assert worst["sections"] == len(ATTACKS + HOSTILE) * plain["sections"]
