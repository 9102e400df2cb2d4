# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What is fuzzed: for each reader, an execution over some bytes, the errors that it may raise, and small seeds made by code.

Some formats begin with a length, a checksum or a digest that a mutation would hardly ever get right.  Their targets also run the
input with these mended, so that what lies behind is reached.
"""

import asyncio
import json
import tempfile
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import sentencepiece

from tellme.compiler.image import compile_model
from tellme.compiler.image_file import save_pieces, stored_pieces
from tellme.compiler.part import Part
from tellme.drafts.table import DraftTable, open_table, save_table
from tellme.errors import TellmeError
from tellme.link.client import BoardClient
from tellme.link.framing import FrameReader, body, encode
from tellme.link.transport import Transport
from tellme.models import Model, ModelConfig
from tellme.models.chat import ChatTemplate, NoTemplateError
from tellme.models.container import Container, write
from tellme.models.importers.checkpoints import open_checkpoint
from tellme.models.importers.importing import Options
from tellme.models.tokenizers import spm
from tellme.models.tokenizers.tokenizer import TextStream, Tokenizer
from tellme.runtime.device import GoldenDevice
from tellme.serve.app import Settings, make_app
from tellme.serve.pool import Limits, Pool
from tellme.spec.config import preset
from tellme.spec.drafts import HEADER as DRAFT_HEADER
from tellme.spec.packets import PacketType
from tests.link.plain_board import PlainBoard
from tests.models.folders import KINDS, byte_fallback_json, byte_level_json, config_json, folder, kind_model, tensors_of
from tests.models.random_model import model_of, with_biases, with_groups, with_planes, with_several_scales
from tests.models.test_gguf import byte_level_fields, write_gguf
from tests.serve.servers import CHATML
from tests.serve.small import small_model

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True)
class Target:
    """``run`` takes the bytes; ``allowed``: the errors that it may raise; ``seeds``: valid inputs; ``words``: texts of the format
    that mutations put in."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    allowed: tuple[type[BaseException], ...] = (TellmeError,)
    words: tuple[bytes, ...] = ()


#: The smallest model with all matrices.
TINY = ModelConfig(dim=20, ffn=20, layers=1, heads=1, kv_heads=1, head_dim=20, vocab=24, context=8)
TEXTS = ("", "the cat sat", " caf\u00e9 \u2603\n\n 12<s>", "\u0000\u2581\u2581<0x41></s>" * 8)


@cache
def _scratch() -> Path:
    """A folder for the inputs, in memory where there is such a one."""
    shared = Path("/dev/shm")
    kept = tempfile.TemporaryDirectory(prefix="tellme-fuzz-", dir=shared if shared.is_dir() else None)
    _KEPT.append(kept)
    return Path(kept.name)


_KEPT: list[tempfile.TemporaryDirectory] = []


def _quiet(text: str) -> None:
    """Hears what an importer says."""


def _read(source) -> None:
    """All of a model, as a command reads it, and its image for a board."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        model = Model.read(source)
    if model.tokenizer:
        _use_tokenizer(model.tokenizer)
    if model.chat_template:
        _render(model.chat_template)
    # Most models are no board's.
    with suppress(TellmeError):
        compile_model(model, preset("ulx3s-85f"))


# ---------------------------------------------------------------- files of models
def _with_length(content: bytes) -> bytes:
    """A safetensors file whose header's length is what it is: up to the braces that end it."""
    end = max(content.find(b"}}") + 2, 8)
    return (end - 8).to_bytes(8, "little") + content[8:end] + content[end:]


def _container(content: bytes) -> None:
    path = _scratch() / "a.tellme"
    for made in (content, _with_length(content)):
        path.write_bytes(made)
        with suppress(TellmeError):
            _read(Container(path))
    # The refusal that counts is that of the input itself.
    path.write_bytes(content)
    source = Container(path)
    source.check()


def _saved(model: Model) -> bytes:
    path = _scratch() / "seed.tellme"
    write(model, path)
    return path.read_bytes()


def _container_seeds() -> list[bytes]:
    plain = model_of(TINY, gains=True)
    text = model_of(replace(TINY, vocab=64, tied=False), gains=False)
    text.tokenizer, text.chat_template = _sentencepiece_seeds()[0], CHATML
    return [_saved(model) for model in (
        plain, with_planes(with_biases(model_of(TINY, gains=True))),
        with_groups(with_several_scales(model_of(TINY, gains=False))),
        model_of(replace(TINY, tied=False, vector_norms=True, bos=None, add_bos=False, eos=3, more_ends=(4, 5)), gains=True),
        model_of(replace(TINY, qk_norm=True, act="relu2", act_exp=3), gains=True))] + [_saved(text)]


