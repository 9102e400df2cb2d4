# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""LoRA adapters as the peft package saves them, those that ComPEFT made ternary among them.

An adapter is adapter_config.json and adapter_model.safetensors.  For a matrix it has ``lora_A`` (r x columns) and ``lora_B``
(rows x r) and changes the matrix by lora_alpha / r * B A, or with ``use_rslora`` by lora_alpha / sqrt(r) * B A.  ComPEFT keeps
the entries of A and B with the largest changes as plus or minus one number, so that its result is such an adapter.

Read: docs/source/developer_guides/checkpoint.md of huggingface/peft (the files and the names of the tensors); README.md,
src/qlora/utils.py and src/merge_utils.py of prateeky2806/ComPEFT (it compresses adapters of peft in memory, with k and a
replace_factor, and defines no file of its own).
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from tellme.models.adapted import Adapted, Change
from tellme.models.config import LINEARS, ModelError
from tellme.models.files import is_there
from tellme.models.importers.huggingface import HF_NAMES
from tellme.models.importers.rope import is_number, refuse_key
from tellme.models.importers.tensors import SafetensorsFile
from tellme.models.importers.ternary import halves_to_pairs
from tellme.models.json_files import read_json
from tellme.models.source import StoredSource
from tellme.spec.widths import MAX_FLOAT

__all__ = ["with_adapter"]

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_NAME = re.compile(r"base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight")
#: Key of adapter_config.json -> values that ask for nothing but B A.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",), "bias": ("none",), "use_dora": (False,), "fan_in_fan_out": (False,), "modules_to_save": ([],),
    "layer_replication": ([],), "lora_bias": (False,), "use_qalora": (False,), "trainable_token_indices": ([],),
    "target_parameters": ([],), "alora_invocation_tokens": ([],), "arrow_config": (), "megatron_config": ()}


def _pattern(config: dict[str, Any], label: str, key: str, module: str, default: Any) -> Any:
    """A number of a module, which ``key`` may name by the end of its name or by a regular expression."""
    patterns = config.get(key) or {}
    if not isinstance(patterns, dict):
        raise refuse_key(label, key, patterns, "which is no object")
    for name, value in patterns.items():
        try:
            if re.match(rf"(.*\.)?({name})$", module):
                return value
        except (re.error, OverflowError, RecursionError) as error:
            raise ModelError(f"{label}: {key} has {name[:100]!r}, which is no regular expression ({error})") from error
    return default


def _factor(config: dict[str, Any], label: str, module: str, rank: int) -> float:
    """What B A is multiplied by."""
    alpha = _pattern(config, label, "alpha_pattern", module, config.get("lora_alpha"))
    if not is_number(alpha):
        raise refuse_key(label, "lora_alpha", alpha, "which is no number")
    wanted = _pattern(config, label, "rank_pattern", module, config.get("r"))
    if wanted != rank:
        raise ModelError(f"{label}: r is {wanted}, and {module} has {rank} rows of lora_A")
    return float(alpha / (rank**0.5 if config.get("use_rslora") else rank))


def with_adapter(model: StoredSource, path: Path) -> Adapted:
    """A model with the adapter of a folder, or of the folder that has the file ``path``.

    An adapter that is not all plain LoRA of the model's matrices is a ModelError.
    """
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        raise ModelError(f"there is no adapter {path}")
    for name in (_CONFIG, _WEIGHTS):
        if not is_there(folder / name):
            raise ModelError(f"{folder} has no {name}: an adapter is what save_pretrained of the peft package writes, with "
                             "safetensors")
    label = str(folder / _CONFIG)
    config = read_json(folder / _CONFIG)
    for key, plain in _PLAIN.items():
        if config.get(key) is not None and config[key] not in plain:
            raise refuse_key(label, key, config[key])
    file = SafetensorsFile(folder / _WEIGHTS)
    modules = {HF_NAMES[name].format(i=i): (i, name) for i in range(model.config.layers) for name in LINEARS}
    found: dict[str, dict[str, str]] = {}
    for tensor in sorted(file.names()):
        match = _NAME.fullmatch(tensor)
        if match is None or match[1] not in modules:
            raise ModelError(f"{file.path} holds {tensor}, which changes no matrix of the model's layers")
        found.setdefault(match[1], {})[match[2]] = tensor
    changes = {}
    for module, tensors in found.items():
        layer, name = modules[module]
        rows, cols = model.config.shape(name)
        if len(tensors) != 2:
            raise ModelError(f"{file.path} lacks lora_A or lora_B of {module}")
        a, b = (file.whole(tensors[side]).astype(np.float64) for side in "AB")
        if a.ndim != 2 or not len(a) or a.shape[1] != cols or b.shape != (rows, len(a)):
            raise ModelError(f"{module}: lora_A has shape {a.shape} and lora_B {b.shape}, and the matrix {(rows, cols)}: the "
                             "adapter is of another model, or the model was made wider when it was converted")
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise ModelError(f"{module}: the adapter holds an infinity or NaN")
        with np.errstate(over="ignore"):
            b = b * _factor(config, label, module, len(a))
            if not np.abs(b).max() * np.abs(a).max() * len(a) < MAX_FLOAT:
                raise ModelError(f"{module}: what the adapter adds may be beyond binary16: lora_alpha or its tensors are damaged")
        changes[layer, name] = Change(halves_to_pairs(b, model.config.head_dim) if name in ("wq", "wk") else b, a)
    if not changes:
        raise ModelError(f"{file.path} changes nothing")
    return Adapted(model, changes)
