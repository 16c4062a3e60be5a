"""The rules of the house: packages, rooms, pure methods, settings, and code laid out to be read."""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ("detect.py", "train.py", "evaluate.py")
METHOD = (
    "minitox/detect",
    "minitox/train",
    "minitox/evaluate",
    "minitox/neurons.py",
    "minitox/lm/model.py",
    "minitox/lm/generate.py",
)


# ---------- what there is


@cache
def python_files() -> list[Path]:
    """All Python files of the project, relative to its root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    paths = [Path(line) for line in listed.splitlines()]
    if not paths:  # not a git repository
        paths = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
    return [path for path in paths if (ROOT / path).exists()]


def sources() -> list[Path]:
    """All code but the tests'."""
    return [path for path in python_files() if path.parts[0] in ("minitox", "data", *SCRIPTS)]


def method_files() -> list[Path]:
    """The files of the method, which are pure."""
    return [path for path in sources() if path.as_posix().startswith(METHOD)]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text("utf-8"))


@cache
def module_name(path: Path) -> str:
    """The dotted name of a file; data/prepare.py is prepare, since data/ is no package."""
    parts = path.with_suffix("").parts
    if parts[0] == "data":
        parts = parts[1:]
    return ".".join(parts).removesuffix(".__init__")


def room_of(path: Path) -> str:
    """The room that a file belongs to."""
    if path.parts[0] == "data":
        return "data/"
    if path.parts[0] in SCRIPTS:
        return "scripts"
    return path.parts[1].removesuffix(".py")


def imported_names(path: Path) -> Iterator[str]:
    """Everything that a file imports, such as `torch` or `minitox.files.read_json`."""
    package = path.parent.parts
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{module}.{alias.name}"


