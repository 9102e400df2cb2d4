# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Drafted tokens from the host: the texts are those without, in fewer passes; which table is taken, and what is refused."""

import random
from dataclasses import replace

import numpy as np
import pytest

import tellme
from tellme.compiler.image import CompileError, TooBigError
from tellme.drafts.placing import table_beside
from tellme.drafts.table import DraftTable, open_table, save_table
from tellme.errors import DeviceError, InputError
from tellme.models.shipped import find_model, model_path, open_model
from tellme.runtime.device import GoldenDevice
from tellme.runtime.sampling import Sampling
from tellme.spec.config import preset
from tellme.spec.drafts import SETTINGS_FIELDS
from tellme.spec.memory import DRAFT_REGISTERS, StartArgs, register_address
from tellme.spec.words import pack_word
from tests.cli.fake_client import slotted_board
from tests.link.golden_slots import device
from tests.models.random_model import even_model

#: Cores for boards of packets' meanings: four lanes; and sixteen, with a board's PEs.
CONFIG = preset("sim-slots")
WIDE = preset("ulx3s-85f")
VOCAB, CONTEXT = 67, 120
MODEL = even_model(VOCAB, CONTEXT)
DRAWN = Sampling(temperature=0.7, top_k=8, seed=5)


def fake(config=CONFIG, **options):
    return slotted_board(config, **options)


KINDS = {"golden": GoldenDevice, "fake": lambda: fake(WIDE)[1], "packets": lambda: device(WIDE)[0]}


@pytest.fixture(scope="module")
def plain():
    """Texts without drafts, on the golden model."""
    session = tellme.Board(GoldenDevice()).load(MODEL)
    known = {}

    def run(prompt, tokens, sampling=None, **options):
        key = (tuple(prompt), tokens, sampling, str(options))
        if key not in known:
            text = session.generate(prompt, max_tokens=tokens, sampling=sampling, **options)
            known[key] = [token.id for token in text], text.stop_reason
        return known[key]

    return run


def half_right(texts, seed=0, share=0.8):
    """A table that knows some of the texts' pairs, and some others wrong."""
    draw = random.Random(seed)
    return DraftTable.of_texts([[token if draw.random() < share else draw.randrange(VOCAB) for token in text] for text in texts],
                               VOCAB)


def prompts(count, seed=0):
    rng = random.Random(seed)
    return [[rng.randrange(VOCAB) for _ in range(rng.randint(1, 9))] for _ in range(count)]


def ids(run):
    return [token.id for token in run]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sampling", [None, DRAWN])
def test_texts_are_those_without_drafts(kind, sampling, plain):
    texts = [(prompt, *plain(prompt, 40, sampling, ignore_end=True)) for prompt in prompts(3)]
    table = half_right([prompt + text for prompt, text, _ in texts])
    session = tellme.Board(KINDS[kind]()).load(MODEL, drafts=table)
    accepted = 0
    for prompt, text, reason in texts:
        run = session.generate(prompt, max_tokens=40, sampling=sampling, ignore_end=True)
        assert ids(run) == text and run.stop_reason == reason
        stats = run.stats
        assert stats["passes"] + stats["accepted_tokens"] == len(text) - 1
        assert stats["tokens_per_pass"] == round((len(text) - 1) / stats["passes"], 3)
        accepted += stats["accepted_tokens"]
        # What the cache has goes on, behind refused drafts too.
        half = len(text) // 2
        more = session.generate(prompt + text[:half], max_tokens=5, sampling=sampling, ignore_end=True)
        assert ids(more) == text[half:half + 5] and more.stats["cached_tokens"] >= len(prompt) + half - 1
    assert accepted > 10


@pytest.mark.parametrize("kind", KINDS)
def test_sequences_side_by_side(kind, plain):
    texts = [(prompt, sampling, plain(prompt, 12 + 4 * i, sampling, ignore_end=True)[0])
             for i, (prompt, sampling) in enumerate(zip(prompts(4, 1), (None, DRAWN, None, DRAWN), strict=True))]
    session = tellme.Board(KINDS[kind]()).load(MODEL, drafts=half_right([prompt + text for prompt, _, text in texts], 0, 0.97))
    with session.sequences(4) as sequences:
        runs = [sequence.generate(prompt, max_tokens=len(text), sampling=sampling, ignore_end=True)
                for sequence, (prompt, sampling, text) in zip(sequences, texts, strict=True)]
        got = {id(run): [] for run in runs}
        for run, token in tellme.interleave(runs):
            got[id(run)].append(token.id)
    assert [got[id(run)] for run in runs] == [text for _, _, text in texts]
    assert sum(run.stats["accepted_tokens"] for run in runs) > 4


