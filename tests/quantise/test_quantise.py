# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""tellme-host quantise: what is written, what is reported, what is refused, and a run that goes on."""

import json
import re
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from importlib import resources
from io import StringIO

import gguf
import numpy as np
import pytest

from tellme.cli import main
from tellme.compiler.image import CompileError, compile_model
from tellme.errors import InputError
from tellme.golden.board import NonfiniteError
from tellme.golden.perplexity import golden_board, windows
from tellme.models import LINEARS, Model, ModelError
from tellme.models.container import Container
from tellme.models.importers.checkpoints import open_floats
from tellme.models.tokenizers.tokenizer import Tokenizer
from tellme.quantise import run as running
from tellme.quantise import samples as writing
from tellme.quantise.forward import Maths, rms_norm
from tellme.quantise.layers import Stage, advance, walk
from tellme.quantise.rotate import PAYS
from tellme.quantise.samples import sample
from tellme.quantise.tokens import cut
from tellme.quantise.work import Work
from tellme.spec.config import preset
from tests.models.folders import halves
from tests.quantise.checkpoint import CONFIG, TEXT, float_folder, loud_tensors, tensors_of

#: A board for one sequence: what a budget of memory is for.
ONE = replace(preset("ulx3s-85f"), head_tokens=1, slots=1, drafts=False)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return float_folder(tmp_path_factory.mktemp("float") / "model")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """What is calibrated on, and beside it what is measured on."""
    path = tmp_path_factory.mktemp("text") / "text"
    path.write_text(3 * TEXT, "utf-8")
    path.with_name("other").write_text(TEXT, "utf-8")
    return path


def quantised(source, out, text, *args):
    return main(["quantise", str(source), "-o", str(out), "--calibrate", str(text), "--evaluate", str(text.with_name("other")),
                 *map(str, args)])


#: Of the model that several tests look at.
PLANES = ("--planes", 2, "--planes", "w2=3,wo=3")


@pytest.fixture(scope="module")
def made(source, text, tmp_path_factory):
    """A file, and the report on the file."""
    out = tmp_path_factory.mktemp("made") / "out.tellme"
    told = StringIO()
    with redirect_stdout(told):
        assert quantised(source, out, text, *PLANES, "--json") == 0
    return out, json.loads(told.getvalue())


def test_planes_by_name(made):
    out, report = made
    model = Model.load(out)
    for number, layer in enumerate(model.layers):
        assert layer.planes == dict.fromkeys(LINEARS, 2) | {"w2": 3, "wo": 3}
        assert {name: report["planes"][name][number] for name in LINEARS} == layer.planes
        assert layer.biases.keys() == {"wq", "wk", "wv", "w1", "w3"}
        assert all(len(layer.scales[name]) == CONFIG.shape(name)[0] for name in LINEARS)
    weights = {name: np.prod(CONFIG.shape(name)) for name in LINEARS}
    assert report["bits_a_weight"] == pytest.approx(
        1.6 * sum(n * (3 if name in ("w2", "wo") else 2) for name, n in weights.items()) / sum(weights.values()), abs=1e-4)
    losses = report["losses"]
    assert losses["float"]["kl"] == 0 and losses["float"]["same_first_choice"] == 1
    assert 0 < losses["int8 activations"]["kl"] < losses["quantised"]["kl"] < 0.2
    # The golden model on the file gives the numbers that are reported.
    cut = windows(model, Tokenizer(model.tokenizer), TEXT)
    board, nats = golden_board(Container(out)), 0.0
    for part in cut.parts:
        logits = board.feed(part[:-1], 0, heads="all") / 65536
        nats += float((np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(part) - 1), part[1:]]).sum())
    assert losses["quantised"]["nats_per_token"] == pytest.approx(nats / cut.tokens)
    assert losses["quantised"]["bits_per_byte"] == pytest.approx(nats / np.log(2) / cut.text_bytes)
    assert [path.name for path in out.parent.iterdir()] == ["out.tellme"]


