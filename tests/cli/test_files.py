# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""tellme-host convert and inspect."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tellme import __version__
from tellme.cli import main
from tellme.models import Model, Multipliers
from tellme.models.shipped import model_path
from tests.models.folders import folder, kind_model, tensors_of
from tests.models.random_model import random_model, with_biases, with_several_scales
from tests.models.test_checkpoints import METADATA, SHIPPED, bitllama, training_output


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "training run.safetensors"
    save_file(training_output(SHIPPED), path, metadata=METADATA)
    return path


@pytest.fixture
def pieces(tmp_path):
    path = tmp_path / "pieces.model"
    path.write_bytes(SHIPPED.tokenizer)
    return path


def test_convert_then_generate(source, pieces, tmp_path, capsys):
    out = tmp_path / "my stories.tellme"
    assert main(["convert", str(source), "-o", str(out), "--tokenizer", str(pieces)]) == 0
    assert Model.load(out).name == "my stories"
    captured = capsys.readouterr()
    assert captured.out == "" and "1.18 M ternary weights" in captured.err
    assert main(["generate", "--model", str(out), "--device", "golden", "--max-tokens", "3"]) == 0
    assert capsys.readouterr().out


def test_convert_bitllama_says_which_bit_order(pieces, tmp_path, capsys):
    source = tmp_path / "m.bin"
    source.write_bytes(bitllama(SHIPPED, least_first=False))
    assert main(["convert", str(source), "-o", str(tmp_path / "m.tellme"), "--tokenizer", str(pieces)]) == 0
    assert "weights lie most significant first; known by the loss" in capsys.readouterr().err


def test_without_tokenizer(source, tmp_path, capsys):
    assert main(["convert", str(source), "-o", str(tmp_path / "m.tellme")]) == 0
    assert "no tokenizer: prompts and output are token ids" in capsys.readouterr().err


@pytest.mark.parametrize(("source_name", "out", "message"), [
    ("missing.bin", "m.tellme", "there is no file"),
    ("pieces.model", "m.tellme", "neither a bitllama2.c file nor a safetensors file"),
    ("training run.safetensors", "no-folder/m.tellme", "there is no folder"),
    ("training run.safetensors", ".", "is a folder; give the name"),
])
def test_refusals_leave_nothing(source, pieces, tmp_path, capsys, source_name, out, message):
    before = sorted(tmp_path.iterdir())
    code = main(["convert", str(tmp_path / source_name), "-o", str(tmp_path / out), "--tokenizer", str(pieces)])
    captured = capsys.readouterr()
    assert code == 2 and message in captured.err and captured.out == ""
    assert sorted(tmp_path.iterdir()) == before


def test_hugging_face_folder_and_back(tmp_path, capsys):
    """Convert, generate, export, convert again: the same tokens."""
    model = kind_model("falcon")
    source = folder(tmp_path / "falcon", "falcon", tensors_of("falcon", model)[0])
    assert main(["convert", str(source), "-o", str(tmp_path / "a.tellme"), "--context", "16"]) == 0
    assert "tokenizer: tokenizer.json, 300 tokens; 33 of the model's 333 ids have no token" in capsys.readouterr().err
    texts = []
    for form in ("hf", "gguf-f16"):
        assert main(["export", str(tmp_path / "a.tellme"), "-o", str(tmp_path / form), "--format", form]) == 0
        assert main(["convert", str(tmp_path / form), "-o", str(tmp_path / "b.tellme")]) == 0
        capsys.readouterr()
        for name in ("a", "b"):
            assert main(["generate", "--model", str(tmp_path / f"{name}.tellme"), "--device", "golden", "--max-tokens", "9",
                         "--prompt", "the cat", "--json"]) == 0
            lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
            texts.append(lines[-1]["token_ids"])
    assert texts[0] and all(text == texts[0] for text in texts)


