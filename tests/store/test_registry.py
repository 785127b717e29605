import subprocess
import sys

import pytest

from feature_store import registry
from feature_store.errors import NotFound


def test_a_name_is_taken_once():
    @registry.register("values", "only-once")
    class First:
        """A system for this test."""

    try:
        with pytest.raises(ValueError, match="already has"):
            registry.register("values", "only-once")(First)
        place = registry.origin("values", "only-once")
        assert place.file == __file__
        assert place.summary == "A system for this test."
        assert "only-once" in registry.names("values")
    finally:
        del registry.of("values")._registered["only-once"]


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(NotFound, match="Did you mean 'schwartz10'"):
        registry.get("values", "schwarz10")
    with pytest.raises(NotFound, match="kind"):
        registry.names("flavours")
    with pytest.raises(ValueError, match="kinds are"):
        registry.register("flavours", "x")


@pytest.mark.parametrize("kind", registry.PACKAGES)
def test_every_name_that_a_file_promises_is_registered_and_no_other(kind):
    plugins = registry.of(kind)
    names = plugins.names()
    for name in names:
        assert plugins[name] is registry.get(kind, name)
    assert plugins.names() == names, "a file registers a name that is not its own"


def test_names_are_listed_without_importing_a_plug_in():
    script = """
import sys
from feature_store import registry
for kind in registry.PACKAGES:
    assert registry.names(kind), kind
assert not [name for name in sys.modules if name.split(".")[0] in ("workbench", "sae_training")]
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_file_that_registers_another_name_is_named(tmp_path, monkeypatch):
    package = tmp_path / "plugins_for_this_test"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "some_thing.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins = registry.Registry[object]("things", package="plugins_for_this_test")
    assert list(plugins) == ["some-thing"]
    assert "some-thing" in plugins
    with pytest.raises(ValueError, match="plugins_for_this_test.some_thing registers no"):
        plugins["some-thing"]