@pytest.mark.parametrize("kind", KINDS)
def test_ends_among_drafted_tokens(kind, plain):
    """End tokens that the board knows and those that the host knows alone, a text that is left, a context that is full."""
    prompt = [3, 1, 4]
    text, _ = plain(prompt, CONTEXT)
    assert len(text) == CONTEXT - len(prompt) + 1
    own = even_model(VOCAB, CONTEXT)
    # Tokens that come for the first time after some others.
    late = [token for token in dict.fromkeys(text) if text.index(token) > 2]
    spare = [token for token in range(VOCAB) if token not in text][:4]
    for known in (True, False):
        ends = ([] if known else spare[:4]) + late[2:3]
        own.config = replace(MODEL.config, eos=ends[0], more_ends=tuple(ends[1:]))
        session = tellme.Board(KINDS[kind]()).load(own, drafts=DraftTable.of_texts([prompt + text], VOCAB))
        run = session.generate(prompt, max_tokens=CONTEXT)
        assert ids(run) == text[:text.index(late[2]) + 1] and run.stop_reason == "end_token"
        run = session.generate(prompt, max_tokens=CONTEXT, ignore_end=True)
        assert ids(run) == text and run.stop_reason == "context"
        for number, _ in enumerate(run := session.generate(prompt, max_tokens=CONTEXT, ignore_end=True)):
            if number == 6:
                break
        assert run.stop_reason == "interrupted"
        # The board is ready, and its cache is what the host thinks it is.
        again = session.generate(prompt + text[:20], max_tokens=9, ignore_end=True)
        assert ids(again) == text[20:29]


def test_stop_strings():
    model, table = find_model("stories-1m"), open_table(table_beside(find_model("stories-1m")), 2048, find_model(
        "stories-1m").tokenizer)
    golden = tellme.Board(GoldenDevice()).load(model)
    wanted = golden.generate("The dog", max_tokens=40, stop=[" the"])
    text = wanted.text
    drafted = tellme.Board(fake(WIDE)[1]).load(model, drafts=table).generate("The dog", max_tokens=40, stop=[" the"])
    assert drafted.text == text and drafted.stop_reason == wanted.stop_reason == "stop_string"


@pytest.mark.parametrize(("name", "tokens"), [("stories-1m", 60), ("stories-8m", 24)])
def test_the_shipped_tables(name, tokens):
    """The table beside a shipped model is taken unasked, says the same texts, and is worth something."""
    model = open_model(name)
    golden = tellme.Board(GoldenDevice()).load(model)
    said = []
    client, board = fake(WIDE)
    session = tellme.Board(board, said.append).load(model)
    size = 4 * len(open_table(table_beside(model), model.config.vocab, model.tokenizer).words)
    assert said == [f"drafts: up to 3 tokens a pass, from {name}.drafts of {size / 1e3:.1f} KB"] and size < 80_000
    for sampling in (None, Sampling(temperature=0.5, seed=1)):
        run = session.generate("Once upon a time, there was a", max_tokens=tokens, sampling=sampling)
        assert ids(run) == ids(golden.generate("Once upon a time, there was a", max_tokens=tokens, sampling=sampling))
        assert run.stats["tokens_per_pass"] > 1.15
    # No list is longer than the options of tellme-host draft said (docs/models.md).
    first = np.frombuffer(client.memory, "<u4")[session.image.draft_base:][:2 * model.config.vocab:2]
    assert int((first >> 16).max()) == 64


def test_nothing_is_drafted_without_a_table(plain):
    prompt = [3, 1, 4]
    text, _ = plain(prompt, 20)
    table = DraftTable.of_texts([prompt + text], VOCAB)
    client, board = fake(WIDE)
    # An earlier host left its settings.
    client.write(register_address("draft_settings"), pack_word(SETTINGS_FIELDS, {"most": 7, "cost": 0}).to_bytes(4, "little"))
    for drafts in (None, "auto"):
        session = tellme.Board(board).load(MODEL, drafts=drafts)
        run = session.generate(prompt, max_tokens=20)
        assert ids(run) == text and client.board.drafts_told[1] == 0
        assert {run.stats[name] for name in ("passes", "accepted_tokens", "tokens_per_pass")} == {None}
        assert not any(client.board.registers[name] for name in DRAFT_REGISTERS)
        with pytest.raises(DeviceError, match="^port has no table of drafted tokens$"):
            board.draft_as(1)
    session = tellme.Board(board).load(MODEL, drafts=table)
    run = session.generate(prompt, max_tokens=20)
    assert ids(run) == text and client.board.drafts_told[1] > 0 and run.stats["tokens_per_pass"] > 1.5
    board.draft_as(0)
    session.cache.forget()
    assert ids(session.generate(prompt, max_tokens=20)) == text and board.draft_most == 0
    # Where the host draws it starts for each token, and nothing is drafted.
    board.draft_as(session.image.draft_settings)
    told = list(client.board.drafts_told)
    list(session.generate(prompt, max_tokens=9, sampling=Sampling(temperature=0.9, repeat_penalty=1.5)))
    rows = []
    list(session.generate(prompt, max_tokens=3, on_logits=rows.append))
    assert client.board.drafts_told[1] == told[1] and len(rows) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_64_are_those_of_the_last_pick(kind, plain):
    """They are numbered by the tokens of the pass, of which some were refused."""
    prompt = [3, 1, 4]
    text, _ = plain(prompt, 30)
    board = KINDS[kind]()
    tellme.Board(board).load(MODEL, drafts=DraftTable.of_texts([prompt + text], VOCAB))
    single = tellme.Board(GoldenDevice())
    single.load(MODEL)
    for generate in (1, 2, 3, 4, 5, 6, 9):
        for each in (board, single.device):
            each.place(0, prompt)
            list(each.start(StartArgs(0, len(prompt), generate)))
        if kind == "golden":
            continue
        assert board.top() == single.device.top() and board.top()[0][0] == text[generate - 1]


