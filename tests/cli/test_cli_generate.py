"""`keras-ldm generate`, from the command line to the picture."""

import keras
import numpy as np
import pytest
from PIL import Image

from keras_ldm.cli import main
from keras_ldm.data import load_emoji
from keras_ldm.metrics import retrieval_at_k
from keras_ldm.models import TransformerTextEncoder
from keras_ldm.tasks import TextToImage
from tests.tasks.tiny import TinyAutoencoder, TinyUNet, autoencoder_task

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    keras.utils.set_random_seed(0)
    encoder = TransformerTextEncoder(dim=8, num_layers=1, max_length=6, num_heads=2, head_dim=4)
    task = TextToImage(
        TinyAutoencoder(), TinyUNet(context_dim=8), encoder, image_size=16, latent_scale=1.0
    )
    task.save(folder / "text.keras")
    autoencoder_task().save(folder / "autoencoder.keras")
    (folder / "broken.keras").write_bytes((folder / "text.keras").read_bytes()[:5000])
    return folder


def run(models, output, *arguments, model="text.keras", prompts=("red heart",)):
    return main(
        ["generate", *prompts, "--model", str(models / model), "-o", str(output), *arguments]
        + ([] if "--num-steps" in arguments else ["--num-steps", "2"])
    )


def test_draws_a_picture(models, tmp_path, capsys) -> None:
    output = tmp_path / "heart.png"
    assert run(models, output) == 0
    assert capsys.readouterr().out.strip() == str(output)
    picture = Image.open(output)
    assert picture.size == (16, 16)
    assert np.asarray(picture).std() > 3
    assert [path.name for path in tmp_path.iterdir()] == ["heart.png"]


def test_draws_several_side_by_side_at_another_size(models, tmp_path) -> None:
    output = tmp_path / "row.jpg"
    assert run(models, output, "--image-size", "32", prompts=("a", "b", "c")) == 0
    assert Image.open(output).size == (96, 32)


def test_every_option_reaches_the_model(models, tmp_path) -> None:
    task = TextToImage.from_preset(models / "text.keras")
    expected = task.generate(
        ["red heart"],
        negative_prompts="blue",
        num_steps=4,
        guidance_scale=3.0,
        sampler="ddpm",
        seed=7,
        image_size=8,
        progress=False,
    )
    options = (
        "--negative-prompt blue --num-steps 4 --guidance-scale 3 --sampler ddpm --seed 7 --image-size 8"
    )
    assert run(models, tmp_path / "a.png", *options.split()) == 0
    assert (np.asarray(Image.open(tmp_path / "a.png")) == expected[0]).all()


def test_same_seed_same_picture(models, tmp_path) -> None:
    for name, seed in (("a.png", "1"), ("b.png", "1"), ("c.png", "2")):
        assert run(models, tmp_path / name, "--seed", seed) == 0
    a, b, c = (np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png", "c.png"))
    assert (a == b).all()
    assert (a != c).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sampler", "eular"], "Expected a sampler among ['ddim', 'ddpm', "),
        (["--num-steps", "0"], "Expected `num_steps` to be an integer from 1 to 1000"),
        (["--image-size", "15"], "divides by 2. Received: 15x15"),
        (["--image-size", "-2"], "Expected an image size"),
        (["--seed", "-1"], "Expected seeds >= 0"),
        (["--guidance-scale", "nan"], "finite guidance scale"),
        (["--guidance-scale", "1", "--negative-prompt", "x"], "other than 1"),
    ],
)
def test_bad_values(models, tmp_path, capsys, arguments, message) -> None:
    assert run(models, tmp_path / "a.png", *arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.startswith("keras-ldm: error: ")
    assert printed.out == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("missing.keras", "does not exist"),
        ("text.h5", "Expected a model saved as .keras"),
        ("broken.keras", "truncated"),
        ("autoencoder.keras", "Expected a TextToImage"),
    ],
)
def test_bad_models(models, tmp_path, capsys, model, message) -> None:
    assert run(models, tmp_path / "a.png", model=model) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.txt", "a", "a.psd"])
def test_output_that_is_no_picture(models, tmp_path, capsys, name) -> None:
    assert run(models, tmp_path / name) == 2
    assert "such as picture.png" in capsys.readouterr().err


def test_output_in_a_folder_that_is_not_there(models, tmp_path, capsys) -> None:
    assert run(models, tmp_path / "no" / "a.png") == 2
    assert "Expected a folder that exists" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_unknown_preset(tmp_path, capsys) -> None:
    assert main(["generate", "a", "--preset", "stable", "-o", str(tmp_path / "a.png")]) == 2
    assert "'small_text_to_image'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["draw"], "invalid choice: 'draw'"),
        (["generate"], "PROMPT"),
        (["generate", "a", "-o", "a.png"], "--model"),
        (["generate", "a", "--model", "a.keras"], "--output"),
        (["generate", "a", "--model", "a.keras", "--preset", "b", "-o", "a.png"], "not allowed with"),
        (["generate", "a", "--model", "a.keras", "-o", "a.png", "--num-steps", "x"], "invalid int"),
    ],
)
def test_bad_command_lines(arguments, message, capsys) -> None:
    with pytest.raises(SystemExit) as status:
        main(arguments)
    assert status.value.code == 2
    assert message in capsys.readouterr().err


def test_failure_while_writing_leaves_the_old_picture(models, tmp_path, monkeypatch, capsys) -> None:
    output = tmp_path / "a.png"
    assert run(models, output) == 0
    before = output.read_bytes()

    def fail(self, path, *arguments, **options):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    assert run(models, output, "--seed", "9") == 2
    assert "No space left" in capsys.readouterr().err
    assert output.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_help_shows_examples(capsys) -> None:
    with pytest.raises(SystemExit) as status:
        main(["generate", "--help"])
    assert status.value.code == 0
    assert 'keras-ldm generate "red heart" --model' in capsys.readouterr().out


def test_draws_with_the_preset_that_ships(tmp_path) -> None:
    output = tmp_path / "heart.png"
    command = ["generate", "red heart", "--preset", "emoji", "-o", str(output), "--num-steps", "10"]
    assert main(command) == 0
    emoji = load_emoji()
    pictures = np.asarray(Image.open(output))[None]
    assert retrieval_at_k(pictures, emoji.images, [emoji.captions.index("red heart")], 1) == 1