@cache
def _folder(kind: str) -> Path:
    return folder(_scratch() / kind, kind, tensors_of(kind, kind_model(kind))[0])


#: The texts of a folder that are read, in the order in which an input has them.
_FOLDER_TEXTS = ("config.json", "generation_config.json", "tokenizer_config.json", "chat_template.jinja",
                 "model.safetensors.index.json")
_SEPARATOR = b"\n\0\n"


def _of_kind(content: bytes) -> tuple[str, bytes]:
    kinds = list(KINDS)
    return kinds[content[0] % len(kinds)] if content else kinds[0], content[1:]


def _config(content: bytes) -> None:
    kind, rest = _of_kind(content)
    at = _folder(kind)
    for name, text in zip(_FOLDER_TEXTS, rest.split(_SEPARATOR), strict=False):
        if text or name == "config.json":
            (at / name).write_bytes(text)
    try:
        _read(open_checkpoint(at, Options(), _quiet))
    finally:
        for name in _FOLDER_TEXTS:
            (at / name).unlink(missing_ok=True)


def _config_seeds() -> list[bytes]:
    out = []
    for i, kind in enumerate(KINDS):
        more = (json.dumps({"bos_token_id": 1, "eos_token_id": [2, 3]}).encode(),
                json.dumps({"add_bos_token": True, "bos_token": {"content": "<|bos|>"}, "chat_template": CHATML}).encode(),
                CHATML.encode() if i % 2 else b"",
                json.dumps({"weight_map": dict.fromkeys(tensors_of(kind, kind_model(kind))[0], "model.safetensors")}).encode()
                if i == 2 else b"")
        scaling = {"rope_scaling": {"rope_type": "linear", "factor": 1.0}} if i == 1 else {}
        out.append(bytes([i]) + _SEPARATOR.join((json.dumps(config_json(kind) | scaling).encode(), *more)))
    return out


@cache
def _narrow_folder() -> tuple[Path, dict]:
    """A folder with as few and as small tensors as a model can have, so that an input is small."""
    path = _scratch() / "narrow"
    path.mkdir()
    fields = {"architectures": ["LlamaForCausalLM"], "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1,
              "num_attention_heads": 1, "num_key_value_heads": 1, "vocab_size": 5, "max_position_embeddings": 8,
              "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2}
    (path / "config.json").write_text(json.dumps(fields))
    return path, fields


def _safetensors(content: bytes) -> None:
    at, _ = _narrow_folder()
    file = at / "model.safetensors"
    for made in (_with_length(content), content):
        file.write_bytes(made)
        error = None
        try:
            _read(open_checkpoint(at, Options(no_tokenizer=True), _quiet))
        except TellmeError as caught:
            error = caught
    if error is not None:
        raise error


def _narrow_tensors(kind: type) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    out = {"model.embed_tokens.weight": rng.normal(size=(5, 4)).astype(np.float32), "model.norm.weight": np.ones(4, np.float32)}
    for norm in ("input_layernorm", "post_attention_layernorm"):
        out[f"model.layers.0.{norm}.weight"] = np.ones(4, np.float16)
    for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
                 "mlp.down_proj"):
        out[f"model.layers.0.{name}.weight"] = (rng.integers(-1, 2, (4, 4)) * 0.5).astype(kind)
    return out


def _safetensors_seeds() -> list[bytes]:
    from tests.models.folders import write_safetensors

    out = []
    for kind, bfloat16 in ((np.float32, ()), (np.float16, ("model.embed_tokens.weight",))):
        path = _scratch() / "seed.safetensors"
        write_safetensors(path, _narrow_tensors(kind), bfloat16=bfloat16)
        out.append(path.read_bytes())
    return out


def _gguf(content: bytes) -> None:
    path = _scratch() / "a.gguf"
    path.write_bytes(content)
    tokenizer = content[-1:] > b"\x7f"
    _read(open_checkpoint(path, Options(no_tokenizer=not tokenizer), _quiet))


