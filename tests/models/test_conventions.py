# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""How texts begin and end: the files of a folder, the keys of GGUF, and what an export writes."""

import json
from dataclasses import asdict, replace

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors

from tellme.models import ModelConfig, ModelError
from tellme.models.importers.conventions import (
    END_TOKENS,
    Conventions,
    conventions_of_folder,
    conventions_of_gguf,
    gguf_special_tokens,
    with_frame,
)
from tellme.models.tokenizers import spm
from tellme.models.tokenizers.tokenizer_json import frame_of
from tests.models.folders import byte_level_json
from tests.models.test_checkpoints import SHIPPED

JSON = byte_level_json()
#: </s> is 2, <s> 1.
PIECES = SHIPPED.tokenizer
VOCAB = 300
LLAMA, BITNET = "LlamaForCausalLM", "BitNetForCausalLM"
GENERIC = {"tokenizer_class": "PreTrainedTokenizerFast"}


def framed(single, **ids):
    """The tokenizer.json with a post-processor."""
    made = tokenizers.Tokenizer.from_str(JSON.decode())
    made.post_processor = processors.TemplateProcessing(single=single, special_tokens=list(ids.items()) or [("<|bos|>", 0)])
    return made.to_str().encode()


BOS_FIRST = framed("<|bos|> $A")


def of_folder(tmp_path, config, pieces=None, generation=None, *, tokenizer=JSON, architecture=LLAMA, vocab=VOCAB):
    heard = []
    for name, fields in (("tokenizer_config.json", pieces), ("generation_config.json", generation)):
        if fields is not None:
            (tmp_path / name).write_text(json.dumps(fields))
    return conventions_of_folder(tmp_path, config, architecture, tokenizer, vocab, heard.append), heard


