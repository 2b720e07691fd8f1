"""The line of every key of a TOML text: against texts that are made up together with their lines."""

import tomllib
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor import toml_lines

bare = st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True)
odd = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=6)
noise = st.sampled_from(["", "   ", "# a comment", "# [not.a.table]", '# "quote', "\t# x = 1"])
scalars = st.sampled_from([
    "1", "-2.5e3", "true", "inf", "1979-05-27T07:32:00Z", "1979-05-27 07:32:00", '"a"', '"a # [b] {c} \\" \\\\"', "'[x] # \"'", '""', "''",
    '"""one\ntwo = [\n"""', "'''\n[[x]]\n'''", '"""ends with two""""" ', "'''ends with one''''", '"""a \\"""b"""', '"""\\\n  x"""',
])


class Text:
    """A TOML text that grows, and where its keys are."""

    def __init__(self, draw):
        self.draw, self.text, self.lines = draw, "", {}

    def line(self):
        return self.text.count("\n") + 1

    def key(self, taken):
        name = self.draw(st.one_of(bare, odd).filter(lambda key: key not in taken))
        taken.add(name)
        quoted = '"' + "".join(f"\\u{ord(c):04x}" if c in '"\\' else c for c in name) + '"'
        forms = [quoted] + ([name] if name and name.isascii() and name.replace("-", "").replace("_", "").isalnum() else [])
        forms += [f"'{name}'"] if "'" not in name else []
        return name, self.draw(st.sampled_from(forms))

    def pair(self, path, taken, depth):
        name, shown = self.key(taken)
        at = (*path, name)
        self.lines[at] = self.line()
        if self.draw(st.integers(0, 5)) == 0:
            inner, inner_shown = self.key(set())
            shown = f"{shown}{self.draw(st.sampled_from(['.', ' . ']))}{inner_shown}"
            at = (*at, inner)
            self.lines[at] = self.line()
        self.text += shown + self.draw(st.sampled_from(["=", " = ", "\t= "]))
        self.value(at, depth)

    def value(self, path, depth):
        kind = self.draw(st.sampled_from(["scalar", "array", "table"] if depth else ["scalar"]))
        if kind == "scalar":
            self.text += self.draw(scalars)
        elif kind == "table":
            self.table(path, depth)
        else:
            self.array(path, depth)

    def table(self, path, depth):
        taken = set()
        self.text += "{ "
        for number in range(self.draw(st.integers(0, 2))):
            self.text += ", " if number else ""
            self.pair(path, taken, depth - 1)
        self.text += " }"

    def array(self, path, depth):
        self.text += "["
        for index in range(self.draw(st.integers(0, 3))):
            self.gap()
            self.lines[(*path, index)] = self.line()
            self.value((*path, index), depth - 1)
            self.gap()
            self.text += ","
        self.gap()
        self.text += "]"

    def gap(self):
        if self.draw(st.booleans()):
            self.text += " " + self.draw(noise) + "\n"

    def body(self, path):
        taken = set()
        for _ in range(self.draw(st.integers(0, 3))):
            self.text += self.draw(noise) + "\n" + "  " * self.draw(st.integers(0, 1))
            self.pair(path, taken, 2)
            self.text += " " + self.draw(noise) + "\n"


@st.composite
def texts(draw):
    made = Text(draw)
    made.body(())
    taken, tables = {path[0] for path in made.lines}, {}
    for _ in range(draw(st.integers(0, 4))):
        again = draw(st.sampled_from([None, *tables]))
        if again is None:
            name, shown = made.key(taken)
            several = draw(st.booleans())
            path, header = (name,), f"[[{shown}]]" if several else f"[{shown}]"
            if several:
                tables[name] = (shown, 0)
                made.lines[path], path = made.line(), (name, 0)
        else:
            shown, number = tables[again]
            tables[again] = (shown, number + 1)
            path, header = (again, number + 1), f"[[ {shown} ]]"
        made.lines[path] = made.line()
        made.text += header + draw(st.sampled_from(["", " # [x]"])) + "\n"
        made.body(path)
    return made.text, made.lines


@settings(max_examples=60, deadline=None)
@given(texts())
def test_the_line_of_every_key_table_and_item_is_right(made):
    text, lines = made
    tomllib.loads(text)                                    # what was made up is TOML
    assert toml_lines.find(text) == lines


def paths(value, at=()):
    if at:
        yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*at, key))


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[2].glob("**/*.toml")), ids=lambda path: path.name)
def test_every_key_of_the_toml_files_here_is_found(path):
    if {".venv", ".uv"} & set(path.parts):
        pytest.skip("not ours")
    try:
        text = path.read_text(encoding="utf-8")
        parsed = tomllib.loads(text)
    except ValueError:
        return                                             # refused before its lines are looked for
    assert toml_lines.find(text).keys() == set(paths(parsed))


def test_sub_tables_and_implied_ones_are_found():
    lines = toml_lines.find(dedent("""\
        a.b.c = 1
        [x.y]
        k = 1
        [[probe]]
        [probe.expect]
        status = [
          1,
          # between
          2,
        ]
        [[probe.step]]
        n = 1
        [[probe.step]]
        n = 2
        [[probe]]
        [probe.expect]
        "q]".'r' = 1
        [x]
        z = 1
        """))
    assert lines == {
        ("a",): 1, ("a", "b"): 1, ("a", "b", "c"): 1, ("x",): 18, ("x", "y"): 2, ("x", "y", "k"): 3, ("probe",): 4, ("probe", 0): 4,
        ("probe", 0, "expect"): 5, ("probe", 0, "expect", "status"): 6,
        ("probe", 0, "expect", "status", 0): 7, ("probe", 0, "expect", "status", 1): 9,
        ("probe", 0, "step"): 11, ("probe", 0, "step", 0): 11, ("probe", 0, "step", 0, "n"): 12, ("probe", 0, "step", 1): 13,
        ("probe", 0, "step", 1, "n"): 14, ("probe", 1): 15, ("probe", 1, "expect"): 16, ("probe", 1, "expect", "q]"): 17,
        ("probe", 1, "expect", "q]", "r"): 17, ("x", "z"): 19,
    }


def test_a_header_in_brackets_may_hold_brackets_and_dots_in_quotes():
    assert toml_lines.find('["a]b".\'c.d\']\nk = 1\n[[ "]]" ]]\n') == {
        ("a]b",): 1, ("a]b", "c.d"): 1, ("a]b", "c.d", "k"): 2, ("]]",): 3, ("]]", 0): 3}


def test_the_line_of_what_is_not_written_is_its_parents():
    lines = toml_lines.find("x = 1\n[a]\n[a.b]\n")
    assert [toml_lines.line(lines, path) for path in (("a", "b", "c", "d"), ("a", "z"), ("y",), ())] == [3, 2, 0, 0]


def test_windows_line_ends_count_once():
    assert toml_lines.find('a = """x\r\ny"""\r\nb = 1\r\n') == {("a",): 1, ("b",): 3}
