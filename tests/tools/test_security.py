# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What SECURITY.md promises of the host package as a whole: no pickles, no code from files, no network unless asked; and that the
demo's packages are those of pyproject.toml and constraints.txt, each with its hash."""

import ast
import json
import pickle
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from coverage import CoverageData
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tellme.models import ModelError
from tellme.models.importers.checkpoints import open_checkpoint
from tellme.models.importers.importing import Options
from tools import coverage_host

ROOT = Path(__file__).resolve().parents[2]
HOST = sorted((ROOT / "sw" / "tellme").rglob("*.py"))
#: Modules that run what a file says, or that fetch what nobody asked for.
NO_MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml", "torch",
              "urllib.request", "http.client", "ftplib", "smtplib", "requests", "httpx", "aiohttp", "huggingface_hub",
              "transformers"}
NO_CALLS = {"eval", "exec", "compile", "__import__", "from_pretrained", "snapshot_download", "hf_hub_download", "urlopen"}
#: Modules that may open sockets, because a command asks for it: the server listens.
SOCKETS = {"cli/serve.py"}


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def faults(source, name):
    """What of a module is against the rules."""
    tree, out = ast.parse(source), []
    for module in imported(tree):
        if any(module == bad or module.startswith(f"{bad}.") for bad in NO_MODULES):
            out.append(f"imports {module}")
        if module.split(".")[0] == "socket" and name not in SOCKETS:
            out.append("imports socket")
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = getattr(node.func, "id", "") or getattr(node.func, "attr", "")
        plain = isinstance(node.func, ast.Name)
        if called in NO_CALLS and (plain or called not in ("eval", "exec", "compile")):
            out.append(f"calls {called}")
        if called == "load" and isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "np" and not any(
                word.arg == "allow_pickle" and getattr(word.value, "value", None) is False for word in node.keywords):
            out.append("np.load without allow_pickle=False")
        if any(word.arg == "shell" and getattr(word.value, "value", None) is not False for word in node.keywords
               if called != "shellcode"):
            out.append("a shell")
    return out


def test_no_pickles_no_code_no_network_in_the_source():
    assert len(HOST) > 100
    for path in HOST:
        name = path.relative_to(ROOT / "sw" / "tellme").as_posix()
        assert not faults(path.read_text(), name), name


@pytest.mark.parametrize("source", ["import pickle", "from torch import load", "import urllib.request", "eval('1')",
                                    "np.load(path)", "np.load(path, allow_pickle=True)", "run('ls', shell=True)", "import socket",
                                    "tokenizers.Tokenizer.from_pretrained('x')"])
def test_the_rules_see(source):
    assert faults(source, "models/x.py")
    assert not faults("import json\nnp.load(path, allow_pickle=False)\nre.compile('x')", "models/x.py")


def test_a_pickle_is_refused_and_not_run(tmp_path):
    """Under each name that checkpoints have: as a file, and in a folder."""
    ran = tmp_path / "ran"

    class Bomb:
        def __reduce__(self):
            return open, (str(ran), "w")

    (tmp_path / "hf").mkdir()
    fields = dict.fromkeys(("hidden_size", "intermediate_size", "vocab_size", "max_position_embeddings"), 4)
    fields |= {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1, "num_attention_heads": 1}
    (tmp_path / "hf" / "config.json").write_text(json.dumps(fields))
    for name in ("hf/pytorch_model.bin", "model.pt", "model.pth", "model.ckpt", "m.safetensors", "m.gguf"):
        path = tmp_path / name
        path.write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(ModelError, match="pickles, which can run code" if "hf/" in name else "is neither|is no "):
            open_checkpoint(path.parent if "hf/" in name else path, Options(no_tokenizer=True), lambda text: None)
        if "hf/" not in name:
            path.unlink()
    with pytest.raises(ValueError, match="allow_pickle=False"):
        np.save(tmp_path / "a.npy", np.array([Bomb()], object))
        np.load(tmp_path / "a.npy", allow_pickle=False)
    assert not ran.exists()


