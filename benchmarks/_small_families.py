"""Every causal family of transformers, built small: a few random layers of 32 numbers a token.

1. A family's own configuration is made with its defaults, and every size that it holds (`SIZES`) is
   made small, in the parts of a composite one too. Layers of several kinds take turns.
2. What a family wants beside that stands in `OVERRIDES`.
3. Limits (windows, the tokens that a sparse attention chooses) are made smaller than the texts that
   the families are tried with: a limit that nothing reaches hides what it does.

Left out: families that transformers cannot build from a configuration alone; `built` says why.
"""

from typing import Any

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCABULARY, WIDTH, LAYERS, CONTEXT = 100, 32, 4, 64
_by_size = {
    VOCABULARY: """vocab_size vocab_size_per_layer_input unpadded_vocab_size decoder_vocab_size
        encoder_hash_byte_group_vocab pronunciation_vocab_size shape_vocab_size""",
    CONTEXT: """max_position_embeddings n_positions n_ctx max_seq_len context_length
        max_source_positions max_target_positions model_max_length
        original_max_position_embeddings""",
    48: """intermediate_size moe_intermediate_size decoder_ffn_dim encoder_ffn_dim ffn_dim dim_ff
        dff d_inner ffn_hidden_size expert_ffn_hidden_size shared_expert_intermediate_size
        shared_experts_intermediate_size intermediate_size_mlp dense_intermediate_size
        moe_shared_expert_intermediate_size feed_forward_size shared_intermediate_size""",
    WIDTH: """hidden_size d_model n_embd emb_dim embedding_dim embedding_size word_embed_proj_dim
        input_embedding_size output_embedding_size lru_width attention_hidden_size
        backbone_hidden_size prompt_mid_dim pronunciation_embed_dim shape_embed_dim mamba_d_ssm""",
    16: "qk_head_dim",
    8: """head_dim swa_head_dim dim_head attention_head_size d_head kv_channels linear_head_dim
        linear_key_head_dim linear_value_head_dim v_head_dim qk_rope_head_dim qk_nope_head_dim
        index_head_dim rotary_dim kv_lora_rank q_lora_rank o_lora_rank laurel_rank
        hidden_size_per_layer_input gated_norm_rank adapter_rank query_pre_attn_scalar d_rel
        state_size mamba_d_state ssm_state_size chunk_size mamba_chunk_size block_size""",
    6: """sliding_window sliding_window_size window_size attention_window_size local_attention
        attention_chunk_size""",
    LAYERS: """num_hidden_layers n_layer n_layers num_layers decoder_layers num_decoder_layers
        num_blocks num_layers_per_stack encoder_layers num_encoder_layers num_attention_heads n_head
        n_heads num_heads decoder_attention_heads encoder_attention_heads
        num_decoder_attention_heads num_encoder_attention_heads attention_heads
        swa_num_attention_heads linear_num_heads linear_num_value_heads num_experts n_routed_experts
        num_local_experts moe_num_experts zero_expert_num index_topk index_block_size""",
    2: """num_key_value_heads swa_num_key_value_heads num_kv_heads linear_num_key_heads
        num_experts_per_tok num_experts_per_token moe_topk moe_k pad_token_id index_topk_blocks
        hc_lowrank""",
    1: """topk_group n_group num_expert_group num_shared_experts n_shared_experts
        moe_num_shared_experts first_k_dense_replace moe_layer_start_index num_dense_layers
        num_nextn_predict_layers eos_token_id decoder_start_token_id sep_token_id eod_token_id
        forced_eos_token_id""",
    0: """bos_token_id unk_index mask_token_id lang_id image_token_id image_token_index
        video_token_id audio_token_id""",
    0.3: "initializer_range init_std embed_init_std",
}
SIZES = {name: size for size, names in _by_size.items() for name in names.split()}
"""Name of a setting -> its small value."""
KINDS = ("layer_types", "layers_block_type")
"""Settings that list the kind of every layer."""
_mamba = {"mamba_n_heads": 8, "mamba_d_head": 8}
_equal_heads = {"num_key_value_heads": 4}
_head = {"head_dim": 8}
_indexed = {
    "indexer_n_heads": 4,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 8,
    "indexer_compress_ratio": 2,
}
_dots = _equal_heads | {
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 4,
    "swa_q_lora_rank": 8,
    "swa_kv_lora_rank": 8,
    "swa_head_dim": 16,
    "swa_qk_nope_head_dim": 8,
    "swa_v_head_dim": 8,
    "swa_qk_rope_head_dim": 8,
}
_berts = """bert bert-generation big_bird camembert data2vec-text electra ernie megatron-bert
    rembert roberta roberta-prelayernorm roc_bert roformer xlm-roberta xlm-roberta-xl"""