def is_part_of(name: str, modules) -> bool:
    """Whether an imported name is one of the modules or is in one of them."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def imported_files(path: Path) -> set[Path]:
    """The files of the project that a file imports."""
    files = {module_name(other): other for other in sources() if other.name != "__init__.py"}
    imported = set()
    for name in imported_names(path):
        for module in (name, name.rpartition(".")[0]):
            if module in files:
                imported.add(files[module])
    return imported


# ---------- packages

PACKAGES = {"torch", "safetensors", "tokenizers", "numpy", "requests", "pytest", "minitox"}
# --language-id langid, parquet files and the check of chat templates alone need these
OPTIONAL = {"py3langid", "pyarrow", "jinja2"}
STANDARD = set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", sources(), ids=str)
def test_only_the_agreed_packages_are_imported(path):
    beside = {other.stem for other in sources() if other.parent == path.parent == Path("data")}
    packages = {name.split(".")[0] for name in imported_names(path)}
    assert packages <= PACKAGES | OPTIONAL | STANDARD | beside


# ---------- rooms

# What each room may import. Every room is above those that it imports.
ABOVE = {
    "errors": "",
    "languages": "",
    "files": "errors",
    "locks": "errors",
    "lm": "errors files",
    # the method
    "neurons": "lm",
    "detect": "lm neurons",
    "train": "lm neurons",
    "evaluate": "lm",
    # around it
    "data": "errors files lm detect train evaluate",
    "spelling": "",
    "scorers": "errors files lm spelling",
    "overlap": "files spelling",
    "run": "errors languages files locks lm neurons detect train evaluate data scorers overlap",
    "report": "errors languages files lm neurons detect train evaluate run overlap",
    "delta": "errors files locks lm run",
    # programs
    "scripts": "errors files lm neurons detect train evaluate data scorers run report delta",
    "data/": "errors languages files locks lm detect evaluate data spelling scorers overlap run "
    "report",
}


@pytest.mark.parametrize("path", sources(), ids=str)
def test_a_room_imports_only_the_rooms_below_it(path):
    room = room_of(path)
    imported = {room_of(other) for other in imported_files(path)} - {room}
    assert imported <= set(ABOVE.get(room, "").split())


def test_the_stages_do_not_import_each_other_and_the_model_knows_no_toxicity():
    stages = {"detect", "train", "evaluate"}
    assert not set(ABOVE["lm"].split()) & {*stages, "neurons", "scorers", "report"}
    assert all(not set(ABOVE[stage].split()) & stages for stage in stages)


def test_the_rooms_are_in_layers():
    below = {room: set(rooms.split()) for room, rooms in ABOVE.items()}
    assert list(TopologicalSorter(below).static_order())  # CycleError names the rooms


def test_no_files_import_each_other_in_a_circle():
    graph = {path: imported_files(path) for path in sources()}
    assert list(TopologicalSorter(graph).static_order())  # CycleError names the files


# ---------- the method is pure

# numpy, torch, modules that do no input or output, and the method itself
PURE = {
    *("__future__", "collections", "dataclasses", "enum", "functools", "itertools", "math"),
    *("numpy", "random", "re", "statistics", "torch", "typing", "unicodedata"),
    *("minitox.detect", "minitox.train", "minitox.evaluate", "minitox.neurons"),
    *("minitox.languages", "minitox.lm.model", "minitox.lm.config", "minitox.lm.generate"),
    "minitox.lm.batching",
}
IMPURE = {"torch.distributed", "torch.multiprocessing", "torch.hub"}
IMPURE_CALLS = {
    *("print", "open", "input", "InputError"),
    *("torch.save", "torch.load", "np.save", "np.load", "np.fromfile"),
}


@pytest.mark.parametrize("path", method_files(), ids=str)
def test_the_method_imports_nothing_that_reads_writes_or_communicates(path):
    impure = []
    for name in imported_names(path):
        if not is_part_of(name, PURE) or is_part_of(name, IMPURE):
            impure.append(name)
    assert impure == []


@pytest.mark.parametrize("path", method_files(), ids=str)
def test_the_method_prints_nothing_opens_nothing_and_raises_value_errors(path):
    calls = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]
    assert not {ast.unparse(call.func) for call in calls} & IMPURE_CALLS


# ---------- settings are values

SETTINGS = {"Settings", "DetectSettings", "TrainSettings", "EvaluateSettings"}
READERS_OF_SETTINGS = {*map(Path, SCRIPTS), Path("data/curate.py"), Path("minitox/run/settings.py")}


def parameters_of(path: Path) -> list[ast.arg]:
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.arg)]


@pytest.mark.parametrize("path", method_files(), ids=str)
def test_the_method_takes_plain_values(path):
    assert not {parameter.arg for parameter in parameters_of(path)} & {"args", "settings"}


@pytest.mark.parametrize("path", sources(), ids=str)
def test_only_scripts_see_all_settings(path):
    if path.parts[0] == "minitox":
        assert "args" not in {parameter.arg for parameter in parameters_of(path)}
    if path in READERS_OF_SETTINGS:
        return
    assert not {name.rpartition(".")[2] for name in imported_names(path)} & SETTINGS
    for parameter in parameters_of(path):
        if parameter.annotation is not None:
            annotation = ast.unparse(parameter.annotation)
            assert not set(re.findall(r"\w+", annotation)) & SETTINGS


# ---------- code is laid out to be read

LONGEST_LINE = 100
MOST_TOKENS = 10.0  # in a line, on average
MOST_TOKENS_OF_METHOD = 9.0
FEWEST_COMMENTS_OF_METHOD = 0.20  # for each line of code
NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENCODING, tokenize.ENDMARKER),
}
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def docstring_lines(path: Path) -> set[int]:
    """The lines of all docstrings."""
    lines = set()
    for node in ast.walk(tree_of(path)):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(node) is not None:
            lines |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines


@cache
def counts_of(path: Path) -> tuple[int, int, int]:
    """Tokens and lines of code, without docstrings, and comments."""
    text = (ROOT / path).read_text("utf-8")
    documented = docstring_lines(path)
    tokens = 0
    lines = set()
    comments = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        comments += token.type == tokenize.COMMENT
        if token.type not in NO_CODE and token.start[0] not in documented:
            tokens += 1
            lines |= set(range(token.start[0], token.end[0] + 1))
    return tokens, len(lines), comments


def total(paths: list[Path]) -> tuple[int, int, int]:
    """The counts of several files together."""
    tokens, lines, comments = zip(*map(counts_of, paths), strict=True)
    return sum(tokens), sum(lines), sum(comments)


def places() -> dict[str, list[Path]]:
    """The files of each room, and each script."""
    files = defaultdict(list)
    for path in sources():
        place = path.name if path.parts[0] in SCRIPTS else room_of(path)
        if counts_of(path)[1]:
            files[place].append(path)
    return files


@pytest.mark.parametrize("place", places())
def test_a_line_does_one_thing(place):
    tokens, lines, _ = total(places()[place])
    assert tokens / lines <= MOST_TOKENS


def test_a_line_of_the_method_is_shorter_and_its_phases_have_comments():
    tokens, lines, comments = total(method_files())
    assert tokens / lines <= MOST_TOKENS_OF_METHOD
    assert comments / lines >= FEWEST_COMMENTS_OF_METHOD


@pytest.mark.parametrize("path", method_files(), ids=str)
def test_the_method_has_no_nested_comprehension(path):
    nested = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, COMPREHENSIONS):
            inner = [child for child in ast.walk(node) if isinstance(child, COMPREHENSIONS)]
            if len(node.generators) > 1 or len(inner) > 1:
                nested.append(node.lineno)
    assert nested == []


def test_no_line_is_too_wide_to_read():
    wide = []
    for path in python_files():
        for number, line in enumerate((ROOT / path).read_text("utf-8").splitlines(), start=1):
            if len(line) > LONGEST_LINE:
                wide.append(f"{path}:{number}")
    assert wide == []


# ---------- the scripts read like the method


@pytest.mark.parametrize("script", SCRIPTS)
def test_main_is_short_and_free_of_machinery(script):
    (main,) = (
        node
        for node in tree_of(Path(script)).body
        if isinstance(node, ast.FunctionDef) and node.name == "main"
    )
    assert main.end_lineno - main.lineno + 1 <= 60
    lines = (ROOT / script).read_text("utf-8").splitlines()[main.lineno - 1 : main.end_lineno]
    for word in ("lock", "partial", "rank"):
        assert word not in "\n".join(lines)
