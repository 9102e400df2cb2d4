# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Chat templates: kept from checkpoint to container to export, rendered as transformers does, and harmless."""

import json
from dataclasses import replace
from datetime import datetime

import pytest

import tellme
from tellme.cli import main
from tellme.errors import InputError
from tellme.models import Model, ModelError
from tellme.models.chat import ChatTemplate, NoTemplateError, chat_tokens
from tellme.models.container import Container
from tellme.models.exporters.exporting import export
from tellme.models.importers.chat_template import MAX_BYTES
from tellme.models.importers.checkpoints import open_checkpoint
from tellme.models.importers.importing import Options
from tellme.models.tokenizers.tokenizer import Tokenizer
from tellme.runtime.chat import Chat
from tellme.runtime.device import GoldenDevice
from tests.models.folders import byte_level_json, folder, kind_model, tensors_of
from tests.models.test_gguf import LLAMA, gguf_model, write_gguf

STORIES = tellme.find_model("stories-1m")
TOKENIZER = Tokenizer(STORIES.tokenizer)
USER = [{"role": "user", "content": "Hello <b>&\u2603"}]


def template(source, **conventions):
    model = replace(STORIES, chat_template=source, config=replace(STORIES.config, **conventions))
    return ChatTemplate(model, TOKENIZER)


# ---------------------------------------------------------------------- rendering
@pytest.mark.parametrize(("source", "text"), [
    # Blocks take their line's white space and line end along.
    ("{% for m in messages %}\n  {% if true %}\n{{ m.content }}\n  {% endif %}\n{% endfor %}", "Hello <b>&\u2603\n"),
    ("{{ bos_token }}|{{ eos_token }}", "<s>|</s>"),
    ("{{ messages[0] | tojson }}", '{"role": "user", "content": "Hello <b>&\u2603"}'),
    ("{{ [1] | tojson(indent=2) }}", "[\n  1\n]"),
    ("{% if add_generation_prompt %}yes{% endif %}{{ tools is none }}", "yesTrue"),
    ("{% generation %}a{{ messages[0].role }}{% endgeneration %}", "auser"),
    ("{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}", "012"),
    ("{% set ns = namespace(a=1) %}{% set ns.a = 2 %}{{ ns.a }}", "2"),
    ("{{ undefined_name }}", ""),
])
def test_rendered_as_transformers_does(source, text):
    assert template(source, eos=2).render(USER) == text


def test_the_clock():
    assert template("{{ strftime_now('%Y') }}").render(USER) == str(datetime.now().year)


def test_without_a_generation_prompt():
    assert template("{% if add_generation_prompt %}x{% endif %}").render(USER, add_generation_prompt=False) == ""


def test_what_a_template_refuses():
    with pytest.raises(InputError, match="refuses these messages: roles must alternate"):
        template("{{ raise_exception('roles must alternate') }}").render(USER)


@pytest.mark.parametrize("source", [
    "{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ messages[0].update(a=1) }}", "{{ 1 / 0 }}",
    "{{ range(10000000) | list }}", "{{ raise_exception.__globals__ }}", "{% include 'x' %}", "{{ cycler.__init__ }}",
    "{{ '{0.__class__}'.format(1) }}",
])
def test_what_the_sandbox_keeps(source):
    try:
        # What the sandbox denies is undefined, or an error.
        assert template(source).render(USER) == ""
    except ModelError as error:
        assert "the chat template of stories-1m fails" in str(error)


def test_what_is_no_template():
    with pytest.raises(ModelError, match="is no Jinja template: "):
        template("{% for %}")
    with pytest.raises(NoTemplateError, match="is a base model"):
        template("")


# ---------------------------------------------------------------------- tokens
def test_control_tokens_of_sentencepiece_are_found():
    ids = chat_tokens(TOKENIZER, "<s>Hello there</s><s>Lily")
    assert ids == [1, *TOKENIZER.encode("Hello there"), 2, 1, *TOKENIZER.encode("Lily")]
    assert 1 not in TOKENIZER.encode("<s>Hello")


def test_special_tokens_of_a_tokenizer_json_are_found():
    tokenizer = Tokenizer(byte_level_json())
    ids = chat_tokens(tokenizer, "<|bos|>the cat<|eos|>")
    assert (ids[0], ids[-1]) == (0, 1) and tokenizer.decode(ids) == "the cat"


# ---------------------------------------------------------------------- files
@pytest.fixture
def checkpoint(tmp_path):
    return folder(tmp_path / "hf", "trilm", tensors_of("trilm", kind_model("trilm"))[0])


def found(path, **options):
    return open_checkpoint(path, Options(**options), lambda text: None).chat_template


def test_of_a_folder(checkpoint):
    assert found(checkpoint) == ""
    config = checkpoint / "tokenizer_config.json"
    config.write_text(json.dumps({"chat_template": "one {{ messages }}"}))
    assert found(checkpoint) == "one {{ messages }}"
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    config.write_text(json.dumps({"chat_template": named}))
    assert found(checkpoint) == "d"
    # The file of its own counts first, line ends as they are.
    (checkpoint / "chat_template.jinja").write_bytes("two\r\n\u2603".encode())
    assert found(checkpoint) == "two\r\n\u2603" and found(checkpoint, no_tokenizer=True) == ""


@pytest.mark.parametrize(("name", "content", "message"), [
    ("tokenizer_config.json", b'{"chat_template": 3}', "chat_template is a int, and a text is wanted"),
    ("tokenizer_config.json", b'{"chat_template": [{"name": "x", "template": "y"}]}', "without a template named 'default'"),
    ("tokenizer_config.json", b'{"chat_template": [{"name": ["default"], "template": "y"}]}', "a template named 'default'"),
    ("chat_template.jinja", b"\xff", "is no UTF-8"), ("chat_template.jinja", b" " * (MAX_BYTES + 1), "up to 1048576 are taken"),
])
def test_of_a_folder_that_is_wrong(checkpoint, name, content, message):
    (checkpoint / name).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        found(checkpoint)