_latent = """axk1 axk2 bailing_hybrid deepseek_v3 deepseek_v32 glm4_moe_lite glm_moe_dsa kimi_linear
    longcat_flash minicpm3 youtu"""
OVERRIDES: dict[str, dict[str, Any]] = {
    "bamba": _mamba | {"attn_layer_indices": [1, 3]},
    "granitemoehybrid": _mamba | {"layer_types": ["linear_attention", "full_attention"] * 2},
    "falcon_h1": _mamba | {"mamba_d_ssm": 64},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_dt_rank": 4},
    "zamba": {"attention_hidden_size": 64, "attention_head_dim": 16},
    "zamba2": {"attention_hidden_size": 64, "attention_head_dim": 16},
    "xlstm": {"mlstm_round_up_to_multiple_of": 8, "num_heads": 4},
    "zaya": {"num_experts_per_tok": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "hunyuan_v1_dense": _head,
    "hunyuan_v1_moe": _head,
    "ministral": _head,
    "nemotron": _head | _equal_heads,
    "reformer": {
        "is_decoder": True,
        "axial_pos_embds_dim": [16, 16],
        "axial_pos_shape": [8, 8],
        "attn_layers": ["local", "lsh"] * 2,
        "local_attn_chunk_length": 4,
        "lsh_attn_chunk_length": 4,
        "num_buckets": 4,
        "num_hidden_layers": None,
    },
    "deepseek_v2": _equal_heads | {"num_experts_per_tok": 2, "n_group": 1, "topk_group": 1},
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "gemma3n_text": {
        "num_kv_shared_layers": 2,
        "intermediate_size": [48] * 4,
        "activation_sparsity_pattern": [0.0] * 4,
    },
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "blt.encoder_config": {"hidden_size_global": WIDTH},
    "blt.decoder_config": {"hidden_size_global": WIDTH},
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}
    },
    "qwen4_exp_text": _indexed,
    "qwen4_exp.text_config": _indexed,
    "dots3_note_text": _dots,
    "dots3_note.text_config": _dots,
    "dots3_note.vision_config": {
        "pyramid_num_routed": [-1, -1, 4, 4],
        "adapter_in_dim": WIDTH,
        "adapter_out_dim": WIDTH,
    },
    "dots3_note.audio_config": {
        "adapter_input_size": WIDTH,
        "adapter_out_dim": WIDTH,
        "downsample_hidden_size": 16,
    },
    "xmod": {"is_decoder": True, "default_language": "en_XX"},
    **{family: {"is_decoder": True} for family in _berts.split()},
    **dict.fromkeys(_latent.split(), _equal_heads),
}
"""Family, or a part of its configuration -> what it wants beside small sizes."""


def names() -> list[str]:
    """List the causal families of the installed transformers."""
    return list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def built(name: str) -> nn.Module | str:
    """Build a random model of a family, the same at each call, or say why it cannot be built."""
    try:
        config = CONFIG_MAPPING[name]
        small = config(**_shrunk(config, name))
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(small).eval().requires_grad_(False)
    except Exception as error:  # whatever a family raises at its own configuration
        return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def _shrunk(config: type[PretrainedConfig], name: str) -> dict[str, Any]:
    """Make the settings of a small model of a family, or of a part of it."""
    small: dict[str, Any] = {}
    for setting, value in vars(config()).items():
        if isinstance(value, PretrainedConfig):
            part = type(value)
            small[setting] = part(**_shrunk(part, f"{name}.{setting}"))
        elif setting in SIZES and isinstance(value, int | float | list) and value is not True:
            small[setting] = SIZES[setting]
        elif setting in KINDS and value:
            kinds = list(dict.fromkeys(value))
            small[setting] = [kinds[layer % len(kinds)] for layer in range(LAYERS)]
    for setting, other in config.attribute_map.items():
        if other in small:
            small.pop(setting, None)
    small |= OVERRIDES.get(name, {})
    return {setting: value for setting, value in small.items() if value is not None}
