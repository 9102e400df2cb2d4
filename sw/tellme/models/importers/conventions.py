# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""How the texts of a checkpoint begin and end: which token is BOS, whether it is put before a prompt, and all end tokens.

A Hugging Face folder has this information in up to four files, a GGUF file in its metadata.  The result is what transformers and
llama.cpp do with the same files.  Callers' ``say`` hears what was found and where.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tellme.models.config import ModelConfig, ModelError
from tellme.models.files import is_there
from tellme.models.importers.importing import Say
from tellme.models.importers.rope import refuse_key
from tellme.models.json_files import read_json
from tellme.models.tokenizers import spm
from tellme.models.tokenizers.tokenizer import Tokenizer, is_json
from tellme.models.tokenizers.tokenizer_json import adds_other, frame_of

__all__ = ["END_TOKENS", "Conventions", "conventions_of_folder", "conventions_of_gguf", "gguf_special_tokens",
           "with_frame"]


@dataclass(frozen=True)
class Conventions:
    """Fields of the same names of :class:`tellme.models.config.ModelConfig`; ``more_ends`` in ascending order."""

    bos: int | None
    add_bos: bool
    eos: int | None
    more_ends: tuple[int, ...]

    @classmethod
    def of(cls, bos: int | None, add_bos: bool, ends: Iterable[int]) -> "Conventions":
        """Conventions with the first of ``ends`` as eos.  ``ends`` may name a token more than once."""
        found = [*ends]
        return cls(bos, add_bos, found[0] if found else None, tuple(sorted({*found} - {*found[:1]})))

    def tell(self, say: Say, text: Callable[[int], str], why: str) -> None:
        """Tell ``say`` the conventions, with the tokens' texts."""
        if self.add_bos and self.bos is not None:
            say(f"texts begin with the token {_shown(self.bos, text)}: {why}")
        else:
            say(f"no BOS is put ahead of a text: {why}")
        if self.eos is None:
            say("no end token is known: a text ends at the number of tokens that is asked for")
        else:
            say(f"texts end at {', '.join(_shown(end, text) for end in (self.eos, *self.more_ends))}")


def _shown(token: int, text: Callable[[int], str]) -> str:
    """A token's id, with its text where it has one."""
    return f"{token} {text(token)!r}" if text(token) else str(token)


