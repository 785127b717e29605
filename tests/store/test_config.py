import argparse
from dataclasses import dataclass
from typing import Literal

import pytest

from feature_store.bounds import Seed
from feature_store.errors import BadInput, NotFound
from workbench import settings


@dataclass(frozen=True)
class Base:
    seed: Seed = 3
    """Where chance
    starts."""


@dataclass(frozen=True)
class Settings(Base):
    doses: tuple[float, ...] = (0.5, 1.0)
    """Strengths [share]."""
    mode: Literal["fast", "slow"] = "fast"
    """How."""
    keep: bool = False
    """Whether."""
    name: str = ""
    """What 100 % of it is called."""


def flags(*words):
    parser = argparse.ArgumentParser()
    settings.add_flags(parser, Settings)
    return settings.make(Settings, vars(parser.parse_args(words)))


def test_flags_become_the_dataclass():
    assert flags() == Settings()
    assert flags("--doses", "0.1,2", "--mode", "slow", "--keep", "--seed", "7") == Settings(
        seed=7, doses=(0.1, 2.0), mode="slow", keep=True
    )


def test_help_is_the_string_beneath_the_field(capsys):
    with pytest.raises(SystemExit):
        flags("--help")
    told = capsys.readouterr().out
    assert "Where chance starts." in told
    assert "100 %" in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seed", "x"), "--seed expects int, got 'x'"),
        (("--doses", "0.1,nan"), "finite"),
        (("--doses", "a"), "--doses expects float"),
        (("--mode", "medium"), "fast, slow"),
        (("--seed", "-1"), "--seed is between 0 and 2147483647, got -1"),
    ],
)
def test_a_wrong_value_names_its_flag(words, message):
    with pytest.raises(BadInput, match=message):
        flags(*words)


def test_a_job_file_is_read_and_a_flag_wins(tmp_path):
    job = tmp_path / "job.toml"
    job.write_text("seed = 5\nunknown-to-this-verb = 1\n[sweep]\ndoses = [1, 2]\n[other]\nx = 1\n")
    told = settings.from_toml(job, Settings, "sweep")
    assert settings.make(Settings, told | {"seed": "9"}) == Settings(seed=9, doses=(1.0, 2.0))
    job.write_text("[sweep]\ndosis = 1\n")
    with pytest.raises(NotFound, match="Did you mean 'doses'"):
        settings.make(Settings, settings.from_toml(job, Settings, "sweep"))
    job.write_text("[sweep")
    with pytest.raises(BadInput, match="not valid TOML"):
        settings.from_toml(job, Settings, "sweep")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("seed = 1.5", "--seed expects int, got 1.5"),
        ("seed = true", "--seed expects int, got True"),
        ("seed = [1]", r"--seed expects int, got \[1\]"),
        ("doses = ['a']", "--doses expects float, got 'a'"),
        ("name = ['a']", "--name expects str"),
        ("name = {a = 1}", "--name expects str"),
        ("keep = 1", "--keep expects bool, got 1"),
        ("mode = ['fast']", "--mode is one of"),
        ("seed = inf", "not valid TOML: inf is no finite number"),
        ("seed = " + "9" * 5000, "not valid TOML"),
        ("name = 'a\0b'", "holds a NUL"),
    ],
)
def test_a_job_file_with_another_type_is_refused(tmp_path, line, message):
    job = tmp_path / "job.toml"
    job.write_text(f"[sweep]\n{line}\n")
    with pytest.raises(BadInput, match=message):
        settings.make(Settings, settings.from_toml(job, Settings, "sweep"))


def test_a_single_value_of_a_job_file_is_a_list_of_one(tmp_path):
    job = tmp_path / "job.toml"
    job.write_text("[sweep]\ndoses = 0.5\nseed = 2.0\n")
    told = settings.make(Settings, settings.from_toml(job, Settings, "sweep"))
    assert (told.doses, told.seed) == ((0.5,), 2)


def test_options_of_a_plug_in():
    assert settings.options(Settings, ["keep=true"]).keep
    assert settings.options(Settings, ["seed=4", "mode=slow"]) == Settings(seed=4, mode="slow")
    with pytest.raises(BadInput, match="key=value"):
        settings.options(Settings, ["seed"])
