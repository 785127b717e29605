"""A study: its workspace, with one method a verb, and readers of what the verbs have found.

    study = Study("studies/first")
    sae = study.train(model="organism")
    study.label()
    study.effects()
    study.graph()
    power = study.labels("power").best
    study.side_effects("power")
    study.edges()
    with steer(study, sae, power.steering(0.6)) as model:
        print(model.generate(["I am writing this by hand."], 40))

The methods are written from the table of verbs (`verb_table.py`): each takes the settings of its
verb by name, shows its progress where it is told how, and returns the run. Asked again, a verb
returns the finished run; after an interruption the same call resumes it. What was found is read by
`labels`, `profile`, `side_effects` and `edges` (`results.py`), what people say of features by
`verdicts`; `study.store.sql` asks anything else.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from feature_store import queries
from feature_store.errors import of_paths
from feature_store.progress import Progress, StageProgress, silent, silent_stage
from feature_store.records import Run
from workbench import results, verbs
from workbench.features import search as sought
from workbench.settings import make
from workbench.verb_table import VERBS, Verb
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from workbench.features.firing import FiringFeatures
    from workbench.features.verdict_files import ReadVerdicts
    from workbench.features.verdict_merging import Compacted
    from workbench.llm import Judge


class Study(Workspace):
    """A folder of runs, the store over them, and a method for every verb that makes runs.

    study = Study("studies/first")
    study.train(model="organism")
    study.label()
    study.labels("power").best
    """

    def do(self, verb: str, settings: Mapping[str, Any], progress: Progress = silent) -> Run:
        """Run a verb with settings as flags or a job file give them."""
        self.refuse_if_published()
        module = verbs.load(verb)
        # With the verb, and not before: a study is opened without torch.
        from workbench.measuring.defaults import in_system

        given = in_system(self.system_id, module.settings, settings)
        with of_paths():
            return module.run(self, make(module.settings, given), progress)

    def hear_first(self, flags: Mapping[str, Any], progress: Progress) -> None:
        """Find out which way of asking hears a model, before a verb asks it."""
        self.do("hear", flags, progress)

    def neurons(
        self, progress: Progress = silent, judge: "Judge | str" = "", **settings: Any
    ) -> Run:
        """Find, edit and measure value neurons; a judge, named or given, scores samples besides."""
        if isinstance(judge, str):
            return self.do("neurons", settings | {"judge": judge}, progress)
        module = verbs.load("neurons")
        return module.run(self, make(module.settings, settings), progress, judge)

    def labels(self, value: str = "", run: str = "latest") -> results.LabelledFeatures:
        """Read the features that carry a value, or any value, the best to steer first.

        study.labels("power").best
        """
        return results.labels(self, value, run)

    def profile(self, run: str = "latest") -> pd.DataFrame:
        """Read the value profile that a run measured: one row a steering and value.

        Ratings are above or below the mean of all items [rating points], the highest first.
        """
        return results.profile(self, run)

    def side_effects(self, value: str = "", run: str = "latest") -> pd.DataFrame:
        """Read what else moved when a value, or any value, was steered [unsteered SD].

        One row a pair of a steered value and another one, the largest effects first.
        """
        return results.side_effects(self, value, run)

    def edges(self, run: str = "latest") -> pd.DataFrame:
        """Read the causal graph among the values: one row an edge, the strongest first."""
        return results.edges(self, run)

    def export(self, format: str, out: str | Path, **settings: Any) -> Path:
        """Write a part of the study in a format that other tools read; returns where.

        `workbench plugins exports` lists the formats, and `workbench export --help` the settings.

        study.export("gguf", "power.gguf", value="power", strength=0.3)
        """
        from workbench.exchange import export

        return export(self, format, Path(out), settings)

    def verdicts(self, sae: str = "") -> pd.DataFrame:
        """Read every verdict that was given, of one SAE or of all: one row a verdict, oldest first.

        `standing` says what became of it: counts, replaced, withdrawn, undo.
        """
        return queries.verdict_log(self.store, sae)

    def label_queue(self, labeller: str = "", desk: str = "", sae: str = "latest") -> pd.DataFrame:
        """Read what a person should judge next: one row a feature, what teaches most first."""
        sae = self.resolve("sae", sae).id
        runs = list(queries.voices(self.store, sae).run)
        return queries.label_queue(self.store, sae, runs, labeller, desk)

    def export_verdicts(self, file: str | Path) -> int:
        """Write every verdict as .csv or .parquet; returns their number."""
        from workbench.features.verdict_files import export

        return export(self, Path(file))

    def import_verdicts(
        self, file: str | Path, labeller: str = "", desk: str = "", sae: str = "latest"
    ) -> "ReadVerdicts":
        """Read verdicts from a table, and say of every row what became of it.

        study.import_verdicts("ada.csv", labeller="Ada").account.line()
        """
        from workbench.features.verdict_files import read

        with of_paths():
            return read(self, Path(file), self.resolve("sae", sae).id, labeller, desk)

    def compact(self) -> "Compacted":
        """Merge the small runs of verdicts into one, which is verified before they go."""
        from workbench.features.verdict_merging import compact

        return compact(self)

    def search(
        self,
        question: str,
        by: str = "meaning",
        wanted: queries.FeatureFilter = sought.ANY,
        most: int = 25,
        progress: StageProgress = silent_stage,
    ) -> sought.FoundFeatures:
        """Find the features that a question is about, by meaning or by words, the nearest first.

        study.search("where is loyalty to family?").rows
        """
        return sought.search(self, question, by, wanted, most, progress)

    def firing(self, text: str) -> "FiringFeatures":
        """Read which features fire on each token of a text, and which values they carry."""
        return sought.firing(self, text)

    if TYPE_CHECKING:  # the methods that `_method` writes below

        def __getattr__(self, verb: str) -> Callable[..., Run]: ...


def _method(verb: Verb) -> Callable[..., Run]:
    """Write the method of a verb.

    By position it takes the verb's first setting, where the verb has one, and then the progress;
    all else by name.
    """

    def run(self: Study, *given: Any, progress: Progress = silent, **settings: Any) -> Run:
        """Run the verb; what a user reads in place of this stands below."""
        values = list(given)
        if values and callable(values[-1]):
            progress = values.pop()
        if len(values) > bool(verb.first):
            raise TypeError(f"{verb.name}() takes its settings by name, got {values}.")
        if values:
            settings = {verb.first: values[0]} | settings
        return self.do(verb.name, settings, progress)

    run.__name__, run.__doc__ = verb.name, f"{verb.summary} (`verbs/{verb.name}.py`)"
    run.__qualname__ = f"Study.{verb.name}"
    return run


for _verb in VERBS.values():
    if _verb.name not in vars(Study):
        setattr(Study, _verb.name, _method(_verb))
