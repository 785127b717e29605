"""The folder of a study: its runs, the store over them, and the live models that its runs read.

1. `study.json` says what the folder is, in which value system it speaks, and which day its models
   are told (`study_file.py`).
2. `make` is how every verb makes a run: the finished run of the same work is found, an interrupted
   one is resumed, otherwise one is begun.
3. `resolve` gives the run that a setting names; where there is none yet it says which verb makes
   one.
4. `model` and `sae` give the live handles, loaded once a process.
5. A run is verified where it is used: `make` and `resolve` give none whose files are not as they
   were written.

Left out: what a verb does (`workbench/verbs`), and the verbs as methods (`study.py`).
"""

import functools
import os
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_store import registry
from feature_store.errors import BadInput, Incompatible, NotFound, nearest, of_paths
from feature_store.files import write_atomically
from feature_store.progress import Progress
from feature_store.published import publish
from feature_store.records import Run, Site, ValueSystem
from feature_store.runs import Runs
from feature_store.store import Store
from feature_store.verified import intact
from feature_store.work import Work
from workbench import study_file
from workbench.settings import plain
from workbench.verb_table import makers

if TYPE_CHECKING:  # torch is loaded when a model is, not when a study is opened
    from sae_training.dictionary.sae import SAE
    from sae_training.engine.model import Model


