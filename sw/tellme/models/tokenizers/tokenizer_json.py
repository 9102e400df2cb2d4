# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""tokenizer.json: texts as the ``tokenizers`` package encodes them, and its decoders token by token."""

import codecs
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from tellme.models.model import ModelError
from tellme.models.tokenizers.tokenizer import BYTE_OF_CHARACTER, Decoding, is_json

__all__ = ["JsonPieces", "adds_other", "frame_of"]


def _failure(error: BaseException) -> str:
    """The package's words for a failure.  An interrupt is no failure and is raised again."""
    # The package raises plain Exceptions, and for an internal failure a PanicException, which is not a subclass of Exception.
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        raise error
    return " ".join(str(error).split())[:200]


def _loaded(content: bytes, name: str) -> tokenizers.Tokenizer:
    """The package's tokenizer without the features for training: truncation, padding and dropout."""
    try:
        made = tokenizers.Tokenizer.from_str(content.decode())
        made.no_truncation()
        made.no_padding()
        if isinstance(made.model, models.BPE):
            made.model.dropout = None
    except BaseException as error:
        raise ModelError(f"{name} is no tokenizer.json ({_failure(error)})") from error
    return made


class JsonPieces:
    """A tokenizer.json.  Special tokens add nothing to a text, as with the package."""

    kind = "tokenizer.json"

    def __init__(self, content: bytes, name: str):
        self._name = name
        self._pieces = _loaded(content, name)
        ids = Counter(self._pieces.get_vocab(with_added_tokens=False).values())
        self.size = max([*ids, *self._pieces.get_added_tokens_decoder()], default=-1) + 1
        if self.size == 0:
            raise ModelError(f"{name} has no vocabulary")
        # The package would read such an id as any of these tokens, by chance.
        twice = next((i for i, count in ids.items() if count > 1), None)
        if twice is not None:
            raise ModelError(f"{name} is damaged: {ids[twice]} of its tokens have the id {twice}")
        self._special = self._special_texts()
        self._steps = _decoder_steps(self._pieces.decoder, name)
        self.late = any(isinstance(s.make(), _Whole) for s in self._steps)
        self._byte_level = any(s.kind == "ByteLevel" for s in self._steps)
        self._byte_fallback = any(s.kind == "ByteFallback" for s in self._steps)

    def _special_texts(self) -> set[str]:
        """The texts that decoding leaves out, by the package's own answer without its decoder."""
        decoder, self._pieces.decoder = self._pieces.decoder, None
        added = self._pieces.get_added_tokens_decoder()
        left_out = {token.content for i, token in added.items() if self._pieces.decode([i]) == ""}
        self._pieces.decoder = decoder
        return left_out

    def encode(self, text: str) -> list[int]:
        try:
            return list(self._pieces.encode(text, add_special_tokens=False).ids)
        except BaseException as error:
            raise ModelError(f"{self._name} does not encode the text ({_failure(error)})") from error

    def decode(self, ids: list[int]) -> str:
        return str(self._pieces.decode(ids))

    def decoding(self) -> Decoding:
        return self._decoding(self.piece)

    def _decoding(self, piece: Callable[[int], str | None]) -> "_JsonDecoding":
        return _JsonDecoding(piece, [s.make() for s in self._steps], self._name)

    def text(self, token: int) -> str:
        return self._pieces.id_to_token(token) or ""

    def piece(self, token: int) -> str | None:
        """A token that decoding does not leave out."""
        piece = self._pieces.id_to_token(token)
        return None if piece is None or piece in self._special else str(piece)

    def is_byte(self, token: int) -> bool:
        return self._byte_fallback and _byte_of(self.text(token)) is not None

    def piece_bytes(self, token: int) -> bytes:
        piece = self.piece(token)
        if piece is None:
            return b""
        if self._byte_level:
            return _bytes_of(piece)
        byte = _byte_of(piece) if self._byte_fallback else None
        if byte is not None:
            return bytes([byte])
        # After another piece, because some decoders treat the first piece of a text differently.
        return (self._whole(["x", piece])[len(self._whole(["x"])):]).encode()

    def _whole(self, pieces: Sequence[str]) -> str:
        chain = self._decoding(lambda i: pieces[i])
        return "".join(map(chain.push, range(len(pieces)))) + chain.finish()


class _Step(Protocol):
    """A step of a decoder: pieces go in one by one, and pieces that no later piece can change come out.

    After a step that joins pieces, a piece is a part of the one text, cut anywhere.
    """

    def push(self, piece: str) -> Iterable[str]: ...
    def finish(self) -> Iterable[str]: ...

    @property
    def waiting(self) -> int:
        """Bytes that wait for a later piece."""
        ...


