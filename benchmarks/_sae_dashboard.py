"""The dashboards of sae-dashboard: a script for an environment of its own, which lacks the
workbench.

    python _sae_dashboard.py MODEL SAE IDS FEATURES OUT

1. The Llama in the folder MODEL becomes a HookedTransformer with folded norms, the SAE in the
   folder SAE is opened by sae-lens.
2. sae-dashboard computes FEATURES features over the token ids in the file IDS (JSON, rows of equal
   length) with its defaults, and writes its page.
3. `OUT/page.html` is the page, `OUT/figures.json` the ids of every feature's ten promoted and
   suppressed tokens, and its seconds.
"""

import json
import sys
import time
from pathlib import Path

import torch
from sae_dashboard.data_writing_fns import save_feature_centric_vis
from sae_dashboard.sae_vis_data import SaeVisConfig
from sae_dashboard.sae_vis_runner import SaeVisRunner
from sae_lens import SAE, HookedSAETransformer
from transformer_lens import HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_llama_weights
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast


def hooked(folder: str) -> HookedSAETransformer:
    """Give a Llama as TransformerLens has it, its norms folded."""
    llama = AutoModelForCausalLM.from_pretrained(folder)
    config = llama.config
    cfg = HookedTransformerConfig(
        n_layers=config.num_hidden_layers,
        d_model=config.hidden_size,
        n_ctx=config.max_position_embeddings,
        d_head=config.hidden_size // config.num_attention_heads,
        n_heads=config.num_attention_heads,
        d_mlp=config.intermediate_size,
        d_vocab=config.vocab_size,
        act_fn="silu",
        gated_mlp=True,
        normalization_type="RMS",
        eps=config.rms_norm_eps,
        positional_embedding_type="rotary",
        rotary_dim=config.hidden_size // config.num_attention_heads,
        rotary_base=10000,
        original_architecture="LlamaForCausalLM",
    )
    # An older transformers does not know the class that the folder names.
    named = json.loads((Path(folder) / "tokenizer_config.json").read_text())
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=f"{folder}/tokenizer.json",
        name_or_path=folder,
        add_bos_token=True,  # else TransformerLens opens it again, as the class that it lacks
        **{name: text for name, text in named.items() if name.endswith("_token")},
    )
    model = HookedSAETransformer(cfg, tokenizer, move_to_device=False)
    model.load_and_process_state_dict(
        convert_llama_weights(llama, cfg), center_writing_weights=False
    )
    return model.eval()


def main(folder: str, sae: str, ids: str, features: int, out: Path) -> None:
    """Compute, write, and say how long each took."""
    model = hooked(folder)
    encoder = SAE.load_from_disk(sae)
    # Decoder rows have length 1, so there is nothing to fold; of a TopK SAE the fold is refused.
    assert torch.allclose(encoder.W_dec.norm(dim=1), torch.ones(encoder.cfg.d_sae), atol=1e-3)
    encoder.fold_W_dec_norm = lambda: None
    tokens = torch.tensor(json.loads(Path(ids).read_text()))
    start = time.perf_counter()
    config = SaeVisConfig(hook_point=encoder.cfg.metadata.hook_name, features=list(range(features)))
    data = SaeVisRunner(config).run(encoder=encoder, model=model, tokens=tokens)
    computed = time.perf_counter()
    save_feature_centric_vis(data, out / "page.html")
    written = time.perf_counter()
    tables = {
        number: [part.logits_table_data.top_token_ids, part.logits_table_data.bottom_token_ids]
        for number, part in data.feature_data_dict.items()
    }
    figures = {"computing": computed - start, "writing": written - computed, "tokens": tables}
    (out / "figures.json").write_text(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]), Path(sys.argv[5]))
