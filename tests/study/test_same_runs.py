"""Every verb, and the demo, makes the runs that it made before the code was changed."""

import pytest

from tests.same_runs import STUDIES, compare, make


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_every_run_is_the_one_that_it_was(study, tmp_path):
    assert compare(study, make(study, tmp_path)) == []