class _JsonDecoding:
    """A decoder's steps one after another."""

    def __init__(self, piece: Callable[[int], str | None], steps: Sequence[_Step], name: str):
        self._piece = piece
        self._steps = steps
        self._name = name

    def push(self, token: int) -> str:
        piece = self._piece(token)
        return "" if piece is None else self._through([piece], final=False)

    def finish(self) -> str:
        return self._through([], final=True)

    def _through(self, pieces: list[str], *, final: bool) -> str:
        try:
            for step in self._steps:
                pieces = [out for piece in pieces for out in step.push(piece)]
                if final:
                    pieces += step.finish()
        except BaseException as error:
            raise ModelError(f"{self._name} does not decode the text ({_failure(error)})") from error
        return "".join(pieces)

    @property
    def waiting(self) -> int:
        return sum(step.waiting for step in self._steps)


class _Kind:
    """A step of a decoder as it is written, and how to begin with it."""

    def __init__(self, kind: str, make: Callable[[], _Step]):
        self.kind = kind
        self.make = make


#: Steps that make one text of all pieces.
_JOINING = ("ByteLevel", "Fuse")


def _decoder_steps(decoder: Any, name: str) -> list[_Kind]:
    """The steps of a decoder; ModelError for one that is not known here, by name."""
    if decoder is None:
        return [_Kind("nothing", _Spaced)]
    # The package's own way of writing it: all fields are there, whatever the file left out.
    bare = tokenizers.Tokenizer(models.BPE())
    bare.decoder = decoder
    out: list[_Kind] = []
    joined = ""
    for fields in _flat(json.loads(bare.to_str())["decoder"]):
        kind = str(fields["type"])
        make = (_of_text if joined else _of_pieces)(kind, fields)
        if make is None:
            raise ModelError(f"{name} decodes with {kind}{joined and f' behind {joined}'}, which is not supported: "
                             "give another tokenizer file of the model")
        out.append(_Kind(kind, make))
        joined = joined or (kind if kind in _JOINING else "")
    return out


