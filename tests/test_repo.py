"""The house rules, kept by a test: packages, and a README that tells the truth."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ("detect.py", "train.py", "evaluate.py")
PACKAGES = {"torch", "safetensors", "tokenizers", "numpy", "requests", "pytest", "minitox"}
OPTIONAL = {"py3langid", "pyarrow"}  # asked for by --language-id langid and by parquet files alone
STANDARD = set(sys.stdlib_module_names)


def sources() -> list[Path]:
    """All code but the tests'."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    paths = [Path(line) for line in listed.stdout.split()] or [
        path.relative_to(ROOT) for path in ROOT.rglob("*.py")
    ]
    return [
        path
        for path in paths
        if path.parts[0] in ("minitox", "data", *SCRIPTS) and (ROOT / path).exists()
    ]


@pytest.mark.parametrize("path", sources(), ids=str)
def test_only_the_agreed_packages_are_imported(path):
    beside = {other.stem for other in sources() if other.parent == path.parent == Path("data")}
    allowed = PACKAGES | OPTIONAL | STANDARD | beside
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        names = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        assert {name.split(".")[0] for name in names} <= allowed


def test_stages_do_not_import_each_other_and_the_language_model_knows_no_toxicity():
    for path in sources():
        imported = set(
            re.findall(r"^(?:from|import) minitox\.(\w+)", (ROOT / path).read_text(), re.MULTILINE)
        )
        stages = imported & {"detect", "train", "evaluate"}
        if path.parts[:2] == ("minitox", "lm"):
            assert imported <= {"lm", "files", "errors", "run"}
        elif path.parts[0] == "minitox" and path.parts[1] in ("detect", "train", "evaluate"):
            assert stages <= {path.parts[1]}
