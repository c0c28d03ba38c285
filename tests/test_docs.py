"""Runs the code that README.md and docs/ show.

A page's ```python blocks run in order in one namespace; each page has its own process and an empty
working directory. What a page needs but should not show (a folder of pictures, say) goes into an
HTML comment that opens with `<!-- setup` on a line of its own, and runs like a block.
Command lines in ```bash blocks are not run, but must parse. The examples in docstrings are not run
either, but their calls of the package must name what exists, with arguments that it takes.
"""

import ast
import contextlib
import functools
import importlib
import inspect
import io
import json
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

import keras_ldm

pytestmark = pytest.mark.docs

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "keras_ldm"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SECONDS = 540  # for one page

_FENCE = re.compile(r"^(?P<indent>\s*)(?P<fence>```+|~~~+)\s*(?P<info>.*?)\s*$")
_PYTHON = ("python", "py", "python3")
_KERAS_ARGUMENTS = {"name", "dtype", "trainable", "reduction"}  # what `**kwargs` takes on
_SHELL = ("bash", "sh", "shell", "console")

_RUN = """
import json, sys
namespace = {"__name__": "__main__"}
for path, line, code in json.load(sys.stdin):
    exec(compile("\\n" * (line - 1) + code, path, "exec"), namespace)
"""


