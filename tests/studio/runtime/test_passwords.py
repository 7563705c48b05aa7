"""Passwords of a page: hashed lines, who is let in, and what is refused before a page is loaded."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from studio import cli
from studio.cli.main import app
from studio.runtime import passwords


def test_a_line_lets_in_its_person_and_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = CliRunner().invoke(app, ["ui", "--hash-password", "ada"], input="engine no 9\nengine no 9\n")
    assert made.exit_code == 0 and "engine" not in made.output
    line = made.stdout.strip().splitlines()[-1]
    assert line.startswith("ada:") and line != passwords.hashed("ada", "engine no 9")  # its own salt
    file = tmp_path / "people"
    file.write_text(f"# who may\n\n{line}\n{passwords.hashed('bob', 'another one')}\n")
    both = passwords.people(None, file)
    assert passwords.fits(both, "ada", "engine no 9") and passwords.fits(both, "bob", "another one")
    for name, word in (
        ("ada", "another one"),
        ("bob", ""),
        ("eve", "engine no 9"),
        ("", ""),
        ("ada", "\ud800"),
    ):
        assert not passwords.fits(both, name, word)
    assert list(passwords.people("bob", file)) == ["bob"]
    monkeypatch.setenv(passwords.VARIABLE, "from outside")
    assert passwords.fits(passwords.people("eve", None), "eve", "from outside")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names nobody"),
        ("ada:secret word", "line 1: expected name:salt:hash"),
        (f"# x\n:{'0' * 32}:{'0' * 128}", "line 2"),
        (f"ada:{'0' * 32}:{'g' * 128}", "line 1"),
    ],
)
def test_a_file_that_is_none_is_refused_and_not_repeated(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "people").write_text(text)
    with pytest.raises(ValueError, match=words) as told:
        passwords.people(None, tmp_path / "people")
    assert "secret" not in str(told.value)
    with pytest.raises(ValueError, match="cannot be read"):
        passwords.people(None, tmp_path / "gone")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (["--host", "0.0.0.0"], "0.0.0.0 can be reached from other machines"),
        (["--host", "studio.lan"], "would ask for no password; add --user NAME"),
        (["--share"], "a shared link can be reached"),
        (["--host", "0.0.0.0", "--user", "ada"], "STUDIO_PASSWORD holds no password"),
        (["--user", "a:b"], "without a colon"),
    ],
)
def test_a_page_that_others_reach_wants_a_password_before_it_is_loaded(
    call: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if call[-1] != "ada":
        monkeypatch.setenv(passwords.VARIABLE, "long enough")
    loaded = "ui.app" in sys.modules
    with pytest.raises(SystemExit) as ended:
        cli.main(["ui", *call])
    assert ended.value.code == 2 and words in capsys.readouterr().err and ("ui.app" in sys.modules) == loaded


def test_short_passwords_are_refused() -> None:
    with pytest.raises(ValueError, match="got 7 characters"):
        passwords.hashed("ada", "1234567")