def files(tmp_path, model="stories-1m"):
    """A model of a file of one's own, and where its table would be."""
    path = tmp_path / "own.tellme"
    path.write_bytes(model_path(model).read_bytes())
    return path, tmp_path / "own.drafts"


def test_which_table_is_taken(tmp_path):
    path, beside = files(tmp_path)
    assert table_beside(open_model(str(path))) is None and table_beside(MODEL) is None
    beside.write_bytes(model_path("stories-1m").with_suffix(".drafts").read_bytes())
    for model in (open_model(str(path)), find_model(str(path))):
        assert table_beside(model) == beside
    small = DraftTable.of_texts([[1, 2, 3]], 2048)
    save_table(tmp_path / "named.drafts", small, open_model(str(path)).tokenizer)
    for drafts, words in (("auto", 63648 // 4), (tmp_path / "named.drafts", len(small.words)), (small, len(small.words)),
                          (None, 0)):
        said = []
        image = tellme.Board(fake(WIDE)[1], said.append).load(open_model(str(path)), drafts=drafts).image
        assert (0 if image.draft_base is None else len(image.sections[-1][1]) // 4) == words
        assert bool(image.draft_settings) == bool(words) == bool(said)
    # The golden model drafts where it is told to, and a core that cannot has no look at the file.
    beside.write_bytes(b"no table")
    for on in (GoldenDevice(), fake(preset("sim-all"))[1]):
        said = []
        assert tellme.Board(on, said.append).load(open_model(str(path))).image.draft_base is None and not said
    assert tellme.Board(GoldenDevice()).load(open_model(str(path)), drafts=small).device.draft_most == 3


def test_what_is_refused_before_a_byte_is_sent(tmp_path):
    path, beside = files(tmp_path)
    model = open_model(str(path))
    table = open_table(model_path("stories-1m").with_suffix(".drafts"), 2048, model.tokenizer)

    def load(drafts, config=WIDE, head=None):
        client, board = fake(config)
        try:
            return tellme.Board(board, said.append).load(model, drafts=drafts, head=head)
        except tellme.TellmeError:
            assert not client.pages and not any(client.registers)
            raise

    said = []
    eight = model_path("stories-8m").with_suffix(".drafts")
    for drafts, error, message in (
            (eight, InputError, "stories-8m.drafts was made for another model's tokens: make it again, for this model$"),
            (tmp_path / "none.drafts", InputError, "cannot read .*none.drafts: No such file or directory$"),
            (path, InputError, "own.tellme is no table of drafts: give the name of one$"),
            (DraftTable.of_texts([[1, 2]], 9), CompileError,
             "^the table of drafts knows 9 tokens, and the LM head on the board gives 2048$")):
        with pytest.raises(error, match=message):
            load(drafts)
    with pytest.raises(CompileError, match="^the core sim-all drafts no tokens: leave the table of drafts out$"):
        load(table, preset("sim-all"))
    with pytest.raises(CompileError, match="^no tokens are drafted where the LM head is on the host: leave the table"):
        load(table, head="host")
    full = replace(WIDE, sdram_bytes=load(None).image.end + 1000)
    with pytest.raises(TooBigError, match=r"^the table of drafts needs 0.064 MB, and the memory of ulx3s-85f has 0.00\d MB"):
        load(table, full)
    assert said == ["head: on the host, as it was asked for"]
    said.clear()
    # Without a name: told in a line where there is no room or no LM head, an error where the file is bad.
    beside.write_bytes(model_path("stories-1m").with_suffix(".drafts").read_bytes())
    assert load("auto", full).image.draft_base is None and load("auto", head="host").image.draft_base is None
    assert len(said) == 3 and said[0].startswith("drafts: none, as the table of drafts needs 0.064 MB, and the memory of")
    assert said[1:] == ["head: on the host, as it was asked for", "drafts: none, as the LM head is on the host"]
    beside.write_bytes(eight.read_bytes())
    with pytest.raises(InputError, match="own.drafts was made for another model's tokens: make it again, for this model; or "):
        load("auto")
    assert load(None).image.draft_base is None
