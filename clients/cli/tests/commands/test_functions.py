import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from clients.cli.tests.conftest import Terminal

from execution.domain.definitions import parse_agent
from execution.domain.schemas import validate_input

SAMPLE = Path(__file__).parents[4] / "samples" / "python-agents"


@pytest.fixture
def folder(remit: Terminal, tmp_path: Path) -> Path:
    """A new agent's folder."""
    made = remit("agents", "new", "word-count", "--in", str(tmp_path))
    assert made.exit_code == 0, made.output
    return tmp_path / "word-count"


def change(folder: Path, name: str, before: str, after: str) -> None:
    path = folder / name
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def test_a_new_folder_is_a_package_whose_agent_can_be_applied_and_run(remit: Terminal, folder: Path) -> None:
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["remit.agents"] == {"word-count": "word_count:word_count"}
    definition = parse_agent((folder / "word-count.agent.yaml").read_text())
    given = json.loads((folder / "input.json").read_text())
    assert validate_input(definition.spec.input_schema, given) == []
    result = remit("agents", "dev", str(folder), "--once", "--input", f"@{folder}/input.json")
    assert result.exit_code == 0, result.output
    assert '"words": 3' in result.stdout
    assert " ms" in result.stdout
    assert "{" not in (folder / "README.md").read_text()


@pytest.mark.parametrize("name", ["Word", "a b", "../up", "class", "json", "", "-a", "a" * 64])
def test_a_name_that_is_none_makes_nothing(remit: Terminal, tmp_path: Path, name: str) -> None:
    assert remit("agents", "new", "--in", str(tmp_path), "--", name).exit_code != 0
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_written_over(remit: Terminal, folder: Path) -> None:
    before = (folder / "word_count.py").read_text()
    refused = remit.refused("agents", "new", "word-count", "--in", str(folder.parent))
    assert "there already" in str(refused)
    assert (folder / "word_count.py").read_text() == before


def test_the_sample_is_such_a_folder_too(remit: Terminal) -> None:
    shown = remit("agents", "dev", str(SAMPLE), "--once")
    assert shown.exit_code == 0, shown.output
    assert "greet  greetings:greet  greet.agent.yaml" in shown.stdout
    assert "count_words  greetings:count_words  no *.agent.yaml names it" in shown.stdout
    arguments = ("--once", "--json", "--input", "text=one two")
    assert "which one?" in str(remit.refused("agents", "dev", str(SAMPLE), *arguments))
    result = remit("agents", "dev", str(SAMPLE), "--function", "count_words", *arguments)
    assert json.loads(result.stdout)["output"] == {"words": 2, "node": "agent"}


def test_input_and_output_are_held_against_their_schemas(remit: Terminal, folder: Path) -> None:
    result = remit("agents", "dev", str(folder), "--once", "--input", '{"txt": 1}')
    assert result.exit_code == 1
    assert "the input does not fit input_schema" in result.stdout
    assert "text" in result.stdout
    change(folder, "word_count.py", '{"words": len', '{"word": len')
    result = remit("agents", "dev", str(folder), "--once", "--input", "text=a b")
    assert result.exit_code == 1
    assert "the output does not fit output_schema" in result.stdout
    assert '"word": 2' in result.stdout


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('    return {"words"', '    return {}["x"], {"words"', ["raised KeyError", "word_count.py:14", "function_failed"]),
        ("    return {", "    return print, {", ["answered with what is no JSON"]),
        ("from typing import Any", "import no_such_thing", ["cannot be loaded: ModuleNotFoundError", "word_count.py:7"]),
        ("def word_count(", "def word_count(:", ["cannot be loaded: SyntaxError", "word_count.py:10"]),
        ("def word_count(", "def other(", ["cannot be loaded: AttributeError", "word_count"]),
        ("from typing import Any", "import os; os._exit(3)", ["exit code 3"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(
    remit: Terminal, folder: Path, before: str, after: str, said: list[str]
) -> None:
    change(folder, "word_count.py", before, after)
    result = remit("agents", "dev", str(folder), "--once", "--input", "text=a b")
    assert result.exit_code == 1, result.output
    for part in said:
        assert part in result.stdout


def test_a_code_of_its_own_is_told(remit: Terminal, folder: Path) -> None:
    result = remit("agents", "dev", str(folder), "--once", "--input", "text= ")
    assert result.exit_code == 1
    assert "NothingToReadError" in result.stdout
    assert "nothing_to_read" in result.stdout


def test_a_function_has_the_time_that_its_agent_has(remit: Terminal, folder: Path) -> None:
    change(folder, "word-count.agent.yaml", "timeout: 10s", "timeout: 200ms")
    change(folder, "word_count.py", "    return {", "    import time; time.sleep(0.5)\n    return {")
    result = remit("agents", "dev", str(folder), "--once", "--input", "text=a b")
    assert result.exit_code == 1
    assert "no answer within 0.2 s" in result.stdout


def test_a_file_that_could_not_be_applied_is_told_with_its_line(remit: Terminal, folder: Path) -> None:
    change(folder, "word-count.agent.yaml", "effects: read", "efects: read")
    result = remit("agents", "dev", str(folder), "--once")
    assert result.exit_code == 1
    assert "word-count.agent.yaml, line 8, column 1" in result.stdout
    change(folder, "word-count.agent.yaml", "efects: read", "effects: read")
    change(folder, "word-count.agent.yaml", "function: word-count", "function: wordcount")
    assert "'wordcount', which is not registered here" in remit("agents", "dev", str(folder), "--once").stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "no pyproject.toml"), ("[project", "pyproject.toml"), ("[project]\nname = 'x'\n", "registers no function")],
)
def test_a_folder_that_is_no_package_of_agents(remit: Terminal, tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "pyproject.toml").write_text(text)
    assert said in str(remit.refused("agents", "dev", str(tmp_path)))


def test_it_runs_again_when_a_file_changes(folder: Path) -> None:
    command = [sys.executable, "-m", "remit_cli", "agents", "dev", str(folder), "--input", "text=a b"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            seen.append(line.strip())
            if "waits for a change" not in line:
                continue
            if not any('"words": 20' in each for each in seen):
                change(folder, "word_count.py", '{"words": len(', '{"words": 10 * len(')
            else:
                process.terminate()  # an interrupt is ignored by what a shell has started in the background
                break
    assert '"words": 2,' in seen
    assert '"words": 20,' in seen