#: Runs in a Python of its own, in which whoever touches a socket ends the run.
ALONE = """
import importlib, os, pkgutil, sys, tempfile
from pathlib import Path
events = []
def hook(event, args):
    if event.startswith(("socket.", "urllib.", "http.", "ftplib.", "smtplib.")) and event not in ("socket.__new__",):
        events.append(event)
        raise RuntimeError(f"the network: {event} {args}")
    if event == "socket.__new__" and args[1] != 1:
        events.append(event)
        raise RuntimeError(f"the network: {event} {args}")
sys.addaudithook(hook)
import tellme
for module in pkgutil.walk_packages(tellme.__path__, "tellme."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from tellme.models.importers.checkpoints import open_checkpoint
from tellme.models.importers.importing import Options
from tellme.runtime.device import GoldenDevice
from tests.models.folders import folder, kind_model, tensors_of
board = tellme.Board(GoldenDevice())
text = board.load(tellme.find_model("stories-1m")).generate("Once", max_tokens=3).text
at = folder(Path(tempfile.mkdtemp()) / "hf", "trilm", tensors_of("trilm", kind_model("trilm"))[0])
open_checkpoint(at, Options(), lambda line: None)
fetchers = ("huggingface_hub", "requests", "httpx", "transformers", "torch")
loaded = sorted(name for name in sys.modules if name.split(".")[0] in fetchers)
print(repr((bool(text), events, loaded)))
if sys.argv[1:] == ["touch"]:
    import socket
    socket.create_connection(("127.0.0.1", 9))
"""


def test_no_network_unless_asked():
    """All modules are imported, a text is made and a checkpoint with a tokenizer.json is read."""
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(True, [], [])\n"
    assert "the network: socket" in subprocess.run([sys.executable, "-c", ALONE, "touch"], cwd=ROOT, capture_output=True,
                                                   text=True).stderr


# ---------------------------------------------------------------- the demo's packages
def demo():
    """Name -> version, marker and hashes."""
    text = (ROOT / "requirements-demo.txt").read_text().replace("\\\n", " ")
    out = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            wanted = Requirement(re.sub(r"\s--hash=\S+", "", line))
            assert wanted.name not in out
            out[canonicalize_name(wanted.name)] = wanted, re.findall(r"--hash=sha256:([0-9a-f]{64})(?=\s|$)", line), line
    return out


def test_each_package_of_the_demo_has_a_version_and_hashes():
    for wanted, hashes, line in demo().values():
        assert re.fullmatch(r"==[^,*]+", str(wanted.specifier)), line
        assert hashes and len(hashes) == len(set(hashes)) == line.count("--hash="), line


def test_the_demo_and_pyproject_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = demo()
    for text in (*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["sim"],
                 *project["build-system"]["requires"]):
        wanted = Requirement(text)
        assert wanted.specifier.contains(str(found[canonicalize_name(wanted.name)][0].specifier)[2:]), text