@pytest.mark.parametrize(("config", "pieces", "generation", "tokenizer", "wanted", "heard"), [
    # BOS by config.json, put ahead as LLaMA's tokenizers do.
    ({"bos_token_id": 0, "eos_token_id": 1}, None, None, JSON, Conventions(0, True, 1, ()),
     ["texts begin with the token 0 '<|bos|>': LlamaTokenizer puts it there", "texts end at 1 '<|eos|>'"]),
    ({"bos_token_id": 1, "eos_token_id": 2}, None, None, PIECES, Conventions(1, True, 2, ()),
     ["texts begin with the token 1 '<s>': tokenizers of this kind do so", "texts end at 2 '</s>'"]),
    ({"bos_token_id": 7, "eos_token_id": 8}, None, None, b"", Conventions(7, True, 8, ()),
     ["texts begin with the token 7: there is no tokenizer that says otherwise", "texts end at 8"]),
    # add_bos_token.
    ({"bos_token_id": 0, "eos_token_id": 1}, {"add_bos_token": False, "bos_token": "<|bos|>"} | GENERIC, None, JSON,
     Conventions(0, False, 1, ()),
     ["no BOS is put ahead of a text: add_bos_token is false in tokenizer_config.json", "texts end at 1 '<|eos|>'"]),
    ({"bos_token_id": None, "eos_token_id": 1}, {"add_bos_token": False, "bos_token": None} | GENERIC, None, JSON,
     Conventions(None, False, 1, ()),
     ["no BOS is put ahead of a text: add_bos_token is false in tokenizer_config.json", "texts end at 1 '<|eos|>'"]),
    ({"bos_token_id": 0, "eos_token_id": 1}, {"add_bos_token": True} | GENERIC, None, JSON, Conventions(0, True, 1, ()),
     ["texts begin with the token 0 '<|bos|>': add_bos_token is true in tokenizer_config.json", "texts end at 1 '<|eos|>'"]),
    ({"bos_token_id": 1, "eos_token_id": 2}, {"add_bos_token": False}, None, PIECES, Conventions(1, False, 2, ()),
     ["no BOS is put ahead of a text: add_bos_token is false in tokenizer_config.json", "texts end at 2 '</s>'"]),
    # The post-processor; some classes make it anew from add_bos_token.
    ({"bos_token_id": 0, "eos_token_id": 1}, GENERIC, None, BOS_FIRST, Conventions(0, True, 1, ()),
     ["texts begin with the token 0 '<|bos|>': the post_processor of tokenizer.json", "texts end at 1 '<|eos|>'"]),
    ({"bos_token_id": 0, "eos_token_id": 1}, {"add_bos_token": False} | GENERIC, None, BOS_FIRST, Conventions(0, True, 1, ()),
     ["texts begin with the token 0 '<|bos|>': the post_processor of tokenizer.json, though add_bos_token is false: "
      "PreTrainedTokenizerFast does not look at it", "texts end at 1 '<|eos|>'"]),
    ({"bos_token_id": 0, "eos_token_id": 1}, {"add_bos_token": False, "tokenizer_class": "LlamaTokenizerFast"}, None, BOS_FIRST,
     Conventions(0, False, 1, ()),
     ["the post_processor of tokenizer.json puts a token ahead of a text; LlamaTokenizerFast goes by add_bos_token",
      "no BOS is put ahead of a text: add_bos_token is false in tokenizer_config.json", "texts end at 1 '<|eos|>'"]),
    ({"bos_token_id": 0, "eos_token_id": 1}, {"add_bos_token": True, "tokenizer_class": "GPTNeoXTokenizer"}, None, framed("$A"),
     Conventions(0, True, 1, ()),
     ["the post_processor of tokenizer.json puts no token ahead of a text; GPTNeoXTokenizer goes by add_bos_token",
      "texts begin with the token 0 '<|bos|>': add_bos_token is true in tokenizer_config.json", "texts end at 1 '<|eos|>'"]),
    ({"bos_token_id": 0, "eos_token_id": 1}, GENERIC, None, JSON, Conventions(0, False, 1, ()),
     ["no BOS is put ahead of a text: tokenizer.json has no post_processor, and PreTrainedTokenizerFast puts nothing there",
      "texts end at 1 '<|eos|>'"]),
    # Which token BOS is.
    ({"bos_token_id": 5, "eos_token_id": 1}, {"bos_token": {"content": "<|bos|>"}} | GENERIC, None, BOS_FIRST,
     Conventions(0, True, 1, ()),
     ["BOS is 0 by the tokenizer's configuration and 5 by the model's; a text begins as the tokenizer says",
      "texts begin with the token 0 '<|bos|>': the post_processor of tokenizer.json", "texts end at 1 '<|eos|>'"]),
    ({"bos_token_id": 5, "eos_token_id": 1}, GENERIC, None, BOS_FIRST, Conventions(0, True, 1, ()),
     ["BOS is 5 by its name, and the post_processor of tokenizer.json puts 0 ahead: 0 it is",
      "texts begin with the token 0 '<|bos|>': the post_processor of tokenizer.json", "texts end at 1 '<|eos|>'"]),
    ({"bos_token_id": None, "eos_token_id": 1}, GENERIC, None, BOS_FIRST, Conventions(0, True, 1, ()),
     ["texts begin with the token 0 '<|bos|>': the post_processor of tokenizer.json", "texts end at 1 '<|eos|>'"]),
    ({"bos_token_id": [4], "eos_token_id": 1}, {"bos_token": None}, {"bos_token_id": 4}, JSON, Conventions(4, True, 1, ()),
     ["texts begin with the token 4 '#': LlamaTokenizer puts it there", "texts end at 1 '<|eos|>'"]),
    ({"bos_token_id": None, "eos_token_id": 1}, None, None, JSON, Conventions(None, False, 1, ()),
     ["no BOS is put ahead of a text: none is known", "texts end at 1 '<|eos|>'"]),
    # All end tokens: config.json's first is the board's.
    ({"bos_token_id": 0, "eos_token_id": [9, 3, 9]}, {"eos_token": "<|eos|>"}, {"eos_token_id": [8, 3]}, JSON,
     Conventions(0, True, 9, (1, 3, 8)),
     ["texts begin with the token 0 '<|bos|>': LlamaTokenizer puts it there",
      "texts end at 9 '(', 1 '<|eos|>', 3 '\"', 8 \"'\""]),
    ({"bos_token_id": 0, "eos_token_id": None}, None, {"eos_token_id": 8}, JSON, Conventions(0, True, 8, ()),
     ["texts begin with the token 0 '<|bos|>': LlamaTokenizer puts it there", "texts end at 8 \"'\""]),
    ({"bos_token_id": 0}, {"eos_token": {"content": "<|eos|>"}}, None, JSON, Conventions(0, True, 1, ()),
     ["texts begin with the token 0 '<|bos|>': LlamaTokenizer puts it there", "texts end at 1 '<|eos|>'"]),
    ({"bos_token_id": 0},
     {"added_tokens_decoder": {"12": {"content": "<x>"}, "9" * 5000: {"content": "<y>"}}, "eos_token": "<x>"}, None, b"",
     Conventions(0, True, 12, ()),
     ["texts begin with the token 0: there is no tokenizer that says otherwise", "texts end at 12 '<x>'"]),
    ({"bos_token_id": 0, "eos_token_id": None}, None, None, JSON, Conventions(0, True, None, ()),
     ["texts begin with the token 0 '<|bos|>': LlamaTokenizer puts it there",
      "no end token is known: a text ends at the number of tokens that is asked for"]),
    ({"bos_token_id": 0, "eos_token_id": 1}, {"eos_token": "</s>"}, None, JSON, Conventions(0, True, 1, ()),
     ["{folder}/tokenizer_config.json: eos_token is '</s>', which is no token of the model's: not taken",
      "texts begin with the token 0 '<|bos|>': LlamaTokenizer puts it there", "texts end at 1 '<|eos|>'"]),
    # The architecture's own.
    ({}, None, None, PIECES, Conventions(1, True, 2, ()),
     ["config.json has no bos_token_id: 1, as the architecture has it",
      "config.json has no eos_token_id: 2, as the architecture has it",
      "texts begin with the token 1 '<s>': tokenizers of this kind do so", "texts end at 2 '</s>'"]),
])
def test_folders(config, pieces, generation, tokenizer, wanted, heard, tmp_path):
    vocab = SHIPPED.config.vocab if tokenizer is PIECES else VOCAB
    found, said = of_folder(tmp_path, config, pieces, generation, tokenizer=tokenizer, vocab=vocab)
    assert said == [text.format(folder=tmp_path) for text in heard]
    assert found == wanted


