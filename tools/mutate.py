"""Breaks lines of the package, one at a time, and tells which of them the tests notice.

    python tools/mutate.py                                     # forty lines of tf_terngrad/, drawn by seed 0
    python tools/mutate.py --seed=3 --count=10 tf_terngrad/sparsity tf_terngrad/tflite/ports.py
    python tools/mutate.py --minutes=20                        # as many of the forty as the time allows

A line is broken in one of these ways: a comparison turned, + and - or * and / exchanged, a whole number one larger,
True and False or `and` and `or` exchanged, a `not` left out, a call or a `raise` left out, None returned. Only what
runs is broken: no docstrings, imports, annotations and texts of errors. For each, those test files run that are named
like the module or import it most directly; the first failure ends them. With --whole, the whole suite runs where these
notice nothing. All of it happens in a copy of the checkout, which itself is only read. It prints a table in Markdown.
"""

import argparse
import ast
import collections
import dataclasses
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "runs", "build", "dist", "__pycache__", ".*_cache", ".hypothesis")
TURNED = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
EXCHANGED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult}
JOINED = {ast.And: ast.Or, ast.Or: ast.And}


@dataclasses.dataclass(frozen=True)
class Mutation:
    """One way to break one line: the bytes of a file from `start` to `end` become `after`."""

    path: str
    line: int
    start: int
    end: int
    before: str
    after: str

    def broken(self, source: str) -> str:
        """The file's text with this line broken."""
        data = source.encode()
        return (data[: self.start] + self.after.encode() + data[self.end :]).decode()


# What can be broken


def mutations(source: str, path: str) -> list:
    """All ways to break a file."""
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for node in _running(ast.parse(source)):
        for after in _replacements(node):
            start = starts[node.lineno - 1] + node.col_offset
            end = starts[node.end_lineno - 1] + node.end_col_offset
            before = source.encode()[start:end].decode()
            found.append(Mutation(path, node.lineno, start, end, before, after))
    return found


def _running(node):
    """The nodes that do something when they run; an f-string's parts have no places before Python 3.12."""
    if isinstance(node, (ast.Import, ast.ImportFrom, ast.JoinedStr)):
        return
    if isinstance(node, (ast.stmt, ast.expr)):
        yield node
    if isinstance(node, ast.Raise):  # the statement may go; its text is no behaviour
        return
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns", "decorator_list"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _running(child)


def _replacements(node):
    """The texts that may stand in a node's place."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield _with(node, ops=[TURNED[type(node.ops[0])]()])
    elif isinstance(node, ast.BinOp) and type(node.op) in EXCHANGED and not _has_text(node):
        yield _with(node, op=EXCHANGED[type(node.op)]())
    elif isinstance(node, ast.BoolOp):
        yield _with(node, op=JOINED[type(node.op)]())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.Constant) and isinstance(node.value, (bool, int)):
        yield repr(not node.value if isinstance(node.value, bool) else node.value + 1)
    elif isinstance(node, ast.Return) and node.value is not None and ast.unparse(node) != "return None":
        yield "return None"
    elif isinstance(node, (ast.AugAssign, ast.Raise)) or (
        isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
    ):
        yield "pass"


def _with(node, **fields):
    old = {name: getattr(node, name) for name in fields}
    for name, value in fields.items():
        setattr(node, name, value)
    text = f"({ast.unparse(node)})"
    for name, value in old.items():
        setattr(node, name, value)
    return text


def _has_text(node):
    return any(isinstance(part, ast.Constant) and isinstance(part.value, str) for part in ast.walk(node))


def draw(root, paths, count, seed) -> list:
    """Some lines of the files below some paths, each with one way to break it, in the order drawn."""
    lines = collections.defaultdict(list)
    for path in paths:
        files = sorted((root / path).rglob("*.py")) if (root / path).is_dir() else [root / path]
        for file in files:
            for mutation in mutations(file.read_text(encoding="utf-8"), str(file.relative_to(root))):
                lines[mutation.path, mutation.line].append(mutation)
    rng = random.Random(seed)
    return [rng.choice(lines[line]) for line in rng.sample(sorted(lines), min(count, len(lines)))]


# Which tests to run


class Tests:
    """The test files of a checkout, and how directly each imports a module."""

    def __init__(self, root):
        files = {path: _module(path.relative_to(root)) for path in root.rglob("*.py")}
        self._modules = set(files.values()) | {path.stem for path in (root / "tests").rglob("*.py")}
        fixtures = _fixtures(root / "tests/conftest.py")
        self._imports = {name: self._imported(path) for path, name in files.items()}
        tests = {f"tests/{path.name}": name for path, name in files.items() if path.name.startswith("test_")}
        for file, name in tests.items():
            if _arguments(root / file) & fixtures:  # a fixture is imported by its name as an argument
                self._imports[name].add("tests.conftest")
        self._ways = {file: self._ways_from(name) for file, name in tests.items()}

    def _imported(self, path):
        found = set()
        for node in _nodes(path):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found |= {
                    name if (name := f"{node.module}.{alias.name}") in self._modules else node.module
                    for alias in node.names
                }
        return {f"tests.{name}" if f"tests.{name}" in self._modules else name for name in found & self._modules}

    def nearest(self, path, most) -> list:
        """At most so many test files for a file of the package: those of its name, then those with the shortest way.

        Of equal ways, the file comes first that imports least beside it.
        """
        module = _module(pathlib.Path(path))
        named = [file for file in sorted(self._ways) if re.search(rf"_{pathlib.Path(path).stem}(_|\.)", file)]
        ways = {file: ways for file, ways in self._ways.items() if module in ways and file not in named}
        return (named + sorted(ways, key=lambda file: (ways[file][module], len(ways[file]), file)))[:most]

    def _ways_from(self, start):
        """How many imports lead from one module to each that it reaches."""
        found, edge = {start: 0}, [start]
        for module in edge:  # grows meanwhile
            for name in sorted(self._imports.get(module, set()) - found.keys()):
                found[name] = found[module] + 1
                edge.append(name)
        return found


def _fixtures(path):
    """The names of the fixtures in a file; none if there is no such file."""
    if not path.exists():
        return set()
    functions = [node for node in _nodes(path) if isinstance(node, ast.FunctionDef)]
    return {node.name for node in functions if any("fixture" in ast.unparse(one) for one in node.decorator_list)}


def _arguments(path):
    """The names of all arguments of the functions in a file."""
    return {node.arg for node in _nodes(path) if isinstance(node, ast.arg)}


def _nodes(path):
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def _module(path):
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def run(root, files, timeout) -> str:
    """What fails first in some test files of a checkout; empty if nothing does."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=no", "-p", "no:cacheprovider", *files]
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        command,
        cwd=root,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"{files[0] if files else 'the suite'}: no end within {timeout:g} s"
    if process.returncode == 0:
        return ""
    # The parameters of a test may have spaces, and an error message follows behind a hyphen.
    failed = re.search(r"^(?:FAILED|ERROR) ([^\s[]+(?:\[.*?\](?= - |$))?)", printed, re.MULTILINE)
    return failed.group(1) if failed else (printed.strip().splitlines() or ["pytest ended"])[-1]


