"""The verb `describe`: what it writes into a study, and what it says where a part cannot be had."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from feature_store import queries
from feature_store.errors import BadInput, Incompatible, NotFound
from feature_store.files import digest
from sae_training.dictionary.loaders import load_sae, save_sae
from tests.helpers import small_models
from workbench.command.cli import main
from workbench.study import Study

SAE = {"model": "organism", "documents": 100, "tokens": 8_192, "n_features": 64, "k": 8}
RELATIONS = ("token_logits", "logit_shapes", "decoder_neighbours", "coactivations")


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    study = Study(tmp_path_factory.mktemp("describe") / "study")
    study.train(**SAE, cache=False)
    return study, study.describe(top=5)


@pytest.fixture
def fresh(described, tmp_path):
    """The same SAE, its features not described."""
    folder = shutil.copytree(described[0].folder, tmp_path / "study")
    shutil.rmtree(folder / "runs" / described[1].id)
    study = Study(folder)
    study._models = described[0]._models  # loaded once
    return study


def change_sae_run(study, change):
    """Change the SAE's run on disk, as if it had been made so: `change` sees its folder."""
    run = study.runs.latest("sae")
    folder = study.runs.folder / run.id
    for file in folder.rglob("*"):
        file.chmod(file.stat().st_mode | 0o200)
    change(folder)
    description = json.loads((folder / "run.json").read_text())
    kept = [name for name in description["files"] if (folder / name).exists()]
    description["files"] = {name: digest(folder / name) for name in kept}
    (folder / "run.json").write_text(json.dumps(description))
    changed = Study(study.folder)
    changed._models = study._models
    return changed


def replace_sae(rows):
    """Give the SAE of a run other decoder rows."""

    def change(folder):
        sae = load_sae(folder / "sae")
        save_sae(sae.with_tensors({"W_dec": rows(sae.W_dec)}), folder / "sae")

    return change


def test_every_feature_is_described(described):
    study, run = described
    assert run.summary["final_norm"] == "RMSNorm"
    assert run.summary["activations_kept"] == 1
    counts = study.store.sql(
        "SELECT feature, side, count(*) AS n FROM token_logits GROUP BY feature, side"
    )
    assert len(counts) == 2 * SAE["n_features"]
    assert (counts.n == 5).all()
    shapes = study.store.sql("SELECT * FROM logit_shapes ORDER BY feature")
    assert shapes.feature.tolist() == list(range(SAE["n_features"]))
    vocabulary = len(study.model("organism").tokenizer)
    assert all(sum(bins) == vocabulary for bins in shapes.bins)
    near = study.store.sql("SELECT feature, count(*) AS n FROM decoder_neighbours GROUP BY feature")
    assert len(near) == SAE["n_features"]
    first = queries.token_logits(study.store, run.id, 3)
    assert first.side.tolist() == ["promoted"] * 5 + ["suppressed"] * 5
    assert first.logit.iloc[0] == pytest.approx(
        queries.logit_shape(study.store, run.id, 3).largest[0]
    )


def test_features_that_are_active_together_are_counted(described):
    """Beside a plain count over the activations."""
    study, run = described
    rows = study.store.sql("SELECT feature, document, position FROM activations")
    tokens = study.runs.latest("sae").summary["tokens"]
    sets = {f: set(zip(p.document, p.position, strict=True)) for f, p in rows.groupby("feature")}
    for feature in (max(sets, key=lambda f: len(sets[f])), min(sets, key=lambda f: len(sets[f]))):
        own = sets[feature]
        expected = []
        for other, tokens_of in sets.items():
            shared = len(own & tokens_of)
            if other != feature and shared >= 5:
                jaccard = shared / len(own | tokens_of)
                pmi = np.log(shared * tokens / (len(own) * len(tokens_of)))
                expected.append((other, shared, jaccard, pmi))
        frame = pd.DataFrame(expected, columns=["partner", "together", "jaccard", "pmi"])
        stored = queries.coactivations(study.store, run.id, feature)
        for measure in ("jaccard", "pmi"):
            best = frame.sort_values([measure, "partner"], ascending=[False, True]).head(5)
            part = stored[stored.measure == measure]
            assert part.partner.tolist() == best.partner.tolist()
            for column in ("together", "jaccard", "pmi"):
                np.testing.assert_allclose(part[column], best[column], rtol=1e-5)