class Block(NamedTuple):
    """A piece of code: the file, the line of its first line, its language and options, its text."""

    path: Path
    line: int
    info: str
    code: str

    @property
    def language(self) -> str:
        return re.split(r"[\s{,]", self.info, maxsplit=1)[0].lower()

    @property
    def where(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def blocks_of(path: Path, lines: list[str], first: int = 1) -> Iterator[Block]:
    """Yields the fenced blocks, and the `<!-- setup` comments, of lines that begin at `first`."""
    start, info, closing = 0, "", None
    for number, text in enumerate(lines, first):
        if closing is None:
            if fence := _FENCE.match(text):
                closing = re.compile(rf"^\s*{fence['fence']}\s*$")
                start, info = number + 1, fence["info"]
            elif text.strip() == "<!-- setup":
                closing, start, info = re.compile(r"^\s*-->\s*$"), number + 1, "python"
        elif closing.match(text):
            code = textwrap.dedent("\n".join(lines[start - first : number - first]))
            yield Block(path, start, info, code + "\n")
            closing = None
    if closing is not None:
        raise ValueError(f"{path.relative_to(ROOT)}:{start - 1}: this block is not closed")


@functools.cache
def page_blocks(path: Path) -> list[Block]:
    return list(blocks_of(path, path.read_text(encoding="utf-8").splitlines()))


def docstring_blocks(path: Path) -> Iterator[Block]:
    """Yields the Python blocks of a module's docstrings."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            docstring = node.body[0]
            inside = lines[docstring.lineno - 1 : docstring.end_lineno]
            found = blocks_of(path, inside, docstring.lineno)
            yield from (block for block in found if block.language in _PYTHON)


def called(function: ast.expr, module: ModuleType) -> object | None:
    """Returns what an expression calls, if it is a public name or starts at `keras_ldm` or `kl`."""
    match function:
        case ast.Name(id="keras_ldm" | "kl"):
            return keras_ldm
        case ast.Name(id=name):
            return getattr(module, name, getattr(keras_ldm, name, None))
        case ast.Attribute(value=value, attr=attribute):
            root = value
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in ("keras_ldm", "kl"):
                return getattr(called(value, module), attribute)
    return None


def check_call(call: ast.Call, module: ModuleType) -> None:
    """Raises AttributeError or TypeError where a call names or passes what is not there."""
    target = called(call.func, module)
    starred = any(isinstance(a, ast.Starred) for a in call.args) or any(
        k.arg is None for k in call.keywords
    )
    if callable(target) and not starred:
        signature = inspect.signature(target)
        bound = signature.bind(*call.args, **{k.arg: k.value for k in call.keywords if k.arg})
        if isinstance(target, type):
            unknown = set(bound.arguments.get("kwargs", ())) - _KERAS_ARGUMENTS
            if unknown:
                raise TypeError(f"unknown arguments {sorted(unknown)}")


def run(blocks: list[Block], directory: Path) -> None:
    """Runs blocks in one namespace of a new process."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "-c", _RUN],
        input=json.dumps([(str(block.path), block.line, block.code) for block in blocks]),
        cwd=directory,
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode:
        frames = re.findall(r'^  File "(.+\.md)", line (\d+)', done.stdout, re.MULTILINE)
        path, line = frames[-1] if frames else (blocks[0].path, blocks[0].line)
        where = f"{Path(path).relative_to(ROOT)}:{line}"
        pytest.fail(f"{where}\n{done.stdout[-6000:]}", pytrace=False)


def commands_of(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Yields (`file:line`, words) for each command, without prompts, comments, VARIABLE=value."""
    code = re.sub(r"\\\n", lambda _: " \0", block.code)  # \0 keeps count of joined lines
    line = block.line
    for text in code.splitlines():
        where = f"{block.path.relative_to(ROOT)}:{line}"
        line += 1 + text.count("\0")
        text = re.sub(r"^\s*\$ ", "", text.replace("\0", ""))
        lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if not set(word) <= set(";&|"):
                command.append(word)
                continue
            while command and re.match(r"^\w+=", command[0]):
                command.pop(0)
            if command:
                yield where, command
            command = []


def forked_help(script: Path) -> str | None:
    """Of a process that is this one's copy: what a script imports is there already.

    None if it fails, as it may where TensorFlow has started: some scripts set its threads first.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        sys.stdout = sys.stderr = os.fdopen(1, "w")
        sys.argv, sys.path[0] = [str(script), "--help"], str(script.parent)
        status = 1
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as stop:
            status = int(bool(stop.code))
        except BaseException:
            pass  # the script has a process of its own then
        finally:
            sys.stdout.flush()
            os._exit(status)
    os.close(writing)
    with open(reading) as said:
        text = said.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return text if status == 0 else None


@functools.cache
def help_of(script: Path) -> str:
    if (text := forked_help(script)) is not None:
        return text
    done = subprocess.run(
        [sys.executable, str(script), "--help"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout if done.returncode == 0 else f"(failed)\n{done.stderr}"


def complaint(command: list[str]) -> str | None:
    """Returns what is wrong with a command, where it is one of ours."""
    program, *arguments = command
    if program == "keras-ldm":
        from keras_ldm.cli.main import build_parser

        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                build_parser().parse_args(arguments)
        except SystemExit as stop:
            return said.getvalue() if stop.code else None
    if re.fullmatch(r"python[\d.]*", program) and arguments and arguments[0].endswith(".py"):
        script = ROOT / arguments[0]
        if not script.exists():
            return f"there is no {arguments[0]}"
        text = help_of(script)
        options = [word.partition("=")[0] for word in arguments[1:] if re.match(r"--?[a-zA-Z]", word)]
        unknown = [o for o in options if not re.search(rf"(?<![\w-]){re.escape(o)}(?![\w-])", text)]
        if unknown or text.startswith("(failed)"):
            return f"{arguments[0]} --help does not name {unknown}: {text}"
    return None


WITH_CODE = [p for p in PAGES if p.exists() and any(b.language in _PYTHON for b in page_blocks(p))]
WITH_COMMANDS = [p for p in PAGES if p.exists() and any(b.language in _SHELL for b in page_blocks(p))]
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if [*docstring_blocks(p)])


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", WITH_CODE, ids=relative)
def test_page_runs(page: Path, tmp_path: Path) -> None:
    run([block for block in page_blocks(page) if block.language in _PYTHON], tmp_path)


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_docstring_examples_call_what_exists(path: Path) -> None:
    subpackage = path.relative_to(ROOT).with_suffix("").parts[:2]
    module = importlib.import_module(".".join(subpackage).removesuffix(".__init__"))
    wrong = []
    for block in docstring_blocks(path):
        for node in ast.walk(ast.parse(block.code)):
            if isinstance(node, ast.Call):
                try:
                    check_call(node, module)
                except (AttributeError, TypeError) as error:
                    wrong.append(f"{block.where}: {ast.unparse(node)}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=relative)
def test_commands_parse(page: Path) -> None:
    shell = [block for block in page_blocks(page) if block.language in _SHELL]
    commands = [found for block in shell for found in commands_of(block)]
    wrong = [f"{where}: {shlex.join(c)}\n  {why}" for where, c in commands if (why := complaint(c))]
    assert not wrong, "\n".join(wrong)


def test_no_block_is_exempt() -> None:
    for block in (b for page in PAGES for b in page_blocks(page)):
        exempt = re.search(r"\b(notest|no-test|no_test|skip|ignore)\b", block.info)
        assert not exempt, f"{block.where}: every block runs; Received: {block.info!r}"
        assert block.language != "pycon", f"{block.where}: use ```python"


def test_readme_shows_code_and_commands() -> None:
    readme = ROOT / "README.md"
    assert readme in WITH_CODE
    assert readme in WITH_COMMANDS