@pytest.mark.parametrize(("arguments", "message"), [
    (["convert", "{hf}", "-o", "{out}"], "This is a float checkpoint"),
    (["convert", "{hf}", "-o", "{out}", "--tokenizer", "{hf}/nothing"], "cannot read the tokenizer"),
    (["convert", "{hf}", "-o", "{out}", "--context", "99"], "a context of 99: the model has positions 1 to 16 (--context N)"),
    (["convert", "{hf}/model.safetensors", "-o", "{out}"], "is a part of a Hugging Face model: give its folder"),
    (["convert", "{hf}/config.json", "-o", "{out}"], "neither a bitllama2.c file nor a safetensors file nor GGUF"),
    (["export", "stories-1m", "-o", "{out}", "--format", "gguf-tq1"], "wq has 192 columns, and TQ1_0 wants a multiple of 256"),
    (["export", "nothing", "-o", "{out}", "--format", "hf"], "no model is called 'nothing'"),
    (["export", "stories-1m", "-o", "{hf}", "--format", "hf"], "cannot write {hf}: it exists; give the name of a new folder"),
    (["export", "stories-1m", "-o", "{hf}", "--format", "gguf-f16"],
     "cannot write {hf}: it is a folder; give the name of a file"),
    (["export", "stories-1m", "-o", "{hf}/no/x", "--format", "gguf-f16"], "cannot write {hf}/no/x: there is no folder {hf}/no"),
])
def test_refusals_of_conversions_write_nothing(arguments, message, tmp_path, capsys):
    tensors, _ = tensors_of("trilm", kind_model("trilm"))
    # The last matrix that is read.
    name = "model.layers.1.mlp.down_proj.weight"
    tensors[name] = np.random.default_rng(0).normal(size=tensors[name].shape).astype(np.float16)
    source = folder(tmp_path / "hf", "trilm", tensors)
    files = sorted(tmp_path.rglob("*"))
    assert main([a.format(hf=source, out=tmp_path / "out.tellme") for a in arguments]) == 2
    captured = capsys.readouterr()
    assert message.format(hf=source) in captured.err and captured.out == "" and "Traceback" not in captured.err
    assert sorted(tmp_path.rglob("*")) == files