def test_the_same_description_is_one_run_and_changes_no_sae(described, fresh):
    study, run = described
    sae = study.runs.latest("sae")
    assert study.describe(top=5).id == run.id
    assert fresh.describe(top=5, seed=1).id != run.id
    assert fresh.runs.latest("sae").files == sae.files
    assert run.inputs == {"sae": sae.id}


def test_an_interrupted_description_ends_with_the_same_bytes(fresh, described, monkeypatch):
    from sae_training.dictionary import footprint

    monkeypatch.setattr(footprint, "HELD", 2**14)

    def stop(stage, done, total):
        if stage == "nearest features":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fresh.describe(stop, top=5)
    again = fresh.describe(top=5)
    assert again.id == described[1].id
    shutil.rmtree(fresh.runs.folder / again.id)
    assert fresh.describe(top=5).files == again.files


def test_the_command_line_says_the_figures(fresh, capsys):
    assert main(["describe", str(fresh.folder), "--top", "3"]) == 0
    said = capsys.readouterr().out
    assert "final_norm RMSNorm" in said
    assert "activations_kept 1" in said


def test_a_model_whose_end_is_not_linear_leaves_its_tokens_out(fresh, monkeypatch):
    from sae_training.model import unembedding

    def refuse(model):
        raise Incompatible(f"{model.name} is an odd model, which does otherwise.")

    monkeypatch.setattr(unembedding, "unembedding", refuse)
    with pytest.warns(UserWarning, match="does otherwise. No tokens are promoted or suppressed"):
        run = fresh.describe(top=3)
    assert "does otherwise" in run.summary["no_tokens"]
    empty = {name: fresh.store.sql(f"SELECT * FROM {name}").empty for name in RELATIONS}
    assert [name for name in RELATIONS if empty[name]] == ["token_logits", "logit_shapes"]


def test_an_sae_without_activations_has_no_partners(fresh):
    def forget(folder):
        file = folder / "activations.parquet"
        pq.write_table(pq.read_table(file).slice(0, 0), file)

    study = change_sae_run(fresh, forget)
    with pytest.warns(UserWarning, match="keeps no activations"):
        run = study.describe(top=3)
    assert study.store.sql("SELECT * FROM coactivations").empty
    assert "keeps no activations" in run.summary["no_partners"]
    assert not study.store.sql("SELECT * FROM token_logits").empty


def test_thinned_out_activations_are_said(fresh):
    def thin(folder):
        description = json.loads((folder / "run.json").read_text())
        description["summary"]["activations_kept"] = 0.25
        (folder / "run.json").write_text(json.dumps(description))

    study = change_sae_run(fresh, thin)
    with pytest.warns(UserWarning, match=r"keeps 25.0% of its activations"):
        run = study.describe(top=3)
    assert run.summary["activations_kept"] == 0.25


def test_dead_features_and_rows_of_length_0_are_no_mistake(fresh):
    study = change_sae_run(fresh, replace_sae(lambda rows: rows * (torch.arange(64) > 1)[:, None]))
    run = study.describe(top=3)
    described = study.store.sql("SELECT DISTINCT feature FROM logit_shapes").feature
    assert set(described) == set(range(2, 64))
    dead = study.store.sql("SELECT feature FROM features WHERE n_active = 0").feature
    partners = study.store.sql("SELECT feature, partner FROM coactivations")
    assert not set(dead) & {*partners.feature, *partners.partner}
    assert run.summary["n_features"] == 64


def test_an_sae_of_another_width_is_refused_in_one_line(fresh):
    def narrow(folder):
        shutil.rmtree(folder / "sae")
        save_sae(small_models.topk_sae(), folder / "sae")

    study = change_sae_run(fresh, narrow)
    with pytest.raises(Incompatible, match="SAE expects d_model 32") as caught:
        study.describe(top=3)
    assert "\n" not in str(caught.value)
    assert not study.runs.ids("descriptions-")


@pytest.mark.parametrize(
    ("settings", "error", "line"),
    [
        ({"sae": "nosuch"}, NotFound, "no finished run 'nosuch'"),
        ({"top": 0}, BadInput, "top"),
        ({"top": 1001}, BadInput, "top"),
        ({"least": 0}, BadInput, "least"),
    ],
)
def test_odd_settings_are_refused(fresh, settings, error, line):
    with pytest.raises(error, match=line):
        fresh.describe(**settings)


def test_a_study_without_an_sae_says_what_to_run(tmp_path):
    with pytest.raises(NotFound, match="workbench train"):
        Study(tmp_path / "empty").describe()
