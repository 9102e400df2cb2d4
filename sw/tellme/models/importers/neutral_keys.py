# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Keys of configs and GGUF files that change what a model computes, and the values at which they do not.

A config.json has dozens of keys about training and about programs.  So only keys that are known to change the computation are
checked.  In a GGUF file every key below ``<arch>.`` is about the computation, so an unknown key is refused.
:mod:`tellme.models.importers.rope` checks the keys of RoPE.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tellme.models.config import ModelConfig
from tellme.models.importers.rope import as_decimal, is_number, refuse_key

__all__ = ["check_config_keys", "check_gguf_keys"]


@dataclass(frozen=True)
class _Close:
    """A number that a value of a model's shape makes neutral, up to rounding."""

    of: Callable[[ModelConfig], float]


_SCORES = _Close(lambda c: c.head_dim**-0.5)
_HEAD_DIM = _Close(lambda c: c.head_dim)
_DIM = _Close(lambda c: c.dim)
_VOCAB = _Close(lambda c: c.vocab)
_EPS = _Close(lambda c: c.eps)
_RMS = ("rms", "rms_norm", "rmsnorm", "RMSNorm", "LlamaRMSNorm")

#: Key of a config.json -> values that change nothing; a key that is null changes nothing anyhow.
_CONFIG: dict[str, tuple[Any, ...]] = {
    "weight_bits": (1,), "input_bits": (8,),
    # Attention.
    "sliding_window": (), "use_sliding_window": (False,), "attention_window": (), "window_size": (), "attention_chunk_size": (),
    "alibi": (False,), "use_alibi": (False,), "use_xpos": (False,), "xpos": (False,), "clip_qkv": (),
    "qk_norm": (False,), "use_qk_norm": (False,), "qk_layernorm": (False,), "use_qk_layernorm": (False,), "q_norm": (False,),
    "query_pre_attn_scalar": (_HEAD_DIM,), "attention_scale": (_SCORES,), "attn_scale": (_SCORES,), "softmax_scale": (_SCORES,),
    "attention_multiplier": (_SCORES,), "scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,),
    "attn_temperature_tuning": (False, 0), "attention_sinks": (False, 0), "is_causal": (True,), "causal": (True,),
    "multi_query": (False,), "v_head_dim": (_HEAD_DIM,), "value_head_dim": (_HEAD_DIM,), "kv_lora_rank": (), "q_lora_rank": (),
    "add_cross_attention": (False,), "is_encoder_decoder": (False,), "num_kv_shared_layers": (0,), "cla_share_factor": (1,),
    # The order of a layer's parts, and which layers there are.
    "use_parallel_residual": (False,), "parallel_attn": (False,), "parallel_block": (False,), "parallel_residual": (False,),
    "use_post_norm": (False,), "post_norm": (False,), "norm_after": (False,), "layers_block_type": (),
    "text_config": (), "llm_config": (), "language_config": (), "num_loops": (1,), "num_recurrences": (1,),
    "num_experts": (0,), "num_local_experts": (0,), "n_routed_experts": (0,), "n_shared_experts": (0,), "moe_num_experts": (0,),
    # Norms.
    "norm_type": _RMS, "normalization_type": _RMS, "layer_norm_type": _RMS, "layernorm_type": _RMS, "norm_class": _RMS,
    "layer_norm_eps": (_EPS,), "layer_norm_epsilon": (_EPS,), "layernorm_epsilon": (_EPS,), "norm_eps": (_EPS,),
    "norm_epsilon": (_EPS,), "rms_norm_add_unit_offset": (False,), "rms_norm_unit_offset": (False,),
    "norm_weight_offset": (0,), "apply_layernorm_1p": (False,),
    # Factors of the embedding, the residual stream and the logits.
    "scale_emb": (1,), "emb_scale": (1,), "embedding_scale": (1,), "scale_embedding": (False, 1), "normalize_embedding": (False,),
    "scale_depth": (), "residual_scale": (1,), "dim_model_base": (_DIM,), "width_scale": (1,), "use_mup": (False,),
    "output_logits_scale": (1,), "embedding_norm": (False,), "use_embedding_norm": (False,),
}
#: Names of factors, and of softcapping, whatever stands before them.
_FACTOR = re.compile(r"(?:multipliers?|logits?_scal(?:e|ing)|logits?_scaling_factor)$")
_SOFTCAP = re.compile(r"soft_?cap")