def test_the_demo_and_the_constraints_agree():
    pinned = {canonicalize_name(line.partition("==")[0]): line.partition("==")[2].split(";")[0].strip()
              for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    for name, (wanted, _, _) in demo().items():
        assert pinned[name] == str(wanted.specifier)[2:], name


def test_make_demo_installs_by_hash():
    text = (ROOT / "Makefile").read_text()
    rule = re.search(r"^\.venv/demo: pyproject\.toml requirements-demo\.txt\n((?:\t.*\n)+)", text, re.M)[1]
    assert "--require-hashes --only-binary :all: -r requirements-demo.txt" in rule
    assert "--no-index --no-deps --no-build-isolation -e ." in rule and rule.count("pip install") == 2
    assert re.search(r"^demo: check \.venv/demo ", text, re.M)


# ---------------------------------------------------------------- the record of coverage
def test_the_record_of_coverage():
    file = {"summary": {"num_branches": 4, "covered_branches": 3, "num_statements": 9, "covered_lines": 8},
            "missing_branches": [[7, -5], [7, 9]]}
    none = {"summary": {"num_branches": 0, "covered_branches": 0, "num_statements": 1, "covered_lines": 1}}
    folders = {"cli": {"commit": "c" * 40, "failed": True, "left_out": ["b.py"]},
               "spec": {"commit": "d" * 40, "failed": False, "left_out": []}}
    found = coverage_host.record({"files": {"b.py": file, "a.py": none}}, folders)
    assert found["files"]["b.py"] == {"branches": 4, "taken": 3, "share": 0.75, "lines": 9, "run": 8, "from": [7]}
    assert (found["share"], found["below"], found["failed"], found["left_out"]) == (0.75, ["b.py"], ["cli"], {"cli": ["b.py"]})
    assert found["commits"] == {"cli": "c" * 40, "spec": "d" * 40}


def test_files_that_changed_since_a_folder_was_run_are_left_out(tmp_path):
    package = tmp_path / "sw" / "tellme" / "inner"
    package.mkdir(parents=True)
    for name in "ab":
        (package / f"{name}.py").write_text("A = 1\n")
    about = {"commit": "c", "failed": False, "sources": coverage_host.sources_of(tmp_path)}
    (tmp_path / "cli.json").write_text(json.dumps(about))
    assert coverage_host.kept(tmp_path, about["sources"]) == {"cli": {"commit": "c", "failed": False, "left_out": []}}
    # A line more, a file of another name, a new file.
    (package / "a.py").write_text("A = 1\nB = 2\n")
    (package / "b.py").rename(package / "d.py")
    (package / "c.py").touch()
    now = coverage_host.sources_of(tmp_path)
    assert coverage_host.kept(tmp_path, now)["cli"]["left_out"] == [f"sw/tellme/inner/{name}.py" for name in "acd"]


def test_counts_are_read_beside_a_run_that_goes_on(tmp_path, monkeypatch):
    """Counts of folders come together; those of the run, which lie beside, stay."""
    kept = tmp_path / "host"
    kept.mkdir()
    running = tmp_path / "data.machine.1.X"
    running.write_bytes(b"of a run")
    monkeypatch.setattr(coverage_host, "KEPT", kept)
    files = ("sw/tellme/errors.py", "sw/tellme/spec/scale.py")
    # In either file the lines of two statements.
    lines = {name: [node.lineno for node in ast.parse((ROOT / name).read_text("utf-8")).body[-2:]] for name in files}
    for i, name in enumerate(("cli", "spec")):
        data = CoverageData(str(kept / f"{name}.data"))
        data.add_arcs({file: [(-1, lines[file][i])] for file in files})
        data.write()
        data.close()
    found = coverage_host.combined({"cli": {"left_out": []}, "spec": {"left_out": [files[1]]}})["files"]
    assert found[files[0]]["executed_lines"] == lines[files[0]] and found[files[1]]["executed_lines"] == lines[files[1]][:1]
    assert sorted(path.name for path in tmp_path.iterdir()) == [running.name, "host"] and running.read_bytes() == b"of a run"


def test_what_coverage_is_asked_that_cannot_be(capsys):
    for arguments, said in ((["hw"], "hw: folders are cli, compiler"), (["--read", "cli"], "--read runs no folders")):
        with pytest.raises(SystemExit) as ended:
            coverage_host.main(arguments)
        assert ended.value.code == 2 and said in capsys.readouterr().err


def test_the_record_of_coverage_has_its_goal():
    found = json.loads(coverage_host.REPORT.read_text())
    assert found["below"] == [] and set(found["commits"]) == set(coverage_host.FOLDERS)
    assert all(file["share"] >= coverage_host.GOAL for file in found["files"].values())


def test_the_folders_of_coverage():
    """All folders whose tests run the host and simulate nothing."""
    left = {"board", "boards", "chips", "data", "formal", "hw", "mutation", "ref", "sim", "tlmm", "tools", "train", "__pycache__"}
    assert {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()} - left == set(coverage_host.FOLDERS)
