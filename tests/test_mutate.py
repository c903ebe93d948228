"""The script that breaks lines, on a package of three lines: what it breaks, which tests it runs, what it tells."""

import pytest
from tool_modules import load

SOURCE = '''"""A docstring with True and 1 + 2."""
import math


def largest(a: int, b: int = 3):
    """Another, with 4 < 5."""
    if not a or a < b:
        raise ValueError(f"too small by {1 + 1}")
    values = [a - 1, "x" * 2]
    values.append(b)
    values[0] += 1
    if math.isnan(b):
        return None
    return values[0], True, math.inf
'''


PARAMETRIZED = """
import pytest
from helper import numbers


@pytest.mark.parametrize("expected", [6], ids=["of three - 6"])
def test_it(expected):
    assert numbers.double(3) == expected
"""


@pytest.fixture(scope="module")
def tool():
    return load("mutate")


@pytest.fixture
def checkout(tmp_path):
    """A package with a function that is tested and one that is not, and a test file that fails by itself."""
    files = {
        "small/__init__.py": "",
        "small/numbers.py": "def double(x):\n    return 2 * x\n",
        "small/inner.py": "def idle(x):\n    return x + 1\n",
        "small/outer.py": "from small.inner import idle\n\n\ndef use(x):\n    return idle(x)\n",
        "tests/helper.py": "from small import numbers\n",
        "tests/test_numbers.py": PARAMETRIZED,
        "tests/test_use.py": "from small import outer\n\n\ndef test_it():\n    outer.use(1)\n",
        "tests/test_broken.py": "import small.inner\n\n\ndef test_it():\n    assert False\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_what_runs_is_broken_and_nothing_else(tool):
    found = {(m.line, m.before, m.after) for m in tool.mutations(SOURCE, "a.py")}
    assert found == {
        (5, "3", "4"),
        (7, "not a or a < b", "(not a and a < b)"),
        (7, "not a", "(a)"),
        (7, "a < b", "(a <= b)"),
        (8, 'raise ValueError(f"too small by {1 + 1}")', "pass"),
        (9, "a - 1", "(a + 1)"),
        (9, "1", "2"),
        (9, "2", "3"),
        (10, "values.append(b)", "pass"),
        (11, "values[0] += 1", "pass"),
        (11, "0", "1"),
        (11, "1", "2"),
        (14, "return values[0], True, math.inf", "return None"),
        (14, "0", "1"),
        (14, "True", "False"),
    }


def test_every_broken_file_is_python_and_differs_in_that_place(tool):
    source = SOURCE.replace("too small", "zu groß").replace('"x"', '"ß" "é"')
    for mutation in tool.mutations(source, "a.py"):
        broken = mutation.broken(source)
        compile(broken, "a.py", "exec")
        assert broken != source and broken.splitlines()[: mutation.line - 1] == source.splitlines()[: mutation.line - 1]


def test_a_seed_draws_the_same_lines_and_each_line_once(tool, checkout):
    first, again, other = (tool.draw(checkout, ["small"], 3, seed) for seed in (1, 1, 2))
    assert first == again != other
    assert len({(m.path, m.line) for m in first}) == 3
    assert len(tool.draw(checkout, ["small/numbers.py"], 40, 0)) == 1


def test_the_tests_of_a_module_are_those_of_its_name_then_the_nearest(tool, checkout):
    tests = tool.Tests(checkout)
    assert tests.nearest("small/numbers.py", 5) == ["tests/test_numbers.py"]
    assert tests.nearest("small/inner.py", 5) == ["tests/test_broken.py", "tests/test_use.py"]
    assert tests.nearest("small/inner.py", 1) == ["tests/test_broken.py"]
    (checkout / "tests/test_all.py").write_text("import small.inner\nimport small.outer\n")
    assert tool.Tests(checkout).nearest("small/inner.py", 2) == ["tests/test_broken.py", "tests/test_all.py"]


CONFTEST = """
import pytest
from small import numbers


@pytest.fixture(params=[numbers])
def implementation(request):
    return request.param
"""


def test_a_test_imports_what_its_fixtures_import(tool, checkout):
    (checkout / "tests/conftest.py").write_text(CONFTEST)
    (checkout / "tests/test_codec.py").write_text("def test_it(implementation):\n    implementation.double(3)\n")
    (checkout / "tests/test_other.py").write_text("def test_it(tmp_path, implementations):\n    pass\n")
    tests = tool.Tests(checkout)
    assert tests.nearest("small/numbers.py", 5) == ["tests/test_numbers.py", "tests/test_codec.py"]


def test_it_tells_what_is_caught_and_what_survives_and_leaves_the_checkout_alone(tool, checkout, capsys):
    before = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    survivors = tool.main([f"--root={checkout}", "small/numbers.py", "small/inner.py"])
    printed = capsys.readouterr()
    assert [survivor.path for survivor in survivors] == ["small/inner.py"]
    assert "tests/test_numbers.py::test_it[of three - 6] |" in printed.out and "| survived |" in printed.out
    assert printed.out.endswith("1 of 2 broken lines were caught, 50%.\n")
    assert "tests/test_broken.py::test_it fails before anything is broken: left out" in printed.err
    assert {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()} == before


def test_tests_without_an_end_have_noticed(tool, checkout):
    (checkout / "tests/test_numbers.py").write_text("def test_it():\n    while True:\n        pass\n")
    assert "no end within 3 s" in tool.run(checkout, ["tests/test_numbers.py"], 3)


def test_no_time_no_lines(tool, checkout, capsys):
    assert tool.main([f"--root={checkout}", "small", "--minutes=-1"]) == []
    assert "0 of 0 broken lines were caught." in capsys.readouterr().out