def test_the_architectures_own_tokens_are_only_taken_where_they_are(tmp_path):
    found, heard = of_folder(tmp_path, {}, architecture=BITNET)
    assert found == Conventions(None, False, None, ())
    assert heard == ["no BOS is put ahead of a text: none is known",
                     "no end token is known: a text ends at the number of tokens that is asked for"]
    found, heard = of_folder(tmp_path, {}, architecture=BITNET, vocab=128256)
    assert found == Conventions(None, False, 128001, ())
    found, heard = of_folder(tmp_path, {}, architecture=BITNET, vocab=128256, tokenizer=b"")
    assert found == Conventions(128000, True, 128001, ())


def test_qwen3_has_no_tokens_of_its_own(tmp_path):
    none = Conventions(None, False, None, ())
    assert of_folder(tmp_path, {}, architecture="Qwen3ForCausalLM", vocab=151936)[0] == none
    found, heard = of_folder(tmp_path, {"bos_token_id": 0, "eos_token_id": 1}, {"bos_token": None, "eos_token": "<|eos|>"},
                             architecture="Qwen3ForCausalLM")
    assert found == Conventions(0, False, 1, ())
    assert heard[0] == ("no BOS is put ahead of a text: tokenizer.json has no post_processor, and Qwen2Tokenizer puts nothing "
                        "there")


def test_older_folders_name_the_tokens_in_a_file_of_their_own(tmp_path):
    (tmp_path / "special_tokens_map.json").write_text('{"bos_token": "<|bos|>", "eos_token": {"content": "<|eos|>"}}')
    assert of_folder(tmp_path, {})[0] == Conventions(0, True, 1, ())
    assert of_folder(tmp_path, {}, {"bos_token": None, "eos_token": "!"})[0] == Conventions(None, False, 2, ())
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "special_tokens_map.json").write_text('{"eos_token": ["</s>"]}')
    with pytest.raises(ModelError) as caught:
        of_folder(tmp_path, {})
    assert str(caught.value) == f"{tmp_path}/special_tokens_map.json: eos_token is ['</s>'], which is no token"