class Bench:
    """A copy of a checkout, in which lines are broken and mended."""

    def __init__(self, root, most, timeout, whole):
        self.root = root
        self.most, self.timeout, self.whole = most, timeout, whole
        self._tests = Tests(root)
        self._failing = set()
        self._passing = set()

    def noticed(self, mutation) -> str:
        """The test that notices a broken line; empty if none does."""
        files = [file for file in self._tests.nearest(mutation.path, self.most) if file not in self._failing]
        found = self._fails_only_with(mutation, files, self.timeout)
        return found or (self._fails_only_with(mutation, ["tests"], 10 * self.timeout) if self.whole else "")

    def _fails_only_with(self, mutation, files, timeout):
        """What fails first with a broken line and not without it: a test that fails anyway notices nothing."""
        while files:
            found = self._broken(mutation, files, timeout)
            file = found.split("::")[0]
            suspects = [found] if file in files else files  # after a crash or an endless loop, pytest names no test
            if not found or found in self._passing:
                return found
            if not run(self.root, suspects, timeout):
                self._passing.add(found)
                return found
            print(f"{' '.join(suspects)} fails before anything is broken: left out", file=sys.stderr, flush=True)
            self._failing.update([file] if file in files else files)
            files = [other for other in files if other not in self._failing]
        return ""

    def _broken(self, mutation, files, timeout):
        path = self.root / mutation.path
        source = path.read_text(encoding="utf-8")
        path.write_text(mutation.broken(source), encoding="utf-8")
        try:
            return run(self.root, files, timeout)
        finally:
            path.write_text(source, encoding="utf-8")


def row(*cells):
    """A row of a table in Markdown, each cell on one line."""
    texts = [" ".join(str(cell).split()).replace("|", r"\|") for cell in cells]
    print("| " + " | ".join(text if len(text) <= 70 else text[:67] + "..." for text in texts) + " |", flush=True)


def main(arguments=None):
    """Breaks lines and prints a table; returns the lines that nothing noticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", default=["tf_terngrad"], help="files and folders of which lines are broken")
    parser.add_argument("--count", type=int, default=40, help="how many lines")
    parser.add_argument("--seed", type=int, default=0, help="other lines for another seed")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no line after so long")
    parser.add_argument("--most", type=int, default=5, help="at most so many test files a line")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for the tests of one line")
    parser.add_argument("--whole", action="store_true", help="run the whole suite where these notice nothing")
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).parents[1], help="the checkout")
    chosen = parser.parse_args(arguments)
    begun, tried, survivors = time.monotonic(), 0, []
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        copy = pathlib.Path(shutil.copytree(chosen.root, pathlib.Path(folder, "checkout"), ignore=NOT_COPIED))
        bench = Bench(copy, chosen.most, chosen.timeout, chosen.whole)
        row("file", "line", "before", "after", "caught by")
        row(*["---"] * 5)
        for mutation in draw(copy, chosen.paths, chosen.count, chosen.seed):
            if time.monotonic() - begun > 60 * chosen.minutes:
                break
            test = bench.noticed(mutation)
            tried += 1
            row(mutation.path, mutation.line, mutation.before, mutation.after, test or "survived")
            if not test:
                survivors.append(mutation)
    caught = tried - len(survivors)
    print(f"\n{caught} of {tried} broken lines were caught" + (f", {caught / tried:.0%}." if tried else "."))
    return survivors


if __name__ == "__main__":
    main()