def _gguf_seeds() -> list[bytes]:
    path, out = _scratch() / "seed.gguf", []
    small = ModelConfig(dim=32, ffn=32, layers=1, heads=1, kv_heads=1, head_dim=32, vocab=40, context=8, bos=0, eos=1)
    for config, kind in ((small, "F16"), (replace(small, qk_norm=True), "F32"),
                         (replace(small, dim=256, ffn=256, heads=8, kv_heads=8, vocab=20, o_norm=True, down_norm=True), "TQ2_0"),
                         (replace(small, dim=256, ffn=256, heads=8, kv_heads=8, vocab=20, tied=False), "TQ1_0")):
        write_gguf(path, model_of(config, gains=True), kind, tokenizer=None)
        out.append(path.read_bytes())

    def llama(writer) -> None:
        writer.add_tokenizer_model("llama")
        writer.add_token_list(["<unk>", "<s>", "</s>", *(chr(97 + i) for i in range(26)), "\u2581the", "\u2581"])
        writer.add_token_scores([-float(i) for i in range(31)])
        writer.add_token_types([2, 3, 3] + [1] * 28)

    write_gguf(path, model_of(small, gains=True), "F16", tokenizer=llama, fields={"tokenizer.chat_template": CHATML}.items())
    out.append(path.read_bytes() + b"\xff")
    write_gguf(path, model_of(replace(small, vocab=300), gains=True), "F16", tokenizer=byte_level_fields)
    out.append(path.read_bytes() + b"\xff")
    return out


# ---------------------------------------------------------------- tokenizers and templates
def _use_tokenizer(content: bytes) -> None:
    """What a run does with a tokenizer: texts become ids, and ids become a stream of texts."""
    tokenizer = Tokenizer(content)
    ids: list[int] = []
    for text in TEXTS:
        ids += tokenizer.encode(text)[:64]
    ids += range(min(tokenizer.size, 300))
    tokenizer.decode(ids)
    stream = TextStream(tokenizer, ids[:3])
    for token in ids:
        stream.push(token)
        tokenizer.piece_bytes(token)
    stream.finish()


def _sentencepiece_seeds() -> list[bytes]:
    pieces = [spm.Piece("<unk>", 0.0, spm.UNKNOWN), spm.Piece("<s>", 0.0, spm.CONTROL), spm.Piece("</s>", 0.0, spm.CONTROL)]
    letters = [spm.Piece(chr(97 + i), -float(i), spm.NORMAL) for i in range(8)]
    words = [spm.Piece(f"{spm.SPACE}the", -1.0, spm.NORMAL), spm.Piece(spm.SPACE, -9.0, spm.NORMAL),
             spm.Piece("<mark>", 0.0, spm.USER_DEFINED), spm.Piece("unused", 0.0, spm.UNUSED)]
    raw = [spm.Piece(f"<0x{b:02X}>", 0.0, spm.BYTE) for b in range(256)]
    out = [spm.make([*pieces, *letters, *words], spm.Spec(byte_fallback=False), bos=1, eos=2),
           spm.make([*pieces, *raw, *letters, *words], spm.Spec(), bos=1, eos=2),
           spm.make([*pieces, *letters, *words], spm.Spec(model_type=spm.UNIGRAM, byte_fallback=False, add_dummy_prefix=False,
                                                          remove_extra_whitespaces=True, treat_whitespace_as_suffix=True))]
    rules = _rules()
    return [*out, spm.make([*pieces, *letters], spm.Spec(byte_fallback=False, normalization="x", charsmap=rules)),
            spm.make([*pieces, *letters], spm.Spec(byte_fallback=False, denormalization=rules))]


@cache
def _rules() -> bytes:
    """Compiled rules of normalisation, as SentencePiece's trainer makes them."""
    rules, made = _scratch() / "rules.tsv", BytesIO()
    rules.write_text("41\t61\n42 43\t62 63\nE9\t65\n")
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(["a b c the cat"] * 9), model_writer=made, vocab_size=14,
                                             model_type="bpe", normalization_rule_tsv=str(rules), minloglevel=2)
    return spm.read_spec(made.getvalue()).charsmap