@pytest.mark.parametrize(("config", "pieces", "generation", "tokenizer", "message"), [
    ({"eos_token_id": 300}, None, None, JSON, "config.json: eos_token_id is 300, outside the vocabulary of 300"),
    ({"eos_token_id": [1, -1]}, None, None, JSON, "config.json: eos_token_id is -1, outside the vocabulary of 300"),
    ({"eos_token_id": 1, "bos_token_id": "0"}, None, None, JSON, "config.json: bos_token_id is '0', which is no token id"),
    ({"eos_token_id": [True]}, None, None, JSON, "config.json: eos_token_id is [True], which is no token id"),
    ({"eos_token_id": 1}, None, {"eos_token_id": 1.0}, JSON, "generation_config.json: eos_token_id is 1.0, which is no token id"),
    ({"eos_token_id": 1, "bos_token_id": [0, 1]}, None, None, JSON,
     ": BOS is one of 0, 1 by config.json and generation_config.json: tokenizer_config.json's bos_token has to say which"),
    ({"eos_token_id": 1}, {"eos_token": 7}, None, JSON, "tokenizer_config.json: eos_token is 7, which is no token"),
    ({"eos_token_id": 1}, {"bos_token": {"a": 1}}, None, JSON, "tokenizer_config.json: bos_token is {'a': 1}, which is no token"),
    ({"eos_token_id": 1}, {"add_bos_token": 1}, None, JSON,
     "tokenizer_config.json: add_bos_token is 1, which is neither true nor false"),
    ({"eos_token_id": 1}, {"add_eos_token": True}, None, JSON,
     "tokenizer_config.json: add_eos_token is True, which ends each prompt: set it to false"),
    ({"eos_token_id": 1, "bos_token_id": None}, {"add_bos_token": True}, None, JSON,
     "tokenizer_config.json: add_bos_token is True, and no bos_token is known: name it, or set add_bos_token to false"),
    ({"eos_token_id": 1}, {"tokenizer_class": 3}, None, JSON,
     "tokenizer_config.json: tokenizer_class is 3, which is no name of a class"),
    ({"eos_token_id": 1}, GENERIC, None, framed("<|bos|> $A <|eos|>", **{"<|bos|>": 0, "<|eos|>": 1}),
     ": the post_processor of the tokenizer.json puts '<|eos|>' behind a text, and one token ahead of a text is "
     "what is known: give another tokenizer file of the model"),
    ({"eos_token_id": 1}, GENERIC, None, framed("<|bos|> <|bos|> $A"),
     ": the post_processor of the tokenizer.json puts '<|bos|>' '<|bos|>' ahead of a text, and one token ahead "
     "of a text is what is known: give another tokenizer file of the model"),
])
def test_folders_that_are_refused(config, pieces, generation, tokenizer, message, tmp_path):
    with pytest.raises(ModelError) as caught:
        of_folder(tmp_path, config, pieces, generation, tokenizer=tokenizer)
    assert str(caught.value) == f"{tmp_path}{'' if message[0] == ':' else '/'}{message}"


TOKENS = ["<unk>", "<s>", "</s>", "a", "<|im_end|>", "b", "c", "d", "e", "f", "g", ",", "h"]
TYPES = [2, 3, 3, 1, 3, 1, 1, 1, 1, 1, 1, 1, 1]


def of_gguf(fields, *, tokenizer=b"", vocab=20):
    heard = []
    values = {key if "." in key else f"tokenizer.ggml.{key}": value for key, value in fields.items()}
    return conventions_of_gguf(lambda key, default: values.get(key, default), tokenizer, vocab, "m.gguf", heard.append), heard