class Workspace:
    """The study in `folder`: its runs, its store and its live models.

    An absent or empty folder becomes a study of the value system `system` (empty: `schwartz10`),
    unless `create` is false. Raises BadInput where the study that is there speaks another one. A
    `.duckdb` file that was published, or the name of a shipped study, is opened to be read
    (`study_file.py`). `today` is the day that chat templates tell (2026-11-26); empty: the
    study's.
    """

    def __init__(
        self,
        folder: str | Path,
        system: str = "",
        create: bool = True,
        today: str = "",
    ) -> None:
        self.place = Path(folder)
        """What the user named: the folder, or the published study."""
        # What is to be made has the name that it is given, also that of a shipped study.
        is_new = create and not os.path.exists(self.place)
        self.folder = self.place if is_new else study_file.folder_of(self.place)
        self._today = study_file.day(today) if today else ""
        with of_paths():
            empty = not self.folder.exists() or not any(self.folder.iterdir())
        if create and empty:
            first = system or "schwartz10"
            registry.get("values", first)
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                write_atomically(study_file.file(self.folder), study_file.text(first))
            except OSError as error:
                raise BadInput(
                    f"{self.folder} cannot be made a study: {error.strerror}. Choose a folder you"
                    " may write to."
                ) from None
        self.system_id = study_file.system_of(self.folder)
        if system not in ("", self.system_id):
            raise BadInput(
                f"{self.place} is a study of {self.system_id}. Give a new folder for one of"
                f" {system}."
            )
        self.published = study_file.published(self.folder)
        """What a published study says of itself; None for one's own."""
        self.runs = Runs(self.folder / "runs")
        self._models: dict[tuple[str, ...], Model] = {}
        self._begun: dict[tuple[int, str], Model] = {}
        self._loading = threading.Lock()

    @functools.cached_property
    def system(self) -> ValueSystem:
        """The value system in which the study speaks."""
        return registry.get("values", self.system_id)

    @functools.cached_property
    def store(self) -> Store:
        """Queries over the finished runs."""
        return Store(self.runs.folder)

    def make(
        self,
        kind: str,
        settings: Any,
        inputs: Mapping[str, str],
        build: Callable[[Work], Mapping[str, Any]],
        seed: int | None = None,
    ) -> Run:
        """Make a run, or give the finished run of the same work.

        `settings` is the verb's frozen dataclass with the runs it names pinned to their ids, or the
        same as a mapping. `inputs` maps a role to the run or checksum that decided it. `build`
        writes tables and files into the run and returns its few figures; an interrupted run is
        handed to it as it was left. `seed` is that of the settings unless another one is given.

            build = partial(estimate_graph, study, sweep_run)
            return study.make("graph", pinned, {"effects": sweep_run.id}, build)
        """
        self.refuse_if_published()
        config = dict(settings) if isinstance(settings, Mapping) else plain(settings)
        seed = config["seed"] if seed is None else seed
        id = self.runs.find(kind, config, inputs, seed)
        if self.runs.exists(id):
            self.runs.clear_locks()
            return intact(self.runs, self.runs.get(id))
        for used in set(inputs.values()) & set(self.runs.ids()):
            intact(self.runs, self.runs.get(used))
        with self.runs.begin(kind, config, inputs, seed) as work:
            if work.run.status == "finished":  # another process made it in the meantime
                return work.run
            self._note_machines(work)
            summary = build(work)
            self._note_machines(work)  # those of models that were opened meanwhile
            return work.finish(summary)

    def refuse_if_published(self) -> None:
        """Raise BadInput where someone published the study: it is there to be read."""
        if self.published is not None:
            raise BadInput(
                f"{self.published.file} is a published study, to be read only. Give the folder of a"
                " study of your own."
            )

    def _note_machines(self, work: Work) -> None:
        """Note in a run on what the models compute that are open."""
        for machine in sorted({model.machine for model in self._models.values()}):
            work.note({"computing": machine})

    def resolve(self, kind: str, name: str) -> Run:
        """Give the run that `name` means: an id, or `latest` of the kind.

        Raises NotFound where there is none, BadInput where it is of another kind or is not as it
        was written.
        """
        if name == "latest":
            verbs = " or ".join(f"`workbench {verb}`" for verb in makers(kind))
            return intact(self.runs, self.runs.latest(kind, f"Run {verbs} first."))
        if not self.runs.exists(name):
            ids = [id for id in self.runs.ids() if id.startswith(f"{kind}-")]
            raise NotFound(
                f"There is no finished run {name!r} of kind {kind!r} in"
                f" {self.folder}.{nearest(name, [*ids, 'latest'])}"
            )
        run = self.runs.get(name)
        if run.kind != kind:
            raise BadInput(
                f"{name} is a run of kind {run.kind!r}, one of kind {kind!r} is needed. `workbench"
                " runs` lists them."
            )
        return intact(self.runs, run)

    def hear_first(self, flags: Mapping[str, Any], progress: Progress) -> None:
        """Find out which way of asking hears a model; a workspace without verbs leaves it open."""

    def publish(
        self, file: Path, without: Collection[str] = (), note: str = "", contexts: int = 0
    ) -> Path:
        """Write the study as one `.duckdb` file, without weights; returns the file.

        Relations in `without` are left empty; of each feature's contexts the strongest `contexts`
        are kept (0: all); `note` stands above every page of it. Raises BadInput where the file
        exists, NotFound for a relation that does not.
        """
        about = {"system": self.system_id, "note": note}
        return publish(self.store, file, about, without, contexts)

    def model(
        self, address: str, revision: str = "", dtype: str = "float32", device: str = "auto"
    ) -> "Model":
        """Give the live model at an address, loaded once a process.

        study.model("organism").generate(["I am writing this by hand."], 40)
        """
        from sae_training.engine.opening import open_model
        from workbench.material import model_address

        key = (address, revision, dtype, device)
        with self._loading:
            if key not in self._models:
                model = open_model(
                    model_address(address), revision=revision, dtype=dtype, device=device
                )
                # The folder in which the workbench lies is no part of what its model is.
                model.name = address
                if model.tells_day:
                    model.today = self._today or study_file.day_of(self.folder)
                self._models[key] = model
            return self._models[key]

    def beginning(self, model: "Model", bos: bool | None) -> "Model":
        """Give a live model as an SAE's makers read it, with a BOS token before texts or without.

        One handle a process for each way, so that whoever steers and whoever asks share it.
        """
        other = model.beginning(bos)
        if other is model:
            return model
        with self._loading:
            return self._begun.setdefault((id(model), other.name), other)

    def model_of(self, run: Run) -> "Model":
        """Give the model that a run of kind `sae` or `probes` reads, as the SAE's makers read it.

        Raises Incompatible where the model is no longer at the revision that the run pinned, or is
        told another day.
        """
        config = intact(self.runs, run).config
        model = self.model(config["model"], config["revision"], config["dtype"], config["device"])
        made_with, _, day = run.inputs["model"].partition(" on ")
        revision, _, thought = made_with.partition(" ")
        if model.revision != revision:
            raise Incompatible(
                f"{run.id} was made with {config['model']} at revision {revision[:12]},"
                f" the model there now is {model.revision[:12]}. Restore the model, or make a run"
                " for this one."
            )
        if bool(thought) != model.thinks:
            raise Incompatible(
                f"{run.id} was made when {config['model']} was not kept from thinking before it"
                " answers, as it is now. Make a run anew."
            )
        if model.pinned != run.inputs["model"]:
            raise Incompatible(
                f"{run.id} was made with {config['model']} on {day or 'no day'}, and its chat"
                f" template now tells {model.today}. Give --today {day}, or make a run for this"
                " day."
            )
        sae = run.inputs.get("sae", "")
        if run.kind != "sae" and self.runs.exists(sae):
            run = intact(self.runs, self.runs.get(sae))
        return self.beginning(model, run.summary.get("prepend_bos"))

    def weightless(self, run: Run) -> str:
        """Say of a published study why nothing is steered in it, and what to do."""
        note = self.published.note if self.published else ""
        return (
            f"{run.id} was published without its weights, so nothing can be steered here."
            f" {note or 'Make the study anew to steer.'}"
        )

    def model_for(
        self, name: str, sae_run: Run | None, revision: str, dtype: str, device: str
    ) -> "Model":
        """Give the model that a run of kind `sae` reads, or the one at `name` without such a run.

        Raises BadInput where a flag contradicts the run.
        """
        if sae_run is None:
            return self.model(name, revision, dtype, device)
        for flag, value, default in (
            ("revision", revision, ""),
            ("dtype", dtype, "float32"),
            ("device", device, "auto"),
        ):
            if value not in (default, sae_run.config[flag]):
                raise BadInput(
                    f"{sae_run.id} pins its model with {flag}"
                    f" {sae_run.config[flag] or 'as it was found'}, got --{flag} {value}. Leave"
                    f" --{flag} out, or make an SAE's run with it."
                )
        return self.model_of(sae_run)

    def sae(self, run: Run) -> "SAE":
        """Give the SAE of a run of kind `sae`, on the device of its model."""
        intact(self.runs, run)
        if self.published is not None:
            raise NotFound(self.weightless(run))
        return _load_sae(self.runs.folder / run.id / "sae").to(self.model_of(run).device)


def site_of(sae_run: Run) -> Site:
    """Say where the SAE of a run reads its model."""
    return Site(layer=sae_run.summary["layer"], point=sae_run.summary["point"])


@functools.lru_cache(maxsize=4)
def _load_sae(folder: Path) -> "SAE":
    from sae_training.dictionary.loaders import load_sae

    return load_sae(folder)