def _tokenizer_json_seeds() -> list[bytes]:
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

    def made(model, decoder, normalizer=None, splits=None, after=None) -> bytes:
        out = tokenizers.Tokenizer(model)
        out.decoder = decoder
        if normalizer is not None:
            out.normalizer = normalizer
        if splits is not None:
            out.pre_tokenizer = splits
        if after is not None:
            out.post_processor = after
        out.add_special_tokens(["<s>"])
        return out.to_str().encode()

    vocab = {"[UNK]": 0, "a": 1, "b": 2, "ab": 3, "##a": 4, "\u2581a": 5}
    split = pre_tokenizers.Split(tokenizers.Regex(r"\p{N}{1,3}|\s+(?!\S)"), "isolated")
    cut = json.loads(byte_fallback_json(280))
    cut["model"]["vocab"] = dict(list(cut["model"]["vocab"].items())[:270])
    cut["model"]["merges"] = cut["model"]["merges"][:0]
    return [
        made(models.BPE(vocab | {"\u0120": 6}, [("a", "b")], unk_token="[UNK]"), decoders.ByteLevel(), splits=split),
        made(models.WordPiece(vocab, unk_token="[UNK]"), decoders.WordPiece("##", True), normalizers.Lowercase(),
             pre_tokenizers.Whitespace()),
        made(models.Unigram([("[UNK]", 0.0), ("a", -1.0), ("\u2581a", -2.0)], 0, False),
             decoders.Sequence([decoders.Metaspace(), decoders.Replace(tokenizers.Regex("^ab{1,3}"), "x")]),
             normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("a", "b")]), pre_tokenizers.Metaspace()),
        made(models.WordLevel(vocab, unk_token="[UNK]"), decoders.Fuse(),
             after=processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 6)])),
        json.dumps(cut, ensure_ascii=False).encode(),
    ]


def _render(template: str) -> None:
    model = SimpleNamespace(chat_template=template, name="m", config=replace(TINY, bos=1, eos=2))
    turns = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello <s>"},
             {"role": "assistant", "content": "\u2603"}]
    try:
        chat = ChatTemplate(model, _template_tokenizer())
    except NoTemplateError:
        return
    for messages in (turns[:2], turns, []):
        with suppress(TellmeError):
            chat.render(messages)
    chat.tokens(turns)


@cache
def _template_tokenizer() -> Tokenizer:
    return Tokenizer(_sentencepiece_seeds()[1])


def _template(content: bytes) -> None:
    _render(content.decode("utf-8", "replace"))


def _template_seeds() -> list[bytes]:
    return [text.encode() for text in (
        CHATML,
        "{{ bos_token }}{% for m in messages if m.role != 'tool' %}{% set c = m['content'] | trim %}{% if loop.first and not c %}"
        "{{ raise_exception('no') }}{% endif %}[{{ m.role | upper }}] {{ c ~ eos_token }}{% endfor %}",
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% generation %}{{ m.content }}"
        "{% endgeneration %}{% if ns.n > 2 %}{% break %}{% endif %}{% endfor %}{{ ns.n }} {{ strftime_now('%d %b %Y') }}",
        "{% macro turn(m, deep=1) %}{{ m | tojson(indent=2) }}{% if deep < 3 %}{{ turn(m, deep + 1) }}{% endif %}"
        "{% endmacro %}{{ turn(messages[0]) }}{{ messages | map(attribute='role') | join(', ') }}{{ messages[1:] | length }}",
        "{% for i in range(3) %}{{ 'ab' * i }}{{ '%03d' % i }}{{ [i, 2 ** i, i // 2] | sum }}{{ {'a': i} | items | list }}"
        "{% endfor %}{{ 'x'.split('-')[-1].strip().replace('x', 'yy').center(9) }}"
        "{{ messages | selectattr('role', 'equalto', 'user') | list }}",
        "{%- if messages[0]['role'] == 'system' -%}{%- set rest = messages[1:] -%}{%- else -%}{%- set rest = messages -%}"
        "{%- endif -%}"
        "{%- for m in rest -%}{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('roles') }}"
        "{%- endif -%}"
        "{{ '<start>' + m['role'] + '\n' + m['content'] | trim + '<end>\n' }}{%- endfor -%}",
    )]


# ---------------------------------------------------------------- tables, images, requests, frames
_TOKENIZER = b"tokenizer"


def _drafts(content: bytes) -> None:
    path = _scratch() / "a.drafts"
    size = DRAFT_HEADER.size
    if len(content) >= size:
        _, _, _, vocab, *_ = DRAFT_HEADER.unpack_from(content)
        words = content[size:len(content) - (len(content) - size) % 4]
        path.write_bytes(DRAFT_HEADER.pack(b"tlmd", 1, 0, vocab, len(words) // 4, zlib.crc32(words),
                                           sha256(_TOKENIZER).digest()) + words)
        with suppress(TellmeError):
            _draft_with(open_table(path, vocab, _TOKENIZER))
    path.write_bytes(content)
    _draft_with(open_table(path, 8, _TOKENIZER))