SPM = {"model": "llama", "tokens": TOKENS, "token_type": TYPES}
BPE = {"model": "gpt2", "tokens": ["<|bos|>", "<|eos|>", *"cdefghijk,"], "token_type": [3, 3, *[1] * 10]}
LLAMA3 = {"model": "gpt2", "pre": "llama-bpe", "tokens": ["x", "<|end_of_text|>", "<|eom_id|>", "<|eot_id|>", "</s>"],
          "token_type": [1, 3, 3, 4, 1], "bos_token_id": 0}


@pytest.mark.parametrize(("fields", "wanted", "heard"), [
    (SPM | {"bos_token_id": 1, "eos_token_id": 2}, Conventions(1, True, 2, (4,)),
     ["the token 4 '<|im_end|>' ends a text by its name, as in llama.cpp",
      "texts begin with the token 1 '<s>': so llama.cpp does with tokenizers of the kind llama",
      "texts end at 2 '</s>', 4 '<|im_end|>'"]),
    # llama.cpp's defaults, where they are special tokens.
    (SPM, Conventions(1, True, 2, (4,)),
     ["m.gguf has no tokenizer.ggml.bos_token_id: 1, as llama.cpp takes it",
      "m.gguf has no tokenizer.ggml.eos_token_id: 2, as llama.cpp takes it",
      "the token 4 '<|im_end|>' ends a text by its name, as in llama.cpp",
      "texts begin with the token 1 '<s>': so llama.cpp does with tokenizers of the kind llama",
      "texts end at 2 '</s>', 4 '<|im_end|>'"]),
    (BPE, Conventions(None, False, None, ()),
     ["no BOS is put ahead of a text: so llama.cpp does with tokenizers of the kind gpt2",
      "no end token is known: a text ends at the number of tokens that is asked for"]),
    (BPE | {"bos_token_id": 0, "eos_token_id": 1, "pre": "gpt-2"}, Conventions(0, False, 1, ()),
     ["no BOS is put ahead of a text: so llama.cpp does with tokenizers of the kind gpt-2", "texts end at 1 '<|eos|>'"]),
    (BPE | {"bos_token_id": 0, "eos_token_id": 1, "add_bos_token": True}, Conventions(0, True, 1, ()),
     ["texts begin with the token 0 '<|bos|>': tokenizer.ggml.add_bos_token is true", "texts end at 1 '<|eos|>'"]),
    (BPE | {"bos_token_id": 0, "eos_token_id": 1, "pre": "llama-bpe", "add_bos_token": False}, Conventions(0, False, 1, ()),
     ["no BOS is put ahead of a text: tokenizer.ggml.add_bos_token is false", "texts end at 1 '<|eos|>'"]),
    (BPE | {"eos_token_id": 1, "pre": "llama-bpe"}, Conventions(None, False, 1, ()),
     ["no BOS is put ahead of a text: none is known", "texts end at 1 '<|eos|>'"]),
    # End of turn and of message, by keys and by names; a plain token is none by its name.
    (LLAMA3 | {"eos_token_id": 1}, Conventions(0, True, 1, (2, 3)),
     ["the token 2 '<|eom_id|>' ends a text by its name, as in llama.cpp",
      "the token 3 '<|eot_id|>' ends a text by its name, as in llama.cpp",
      "the token 4 '</s>' looks as if it ended a text, but is no special token: not taken",
      "texts begin with the token 0 'x': so llama.cpp does with tokenizers of the kind llama-bpe",
      "texts end at 1 '<|end_of_text|>', 2 '<|eom_id|>', 3 '<|eot_id|>'"]),
    (SPM | {"eos_token_id": 4, "eot_token_id": 5, "eom_token_id": 2}, Conventions(1, True, 4, (2, 5)),
     ["m.gguf has no tokenizer.ggml.bos_token_id: 1, as llama.cpp takes it",
      "texts begin with the token 1 '<s>': so llama.cpp does with tokenizers of the kind llama",
      "texts end at 4 '<|im_end|>', 2 '</s>', 5 'b'"]),
    (SPM | {"tokens": ["<|end|>", "<|return|>", "<|call|>"], "token_type": [3, 3, 3], "eos_token_id": 1, "add_bos_token": False},
     Conventions(None, False, 1, (2,)),
     ["the token 2 '<|call|>' ends a text by its name, as in llama.cpp",
      "no BOS is put ahead of a text: tokenizer.ggml.add_bos_token is false", "texts end at 1 '<|return|>', 2 '<|call|>'"]),
    # All of them, by this program.
    (SPM | {"bos_token_id": 1, "eos_token_id": 1, END_TOKENS: [1, 12]}, Conventions(1, True, 1, (12,)),
     ["texts begin with the token 1 '<s>': so llama.cpp does with tokenizers of the kind llama", "texts end at 1 '<s>', 12 'h'"]),
    # No tokenizer in the file.
    ({"model": "no_vocab", "bos_token_id": 3, "eos_token_id": 4}, Conventions(3, True, 4, ()),
     ["texts begin with the token 3: there is no tokenizer that says otherwise", "texts end at 4"]),
    ({"bos_token_id": 3, "add_bos_token": False}, Conventions(3, False, None, ()),
     ["no BOS is put ahead of a text: tokenizer.ggml.add_bos_token is false",
      "no end token is known: a text ends at the number of tokens that is asked for"]),
])
def test_gguf(fields, wanted, heard):
    found, said = of_gguf(fields)
    assert said == heard
    assert found == wanted


