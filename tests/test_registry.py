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
        found = registry.origin("values", "only-once")
        assert found.file == __file__
        assert found.summary == "A system for this test."
    finally:
        del registry._registered["values"]["only-once"]


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(NotFound, match="Did you mean 'schwartz10'"):
        registry.get("values", "schwarz10")
    with pytest.raises(NotFound, match="kind"):
        registry.names("flavours")
    with pytest.raises(ValueError, match="kinds are"):
        registry.register("flavours", "x")
