"""A study: one folder of runs, the store over them, one method a verb.

    study = Study("studies/first")
    study.train(model="organism")
    study.label()
    study.effects()
    study.graph()
    study.store.sql("SELECT * FROM side_effects")

1. `study.json` says what the folder is and in which value system it speaks.
2. Each verb (`workbench/verbs`) is `Config -> function -> run`: asked again, the finished run is returned; after an
   interruption the same call resumes it.
3. `model` and `sae` give the live handles, loaded once a process.

Left out: anything about one verb; those stand in `workbench/verbs`.
"""

import functools
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_store import registry
from feature_store.errors import BadInput, Incompatible, NotFound, nearest, of_paths
from feature_store.progress import Progress, silent
from feature_store.records import Run, ValueSystem
from feature_store.runs import Runs, write_atomically
from feature_store.store import Store
from workbench import study_file, verbs
from workbench.settings import make

if TYPE_CHECKING:
    from sae_training.dictionary.sae import SAE
    from sae_training.engine.model import Model
    from sae_training.engine.opening import open_model
    from workbench.llm import Judge


class Study:
    """The study in `folder`; an absent or empty folder becomes one unless `create` is false."""

    def __init__(self, folder: str | Path, system: str = "schwartz10", create: bool = True):
        self.folder = Path(folder)
        with of_paths():
            empty = not self.folder.exists() or not any(self.folder.iterdir())
        if create and empty:
            registry.get("values", system)
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                write_atomically(study_file.file(self.folder), study_file.text(system))
            except OSError as error:
                raise BadInput(
                    f"{self.folder} cannot be made a study: {error.strerror}. Choose a folder you may write to."
                ) from None
        self.system_id = study_file.system_of(self.folder)
        self.runs = Runs(self.folder / "runs")
        self._models: dict[tuple[str, ...], Model] = {}
        self._loading = threading.Lock()

    @functools.cached_property
    def system(self) -> ValueSystem:
        """The value system in which the study speaks."""
        return registry.get("values", self.system_id)

    @functools.cached_property
    def store(self) -> Store:
        """Queries over the finished runs."""
        return Store(self.runs.folder)

    def do(self, verb: str, settings: Mapping[str, Any], progress: Progress = silent) -> Run:
        """Run a verb with settings as flags or a job file give them."""
        job = verbs.get(verb)
        with of_paths():
            return job.run(self, make(job.config, settings), progress)

    def train(self, progress: Progress = silent, **settings: Any) -> Run:
        """Train an SAE on a model's residual stream and harvest its features (`verbs/train.py`)."""
        return self.do("train", settings, progress)

    def adopt(self, address: str, progress: Progress = silent, **settings: Any) -> Run:
        """Take an SAE that exists and harvest its features (`verbs/adopt.py`)."""
        return self.do("adopt", settings | {"address": address}, progress)

    def label(self, progress: Progress = silent, **settings: Any) -> Run:
        """Label the SAE's features by values, with evidence (`verbs/label.py`)."""
        return self.do("label", settings, progress)

    def probe(self, progress: Progress = silent, **settings: Any) -> Run:
        """Train a probe of each value at every layer (`verbs/probe.py`)."""
        return self.do("probe", settings, progress)

    def control(self, value: str, progress: Progress = silent, **settings: Any) -> Run:
        """Control a value by ConVA and judge what it does (`verbs/control.py`)."""
        return self.do("control", settings | {"value": value}, progress)

    def measure(self, progress: Progress = silent, **settings: Any) -> Run:
        """The model's value profile, steered or not (`verbs/measure.py`)."""
        return self.do("measure", settings, progress)

    def index(self, folder: str, progress: Progress = silent, **settings: Any) -> Run:
        """Index a folder of images, so that words find them (`verbs/index.py`)."""
        return self.do("index", settings | {"folder": folder}, progress)

    def contrast(self, progress: Progress = silent, **settings: Any) -> Run:
        """Profiles of models and steerings beside each other, and whether instruments agree (`verbs/contrast.py`)."""
        return self.do("contrast", settings, progress)

    def ordinal(self, progress: Progress = silent, **settings: Any) -> Run:
        """Compare conditions by a Bayesian ordinal regression over their answers (`verbs/ordinal.py`)."""
        return self.do("ordinal", settings, progress)

    def effects(self, progress: Progress = silent, **settings: Any) -> Run:
        """Steer labelled features and controls, and measure every value (`verbs/effects.py`)."""
        return self.do("effects", settings, progress)

    def graph(self, progress: Progress = silent, **settings: Any) -> Run:
        """The causal graph among values, from the interventions (`verbs/graph.py`)."""
        return self.do("graph", settings, progress)

    def predict(self, progress: Progress = silent, **settings: Any) -> Run:
        """Predict joint steerings from single ones, then measure them (`verbs/predict.py`)."""
        return self.do("predict", settings, progress)

    def compare(self, progress: Progress = silent, **settings: Any) -> Run:
        """Compare steering methods, baselines and controls beside them (`verbs/compare.py`)."""
        return self.do("compare", settings, progress)

    def plan(self, want: str, progress: Progress = silent, **settings: Any) -> Run:
        """The fewest features and strengths that give a wanted profile, measured (`verbs/plan.py`)."""
        return self.do("plan", settings | {"want": want}, progress)

    def counterfactual(self, progress: Progress = silent, **settings: Any) -> Run:
        """What the profile would be if some values were set (`verbs/counterfactual.py`)."""
        return self.do("counterfactual", settings, progress)

    def couple(self, progress: Progress = silent, **settings: Any) -> Run:
        """Rewrite a language model's answers towards a value profile (`verbs/couple.py`)."""
        return self.do("couple", settings, progress)

    def kang(self, progress: Progress = silent, **settings: Any) -> Run:
        """Roles and steered features, and the graph that PC finds in their scores (`verbs/kang.py`)."""
        return self.do("kang", settings, progress)

    def scenarios(self, progress: Progress = silent, **settings: Any) -> Run:
        """Scenarios in which values are at stake, with scored actions, filtered (`verbs/scenarios.py`)."""
        return self.do("scenarios", settings, progress)

    def dilemmas(self, progress: Progress = silent, **settings: Any) -> Run:
        """Moral dilemmas in steps, each choice between two values, filtered (`verbs/dilemmas.py`)."""
        return self.do("dilemmas", settings, progress)

    def review(self, progress: Progress = silent, **settings: Any) -> Run:
        """A person's word on one scenario (`verbs/review.py`)."""
        return self.do("review", settings, progress)

    def decide(self, progress: Progress = silent, **settings: Any) -> Run:
        """The model's decisions in scenarios, steered or not (`verbs/decide.py`)."""
        return self.do("decide", settings, progress)

    def adaem(self, progress: Progress = silent, **settings: Any) -> Run:
        """Find questions that tell a population apart, and make an instrument of them (`verbs/adaem.py`)."""
        return self.do("adaem", settings, progress)

    def neurons(
        self, progress: Progress = silent, judge: "Judge | str" = "", **settings: Any
    ) -> Run:
        """Find, edit and measure value neurons (`verbs/neurons.py`); a judge, named or given, scores samples besides."""
        if isinstance(judge, str):
            return self.do("neurons", settings | {"judge": judge}, progress)
        job = verbs.get("neurons")
        return job.run(self, make(job.config, settings), progress, judge)

    def resolve(self, kind: str, name: str) -> Run:
        """The run that `name` means: an id, or `latest` of the kind."""
        if name == "latest":
            return self.runs.latest(kind)
        if not self.runs.exists(name):
            known = [id for id in self.runs.ids() if id.startswith(f"{kind}-")]
            raise NotFound(
                f"There is no finished run {name!r} of kind {kind!r} in {self.folder}.{nearest(name, [*known, 'latest'])}"
            )
        run = self.runs.get(name)
        if run.kind != kind:
            raise BadInput(
                f"{name} is a run of kind {run.kind!r}, one of kind {kind!r} is needed. `workbench runs` lists them."
            )
        return run

    def model(
        self, address: str, revision: str = "", dtype: str = "float32", device: str = "auto"
    ) -> "Model":
        """The live model at an address, loaded once."""
        from workbench.material import model_address

        key = (address, revision, dtype, device)
        with self._loading:
            if key not in self._models:
                self._models[key] = open_model(
                    model_address(address), revision=revision, dtype=dtype, device=device
                )
            return self._models[key]

    def model_of(self, run: Run) -> "Model":
        """The model that a run of kind `sae` or `probes` reads, at the revision that the run pinned."""
        config = run.config
        model = self.model(config["model"], config["revision"], config["dtype"], config["device"])
        if model.revision != run.inputs["model"]:
            raise Incompatible(
                f"{run.id} was made with {config['model']} at revision {run.inputs['model'][:12]}, the model there now is "
                f"{model.revision[:12]}. Restore the model, or make a run for this one."
            )
        return model

    def model_for(
        self, name: str, sae_run: Run | None, revision: str, dtype: str, device: str
    ) -> "Model":
        """The model that a run of kind `sae` reads, or `name` where there is none. Raises BadInput where a flag contradicts the run."""
        if sae_run is None:
            return self.model(name, revision, dtype, device)
        for flag, told, usual in (
            ("revision", revision, ""),
            ("dtype", dtype, "float32"),
            ("device", device, "auto"),
        ):
            if told not in (usual, sae_run.config[flag]):
                raise BadInput(
                    f"{sae_run.id} pins its model with {flag} {sae_run.config[flag] or 'as it was found'}, got --{flag} {told}. Leave --{flag} out, or make "
                    "an SAE's run with it."
                )
        return self.model_of(sae_run)

    def sae(self, run: Run) -> "SAE":
        """The SAE of a run of kind `sae`, on the device of its model."""
        return _load_sae(self.runs.folder / run.id / "sae").to(self.model_of(run).device)


@functools.lru_cache(maxsize=4)
def _load_sae(folder: Path) -> "SAE":
    from sae_training.dictionary.loaders import load_sae

    return load_sae(folder)