def test_a_tokenizer_that_is_given_says_whether_bos_is_put_ahead():
    begin, none = "texts begin with the token 0: ", "no BOS is put ahead of a text: "
    of_it, without = "the post_processor of tokenizer.json", "there is no tokenizer that says otherwise"
    for tokenizer, ahead, heard in ((BOS_FIRST, True, begin + of_it), (framed("$A"), False, none + of_it),
                                    (JSON, True, begin + without), (PIECES, True, begin + without)):
        assert of_gguf({"bos_token_id": 0, "eos_token_id": 1}, tokenizer=tokenizer) == (
            Conventions(0, ahead, 1, ()), [heard, "texts end at 1"])


@pytest.mark.parametrize(("fields", "message"), [
    ({"eos_token_id": 20}, "tokenizer.ggml.eos_token_id is 20, outside the vocabulary of 20"),
    ({"eot_token_id": 2**32 - 1}, "tokenizer.ggml.eot_token_id is 4294967295, outside the vocabulary of 20"),
    ({"bos_token_id": "1"}, "tokenizer.ggml.bos_token_id is '1', which is no token id"),
    ({"eom_token_id": True}, "tokenizer.ggml.eom_token_id is True, which is no token id"),
    ({"add_bos_token": 1}, "tokenizer.ggml.add_bos_token is 1, which is neither true nor false"),
    ({"add_eos_token": True}, "tokenizer.ggml.add_eos_token is True, which ends each prompt: write the file anew with false"),
    ({"add_sep_token": True}, "tokenizer.ggml.add_sep_token is True, which ends each prompt: write the file anew with false"),
    ({END_TOKENS: 3}, "tellme.end_token_ids is 3, which is no list of token ids"),
    ({END_TOKENS: [3, 77]}, "tellme.end_token_ids is 77, outside the vocabulary of 20"),
])
def test_gguf_files_that_are_refused(fields, message):
    with pytest.raises(ModelError) as caught:
        of_gguf(SPM | fields)
    assert str(caught.value) == f"m.gguf: {message}"


@pytest.mark.parametrize("content", [JSON, BOS_FIRST, framed("$A <|eos|>", **{"<|eos|>": 1})])
def test_a_tokenizer_json_puts_ahead_what_is_wanted(content):
    for ahead, wanted in ((None, []), (0, [0]), (9, [9])):
        got = with_frame(content, ahead)
        assert (frame_of(got) or ([], [])) == (wanted, [])
        made, before = (tokenizers.Tokenizer.from_str(c.decode()) for c in (got, content))
        for text in ("", "the cat  sat", "<|eos|>x"):
            assert made.encode(text).ids == wanted + before.encode(text, add_special_tokens=False).ids
        assert with_frame(got, ahead) is got


def special(kind="llama", tokens=TOKENS, types=TYPES, **fields):
    heard = []
    config = ModelConfig(dim=64, ffn=96, layers=2, heads=4, kv_heads=2, head_dim=16, vocab=20, context=24)
    return *gguf_special_tokens(replace(config, **fields), kind, tokens, types, heard.append), heard