def _flat(fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The steps of a decoder or post-processor that may hold others."""
    if fields["type"] == "Sequence":
        for part in fields.get("decoders", fields.get("processors", [])):
            yield from _flat(part)
    else:
        yield fields


def _of_pieces(kind: str, fields: dict[str, Any]) -> Callable[[], _Step] | None:
    """How to begin with a step that gets pieces one by one; the package itself decodes each where it can."""
    match kind:
        case "ByteLevel":
            return _ByteLevel
        case "ByteFallback":
            return _ByteFallback
        case "Fuse":
            return _Same
        case "Replace":
            replace = _replace(fields)
            return lambda: _Each(lambda piece: replace.decode([piece]))
        case "Strip":
            return lambda: _Each(lambda piece: _stripped(fields, piece))
        case "Metaspace":
            metaspace = decoders.Metaspace(fields["replacement"], fields["prepend_scheme"], fields["split"])
            return lambda: _First(metaspace)
        case "WordPiece":
            wordpiece = decoders.WordPiece(fields["prefix"], fields["cleanup"])
            return lambda: _First(wordpiece)
        case "BPEDecoder":
            last = decoders.BPEDecoder(fields["suffix"])
            return lambda: _Last(last)
    return None


def _of_text(kind: str, fields: dict[str, Any]) -> Callable[[], _Step] | None:
    """How to begin with a step that gets one text in parts."""
    match kind:
        case "Fuse":
            return _Same
        case "Replace":
            pattern, content = fields["pattern"], fields["content"]
            if pattern.get("String"):
                return lambda: _ReplaceString(pattern["String"], content)
            replace = _replace(fields)
            bound = _bound(pattern.get("Regex", ""))
            if bound is None:
                return lambda: _Whole(lambda text: replace.decode([text]))
            regex = tokenizers.Regex(pattern["Regex"])
            return lambda: _ReplaceAtStarts(regex, content, bound)
        case "Strip":
            return lambda: _Strip(fields["content"], fields["start"], fields["stop"])
        case "Metaspace":
            # All text is the first piece, whose characters are each changed or left out.
            metaspace = decoders.Metaspace(fields["replacement"], fields["prepend_scheme"], fields["split"])
            return lambda: _Each(lambda part: metaspace.decode([part]))
    return None


def _replace(fields: dict[str, Any]) -> decoders.Replace:
    pattern = fields["pattern"]
    return decoders.Replace(tokenizers.Regex(pattern["Regex"]) if "Regex" in pattern else pattern["String"], fields["content"])


class _Same:
    """A step that changes nothing, or only joins."""

    @property
    def waiting(self) -> int:
        return 0

    def push(self, piece: str) -> Iterable[str]:
        return (piece,)

    def finish(self) -> Iterable[str]:
        return ()


class _Each(_Same):
    """A step that changes each piece for itself."""

    def __init__(self, change: Callable[[str], str]):
        self._change = change

    def push(self, piece: str) -> Iterable[str]:
        return (self._change(piece),)


class _Spaced(_Same):
    """No decoder: pieces with a space between."""

    _between = ""

    def push(self, piece: str) -> Iterable[str]:
        between, self._between = self._between, " "
        return (between + piece,)


class _First(_Same):
    """A step that changes the first piece in another way than the others."""

    def __init__(self, decoder: decoders.Decoder):
        self._decoder = decoder
        self._ahead: list[str] = []

    def push(self, piece: str) -> Iterable[str]:
        # An empty first piece adds nothing.
        ahead, self._ahead = self._ahead, [""]
        return (self._decoder.decode([*ahead, piece]),)


class _Last(_Same):
    """A step that changes the last piece in another way than the others."""

    def __init__(self, decoder: decoders.Decoder):
        self._decoder = decoder
        self._piece: str | None = None

    def push(self, piece: str) -> Iterable[str]:
        out = self.finish() if self._piece is None else (self._decoder.decode([self._piece, ""]),)
        self._piece = None
        if self._decoder.decode([piece]) == self._decoder.decode([piece, ""]):
            return (*out, self._decoder.decode([piece]))
        self._piece = piece
        return out

    def finish(self) -> Iterable[str]:
        return () if self._piece is None else (self._decoder.decode([self._piece]),)

    @property
    def waiting(self) -> int:
        return len((self._piece or "").encode())


def _bytes_of(piece: str) -> bytes:
    """The bytes of a byte-level piece; one with other characters stands for itself."""
    known = all(c in BYTE_OF_CHARACTER for c in piece)
    return bytes(BYTE_OF_CHARACTER[c] for c in piece) if known else piece.encode()


class _ByteLevel:
    """Bytes of all pieces as UTF-8; marks for what is none are the same in Rust and in Python."""

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, piece: str) -> Iterable[str]:
        return (self._utf8.decode(_bytes_of(piece)),)

    def finish(self) -> Iterable[str]:
        return (self._utf8.decode(b"", final=True),)

    @property
    def waiting(self) -> int:
        return len(self._utf8.getstate()[0])


#: Rust reads a sign before a hexadecimal digit.
_BYTE_PIECE = re.compile(r"<0x(\+?[0-9A-Fa-f]|[0-9A-Fa-f]{2})>", re.ASCII)


def _byte_of(piece: str) -> int | None:
    """The byte that a piece stands for with a ByteFallback decoder."""
    found = _BYTE_PIECE.fullmatch(piece) if len(piece) == 6 else None
    return None if found is None else int(found[1], 16)


class _ByteFallback:
    """A run of bytes is one piece if it is UTF-8 as a whole, else a mark a byte."""

    def __init__(self) -> None:
        self._run = b""
        self._broken = False
        self._utf8 = codecs.getincrementaldecoder("utf-8")()

    def push(self, piece: str) -> Iterable[str]:
        byte = _byte_of(piece)
        if byte is None:
            return [*self.finish(), piece]
        self._run += bytes([byte])
        if not self._broken:
            try:
                self._utf8.decode(bytes([byte]))
                return ()
            except UnicodeDecodeError:
                self._broken = True
        marks, self._run = ["\ufffd"] * len(self._run), b""
        return marks

    def finish(self) -> Iterable[str]:
        cut_off = self._utf8.getstate()[0] != b""
        run, broken = self._run, self._broken or cut_off
        self._run, self._broken = b"", False
        self._utf8.reset()
        return ["\ufffd"] * len(run) if broken else [run.decode()] if run else []

    @property
    def waiting(self) -> int:
        return len(self._run)


class _Held:
    """A step whose last characters may wait."""

    def __init__(self) -> None:
        self._text = ""

    @property
    def waiting(self) -> int:
        return len(self._text.encode())

    def finish(self) -> Iterable[str]:
        text, self._text = self._text, ""
        return (text,)


class _Whole:
    """A step that needs the whole text."""

    def __init__(self, change: Callable[[str], str]):
        self._parts: list[str] = []
        self._change = change
        self.waiting = 0

    def push(self, piece: str) -> Iterable[str]:
        self._parts.append(piece)
        self.waiting += len(piece.encode())
        return ()

    def finish(self) -> Iterable[str]:
        text, self._parts, self.waiting = "".join(self._parts), [], 0
        return (self._change(text),)


class _ReplaceString(_Held):
    """A string is replaced; the beginning of one may be at the end of what is there."""

    def __init__(self, pattern: str, content: str):
        super().__init__()
        self._pattern = pattern
        self._content = content

    def push(self, piece: str) -> Iterable[str]:
        *done, text = (self._text + piece).split(self._pattern)
        keep = next(n for n in range(min(len(text), len(self._pattern) - 1), -1, -1) if text.endswith(self._pattern[:n]))
        self._text = text[len(text) - keep:]
        return (self._content.join([*done, text[:len(text) - keep]]),)


class _Strip(_Held):
    """Up to ``start`` characters ahead and ``stop`` behind are dropped."""

    def __init__(self, content: str, start: int, stop: int):
        super().__init__()
        self._content = content
        self._start = start
        self._stop = stop

    def push(self, piece: str) -> Iterable[str]:
        text = self._text + piece
        if self._start and text:
            rest = text.lstrip(self._content)
            dropped = min(self._start, len(text) - len(rest))
            text = text[dropped:]
            self._start = 0 if text else self._start - dropped
        keep = min(self._stop, len(text) - len(text.rstrip(self._content)))
        self._text = text[len(text) - keep:]
        return (text[:len(text) - keep],)

    def finish(self) -> Iterable[str]:
        self._text = ""
        return ()


def _stripped(fields: dict[str, Any], piece: str) -> str:
    """A piece without the characters that a Strip drops; the package fails on pieces shorter than ``stop``."""
    return "".join(_Strip(fields["content"], fields["start"], fields["stop"]).push(piece))


class _ReplaceAtStarts(_Held):
    """A regular expression that only matches at the start of the text, or of lines, is replaced."""

    def __init__(self, regex: tokenizers.Regex, content: str, bound: "_Bound"):
        super().__init__()
        self._matches = pre_tokenizers.Split(regex, "isolated")
        self._between = pre_tokenizers.Split(regex, "removed")
        self._content = content
        self._bound = bound
        self._at_start = True

    def push(self, piece: str) -> Iterable[str]:
        self._text += piece
        return self._settled(final=False)

    def finish(self) -> Iterable[str]:
        return self._settled(final=True)

    def _settled(self, *, final: bool) -> Iterable[str]:
        out: list[str] = []
        text = self._text
        while text and (not self._at_start or len(text) >= self._bound.most or final):
            size = self._match(text) if self._at_start else 0
            if size == len(text) and self._bound.open and not final:
                break
            if size:
                out.append(self._content)
            else:
                # Nothing matches before the next line.
                size = self._bound.lines and text.find("\n") + 1 or len(text)
                out.append(text[:size])
            self._at_start = self._bound.lines and text[size - 1] == "\n"
            text = text[size:]
        self._text = text
        return out

    def _match(self, text: str) -> int:
        """Characters that match at the start."""
        head = text if self._bound.open else text[:self._bound.most]
        between = self._between.pre_tokenize_str(head)
        if between and between[0][1][0] == 0:
            return 0
        return int(self._matches.pre_tokenize_str(head)[0][1][1])


class _Unbounded(Exception):
    """A regular expression that is not understood here, or has no bound."""


@dataclass(frozen=True)
class _Bound:
    """How many characters decide the match of a regular expression that only matches at the start of the text or of lines."""

    lines: bool
    #: Characters on which it depends whether it matches, and how much but for an open end.
    most: int
    #: Whether it ends with as many characters of a class as there are.
    open: bool


def _bound(pattern: str) -> _Bound | None:
    r"""The bound of a regular expression that only matches at a start.

    Understood are ``\A`` or ``^`` and behind it characters, classes, groups and looks ahead, with counts, the last one
    with ``*`` or ``+`` too.  None for all others, and for one that matches the empty text.
    """
    anchor = next((a for a in (r"\A", "^") if pattern.startswith(a)), None)
    if anchor is None:
        return None
    widths = _Widths(pattern.removeprefix(anchor))
    try:
        least, most = widths.sequence()
    except _Unbounded:
        return None
    is_open = widths.rest in ("*", "+")
    if widths.rest and not is_open or least == 0:
        return None
    return _Bound(anchor == "^", most, is_open)


class _Widths:
    """Least and most characters of what the parts of a regular expression match, and look ahead at."""

    _CLASS = re.compile(r"\[\^?(?:\\[sSdDwWhHntrfv.\-\]\\^]|[^\[\]\\&])+\]")
    _CHARACTER = re.compile(r"\\[sSdDwWhHntrfv]|\\[^A-Za-z0-9]|[^\\*+?{}()|^$\[\]]", re.DOTALL)
    _COUNT = re.compile(r"\?|\{(\d{1,3})\}|\{(\d{0,3}),(\d{1,3})\}")

    def __init__(self, rest: str):
        self.rest = rest

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.rest)
        if found is not None:
            self.rest = self.rest[found.end():]
        return found

    def sequence(self) -> tuple[int, int]:
        """Up to the end, to a count without a limit at the end, or to a bar or bracket that ends it."""
        least = most = 0
        while self.rest and self.rest[0] not in "|)":
            single = self.rest[0] != "("
            low, high = self._atom()
            if single and self.rest in ("*", "+"):
                # The end of the whole: more of the same.
                low = high = int(self.rest == "+")
                return least + low, most + high
            count = self._take(self._COUNT)
            if count is not None:
                fewest, times = (0, 1) if count[0] == "?" else (int(count[1]),) * 2 if count[1] else (
                    int(count[2] or 0), int(count[3]))
                if fewest > times:
                    raise _Unbounded
                low, high = low * fewest, high * times
            if self.rest[:1] in ("?", "*", "+", "{"):
                raise _Unbounded
            least, most = least + low, most + high
        return least, most

    def _atom(self) -> tuple[int, int]:
        if self._take(self._CLASS) or self._take(self._CHARACTER):
            return 1, 1
        opening = self._take(_OPENING)
        if opening is None:
            raise _Unbounded
        least, most = self.sequence()
        while self.rest[:1] == "|":
            self.rest = self.rest[1:]
            low, high = self.sequence()
            least, most = min(least, low), max(most, high)
        if self.rest[:1] != ")":
            raise _Unbounded
        self.rest = self.rest[1:]
        return (0 if opening[1] else least), most


#: A group, or a look ahead.
_OPENING = re.compile(r"\((?:\?:|\?([=!])|(?!\?))")


#: Texts that some tokenizers know and others do not.
_PROBES = ("a", "the", "A", "1", ".", "\u2581a", "[UNK]")


def _named_tokens(post_processor: Any) -> Iterator[str]:
    """Tokens that the templates of a post-processor put somewhere without saying their ids."""
    bare = tokenizers.Tokenizer(models.BPE())
    bare.post_processor = post_processor
    for fields in _flat(json.loads(bare.to_str())["post_processor"]):
        if fields["type"] == "TemplateProcessing":
            for piece in (*fields["single"], *fields["pair"]):
                name = piece.get("SpecialToken", {}).get("id")
                if name is not None and name not in fields["special_tokens"]:
                    yield str(name)


def _added(content: bytes) -> tuple[tokenizers.Tokenizer, list[int], list[int]] | None:
    """A tokenizer.json that has a post-processor, and the ids that it puts before a text and after it."""
    if not is_json(content):
        return None
    made = _loaded(content, "the tokenizer")
    post_processor = made.post_processor
    if post_processor is None:
        return None
    # The package breaks off where it lacks an id.
    for name in _named_tokens(post_processor):
        raise ModelError(f"the tokenizer's post-processor is damaged: it does not say the id of the token {name!r}")
    for text in _PROBES:
        made.post_processor = None
        try:
            plain = made.encode(text).ids
        except Exception:
            # A tokenizer without an unknown token refuses texts that it does not know.
            continue
        made.post_processor = post_processor
        full = made.encode(text).ids
        if plain:
            places = [i for i in range(len(full)) if full[i:i + len(plain)] == plain]
            if len(places) != 1:
                raise ModelError("the tokenizer's post-processor does not keep a text once and whole, which is not supported: "
                                 "give another tokenizer file of the model")
            return made, full[:places[0]], full[places[0] + len(plain):]
    made.post_processor = post_processor
    return made, list(made.encode("").ids), []


def frame_of(content: bytes) -> tuple[list[int], list[int]] | None:
    """Ids that a tokenizer.json's post-processor puts before a text and after it; None without a post-processor."""
    added = _added(content)
    return None if added is None else added[1:]


def adds_other(content: bytes, bos: int | None = None) -> str | None:
    """What a tokenizer adds to a text by itself besides ``bos`` before it, in words; None for nothing.

    Without ``bos``, one token before the text is taken for BOS.
    """
    added = _added(content)
    if added is None:
        return None
    made, ahead, behind = added
    if ahead == [bos] or bos is None and len(ahead) == 1:
        ahead = []
    parts = [f"{' '.join(repr(made.id_to_token(i)) for i in ids)} {where}"
             for ids, where in ((ahead, "ahead of a text"), (behind, "behind a text")) if ids]
    return " and ".join(parts) or None