def test_of_a_gguf_file(tmp_path):
    path = tmp_path / "m.gguf"
    write_gguf(path, gguf_model(LLAMA), "TQ2_0", fields=[("tokenizer.chat_template", "{{ messages }}\u2603")])
    assert found(path) == "{{ messages }}\u2603"


@pytest.mark.parametrize("form", ["hf", "gguf-f16"])
def test_there_and_back(checkpoint, tmp_path, form):
    (checkpoint / "chat_template.jinja").write_bytes("{{ bos_token }}\n\u2603".encode())
    path = tmp_path / "m.tellme"
    assert main(["convert", str(checkpoint), "-o", str(path)]) == 0
    assert Model.load(path).chat_template == Container(path).chat_template == "{{ bos_token }}\n\u2603"
    out = tmp_path / "exported"
    export(Model.load(path), out, form, lambda: None)
    assert found(out) == "{{ bos_token }}\n\u2603"


def test_a_file_without_one_is_what_it_was(tmp_path):
    """Not a byte changes where there is no template; with one, the version does not: older programs read the file."""
    one, two = tmp_path / "one.tellme", tmp_path / "two.tellme"
    STORIES.save(one)
    replace(STORIES, chat_template="x").save(two)
    assert b"chat_template" not in one.read_bytes()
    assert b'"format_version":"1"' in one.read_bytes() and b'"format_version":"1"' in two.read_bytes()


def test_inspect(tmp_path, capsys):
    path = tmp_path / "m.tellme"
    replace(STORIES, chat_template="{{ messages }}").save(path)
    for name, text, as_json in ((str(path), "14 characters", "{{ messages }}"), ("stories-1m", "none: a base model", None)):
        assert main(["inspect", name]) == 0
        assert f"chat template    {text}\n" in capsys.readouterr().out
        assert main(["inspect", name, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["chat_template"] == as_json


# ---------------------------------------------------------------------- a chat
CHAT = replace(STORIES, chat_template="{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}"
                                      "{% if add_generation_prompt %}<s>{% endif %}")
#: With an answer's beginning in the generation prompt, as most templates have it: a chat begins with the text of each prompt.
TURNS = replace(STORIES, chat_template="{% for m in messages %}<s>{{ m.role }}:{{ m.content }}</s>{% endfor %}"
                                       "{% if add_generation_prompt %}<s>assistant:{% endif %}")


def test_an_answer_is_kept_as_it_was_picked():
    """Also where its text would be encoded as other tokens; but not where the template goes on without a control token."""
    session = tellme.Board(GoldenDevice()).load(TURNS)
    talk = Chat(session)
    first = talk.say("Hello", max_tokens=5, sampling=tellme.Sampling(temperature=3.0, seed=2))
    answer = first.text
    picked = first.generation.generated
    assert session.tokenizer.encode(answer) != picked
    talk.answered(answer)
    second = talk.say("And you?", max_tokens=1)
    want = ChatTemplate(TURNS, session.tokenizer).tokens([{"role": "user", "content": "And you?"}])[1:]
    assert second.generation.prompt == [*first.generation.prompt, *picked, 2, 1, *want]
    # An answer that the person changed, or cut, is what its text says.
    talk.take_back()
    talk.messages.pop()
    talk.answered("Well.")
    third = talk.say("And you?", max_tokens=1)
    assert third.generation.prompt == ChatTemplate(TURNS, session.tokenizer).tokens(talk.messages)


def test_an_end_token_is_there_once():
    """Where the model ended its turn, the template's own end token counts."""
    assert TOKENIZER.text(2) == "</s>"
    talk = Chat(tellme.Board(GoldenDevice()).load(replace(TURNS, config=replace(TURNS.config, eos=2))))
    first = talk.say("Hello", max_tokens=3)
    answer, picked = first.text, list(first.generation.generated)
    first.generation.generated.append(2)
    talk.answered(answer)
    second = talk.say("And you?", max_tokens=1)
    assert second.generation.prompt[len(first.generation.prompt):][:6] == [*picked, 2, 1, TOKENIZER.encode("user")[0]]


def test_turns():
    session = tellme.Board(GoldenDevice()).load(CHAT)
    talk = Chat(session, "Be kind.")
    first = talk.say("Hello", max_tokens=6)
    answer = first.text
    talk.answered(answer)
    assert talk.messages == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"},
                             {"role": "assistant", "content": answer}]
    second = talk.say("And you?", max_tokens=6)
    ids = second.generation.prompt
    assert second.text and second.stats["cached_tokens"] >= len(first.generation.prompt) - 1
    alone = tellme.Board(GoldenDevice()).load(CHAT).generate(ids, max_tokens=6)
    assert [t.id for t in alone] == second.generation.generated
    # The last turn said otherwise: all ahead of it stays in the cache.
    talk.answered("x")
    assert talk.take_back() == "And you?" and len(talk.messages) == 3
    third = talk.say("Who?", max_tokens=2)
    assert third.text is not None and third.stats["cached_tokens"] > len(first.generation.prompt)
    talk.reset()
    assert talk.messages == [{"role": "system", "content": "Be kind."}]
    with pytest.raises(InputError, match="no turn to take back"):
        talk.take_back()


def test_a_turn_that_is_too_long_changes_nothing():
    talk = Chat(tellme.Board(GoldenDevice()).load(CHAT))
    with pytest.raises(InputError, match="context holds 512"):
        talk.say("cat " * 600)
    assert talk.messages == []