@pytest.mark.parametrize(("fields", "wanted"), [
    ({"more_ends": (4,)}, ({"bos": 1, "eos": 2, "eot": 4}, [], [])),
    ({"more_ends": (4,), "bos": None, "add_bos": False}, ({"eos": 2, "eot": 4}, [], [])),
    # 4 is known by its name, so that the keys are for the others.
    ({"more_ends": (4, 7, 9)}, ({"bos": 1, "eos": 2, "eot": 7, "eom": 9}, [], [])),
    ({"eos": 1}, ({"bos": 1, "eos": 1}, [1], ["llama.cpp will end texts also at 2 '</s>', 4 '<|im_end|>', by name"])),
    ({"eos": 2}, ({"bos": 1, "eos": 2}, [2], ["llama.cpp will end texts also at 4 '<|im_end|>', by name"])),
    ({"kind": "", "tokens": [], "types": [], "more_ends": (5, 17)}, ({"bos": 1, "eos": 2, "eot": 5, "eom": 17}, [], [])),
    ({"kind": "", "tokens": [], "types": [], "eos": None}, ({"bos": 1}, [], [])),
    ({"kind": "gpt2", "tokens": LLAMA3["tokens"], "types": LLAMA3["token_type"], "eos": 1, "more_ends": (2, 3, 4)},
     ({"bos": 1, "eos": 1, "eom": 2, "eot": 4}, [], [])),
    ({"kind": "gpt2", "tokens": [*"abc"], "types": [1, 1, 1], "eos": None}, ({"bos": 1}, [], [])),
])
def test_special_tokens_for_gguf(fields, wanted):
    assert special(**fields) == wanted


@pytest.mark.parametrize(("fields", "message"), [
    ({"more_ends": (4, 7, 9, 12)}, "the model ends texts at 5 tokens; a GGUF file names three, and llama.cpp knows some by their "
     "texts, but not 12 'h': export to hf"),
    ({"eos": None}, "the model has no end token, and llama.cpp would end texts at 2 '</s>': export to hf"),
    ({"kind": "gpt2", "tokens": TOKENS, "eos": None},
     "the model has no end token, and llama.cpp would end texts at 11 ',': export to hf"),
    ({"kind": "gpt2", "tokens": ["<EOT>"], "types": [spm.NORMAL], "eos": None},
     "the model has no end token, and llama.cpp would end texts at 0 '<EOT>': export to hf"),
])
def test_what_gguf_cannot_say_is_refused(fields, message):
    with pytest.raises(ModelError) as caught:
        special(**fields)
    assert str(caught.value) == message


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_gguf_there_and_back_or_refused(data):
    draw = data.draw
    tokens = draw(st.lists(st.sampled_from(("<s>", "</s>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|call|>",
                                            "<|return|>", *"abcdefgh")), min_size=3, unique=True))
    types = [draw(st.sampled_from((spm.NORMAL, spm.CONTROL, spm.USER_DEFINED, spm.UNUSED))) for _ in tokens]
    ids, kind = st.integers(0, len(tokens) - 1), draw(st.sampled_from(("llama", "gpt2")))
    bos, ends = draw(st.none() | ids), draw(st.lists(ids, unique=True, max_size=5))
    wanted = Conventions.of(bos, bos is not None and draw(st.booleans()), ends)
    config = ModelConfig(dim=64, ffn=96, layers=2, heads=4, kv_heads=2, head_dim=16, vocab=len(tokens), context=24,
                         **asdict(wanted))
    config.check()
    try:
        keys, every = gguf_special_tokens(config, kind, tokens, types, print)
    except ModelError as error:
        assert len(ends) > 3 or not ends
        assert str(error).endswith(": export to hf")
        return
    fields = {"model": kind, "tokens": tokens, "token_type": types, "add_bos_token": wanted.add_bos}
    fields |= {f"{key}_token_id": token for key, token in keys.items()} | ({END_TOKENS: every} if every else {})
    assert of_gguf(fields, vocab=len(tokens))[0] == wanted