def _changes_nothing(value: Any, neutral: Iterable[Any], config: ModelConfig) -> bool:
    """Whether a value is one of the neutral ones; numbers are compared with numbers only."""
    for one in neutral:
        if isinstance(one, _Close):
            if is_number(value) and math.isclose(value, one.of(config), rel_tol=1e-5):
                return True
        elif type(one) is int:
            if is_number(value, one):
                return True
        elif type(value) is type(one) and value == one:
            return True
    return False


def check_config_keys(fields: Mapping[str, Any], config: ModelConfig, label: str) -> None:
    """Refuse, by name, the first key of a config.json whose value asks for something that the engine does not compute."""
    for key, value in fields.items():
        if value is None:
            continue
        if key in _CONFIG:
            fine = _changes_nothing(value, _CONFIG[key], config)
        elif key == "layer_types":
            fine = isinstance(value, list) and all(kind == "full_attention" for kind in value)
        elif key == "hidden_activation":
            fine = value == config.act
        elif _SOFTCAP.search(key):
            fine = False
        elif _FACTOR.search(key):
            fine = _changes_nothing(value, (1,), config)
        else:
            fine = True
        if not fine:
            raise refuse_key(label, key, value)


#: Key below <arch>. of a GGUF file -> values that change nothing; None: the importer reads it.
_GGUF: dict[str, tuple[Any, ...] | None] = {
    "context_length": None, "embedding_length": None, "block_count": None, "feed_forward_length": None,
    "attention.head_count": None, "attention.head_count_kv": None, "attention.key_length": None,
    "attention.layer_norm_rms_epsilon": None, "vocab_size": (_VOCAB,),
    "tensor_data_layout": ("reference", "Meta AI original pth"), "use_parallel_residual": (False, 0), "pooling_type": (0,),
    "expert_count": (0,), "expert_used_count": (0,), "expert_shared_count": (0,), "expert_feed_forward_length": (0,),
    "expert_shared_feed_forward_length": (0,), "expert_group_count": (0,), "expert_group_used_count": (0,),
    "leading_dense_block_count": (0,), "moe_every_n_layers": (0,), "interleave_moe_layer_step": (0,),
    "nextn_predict_layers": (0,),
    "embedding_length_out": (0, _DIM), "logit_scale": (0, 1), "embedding_scale": (0, 1), "residual_scale": (0, 1),
    "attn_logit_softcapping": (0,), "final_logit_softcapping": (0,), "rescale_every_n_layers": (0,), "swin_norm": (False,),
    "full_attention_interval": (0, 1), "activation_sparsity_scale": (0,),
    "attention.value_length": (_HEAD_DIM,), "attention.key_length_swa": (_HEAD_DIM,), "attention.value_length_swa": (_HEAD_DIM,),
    "attention.scale": (0, _SCORES), "attention.output_scale": (0, 1), "attention.clamp_kqv": (0,),
    "attention.max_alibi_bias": (0,), "attention.causal": (True,), "attention.sliding_window": (0,),
    "attention.layer_norm_epsilon": (_EPS,), "attention.shared_kv_layers": (0,), "attention.temperature_scale": (0, 1),
}


def check_gguf_keys(arch: str, keys: Iterable[str], get: Callable[[str], Any], config: ModelConfig, label: str) -> None:
    """Refuse, by name, the first key below ``<arch>.`` that is unknown, or whose value the engine does not compute.

    Keys of RoPE are left to :func:`tellme.models.importers.rope.rope_of_gguf`.
    """
    for name in keys:
        key = name.removeprefix(f"{arch}.")
        if key == name or key.startswith("rope."):
            continue
        neutral, value = _GGUF.get(key, ()), as_decimal(get(name))
        if neutral is not None and not _changes_nothing(value, neutral, config):
            raise refuse_key(label, name, value)