def _draft_with(table: DraftTable) -> None:
    for last in range(min(table.vocab, 40)):
        for token in table.draft([0, last], 15):
            assert 0 <= token < table.vocab


def _drafts_seeds() -> list[bytes]:
    path = _scratch() / "seed.drafts"
    out = []
    for texts in ([[1, 2, 3, 1, 2, 4, 7]], [[i % 8 for i in range(0, 60, k)] for k in (1, 3, 5, 7)]):
        save_table(path, DraftTable.of_texts(texts, 8), _TOKENIZER)
        out.append(path.read_bytes())
    return out


def _image(content: bytes) -> None:
    path = _scratch() / "a.image"
    path.write_bytes(content)
    stored_pieces(path, preset("ulx3s-85f"))


def _image_seeds() -> list[bytes]:
    path = _scratch() / "seed.image"
    save_pieces(path, [(0x80000000, Part.of(bytes(range(64)))), (0x90000000, Part.of(bytes(8)))], preset("ulx3s-85f"))
    return [path.read_bytes()]


class _App:
    """The server's application over a golden board, asked without a socket."""

    def __init__(self) -> None:
        import tellme

        model = replace(small_model(), chat_template=CHATML)

        def opened():
            board = tellme.Board(GoldenDevice())
            return board, board.load(model)

        self.pool = Pool([("golden", opened)], Limits(reopen=None))
        self.pool.start()
        assert self.pool.wait_until_ready(60)
        self._app = make_app(model, self.pool, Settings(max_tokens=2, api_key=None))
        self._loop = asyncio.new_event_loop()

    def ask(self, method: str, path: str, headers: list[tuple[bytes, bytes]], content: bytes) -> tuple[int, bytes]:
        """Status and body of the answer."""
        asked, heard = [{"type": "http.request", "body": content, "more_body": False}], []

        async def receive():
            if asked:
                return asked.pop()
            await asyncio.sleep(3600)

        async def send(message):
            heard.append(message)

        raw, _, query = path.partition("?")
        scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
                 "path": raw, "raw_path": raw.encode(), "query_string": query.encode(), "root_path": "",
                 "headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8080)}
        self._loop.run_until_complete(self._app(scope, receive, send))
        assert heard[0]["type"] == "http.response.start", heard
        return heard[0]["status"], b"".join(message.get("body", b"") for message in heard[1:])


@cache
def _app() -> _App:
    return _App()


_PATHS = ("/v1/completions", "/v1/chat/completions")


def _http(content: bytes) -> None:
    """The first line is the path, or a number of one; header lines follow up to an empty line; the rest is the body."""
    head, _, text = content.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    method, _, path = first.decode("latin-1").partition(" ")
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    for line in lines:
        name, _, value = line.partition(b":")
        headers.append((name.strip().lower(), value.strip()))
    status, answer = _app().ask(method, path, headers, text)
    assert status < 500, (status, answer)
    answer.decode("utf-8")
    if status >= 400 and method != "HEAD":
        assert set(json.loads(answer)["error"]) == {"message", "type", "param", "code"}


def _http_seeds() -> list[bytes]:
    def post(path: str, body: dict) -> bytes:
        return f"POST {path}\nx: y\n\n".encode() + json.dumps({"model": "small"} | body).encode()

    return [
        post(_PATHS[0], {"prompt": "abc", "max_tokens": 2, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "min_p": 0.1,
                         "seed": 1}),
        post(_PATHS[0], {"prompt": [1, 2, 3], "stream": True, "stream_options": {"include_usage": True}, "stop": ["a", "bc"]}),
        post(_PATHS[0], {"prompt": ["abc"], "n": 1, "logprobs": None, "suffix": "", "user": "u", "repeat_penalty": 1.1}),
        post(_PATHS[1], {"messages": [{"role": "developer", "content": "x"}, {"role": "user", "content": [
            {"type": "text", "text": "hi \u2603"}]}], "max_completion_tokens": 2, "tools": [], "logit_bias": {}}),
        post(_PATHS[1], {"messages": [{"role": "tool", "content": None, "tool_calls": []}], "temperature": 1e400}),
        b"GET /v1/models/small\nhost: localhost\n\n", b"GET /health\nauthorization: Bearer x\n\n", b"GET /\n\n",
        b"GET /metrics?a=b\nhost: [::1]:80\n\n", b"PUT /v1/models\ncontent-length: 99999999999\n\n",
    ]


