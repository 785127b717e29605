"""Small random models of every family, a small tokenizer, and an SAE that is only arithmetic."""

import copy
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    T5Config,
    T5EncoderModel,
)

from sae_training.dictionary.sae import SAE
from sae_training.engine.model import Model

LAYERS, WIDTH, VOCABULARY, CONTEXT = 4, 32, 300, 64
_size = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
_grouped = _size | {"intermediate_size": 48, "num_key_value_heads": 2}
_window = {
    "head_dim": 8,
    "sliding_window": 6,
    "query_pre_attn_scalar": 8,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
CONFIGS = {
    "gpt2": GPT2Config(**_size),
    "llama": LlamaConfig(**_grouped),
    "gemma2": Gemma2Config(
        **_grouped, **_window, attn_logit_softcapping=3.0, final_logit_softcapping=4.0
    ),
    "gemma3": Gemma3TextConfig(**_grouped, **_window),
    "qwen2": Qwen2Config(**_grouped),
    "qwen3": Qwen3Config(**_grouped, head_dim=8),
    "neox": GPTNeoXConfig(**_size, intermediate_size=48),
    "bloom": BloomConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        n_layer=LAYERS,
        n_head=4,
        initializer_range=0.2,
        seq_length=CONTEXT,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    ),
}
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt"
    " %}[model]{% endif %}"
)


def module(family: str) -> nn.Module:
    """A random model of the family, the same at each call."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIGS[family]).eval()


def tokenizer(chat: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of VOCABULARY tokens that sets <s> before every text."""
    base = Tokenizer(BPE())
    base.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    base.decoder = decoders.ByteLevel()
    base.train_from_iterator(
        ["the cat sat on the mat and then the dog ran to the end of the garden"] * 3,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=["<s>", "</s>"],
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    base.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    made = PreTrainedTokenizerFast(tokenizer_object=base, bos_token="<s>", eos_token="</s>")
    if chat:
        made.chat_template = TEMPLATE
    return made


def model(family: str = "llama", chat: bool = False) -> Model:
    """A small model with the tokenizer."""
    return Model(module(family), tokenizer(chat), family, chat=chat)


def saved(folder: Path, template: str = "") -> Path:
    """A small Llama saved in `folder`, a base model without a template.

    Its rotary angles know no end; an instrument's questions need the room.
    """
    made = tokenizer()
    if template:
        made.chat_template = template
    roomy = module("llama")
    roomy.config = copy.deepcopy(roomy.config)
    roomy.config.max_position_embeddings = 1024
    roomy.save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


def t5(folder: Path) -> Path:
    """A random T5 with its tokenizer, saved in `folder`."""
    torch.manual_seed(0)
    T5EncoderModel(
        T5Config(vocab_size=VOCABULARY, d_model=WIDTH, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
    ).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def topk_sae() -> SAE:
    """An SAE of the small models' width: 40 random directions, the four strongest active."""
    g = torch.Generator().manual_seed(0)
    rows = nn.functional.normalize(torch.randn(40, WIDTH, generator=g), dim=1)
    return SAE(
        W_enc=rows.T.contiguous(),
        W_dec=rows,
        b_enc=torch.zeros(40),
        b_dec=torch.zeros(WIDTH),
        architecture="topk",
        k=4,
    )


class TinySAE:
    """A ReLU SAE of random unit directions."""

    def __init__(self, features: int = 40) -> None:
        source = torch.Generator().manual_seed(7)
        self.W_dec = nn.functional.normalize(torch.randn(features, WIDTH, generator=source), dim=-1)
        self.d_model, self.n_features = WIDTH, features

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x @ self.W_dec.T - 0.1)
