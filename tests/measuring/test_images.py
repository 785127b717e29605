"""Images: what is opened, what is refused, and which of them a word finds, against drawings
whose colours are known."""

import contextlib
import io
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from feature_store.errors import BadInput, NotFound
from tests.helpers import small_vision
from workbench.material import images
from workbench.study import Study
from workbench.vision.embedders import make
from workbench.vision.index import nearest, retrieve


@pytest.fixture
def folder(tmp_path):
    small_vision.drawings(tmp_path / "images")
    small_vision.words(tmp_path / "words.toml")
    return tmp_path / "images"


def indexed(tmp_path, folder, **more):
    study = Study(tmp_path / "study")
    return study, study.index(
        str(folder), **({"embedder": "colour", "keywords": str(tmp_path / "words.toml")} | more)
    )


def bomb(width, height):
    """A PNG of a few bytes whose header promises a great picture."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


def spoil(folder):
    """Five files that are no good, and a copy of one that is."""
    whole = (folder / "00-gold.png").read_bytes()
    (folder / "torn.png").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("a text")
    (folder / "renamed.png").write_bytes(b"%PDF-1.7 no picture")
    (folder / "bomb.png").write_bytes(bomb(60_000, 60_000))
    (folder / "thread.png").write_bytes(bomb(30_000, 1))
    shutil.copy(folder / "00-gold.png", folder / "copy.png")
    (folder / ".hidden.png").write_bytes(whole)


def test_words_find_the_images_that_were_drawn_for_them(tmp_path, folder):
    """64 drawings, 8 of each of 8 colours: the nearest 8 to a colour are its own."""
    study, run = indexed(tmp_path, folder)
    assert run.summary["embedded"] == 64
    found = nearest(study.store, run.id, 8)
    assert len(found) == 8 * 8
    assert [file.split("-")[1] for file in found.file] == [f"{word}.png" for word in found.keyword]
    assert set(zip(found.value, found.keyword, strict=True)) == {
        (v, c) for v, pair in small_vision.COLOURS.items() for c in pair
    }
    assert (found.groupby("keyword").similarity.diff().dropna() <= 1e-6).all()
    by_hand = (
        make("colour", ()).images([images.open_image(folder / found.file[0])])[0]
        @ make("colour", ()).texts([found.keyword[0]])[0]
    )
    assert found.similarity[0] == pytest.approx(by_hand, abs=1e-5)
    own = retrieve(study, "Orange", k=3)
    assert [file.split("-")[1] for file in own.file] == ["orange.png"] * 3
    assert list(own["rank"]) == [1, 2, 3]
    with pytest.raises(BadInput, match="'equality' is none"):
        retrieve(study, "equality")
    with pytest.raises(BadInput, match="at least 1; got 0"):
        retrieve(study, "red", k=0)


def test_equal_images_are_ordered_by_digest_and_k_may_be_more_than_there_are(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(5):
        Image.new("RGB", (40 + number, 40), "red").save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "words.toml").write_text('[power]\nkeywords = ["red"]\n')
    study, run = indexed(tmp_path, tmp_path / "images")
    found = nearest(study.store, run.id, 99)
    assert list(found.image) == sorted(found.image)
    assert list(found["rank"]) == [1, 2, 3, 4, 5]
    assert list(nearest(study.store, run.id, 2).image) == list(found.image[:2])


def test_what_is_no_good_is_refused_named_and_counted(tmp_path, folder):
    spoil(folder)
    study, run = indexed(tmp_path, folder)
    assert {key: run.summary[key] for key in ("embedded", "duplicate", "refused")} == {
        "embedded": 64,
        "duplicate": 1,
        "refused": 5,
    }
    told = study.store.sql(
        "SELECT file, status, reason FROM images WHERE status <> 'embedded'"
    ).set_index("file")
    assert "broken" in told.reason["torn.png"]
    assert "no image in PNG" in told.reason["notes.txt"]
    assert "no image in PNG" in told.reason["renamed.png"]
    assert "pixels" in told.reason["bomb.png"]
    assert "too narrow" in told.reason["thread.png"]
    assert told.status["copy.png"] == "duplicate"
    assert told.reason["copy.png"] == "00-gold.png"
    only = tmp_path / "only"
    only.mkdir()
    shutil.copy(folder / "notes.txt", only)
    with pytest.raises(
        BadInput, match="no image that can be read \\(1 files; the first: notes.txt"
    ):
        indexed(tmp_path, only)
    with pytest.raises(NotFound, match="There is no folder"):
        indexed(tmp_path, tmp_path / "nowhere")


def test_a_bomb_is_never_unpacked(tmp_path, monkeypatch):
    (tmp_path / "bomb.png").write_bytes(bomb(10_000, 10_000))
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(BadInput, match="10000 x 10000"):
        images.open_image(tmp_path / "bomb.png")


def test_an_image_is_turned_and_laid_on_white(tmp_path):
    clear = Image.new("RGBA", (4, 2), (255, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert images.open_image(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)
    exif = Image.Exif()
    exif[274] = 6  # turned by a quarter
    Image.new("RGB", (4, 2)).save(tmp_path / "turned.jpg", exif=exif)
    assert images.open_image(tmp_path / "turned.jpg").size == (2, 4)
    assert images.data_uri(tmp_path / "turned.jpg").startswith("data:image/jpeg;base64,")


def test_an_interrupted_index_goes_on_and_a_known_image_is_not_embedded_again(
    tmp_path, folder, monkeypatch
):
    from workbench.vision import index
    from workbench.vision.embedders.colour import Colour

    monkeypatch.setattr(index, "PART", 16)
    seen, whole = [], Colour.images

    def some(self, given):
        seen.append(len(given))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return whole(self, given)

    monkeypatch.setattr(Colour, "images", some)
    with pytest.raises(KeyboardInterrupt):
        indexed(tmp_path, folder)
    _, run = indexed(tmp_path, folder)
    assert seen == [16, 16, 16, 16, 16], "two parts were kept, the third was lost"
    assert indexed(tmp_path, folder)[1].id == run.id
    Image.new("RGB", (40, 40), "white").save(folder / "new.png")
    study, more = indexed(tmp_path, folder)
    assert sum(seen) == 81, "the new image alone is embedded"
    assert (more.summary["known"], more.summary["embedded"]) == (64, 65)
    assert list(nearest(study.store, more.id, 3).image) == list(
        nearest(study.store, run.id, 3).image
    )


def test_clip_embeds_images_and_words_in_one_space(tmp_path, folder):
    clip = small_vision.clip(tmp_path / "clip")
    study, run = indexed(tmp_path, folder, embedder="clip", options=(f"model={clip}",))
    found = nearest(study.store, run.id, 2)
    assert len(found) == 16
    embedder = make("clip", (f"model={clip}",))
    import torch
    from transformers import AutoProcessor, CLIPModel

    module, processor = CLIPModel.from_pretrained(clip).eval(), AutoProcessor.from_pretrained(clip)
    picture = images.open_image(folder / "00-gold.png")
    with torch.no_grad():
        both = module(**processor(text=["gold"], images=[picture], return_tensors="pt"))
    by_hand = float((both.logits_per_image / module.logit_scale.exp())[0, 0])
    assert float(embedder.images([picture])[0] @ embedder.texts(["gold"])[0]) == pytest.approx(
        by_hand, abs=1e-5
    )
    told = study.store.sql("SELECT embedding FROM images WHERE file = '00-gold.png'").embedding[0]
    np.testing.assert_allclose(told, embedder.images([picture])[0], atol=1e-6)
    with pytest.raises(BadInput, match="reads 32"):
        embedder.texts(["the cat " * 40])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[power]\nkeywords = []", "at least one"),
        ("power = 1", "at least one"),
        ("[powr]\nkeywords = ['x']", "Did you mean 'power'"),
        ("[power]\nkeywords = ['x', 'x']", "twice"),
        ("", "no keywords"),
        ("[power", "not valid TOML"),
        ("[power]\nkeywords = ['\xe9']", "UTF-8"),
    ],
)
def test_a_list_of_keywords_that_cannot_be_used_is_refused(tmp_path, folder, text, told):
    (tmp_path / "words.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises((BadInput, NotFound), match=told):
        indexed(tmp_path, folder)


def test_the_built_in_keywords_speak_of_every_value_once():
    from feature_store import registry
    from workbench.vision.index import keywords

    system = registry.get("values", "schwartz10")
    pairs = keywords("", system)
    assert {value for value, _ in pairs} == set(system.ids)
    words = [word for _, word in pairs]
    assert len(words) == len(set(words)) == 100, "as in the paper, ten a value"


def test_a_torn_stream_is_a_reason_and_not_an_accident(tmp_path):
    """Whatever bytes follow a good beginning: an image or a reason."""
    rng, whole = np.random.default_rng(0), io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(whole, "JPEG")
    for at in range(0, len(whole.getvalue()), 97):
        (tmp_path / "x.jpg").write_bytes(whole.getvalue()[:at] + rng.bytes(200))
        with contextlib.suppress(BadInput):
            assert images.open_image(tmp_path / "x.jpg").mode == "RGB"
