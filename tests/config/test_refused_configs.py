"""Every refused configuration is a file in refused/, with what `tillwatch check-config` says of it beside it."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

REFUSED = sorted((Path(__file__).parent / "refused").glob("*.toml"))


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_a_refused_config_is_refused_with_exactly_these_words(path, written, tillwatch):
    config = written(path.read_bytes())
    answer = tillwatch("-c", config, "check-config")
    said = answer.err.replace(str(config), "config.toml")
    assert said == path.with_suffix(".txt").read_text(encoding="utf-8")
    assert (answer.code, answer.out) == (2, "")


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_programs_are_told_the_same_problems(path, written, tillwatch):
    config = written(path.read_bytes())
    answer = tillwatch("-c", config, "check-config", "--json")
    document = json.loads(answer.out)
    lines = path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    assert (answer.code, answer.err, document["ok"]) == (2, "", False)
    assert len(document["problems"]) == len(lines) - 1
    for problem, line in zip(document["problems"], lines, strict=False):
        where = "config.toml" + (f":{problem['line']}" if problem["line"] else "")
        assert problem["file"] == str(config)
        assert line.startswith(where + ": ")
        assert line.endswith(problem["message"])


def test_every_refused_config_has_its_words_and_no_words_are_left_over():
    words = sorted((Path(__file__).parent / "refused").glob("*.txt"))
    assert [p.stem for p in words] == [p.stem for p in REFUSED]
    assert len(REFUSED) > 60


def test_no_message_speaks_python():
    jargon = (r"Input should", "String should", "Tuple", "function-before", r"literal\[", r"\bNone", r"\bdict", "pydantic", "[Vv]alidat", "Traceback")
    said = "\n".join(path.with_suffix(".txt").read_text(encoding="utf-8") for path in REFUSED)
    assert [word for word in jargon if re.search(word, said)] == []


def test_problems_come_in_the_order_of_the_file():
    for path in REFUSED:
        lines = path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()[:-1]
        numbers = [int(line.split(":")[1]) if line.split(":")[1].isdigit() else 0 for line in lines]
        assert numbers == sorted(numbers), path.stem


def test_a_path_in_the_json_names_tables_by_number(tillwatch, home):
    config = home('expect = { status = [200, "x"] }\n')
    problems = json.loads(tillwatch("-c", config, "check-config", "--json").out)["problems"]
    assert [p["path"] for p in problems] == ["probe[0].expect.status[1]"]


def test_a_message_never_repeats_a_secret(tillwatch, home):
    config = home('bearer_token = { env = "A", value = "hunter2" }\n\n[[token]]\nname = "ci"\nvalue = ["hunter2"]\nvalu = "hunter2"\n')
    answer = tillwatch("-c", config, "check-config")
    assert answer.code == 2
    assert "hunter2" not in answer.err


def test_a_file_that_is_not_there_or_cannot_be_read_is_said_by_name(tillwatch, tmp_path):
    for path, why in ((tmp_path / "none.toml", "No such file or directory"), (tmp_path, "Is a directory")):
        answer = tillwatch("-c", path, "check-config")
        assert (answer.code, answer.out) == (2, "")
        assert f"{path}: cannot be read: {why}" in answer.err


HOOK = '\n[[receiver]]\nname = "hook"\nkind = "webhook"\nurl = "https://hook.example/"\nsecret = { env = "X" }\nca_file = "garbage.pem"\n'


@pytest.mark.parametrize(("text", "where"), [
    ('tls = { ca_file = "garbage.pem" }\n', 'config.toml:9: probe "home": tls.ca_file'),
    ('tls = { ca_file = "pipe" }\n', 'config.toml:9: probe "home": tls.ca_file'),
    ('tls = { cert_file = "locked.pem" }\n', 'config.toml:9: probe "home": tls.cert_file'),
    (HOOK, 'config.toml:15: receiver "hook": ca_file')])
def test_what_is_no_certificate_is_refused(tillwatch, home, tmp_path, text, where):
    (tmp_path / "garbage.pem").write_text("-----BEGIN CERTIFICATE-----\nnot at all\n")
    os.mkfifo(tmp_path / "pipe")
    locked = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-subj", "/CN=x", "-passout", "pass:1234", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(locked, check=True, capture_output=True, cwd=tmp_path)
    (tmp_path / "locked.pem").write_bytes((tmp_path / "cert.pem").read_bytes() + (tmp_path / "key.pem").read_bytes())
    answer = tillwatch("-c", home(text), "check-config")
    assert answer.code == 2
    assert f"{where}: the file is no certificate or key in PEM form" in answer.err


@pytest.mark.parametrize(("data", "words"), [
    (b"a=" + b"[" * 100_000, "is nested too deeply"), (b"a=" + b"{a=" * 100_000, "is nested too deeply"),
    (b"a" + b".a" * 50_000, "is nested too deeply"),
    (b"a=1" + b"0" * 5000, "too many digits"), (b"a=\0", ":1: is not valid TOML"), (b"#" * 10_000_001, "larger than 10 MB")])
def test_a_file_that_was_made_to_break_the_reader_is_a_problem_like_any_other(tillwatch, written, data, words):
    answer = tillwatch("-c", written(data), "check-config")
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err


def test_a_pipe_is_not_waited_for(tillwatch, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "cannot be read: it is not a regular file" in tillwatch("-c", tmp_path / "pipe", "check-config").err


def test_without_a_file_the_places_that_were_looked_at_are_named(tillwatch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("monitor.command.CONFIGS", ("config.toml", str(tmp_path / "etc.toml")))
    answer = tillwatch("check-config")
    assert answer.code == 2
    assert "config.toml" in answer.err
    assert "etc.toml" in answer.err


def test_a_secret_in_a_file_of_ones_own_is_taken(tillwatch, home):
    config = home('bearer_token = "hunter2"\n', mode=0o640)
    assert tillwatch("-c", config, "check-config").code == 0
    config.chmod(0o644)
    assert tillwatch("-c", config, "check-config").code == 2


@pytest.mark.parametrize("key", ['tls = { ca_file = "a\\u0000b" }', 'bearer_token = { file = "a\\u0000b" }',
                                 '[daemon]\nstate_dir = "a\\u0000b"'])
def test_a_path_that_no_file_can_have(tillwatch, home, key):
    answer = tillwatch("-c", home(key + "\n"), "check-config")
    assert answer.code == 2
    assert "write a path as a string" in answer.err