def with_frame(content: bytes, ahead: int | None) -> bytes:
    """A tokenizer.json that puts the token ``ahead`` before a text, or nothing, and nothing after it.

    Returns the same bytes if the tokenizer does so already; otherwise the post-processor is replaced.  ``ahead`` must be one of
    the tokenizer's tokens.
    """
    wanted = [] if ahead is None else [ahead]
    if (frame_of(content) or ([], [])) == (wanted, []):
        return content
    fields = json.loads(content)
    fields["post_processor"] = None
    if ahead is not None:
        name = Tokenizer(content).text(ahead)
        begin: list[dict[str, Any]] = [{"SpecialToken": {"id": name, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
        fields["post_processor"] = {
            "type": "TemplateProcessing", "single": begin, "pair": [*begin, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {name: {"id": name, "ids": [ahead], "tokens": [name]}}}
    return json.dumps(fields, ensure_ascii=False).encode()


#: BOS and EOS of each architecture's configuration where config.json has no such key.
_CONFIG_DEFAULTS: dict[str, tuple[int | None, int | None]] = {
    "LlamaForCausalLM": (1, 2), "BitnetForCausalLM": (1, 2), "BitNetForCausalLM": (128000, 128001),
    "Qwen3ForCausalLM": (None, None), "MistralForCausalLM": (1, 2), "Qwen2ForCausalLM": (None, None),
    "Olmo2ForCausalLM": (None, 50279)}
#: The class of tokenizer of each architecture where tokenizer_config.json names none.
_CLASS_DEFAULTS = {"LlamaForCausalLM": "LlamaTokenizer", "BitnetForCausalLM": "LlamaTokenizer",
                   "BitNetForCausalLM": "PreTrainedTokenizerFast", "Qwen3ForCausalLM": "Qwen2Tokenizer",
                   "MistralForCausalLM": "LlamaTokenizer", "Qwen2ForCausalLM": "Qwen2Tokenizer",
                   "Olmo2ForCausalLM": "GPT2Tokenizer"}
#: Classes of tokenizers that obey add_bos_token, whatever post-processor tokenizer.json has; and their default for the key.
_CLASSES_WITH_A_FLAG = {"LlamaTokenizer": True, "LlamaTokenizerFast": True, "CodeLlamaTokenizer": True,
                        "CodeLlamaTokenizerFast": True, "BitnetTokenizer": True, "GemmaTokenizer": True,
                        "GemmaTokenizerFast": True, "GPTNeoXTokenizer": False, "GPTNeoXTokenizerFast": False}


@dataclass
class _Folder:
    """The files of a folder that say how texts begin and end."""

    folder: Path
    config: Mapping[str, Any]
    vocab: int
    tokenizer: bytes
    say: Say
    generation: dict[str, Any] = field(init=False)
    pieces: dict[str, Any] = field(init=False)
    ids: dict[str, int] = field(init=False)
    #: Key of a special token -> the file that names the token, if that is not tokenizer_config.json.
    elsewhere: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.generation = self.read("generation_config.json")
        self.pieces = self.read("tokenizer_config.json")
        # Older folders name the special tokens in special_tokens_map.json.
        older = self.read("special_tokens_map.json")
        for key in {"bos_token", "eos_token"} & (older.keys() - self.pieces.keys()):
            self.pieces[key], self.elsewhere[key] = older[key], "special_tokens_map.json"
        self.ids = {}
        added = self.pieces.get("added_tokens_decoder")
        for token, entry in added.items() if isinstance(added, dict) else ():
            if re.fullmatch("[0-9]{1,9}", token) and isinstance(entry, dict) and isinstance(entry.get("content"), str):
                self.ids.setdefault(entry["content"], int(token))
        if self.tokenizer:
            known = Tokenizer(self.tokenizer)
            self.ids |= {known.text(i): i for i in reversed(range(known.size)) if known.text(i)}

    def read(self, name: str) -> dict[str, Any]:
        """A file of the folder, which need not be there."""
        return read_json(self.folder / name) if is_there(self.folder / name) else {}

    def tokens(self, name: str, fields: Mapping[str, Any], key: str) -> list[int]:
        """The token ids of a key: a number, a list of them, or null."""
        value = fields.get(key)
        ids = value if isinstance(value, list) else [] if value is None else [value]
        for token in ids:
            if type(token) is not int:
                raise refuse_key(str(self.folder / name), key, value, "which is no token id")
            if not 0 <= token < self.vocab:
                raise ModelError(f"{self.folder / name}: {key} is {token}, outside the vocabulary of {self.vocab}")
        return ids

    def named(self, key: str) -> int | None:
        """The id of the token that the tokenizer's configuration names; None where it names none, or one that is not there."""
        name, value = str(self.folder / self.elsewhere.get(key, "tokenizer_config.json")), self.pieces.get(key)
        text = value.get("content") if isinstance(value, dict) else value
        if value is None:
            return None
        if not isinstance(text, str):
            raise refuse_key(name, key, value, "which is no token")
        token = self.ids.get(text)
        if token is None or token >= self.vocab:
            self.say(f"{name}: {key} is {text!r}, which is no token of the model's: not taken")
            return None
        return token

    def flag(self, key: str) -> bool | None:
        """A yes or no of tokenizer_config.json."""
        value = self.pieces.get(key)
        if value is not None and type(value) is not bool:
            raise refuse_key(str(self.folder / "tokenizer_config.json"), key, value, "which is neither true nor false")
        return value

    def bos(self, default: int | None) -> int | None:
        """The token at which texts begin; ``default`` where no file says anything."""
        named = self.named("bos_token")
        found = [*self.tokens("config.json", self.config, "bos_token_id"),
                 *self.tokens("generation_config.json", self.generation, "bos_token_id")]
        if named is not None:
            if found and named not in found:
                self.say(f"BOS is {named} by the tokenizer's configuration and {found[0]} by the model's; a text begins as the "
                         "tokenizer says")
            return named
        if len({*found}) > 1:
            raise ModelError(f"{self.folder}: BOS is one of {', '.join(map(str, dict.fromkeys(found)))} by config.json and "
                             "generation_config.json: tokenizer_config.json's bos_token has to say which")
        if found:
            return found[0]
        if default is not None and default < self.vocab and "bos_token_id" not in self.config and "bos_token" not in self.pieces:
            self.say(f"config.json has no bos_token_id: {default}, as the architecture has it")
            return default
        return None

    def ends(self, default: int | None) -> list[int]:
        """All tokens that end a text, config.json's first."""
        named = self.named("eos_token")
        found = [*self.tokens("config.json", self.config, "eos_token_id"),
                 *self.tokens("generation_config.json", self.generation, "eos_token_id"), *([] if named is None else [named])]
        silent = not found and "eos_token_id" not in self.config and "eos_token" not in self.pieces
        if silent and default is not None and default < self.vocab:
            self.say(f"config.json has no eos_token_id: {default}, as the architecture has it")
            return [default]
        return found

    def begin(self, kind: str, bos: int | None) -> tuple[int | None, bool, str]:
        """BOS, whether it is put before a text, and what says so.

        A tokenizer.json puts the tokens of its post-processor before a text; some classes of tokenizers make the post-processor
        anew from add_bos_token.  A tokenizer.model obeys add_bos_token.
        """
        wanted = self.flag("add_bos_token")
        name = "tokenizer_config.json"
        if self.flag("add_eos_token"):
            raise refuse_key(str(self.folder / name), "add_eos_token", True, "which ends each prompt: set it to false")
        as_json = is_json(self.tokenizer)
        frame = frame_of(self.tokenizer)
        if wanted is not None and (kind in _CLASSES_WITH_A_FLAG or frame is None):
            if wanted and bos is None:
                raise refuse_key(str(self.folder / name), "add_bos_token", True, "and no bos_token is known: name it, or set "
                                 "add_bos_token to false")
            if frame is not None and wanted != bool(frame[0]):
                self.say(f"the post_processor of tokenizer.json puts {'a' if frame[0] else 'no'} token ahead of a text; {kind} "
                         "goes by add_bos_token")
            return bos, wanted, f"add_bos_token is {str(wanted).lower()} in {name}"
        if frame is not None:
            ahead, other = frame[0], adds_other(self.tokenizer)
            if other:
                raise ModelError(f"{self.folder}: the post_processor of the tokenizer.json puts {other}, and one token ahead of "
                                 "a text is what is known: give another tokenizer file of the model")
            why = "the post_processor of tokenizer.json"
            if wanted is not None and wanted != bool(ahead):
                why += f", though add_bos_token is {str(wanted).lower()}: {kind} does not look at it"
            if ahead and ahead[0] != bos:
                if bos is not None:
                    self.say(f"BOS is {bos} by its name, and the post_processor of tokenizer.json puts {ahead[0]} ahead: "
                             f"{ahead[0]} it is")
                return ahead[0], True, why
            return bos, bool(ahead), why
        if bos is None:
            return None, False, "none is known"
        if not as_json:
            return bos, True, "tokenizers of this kind do so" if self.tokenizer else "there is no tokenizer that says otherwise"
        if _CLASSES_WITH_A_FLAG.get(kind, False):
            return bos, True, f"{kind} puts it there"
        return bos, False, f"tokenizer.json has no post_processor, and {kind} puts nothing there"


def conventions_of_folder(folder: Path, config: Mapping[str, Any], architecture: str, tokenizer: bytes, vocab: int,
                          say: Say) -> Conventions:
    """How texts begin and end by the files of a Hugging Face folder.

    ``config``: the object of config.json; ``tokenizer``: the bytes of the tokenizer that is taken, which may be none.
    A ModelError names a token id outside the vocabulary, or of another type than a whole number.
    """
    files = _Folder(folder, config, vocab, tokenizer, say)
    default_bos, default_eos = _CONFIG_DEFAULTS[architecture]
    kind = files.pieces.get("tokenizer_class") or _CLASS_DEFAULTS[architecture]
    if not isinstance(kind, str):
        raise refuse_key(str(folder / "tokenizer_config.json"), "tokenizer_class", kind, "which is no name of a class")
    # Tokenizers of other classes name a BOS if they have one, so that no default is needed.
    has_bos = not is_json(tokenizer) or _CLASSES_WITH_A_FLAG.get(kind, False)
    bos, add_bos, why = files.begin(kind, files.bos(default_bos if has_bos else None))
    found = Conventions.of(bos, add_bos, files.ends(default_eos))
    texts = {token: text for text, token in files.ids.items()}
    found.tell(say, lambda token: texts.get(token, ""), why)
    return found


#: Texts of tokens at which llama.cpp ends a text, whatever the keys of a GGUF file say.
_END_NAMES = frozenset((
    "</s>", "<eos>", "[EOS]", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>",
    "<|return|>", "<|call|>", "<|calls|>", "<|flush|>", "<end_of_turn>", "<turn|>", "<|tool_response>", "<end_of_utterance>",
    "<EOT>", "_<EOT>", "[EOT]", "[e~[", "<\uff5cend\u2581of\u2581sentence\uff5c>"))
#: (text, others): the text does not end a text if the tokens with the other texts are there too.
_NO_END_BESIDE = (("<|end|>", frozenset(("<|return|>", "<|call|>"))), ("<|end|>", frozenset(("<|call|>", "<|flush|>"))),
                  ("<|end|>", frozenset(("<|calls|>", "<|flush|>"))), ("</s>", frozenset(("<|tool_response>",))))
#: tokenizer.ggml.pre of byte-level tokenizers at which llama.cpp puts BOS ahead where add_bos_token is not there.
_PRE_WITH_BOS = frozenset(("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
                           "jina-v5-nano", "tekken", "chameleon"))
#: GGUF metadata of this program: all end tokens of the model, for files in which llama.cpp would take further ones.
END_TOKENS = "tellme.end_token_ids"
#: Kind of tokenizer -> BOS and EOS that llama.cpp takes where a file names none.
_GGUF_DEFAULTS = {"llama": (1, 2), "gpt2": (11, 11)}


def _ends_by_name(tokens: Sequence[str]) -> list[int]:
    """Ids of the tokens at which llama.cpp ends a text by their names, ascending."""
    names = _END_NAMES.intersection(tokens)
    names -= {name for name, beside in _NO_END_BESIDE if beside <= names}
    return [i for i, text in enumerate(tokens) if text in names]


def conventions_of_gguf(get: Callable[[str, Any], Any], tokenizer: bytes, vocab: int, label: str, say: Say) -> Conventions:
    """How texts begin and end by what ``get(key, default)`` gives for the metadata.

    As in llama.cpp, the default of a missing key depends on the kind of tokenizer, and tokens that llama.cpp knows by name end
    a text too.  Here such a token must be a special token; otherwise ``say`` hears of the token, and the token is not taken.  In
    a file with END_TOKENS this key lists all end tokens.  ``tokenizer`` has the bytes of the tokenizer that is taken, which may
    be none; its post-processor is asked only if the file itself has no tokenizer.
    """
    kind, pre = get("tokenizer.ggml.model", None), get("tokenizer.ggml.pre", None)
    tokens = [str(text) for text in get("tokenizer.ggml.tokens", [])]
    types = get("tokenizer.ggml.token_type", None)

    def checked(key: str, value: Any) -> int:
        if type(value) is not int:
            raise refuse_key(label, key, value, "which is no token id")
        if not 0 <= value < vocab:
            raise ModelError(f"{label}: {key} is {value}, outside the vocabulary of {vocab}")
        return value

    def token(name: str) -> int | None:
        key = f"tokenizer.ggml.{name}_token_id"
        value = get(key, None)
        return None if value is None else checked(key, value)

    def flag(name: str) -> bool | None:
        value = get(f"tokenizer.ggml.{name}", None)
        if value is not None and type(value) is not bool:
            raise refuse_key(label, f"tokenizer.ggml.{name}", value, "which is neither true nor false")
        return value

    def special(i: int) -> bool:
        return types is None or (i < len(types) and types[i] in (spm.CONTROL, spm.USER_DEFINED))

    def default(key: str, i: int) -> int | None:
        """llama.cpp's token where the file names none, if it is a special one."""
        if i >= min(len(tokens), vocab) or not special(i) or (types is None and kind != "llama"):
            return None
        say(f"{label} has no tokenizer.ggml.{key}_token_id: {i}, as llama.cpp takes it")
        return i

    for key in ("add_eos_token", "add_sep_token"):
        if flag(key):
            raise refuse_key(label, f"tokenizer.ggml.{key}", True, "which ends each prompt: write the file anew with false")
    wanted = flag("add_bos_token")
    why = f"tokenizer.ggml.add_bos_token is {str(wanted).lower()}"
    if wanted is None and tokens:
        wanted = pre in _PRE_WITH_BOS if kind == "gpt2" else True
        why = f"so llama.cpp does with tokenizers of the kind {pre if kind == 'gpt2' and pre else kind}"
    elif wanted is None:
        frame = frame_of(tokenizer)
        wanted = frame is None or bool(frame[0])
        why = "there is no tokenizer that says otherwise" if frame is None else "the post_processor of tokenizer.json"
    default_bos, default_eos = _GGUF_DEFAULTS.get(kind, (vocab, vocab))
    bos, eos = token("bos"), token("eos")
    if bos is None and wanted:
        bos = default("bos", default_bos)
        if bos is None:
            wanted, why = False, "none is known"
    if eos is None:
        eos = default("eos", default_eos)
    ends = [] if eos is None else [eos]
    ends += [end for end in (token("eot"), token("eom")) if end is not None]
    every = get(END_TOKENS, None)
    if every is not None:
        if not isinstance(every, list):
            raise refuse_key(label, END_TOKENS, every, "which is no list of token ids")
        ends = [checked(END_TOKENS, end) for end in every]
    for i in _ends_by_name(tokens[:vocab]) if every is None else ():
        if special(i):
            if i not in ends:
                say(f"the token {i} {tokens[i]!r} ends a text by its name, as in llama.cpp")
                ends.append(i)
        elif i not in ends:
            say(f"the token {i} {tokens[i]!r} looks as if it ended a text, but is no special token: not taken")
    found = Conventions.of(bos, wanted, ends)
    found.tell(say, lambda i: tokens[i] if i < len(tokens) else "", why)
    return found


#: The text of the token that ends a message.
_END_OF_MESSAGE = "<|eom_id|>"


def gguf_special_tokens(config: ModelConfig, kind: str, tokens: Sequence[str], types: Sequence[int],
                        say: Say) -> tuple[dict[str, int], list[int]]:
    """Ids for the keys tokenizer.ggml.<name>_token_id, by name (bos, and eos, eot and eom for up to three end tokens), and a
    list for END_TOKENS, which is empty where the file needs none.

    ``kind``, ``tokens`` and ``types`` describe the file's tokenizer and are empty without one.  A ModelError says which end token
    such a file cannot name, or that the file cannot say that there is none.  ``say`` hears of tokens that end a text in llama.cpp
    by their names and do not end a text in this model.
    """
    def shown(ids: Iterable[int]) -> str:
        return ", ".join(_shown(i, lambda i: tokens[i] if i < len(tokens) else "") for i in ids)

    out = {} if config.bos is None else {"bos": config.bos}
    by_name = _ends_by_name(tokens)
    default = _GGUF_DEFAULTS.get(kind, (0, len(tokens)))[1]
    if config.eos is None:
        found = ([default] if default < len(tokens) else []) + by_name
        if found:
            raise ModelError(f"the model has no end token, and llama.cpp would end texts at {shown(found[:1])}: export to hf")
        return out, []
    out["eos"] = config.eos
    known = [i for i in by_name if types[i] in (spm.CONTROL, spm.USER_DEFINED)]
    # The keys go first to tokens that llama.cpp does not know by name.
    others = sorted(config.more_ends, key=lambda i: i in known)
    message = next((i for i in others if i < len(tokens) and tokens[i] == _END_OF_MESSAGE), None)
    if message is not None:
        others.remove(message)
        out["eom"] = message
    for key in ("eot", "eom"):
        if others and key not in out:
            out[key] = others.pop(0)
    lost = [i for i in others if i not in known]
    if lost:
        raise ModelError(f"the model ends texts at {len(config.ends)} tokens; a GGUF file names three, and llama.cpp knows some "
                         f"by their texts, but not {shown(lost)}: export to hf")
    gained = [i for i in by_name if i not in config.ends]
    if gained:
        say(f"llama.cpp will end texts also at {shown(gained)}, by name")
    return out, list(config.ends) if gained else []