def test_inspect_json(capsys):
    assert main(["inspect", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ternary_weights"] == 1179648 and found["config"]["dim"] == 192
    assert set(found["bytes"]) == {"embedding", "ternary weights", "scales and biases", "norms", "tokenizer"}
    assert len(found["zeros_by_layer"]) == 4 and 0.3 < found["zeros"] < 0.5
    fits = {f["preset"]: f for f in found["fits"]}
    assert fits["ulx3s-85f"]["fits"] and fits["ulx3s-85f"]["bandwidth_tokens_per_second"]["0"] > 550
    assert fits["ulx3s-85f"]["head"] == "board" and fits["ecp5-25f"]["boards"] == ["icepi_zero 25f", "ulx3s 12f"]
    reason = "dim is 192, and the build sim-tiny can do 128"
    nowhere = {"fits": False, "context": 0, "slots": 1, "reason": reason, "tokens_per_second": {}, "side_by_side": None}
    assert fits["sim-tiny"] == {"preset": "sim-tiny", "boards": [], "fits": False, "head": None,
                                "bandwidth_tokens_per_second": {}, "reason": reason,
                                "placements": {"board": nowhere, "host": nowhere}}
    places = fits["ulx3s-85f"]["placements"]
    assert {head: place["fits"] for head, place in places.items()} == {"board": True, "host": True}
    assert {head: place["slots"] for head, place in places.items()} == {"board": 16, "host": 1}
    assert fits["ecp5-25f"]["placements"]["board"]["slots"] == 1
    rate = places["board"]["tokens_per_second"]["0"]
    assert rate["memory_peak"] == fits["ulx3s-85f"]["bandwidth_tokens_per_second"]["0"]
    assert rate["measured_factor"] == 1.075 and rate["measured_on"] == "stories-1m, position 0"
    assert rate["expected"] == pytest.approx(rate["memory_peak"] / 1.075, abs=0.01)
    assert fits["ulx3s-85f-l8"]["placements"]["board"]["tokens_per_second"]["0"]["expected"] is None
    # What sixteen sequences give together (docs/reports/sequences.json), computed; and none where one runs at a time.
    together = places["board"]["side_by_side"]
    assert together["sequences"] == 16 and list(together["tokens_per_second"]) == ["0", "511"]
    assert together["tokens_per_second"]["0"] == pytest.approx(3_300, rel=0.1)
    assert places["host"]["side_by_side"] is None and fits["ulx3s-85f-l2"]["placements"]["board"]["side_by_side"] is None
    assert main(["inspect", "nothing", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["type"] == "error"


def test_inspect_names_what_runs_a_feature(tmp_path, capsys):
    path = tmp_path / "m.tellme"
    with_biases(with_several_scales(random_model("plain"))).save(path)
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "several scales a matrix runs on: golden and boards" in out and "bias             runs on: golden only" in out
    assert main(["generate", "--model", str(path), "--device", "golden", "--prompt-ids", "1,2", "--max-tokens", "2"]) == 0
    capsys.readouterr()


def test_inspect_shows_column_groups(tmp_path, capsys):
    """One of seven square matrices of each layer in groups of 40 columns: two for each of its 64 rows."""
    model = random_model("plain")
    assert main(["inspect", "stories-1m"]) == 0 and "groups" not in capsys.readouterr().out
    for layer in model.layers:
        layer.multipliers["w2"] = Multipliers(2, np.ones((1, 2, 64), np.int8))
    path = tmp_path / "m.tellme"
    model.save(path)
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    bits = 1.6 + 8 * 2 / 64 / 7
    assert f"planes           1 of 100.0 % of the weights: {bits:.2f} bits a weight\n" in out
    assert "column groups    40 columns of 14.3 % of the weights: 256 multipliers\n" in out
    assert "multipliers      264 bytes, " in out
    assert "column groups    runs on: golden, and builds with multipliers\n" in out
    assert "does not fit: layers.0.w2 has multipliers of column groups, and the build ecp5-25f takes none\n" in out
    assert main(["inspect", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["column_groups"] == {"40": 2 * 64 * 64} and found["bits_a_weight"] == round(bits, 4)
    assert main(["generate", "--model", str(path), "--device", "golden", "--prompt-ids", "1,2", "--max-tokens", "2"]) == 0
    capsys.readouterr()


def test_inspect_shows_planes(tmp_path, capsys):
    """Half of a matrix's weights in three planes: the shares, bits a weight, and who runs it."""
    model = random_model("plain")
    assert main(["inspect", "stories-1m"]) == 0 and "planes" not in capsys.readouterr().out
    for layer in model.layers:
        layer.planes |= {"w1": 3, "w3": 3}
    path = tmp_path / "m.tellme"
    model.save(path)
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    # Of seven square matrices two have three planes: 11 trits for 7 weights, 1.6 bits a trit.
    assert "planes           1 of 71.4 %, 3 of 28.6 % of the weights: 2.51 bits a weight\n" in out
    assert "several planes   runs on: golden, and builds of as many planes\n" in out
    assert "ulx3s-85f        ulx3s 85f: fits, up to 16 sequences side by side; " in out
    assert main(["inspect", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["planes"] == {"1": 10 * 64 * 64, "3": 4 * 64 * 64} and found["bits_a_weight"] == round(1.6 * 11 / 7, 4)
    assert main(["generate", "--model", str(path), "--device", "golden", "--prompt-ids", "1,2", "--max-tokens", "2"]) == 0
    capsys.readouterr()


def test_a_bias_is_refused_before_a_byte_is_sent(tmp_path, capsys, monkeypatch):
    path = tmp_path / "m.tellme"
    with_biases(random_model("plain")).save(path)

    def never(*arguments, **named):
        raise AssertionError("the board was started")

    monkeypatch.setattr("tellme.runtime.simulated.build", never)
    monkeypatch.setattr("tellme.runtime.simulated.ProcessTransport", never)
    assert main(["generate", "--model", str(path), "--device", "sim", "--prompt-ids", "1,2"]) == 2
    assert "layers.0.w2 has a bias, which no gateware adds: use the golden model" in capsys.readouterr().err


def test_the_old_file_stays_when_the_new_one_fails(source, tmp_path, capsys):
    target = tmp_path / "m.tellme"
    target.write_bytes(b"precious")
    content = source.read_bytes()[:-10]
    source.write_bytes(content)
    start = 8 + int.from_bytes(content[:8], "little")
    size, header = len(content) - start, json.loads(content[8:start])
    last = max((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"][1])
    assert main(["convert", str(source), "-o", str(target)]) == 2
    message = f"{source} has {size} bytes of tensors, and its tensor {last} ends at {size + 10}: it is cut short; copy it again"
    assert target.read_bytes() == b"precious" and capsys.readouterr().err == f"tellme-host: {message}\n"


def test_inspect(capsys):
    assert main(["inspect"]) == 0
    out = capsys.readouterr().out
    assert "ulx3s-85f        ulx3s 85f: fits, up to 16 sequences side by side; tokens/s" in out
    assert "ecp5-25f         icepi_zero 25f, ulx3s 12f: fits; tokens/s" in out
    assert "sim-tiny         simulated only: does not fit: dim is 192" in out
    assert "ternary weights  1179648" in out and "final_norm" in out and "BSD-2-Clause" in out
    assert main(["inspect", "nothing"]) == 2


def test_inspect_says_how_texts_begin_and_end(tmp_path, capsys):
    model = Model.load(model_path("stories-1m"))
    for conventions, begin, end in (
            ({}, "BOS 1 '<s>'", "1 '<s>'"),
            ({"add_bos": False, "more_ends": (2, 70)}, "nothing", "1 '<s>', 2 '</s>', 70 '<0x43>'"),
            ({"eos": None}, "BOS 1 '<s>'", "no token")):
        replace(model, config=replace(model.config, **conventions)).save(tmp_path / "m.tellme")
        assert main(["inspect", str(tmp_path / "m.tellme")]) == 0
        out = capsys.readouterr().out.splitlines()
        assert f"text begins with {begin}" in out and f"text ends at     {end}" in out
        assert main(["inspect", "--json", str(tmp_path / "m.tellme")]) == 0
        config = json.loads(capsys.readouterr().out)["config"]
        assert config["more_ends"] == list(conventions.get("more_ends", ()))


def test_inspect_says_which_context_fits(tmp_path, capsys):
    model = random_model("plain")
    model.config = replace(model.config, context=20_000)
    model.save(tmp_path / "m.tellme")
    assert main(["inspect", str(tmp_path / "m.tellme")]) == 0
    out = capsys.readouterr().out.splitlines()
    at = out.index("ecp5-25f         icepi_zero 25f, ulx3s 12f: does not fit")
    for line, head in zip(out[at + 1:at + 3], ("board", "host"), strict=True):
        assert line.startswith(
            f"  --head {head:7} does not fit with its whole context: context is 20000, and the build ecp5-25f can do 512; "
            "tokens/s that its memory's peak allows with a context of 512 (convert --context 512): ")


def test_inspect_outside_a_checkout_knows_the_boards_too(capsys, monkeypatch):
    monkeypatch.setattr("tellme.runtime.simulated.checkout", lambda: None)
    assert main(["inspect", "--json"]) == 0
    found = {fit["preset"]: fit["boards"] for fit in json.loads(capsys.readouterr().out)["fits"]}
    assert found["ulx3s-85f"] == ["ulx3s 85f"] and found["ecp5-25f"] == ["icepi_zero 25f", "ulx3s 12f"]


def test_version_is_the_distributions(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == f"tellme-host {__version__}"
    text = (Path(__file__).resolve().parent.parent.parent / "pyproject.toml").read_text()
    assert f'version = "{__version__}"' in text
