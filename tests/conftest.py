"""Shared fixtures. Shapes in signatures are checked while the tests run, not in production."""

import os
from pathlib import Path

import hypothesis
import pytest
from jaxtyping import install_import_hook

import tests.helpers.typecheck  # noqa: F401 - the hook below looks it up by name

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "disabled")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # several workers on few cores: two that train with two threads each take ten times as long
    os.environ |= {
        name: os.environ.get(name, "1") for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    }

install_import_hook(["feature_store", "sae_training", "workbench"], "tests.helpers.typecheck.check")

# The same inputs at every run, so that a change of ours is what makes a test fail. `EXAMPLES=2000`
# asks for that many inputs a property, drawn anew.
hypothesis.settings.register_profile(
    "workbench",
    max_examples=int(os.environ.get("EXAMPLES", "60")),
    derandomize="EXAMPLES" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
hypothesis.settings.load_profile("workbench")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files marked `slow_file` go to the workers first, so that none is left for the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow_file") is None)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and a real small model that are not part of the project."""
    if not (SHARED / "SOURCES.md").exists():
        pytest.skip(f"needs the real model and data beside the project, {SHARED} is absent")
    return SHARED


@pytest.fixture(scope="session")
def smollm2() -> str:
    """A real chat model, by its short name; `make test` fetches it where there is a network."""
    from sae_training.model import catalogue

    if not catalogue.known()["smollm2"].is_fetched:
        pytest.skip("NO CHAT MODEL: SmolLM2 is not tested. `workbench fetch smollm2` brings it.")
    return "smollm2"


@pytest.fixture(scope="session")
def probed_study(tmp_path_factory):
    """A study of the organism with a small SAE and probes of its values; made by the first
    worker that needs it, every worker has its own copy.
    """
    import fcntl
    import shutil

    from workbench.study import Study

    own = tmp_path_factory.mktemp("probed") / "study"
    common = tmp_path_factory.getbasetemp()
    common = (common.parent if "PYTEST_XDIST_WORKER" in os.environ else common) / "probed-study"
    with common.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (common / "made").exists():
            study = Study(common / "study")
            study.train(
                model="organism", documents=100, tokens=8_192, n_features=64, k=8, cache=False
            )
            study.probe(n_pairs=30)
            (common / "made").touch()
    shutil.copytree(common / "study", own)
    return Study(own)


@pytest.fixture(scope="module")
def browser():
    """Chromium, driven by Playwright."""
    from tests.helpers.browser import chromium

    found = chromium()
    if found is None:
        pytest.skip("NO CHROMIUM: the app is not tested. `sh scripts/chromium` installs one.")
    from playwright.sync_api import sync_playwright

    from tests.helpers.browser import FLAGS

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield opened
        opened.close()