def test_the_table_and_the_file_run(source, tmp_path, text, capsys):
    out = tmp_path / "out.tellme"
    assert quantised(source, out, text, "--planes", 3, "--group", 20, "--head-planes", 4) == 0
    table = capsys.readouterr().out
    sizes = [CONFIG.shape(name) for name in LINEARS]
    bits = 3 * sum(rows * (1.6 * cols + 8 * -(-cols // 20)) for rows, cols in sizes) / sum(rows * cols for rows, cols in sizes)
    assert f"bits a weight     {bits:.2f} with multipliers of groups of 20 columns" in table
    assert "quantised" in table and "int8 activations" in table
    model = Model.load(out)
    assert np.abs(model.embedding).max() == 40
    assert all(layer.multipliers[name].group_slices == 1 for layer in model.layers for name in LINEARS)
    assert main(["generate", "--model", str(out), "--device", "golden", "--prompt", "the cat", "--max-tokens", "3"]) == 0
    assert main(["inspect", str(out), "--json"]) == 0


def test_more_planes_are_nearer(source, tmp_path, text, capsys):
    kl = []
    for planes in (1, 3):
        assert quantised(source, tmp_path / "out.tellme", text, "--json", "--planes", planes) == 0
        kl.append(json.loads(capsys.readouterr().out)["losses"]["quantised"]["kl"])
    assert kl == sorted(kl, reverse=True)


@pytest.mark.parametrize("budget", [("--bits", 2.5), ("--memory", 90_000), ()])
def test_a_budget_is_spent(budget, source, tmp_path, text, capsys):
    out = tmp_path / "out.tellme"
    assert quantised(source, out, text, *budget, "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert not out.exists() and not (tmp_path / "out.tellme.quantise").exists()
    # Gate and up are rows of the same tiles.
    assert plan["planes"]["w1"] == plan["planes"]["w3"]
    limit = {"--bits": 2.5, "--memory": 90_000}.get(budget[0] if budget else "", None)
    if budget:
        used = plan["bits_a_weight" if budget[0] == "--bits" else "memory"]
        assert 0.93 * limit < used <= limit
    else:
        good = {"wq": 2, "wk": 2, "wv": 3, "wo": 3, "w1": 2, "w3": 2, "w2": 3}
        sizes = {name: np.prod(CONFIG.shape(name)) for name in LINEARS}
        most = 1.6 * sum(good[name] * n for name, n in sizes.items()) / sum(sizes.values())
        assert 0.93 * most < plan["bits_a_weight"] <= most + 1e-4


def test_the_memory_is_that_of_the_image(made):
    out, report = made
    image = compile_model(Container(out), ONE)
    # Headers, gains, and what is aligned are left out.
    assert 0.92 * image.end < report["memory"] <= image.end


class Stop(Exception):
    pass


def test_a_run_goes_on_where_it_stopped(source, made, tmp_path, text, monkeypatch, capsys):
    parts = tmp_path / "parts.tellme"
    real, solved = running.quantise_layer, []

    def stops(model, number, *args):
        if number == 1 and len(solved) == 1:
            raise Stop
        solved.append(number)
        return real(model, number, *args)

    monkeypatch.setattr(running, "quantise_layer", stops)
    with pytest.raises(Stop):
        quantised(source, parts, text, *PLANES)
    assert not parts.exists()
    solved.append("again")
    capsys.readouterr()
    assert quantised(source, parts, text, *PLANES) == 0
    assert solved == [0, "again", 1]
    assert "going on behind layer 1 of 2" in capsys.readouterr().err
    for i in range(CONFIG.layers):
        for name in LINEARS:
            (a, scales), (b, others) = Container(made[0]).linear(i, name).read(), Container(parts).linear(i, name).read()
            assert np.array_equal(a, b) and scales == others


def test_a_run_of_other_code_begins_anew(source, tmp_path, text, monkeypatch, capsys):
    """A copy of the package is the same code, and no longer is when a line of one file changes."""
    real, solved = running.quantise_layer, []
    package = tmp_path / "tellme"
    shutil.copytree(resources.files("tellme"), package, ignore=shutil.ignore_patterns("__pycache__"))

    def stops(model, number, *args):
        if number == 1:
            raise Stop
        solved.append(number)
        return real(model, number, *args)

    monkeypatch.setattr(running, "quantise_layer", stops)
    for copied in (False, True, True):
        if copied:
            monkeypatch.setattr(running.resources, "files", lambda name: tmp_path / name)
        with pytest.raises(Stop):
            quantised(source, tmp_path / "out.tellme", text, "--planes", 2)
    assert solved == [0]
    with (package / "quantise" / "solve.py").open("a") as file:
        file.write("# another line\n")
    with pytest.raises(Stop):
        quantised(source, tmp_path / "out.tellme", text, "--planes", 2)
    assert solved == [0, 0]


@pytest.mark.parametrize("damage", ["other run", "layer"])
def test_a_state_that_does_not_fit_is_not_taken(damage, source, tmp_path, text, monkeypatch, capsys):
    out = tmp_path / "out.tellme"
    real = running.quantise_layer

    def stops(model, number, *args):
        if number == 1:
            raise Stop
        return real(model, number, *args)

    monkeypatch.setattr(running, "quantise_layer", stops)
    with pytest.raises(Stop):
        quantised(source, out, text, "--planes", 2)
    monkeypatch.setattr(running, "quantise_layer", real)
    folder = tmp_path / "out.tellme.quantise"
    if damage != "other run":
        path = folder / "layer-0.npz"
        path.write_bytes(path.read_bytes()[:-100])
    assert quantised(source, out, text, "--planes", 3 if damage == "other run" else 2) == 0
    assert "going on" not in capsys.readouterr().err
    assert Model.load(out).layers[0].planes["wq"] == (3 if damage == "other run" else 2)


def test_a_folder_of_someone_else_stays(source, tmp_path, text, capsys):
    folder = tmp_path / "out.tellme.quantise"
    folder.mkdir()
    (folder / "letter").write_text("mine")
    assert quantised(source, tmp_path / "out.tellme", text, "--planes", 2) == 2
    assert "holds something else" in capsys.readouterr().err and (folder / "letter").exists()


@pytest.mark.parametrize(("args", "message"), [
    (("--planes", "6"), "--planes '6': a number from 1 to 5, auto, or NAME=N is wanted"),
    (("--planes", "wx=2"), "the names are wq, wk"), (("--planes", "2" * 5000), "a number from 1 to 5, auto, or NAME=N is wanted"),
    (("--planes", "w2="), "--planes 'w2='"),
    (("--bits", "1.2"), "too small: the fewest planes take 1.60"),
    (("--memory", "1000"), "a budget of 1000 bytes is too small"),
    (("--planes", "2", "--bits", "3"), "a budget is for --planes auto"),
    (("--group", "30"), "--group 30 is no multiple of 20"),
    (("--rotate=maybe",), "--rotate/--no-rotate: ignored explicit argument 'maybe'"),
])
def test_settings_that_are_refused(args, message, source, tmp_path, text, capsys):
    assert quantised(source, tmp_path / "out.tellme", text, *args) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.tellme").exists()


def test_a_note_that_is_damaged_is_none(tmp_path):
    work = Work(tmp_path / "out.tellme", {"run": 1})
    assert work.noted("rotate") is None
    work.note("rotate", [0.5, 0.25])
    assert Work(tmp_path / "out.tellme", {"run": 1}).noted("rotate") == [0.5, 0.25]
    path = work.folder / "rotate.json"
    for content in (path.read_bytes()[:-1], b"\xff"):
        path.write_bytes(content)
        assert work.noted("rotate") is None


@pytest.mark.parametrize(("made", "message"), [
    ("file", "the folder for the run's state, is no folder: remove it"),
    ("link", "the folder for the run's state, is no folder: remove it"),
])
def test_what_lies_where_the_runs_folder_goes_stays(made, message, tmp_path):
    folder = tmp_path / "out.tellme.quantise"
    folder.write_text("mine") if made == "file" else folder.symlink_to(tmp_path)
    with pytest.raises(ModelError) as caught:
        Work(tmp_path / "out.tellme", {})
    assert str(caught.value) == f"{folder}, {message}"
    assert folder.is_symlink() if made == "link" else folder.read_text() == "mine"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ModelError) as caught:
        Work(tmp_path / "file" / "out.tellme", {})
    assert str(caught.value) == f"cannot write {tmp_path}/file/out.tellme.quantise: Not a directory"


def test_a_model_that_cannot_write_its_own_texts(source, monkeypatch):
    model = open_floats(source, lambda text: None)
    monkeypatch.setattr(writing, "MOST_BYTES", 1000)
    with pytest.raises(InputError, match=r"^the model's own texts want 0\.\d GB of memory for its weights: give a text$"):
        sample(model, 100)
    model.config = replace(model.config, bos=None, add_bos=False, eos=None)
    with pytest.raises(InputError, match="^the model has neither BOS nor an end token to begin its own texts with: give a text$"):
        sample(model, 100)


def test_a_model_without_a_tokenizer_is_not_calibrated(source, tmp_path):
    model = open_floats(source, lambda text: None)
    model.tokenizer = b""
    with pytest.raises(ModelError) as caught:
        running.Run(model, tmp_path / "out.tellme", running.Settings(2), TEXT, TEXT, say=print, bars=None)
    assert str(caught.value) == "the model has no tokenizer, and the calibration needs one"
    assert caught.value.hint == "tokenizer-file-only" and list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_run_is_told(source, tmp_path, text, monkeypatch, capsys):
    """The file is there, and the run's folder too: what was solved is not lost."""
    class Overflowing:
        def feed(self, ids, position, heads):
            raise NonfiniteError(3)

    monkeypatch.setattr(running, "golden_board", lambda model: Overflowing())
    out = tmp_path / "out.tellme"
    assert quantised(source, out, text, "--planes", 1, "--no-rotate") == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.splitlines()[-1] == (
        f"tellme-host: {out} is written, and cannot run: step 3 of the layer program gave an infinity or NaN; numbers of this "
        "model pass binary16's range")
    assert Model.load(out).config.dim == CONFIG.dim and (tmp_path / "out.tellme.quantise").is_dir()


def test_texts_that_are_refused(source, tmp_path, text, capsys):
    empty = tmp_path / "empty"
    empty.write_text(" \n")
    for option in ("--calibrate", "--evaluate"):
        assert quantised(source, tmp_path / "out.tellme", text, option, empty) == 2
        assert "nothing to predict" in capsys.readouterr().err


def test_a_turned_stream_is_the_same_float_model(source, made, tmp_path, text, capsys):
    out = tmp_path / "out.tellme"
    assert quantised(source, out, text, *PLANES, "--json", "--rotate") == 0
    losses = json.loads(capsys.readouterr().out)["losses"]
    assert losses["float"]["nats_per_token"] == pytest.approx(made[1]["losses"]["float"]["nats_per_token"], rel=1e-5)
    assert losses["quantised"]["kl"] < 0.2
    model = Model.load(out)
    assert model.head is not None and not model.config.tied and model.final_gain is None
    assert not any(layer.gains for layer in model.layers)


@pytest.fixture(scope="module")
def loud(tmp_path_factory):
    return float_folder(tmp_path_factory.mktemp("loud") / "model", tensors=loud_tensors())


def test_a_model_is_turned_where_that_pays(loud, made, tmp_path, text, capsys):
    out, kl = tmp_path / "out.tellme", {}
    for rotate, options in (("auto", ()), ("no", ("--no-rotate",))):
        assert quantised(loud, out, text, *PLANES, "--json", *options) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["rotate"]["turned"] == (rotate == "auto") == (not Model.load(out).config.tied)
        kl[rotate] = report["losses"]["quantised"]["kl"]
        if rotate == "auto":
            measured = report["rotate"]["kl"]
            assert 0 < measured["turned"] < PAYS * measured["as_it_is"]
            image = compile_model(Container(out), ONE)
            assert 0.92 * image.end < report["memory"] <= image.end
        else:
            assert report["rotate"]["kl"] is None
    assert kl["auto"] < kl["no"]
    # The model without a loud column gains too little.
    found = made[1]["rotate"]
    assert not found["turned"] and found["kl"]["turned"] > PAYS * found["kl"]["as_it_is"]


@pytest.mark.parametrize(("options", "line"), [
    (("--planes", 2), r"turned: rounded plainly, the model has a KL of \d\.\d{4} as it is, and of \d\.\d{4} turned"),
    ((), r"turned: rounded plainly, .* turned"), (("--planes", 2, "--rotate"), "turned"),
    (("--planes", 2, "--no-rotate"), "as it is")])
def test_the_choice_is_told(options, line, loud, tmp_path, text, capsys):
    assert quantised(loud, tmp_path / "out.tellme", text, "--dry-run", *options) == 0
    assert re.search(f"^residual stream   {line}$", capsys.readouterr().out, re.MULTILINE)


def test_a_run_that_goes_on_is_turned_as_before(loud, tmp_path, text, monkeypatch, capsys):
    out, real = tmp_path / "out.tellme", running.quantise_layer

    def stops(model, number, *args):
        if number == 1:
            raise Stop
        return real(model, number, *args)

    def measures(*args, **kwargs):
        raise AssertionError("it is measured again")

    monkeypatch.setattr(running, "quantise_layer", stops)
    with pytest.raises(Stop):
        quantised(loud, out, text)
    assert json.loads((tmp_path / "out.tellme.quantise" / "rotate.json").read_text())[1] > 0
    monkeypatch.setattr(running, "quantise_layer", real)
    for name in ("kl_of_rounding", "harm_of_planes"):
        monkeypatch.setattr(running, name, measures)
    assert quantised(loud, out, text) == 0
    told = capsys.readouterr()
    assert "going on behind layer 1 of 2" in told.err and "residual stream   turned: " in told.out
    assert not Model.load(out).config.tied


def assert_likely(model, texts):
    """Each token is among those that the float model holds for likely, by the whole-sequence forward pass."""
    x = np.concatenate(list(model.floats("embedding")))
    stream, maths = x[np.concatenate(texts)], Maths(model.config, [*map(len, texts)])
    for i in range(model.config.layers):
        one = walk(maths, stream, lambda name, i=i: model.gain(i, name), quantised=False)
        after = next(one)
        while isinstance(after, Stage):
            after = advance(one, [after.inputs @ model.matrix(i, name).T for name in after.names])
        stream = after
    head = x if model.config.tied else np.concatenate(list(model.floats("head")))
    logits = rms_norm(stream, model.final_norm(), model.config.eps) @ head.T
    at = np.cumsum([0, *map(len, texts)])
    for first, ids in zip(at, texts, strict=False):
        part = logits[first:first + len(ids) - 1]
        assert (part[np.arange(len(part)), ids[1:]] > part.max(axis=1) + np.log(0.02) - 1e-3).all()


def test_texts_that_end_are_written_beside_others(tmp_path):
    """Half of the vocabulary ends a text.  No token is asked for behind the end of the longest of those side by side."""
    head = np.random.default_rng(4).normal(size=(CONFIG.vocab, CONFIG.dim)).astype(np.float32) / 8
    folder = float_folder(tmp_path / "hf", tensors=tensors_of() | {"lm_head.weight": head}, tie_word_embeddings=False)
    model = open_floats(folder, print)
    model.config = replace(model.config, more_ends=tuple(range(2, 150)))
    asked = []
    texts = sample(model, 500, asked.append)
    assert len({len(ids) for ids in texts}) > 1 and max(map(len, texts)) < CONFIG.context
    assert len(asked) <= sum(len(ids) - 1 for ids in texts)
    assert all(ids[-1] in model.config.ends and not {*ids[1:-1]} & {*model.config.ends} for ids in texts)
    assert_likely(model, texts)


def test_norms_on_heads_are_in_what_a_model_writes(tmp_path):
    config = replace(CONFIG, qk_norm=True)
    model = open_floats(float_folder(tmp_path / "hf", "Qwen3ForCausalLM", config=config, tensors=tensors_of(config)), print)
    # A model without BOS begins with an end.
    model.config = replace(model.config, bos=None, add_bos=False)
    texts = sample(model, 100)
    assert all(ids[0] == CONFIG.eos for ids in texts)
    assert_likely(model, texts)


def test_the_first_tokens_of_sequences():
    """A rest of one token predicts nothing."""
    parts = [[1, 2, 3], [4, 5, 6], [7, 8]]
    assert cut(parts, 8) == parts and cut(parts, 5) == [[1, 2, 3], [4, 5]]
    assert cut(parts, 4) == [[1, 2, 3]] and cut(parts, 1) == []


def test_a_model_writes_what_it_is_calibrated_on(source, tmp_path, text, capsys):
    model = open_floats(source, lambda text: None)
    texts = sample(model, 700)
    assert sample(model, 700) == texts
    assert 700 <= sum(map(len, texts)) + 1 and all(ids[0] == CONFIG.bos and 1 < len(ids) <= CONFIG.context for ids in texts)
    assert all(token != CONFIG.eos for ids in texts for token in ids[1:-1])
    assert_likely(model, texts)
    assert main(["quantise", str(source), "-o", str(tmp_path / "out.tellme"), "--planes", "2", "--own-samples", "--tokens", "300",
                 "--evaluate", str(text), "--json"]) == 0
    assert 290 < json.loads(capsys.readouterr().out)["calibration_tokens"] <= 300


# What is read

def test_k_quantised_gguf_is_the_values_that_the_package_gives(tmp_path, source, text):
    """Q4_1 matrices of a llama file, whose rows of q and k lie in adjacent pairs already."""
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    config = replace(CONFIG, dim=64, ffn=96)
    for add, value in (("context_length", 64), ("embedding_length", 64), ("block_count", 2), ("feed_forward_length", 96),
                       ("head_count", 4), ("head_count_kv", 2), ("layer_norm_rms_eps", 1e-5), ("rope_freq_base", 1e4),
                       ("bos_token_id", 0), ("eos_token_id", 1), ("add_bos_token", True)):
        getattr(writer, f"add_{add}")(value)
    wanted = {}
    hf = tensors_of(config)
    names = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    for i in range(2):
        for old, new in (("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm"),
                         ("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"), ("self_attn.v_proj", "attn_v"),
                         ("self_attn.o_proj", "attn_output"), ("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"),
                         ("mlp.down_proj", "ffn_down")):
            names[f"model.layers.{i}.{old}.weight"] = f"blk.{i}.{new}.weight"
    for old, new in names.items():
        value = hf[old]
        if value.ndim == 1:
            writer.add_tensor(new, value)
            continue
        kind = gguf.GGMLQuantizationType.Q8_0 if new == "token_embd.weight" else gguf.GGMLQuantizationType.Q4_1
        raw = gguf.quants.quantize(value, kind)
        wanted[new] = gguf.quants.dequantize(raw, kind)
        writer.add_tensor(new, raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model = open_floats(path, lambda text: None, tokenizer=source / "tokenizer.json")
    for i in range(2):
        for name, new in (("wq", "attn_q"), ("w2", "ffn_down")):
            assert np.array_equal(model.matrix(i, name), wanted[f"blk.{i}.{new}.weight"])
    out = tmp_path / "out.tellme"
    assert quantised(path, out, text, "--planes", 2, "--tokenizer", source / "tokenizer.json") == 0


def test_qwen2_has_biases_and_rows_in_pairs(tmp_path, text):
    tensors = tensors_of(biases=("wq", "wk", "wv"))
    path = float_folder(tmp_path / "qwen2", "Qwen2ForCausalLM", tensors=tensors, sliding_window=32, use_sliding_window=False)
    model = open_floats(path, lambda text: None)
    for part in ("weight", "bias"):
        stored = tensors[f"model.layers.1.self_attn.k_proj.{part}"]
        got = model.matrix(1, "wk") if part == "weight" else model.bias(1, "wk")
        assert np.array_equal(halves(got, CONFIG.head_dim), stored.astype(got.dtype))
    out = tmp_path / "out.tellme"
    assert quantised(path, out, text, "--planes", 3) == 0
    # The biases make up for the mean of the error, and are near those of the model.
    got = Model.load(out).layers[0].biases["wv"].astype(np.float32)
    assert np.abs(got - tensors["model.layers.0.self_attn.v_proj.bias"]).mean() < 0.2


def test_qwen3_keeps_its_norms_on_heads(tmp_path, text, capsys):
    config = replace(CONFIG, qk_norm=True)
    path = float_folder(tmp_path / "qwen3", "Qwen3ForCausalLM", tensors=tensors_of(config), config=config)
    out = tmp_path / "out.tellme"
    assert quantised(path, out, text, "--planes", 3, "--json") == 0
    assert json.loads(capsys.readouterr().out)["losses"]["quantised"]["kl"] < 0.1
    assert "q_norm" in Model.load(out).layers[0].gains


OLMO2 = replace(CONFIG, vector_norms=True, eps=1e-6, theta=5e5)


@pytest.fixture(scope="module")
def olmo2(tmp_path_factory):
    return float_folder(tmp_path_factory.mktemp("olmo2") / "model", "Olmo2ForCausalLM", tensors=tensors_of(OLMO2), config=OLMO2)


def test_olmo2_keeps_its_norms_and_makes_up_for_errors_ahead_of_them(olmo2, tmp_path, text, capsys):
    out, kl = tmp_path / "out.tellme", {}
    for planes in (2, 4):
        assert quantised(olmo2, out, text, "--planes", planes, "--json") == 0
        report = json.loads(capsys.readouterr().out)
        kl[planes] = report["losses"]["quantised"]["kl"]
        assert report["rotate"] == {"turned": False, "kl": None}
        # Planes apart, the file loses what int8 activations lose.
        assert report["losses"]["int8 activations"]["kl"] < 0.02
    # Two planes of a random model are far from it; four are near.
    assert kl[4] < 0.1 < kl[2]
    model = Model.load(out)
    assert model.config.vector_norms and set(model.layers[1].gains) == {"q_norm", "k_norm", "attn_post_norm", "ffn_post_norm"}
    assert model.layers[1].gains["k_norm"].shape == (OLMO2.kv_dim,)
    # A norm behind the output and down projections, so that their biases make up for the mean of the error too.
    assert set(model.layers[0].biases) == set(LINEARS)
    compile_model(Container(out), preset("sim-norms"))
    with pytest.raises(CompileError, match="the model has the norms of OLMo 2, .* and the build sim-tiny does none"):
        compile_model(Container(out), preset("sim-tiny"))


def test_olmo2_writes_what_it_is_calibrated_on(olmo2, text, tmp_path, capsys):
    """Each token is among those that the float model holds for likely."""
    model = open_floats(olmo2, lambda text: None)
    writer, texts = writing._Writer(model), sample(model, 300)
    caches = [np.zeros((2, 1, OLMO2.kv_heads, OLMO2.context, OLMO2.head_dim), np.float32) for _ in range(OLMO2.layers)]
    ids = texts[0]
    got = np.concatenate([writer.logits(np.array([token]), position, caches) for position, token in enumerate(ids)])
    x = np.concatenate(list(model.floats("embedding")))
    stream, maths = x[ids], Maths(OLMO2, [len(ids)])
    for i in range(OLMO2.layers):
        one = walk(maths, stream, lambda name, i=i: model.gain(i, name), quantised=False)
        after = next(one)
        while isinstance(after, Stage):
            after = advance(one, [after.inputs @ model.matrix(i, name).T for name in after.names])
        stream = after
    wanted = rms_norm(stream, model.final_norm(), OLMO2.eps) @ x.T
    assert np.abs(got - wanted).max() < 1e-3 * wanted.std()


def test_olmo2_is_not_turned(olmo2, tmp_path, text, capsys):
    out = tmp_path / "out.tellme"
    assert quantised(olmo2, out, text, "--planes", 2, "--rotate") == 2
    assert "the residual stream of this model cannot be turned: norms with gains stand between its matrices and the stream " \
           "(OLMo 2) (leave --rotate out)" in capsys.readouterr().err
    assert not out.exists()
    assert quantised(olmo2, out, text, "--dry-run") == 0
    assert "residual stream   as it is\n" in capsys.readouterr().out


def test_what_is_no_float_checkpoint(tmp_path, text, capsys):
    assert quantised(tmp_path / "nothing", tmp_path / "out.tellme", text) == 2
    other = tmp_path / "other.bin"
    other.write_bytes(b"12345678" * 4)
    assert quantised(other, tmp_path / "out.tellme", text) == 2
    assert "neither" in capsys.readouterr().err