class _Says(Transport):
    """A board that says what it is told to; time passes where nothing comes."""

    name = "the fuzzer"

    def __init__(self, content: bytes, board: PlainBoard):
        self._content, self._board = content, board
        self._out = b""
        self.now = 0.0

    def write(self, content: bytes) -> None:
        self._out += self._board.link.receive(content)

    def read(self, timeout: float) -> bytes:
        self.now += timeout + 1e-3
        # A byte says how many bytes come next, and from whom: the board's own answers, or the fuzzer's.
        if not self._content:
            out, self._out = self._out, b""
            return out
        size, self._content = self._content[0], self._content[1:]
        if size >= 128:
            out, self._out = self._out[:size - 127], self._out[size - 127:]
        else:
            out, self._content = self._content[:size + 1], self._content[size + 1:]
        return out

    def close(self) -> None:
        """Nothing is held."""


def _frames(content: bytes) -> None:
    reader = FrameReader()
    for packet in reader.push(content):
        assert len(packet) == 3


def _link(content: bytes) -> None:
    _frames(content)
    transport = _Says(content, PlainBoard())
    client = BoardClient(transport, timeout=2.0, clock=lambda: transport.now)
    client.connect()
    client.write(0x80000000, bytes(range(64)))
    client.read(0x80000000, 64)
    client.status()


def _link_seeds() -> list[bytes]:
    hello = encode(body(0, PacketType.HELLO, bytes(32)))
    return [b"\xff" * 12, bytes([len(hello) - 1]) + hello + b"\xff\xff",
            b"\xff" + bytes([9]) + encode(b"\0" * 8)[:10] + b"\x90\xff", b"\x03abc\0\x90" * 3]


_JSON_WORDS = (b"null", b"true", b"-1", b"1e999", b"16777215", b"4294967296", b"NaN", b'"\\ud800"', b"[[[[", b"{}", b'""',
               b"1" * 400)
TARGETS: dict[str, Target] = {
    "container": Target(_container, _container_seeds, words=(b'"dtype"', b'"U8"', b'"F16"', b'"I32"', b'"shape"', *_JSON_WORDS)),
    "safetensors": Target(_safetensors, _safetensors_seeds, words=(b'"F8_E4M3"', b'"BF16"', b'"I64"', b'"BOOL"', *_JSON_WORDS)),
    "config": Target(_config, _config_seeds, words=(
        b'"rope_scaling"', b'"rope_type"', b'"llama3"', b'"yarn"', b'"head_dim"', b'"num_hidden_layers"', b'"attention_bias"',
        _SEPARATOR, *_JSON_WORDS)),
    "gguf": Target(_gguf, _gguf_seeds, words=(
        b"split.count", b"general.alignment", b"tokenizer.ggml.tokens", b"\xff" * 8, b"\0\0\0\x80\0\0\0\0",
        b"\x09\0\0\0\x08\0\0\0")),
    "sentencepiece": Target(_use_tokenizer, _sentencepiece_seeds, words=(b"\xe2\x96\x81", b"<0x41>")),
    "tokenizer-json": Target(_use_tokenizer, lambda: [*_tokenizer_json_seeds(), byte_level_json(258)],
                             words=(b'"type"', b'"Sequence"', b'"Regex"', b'"Split"', b'"Strip"', b'"Replace"', b'"ByteFallback"',
                                    b'"BPEDecoder"', b'"CTC"', b'"(a+)+$"', b'"a{1000}{1000}"', b'"Precompiled"', *_JSON_WORDS)),
    "template": Target(_template, _template_seeds, words=(
        b"{{", b"}}", b"{%", b"%}", b"{% for i in range(99999) %}", b"{% endfor %}", b" * 999999999", b" ** 99999",
        b"| center(9)", b"| indent", b"| join", b".format(", b"__class__", b"messages", b"loop(",
        b"{% set x = x ~ x %}", b"{% macro m() %}",
        b"'%999999999d' % 1", b"cycler", b"lipsum(9)", b"dict(", b"self")),
    "drafts": Target(_drafts, _drafts_seeds),
    "image": Target(_image, _image_seeds),
    "http": Target(_http, _http_seeds, allowed=(), words=(
        b'"stream"', b'"stop"', b'"seed"', b'"top_k"', b'"\\ud83d"', b"content-length:", b"host:", b"%00", *_JSON_WORDS)),
    "link": Target(_link, _link_seeds),
}
