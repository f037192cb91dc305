#include "supernet/formats/hugging_face_modules.hpp"

namespace elastiform::hugging_face {

namespace {

constexpr std::string_view kConfiguration = R"(# Written by Elastiform beside the weights that it describes.
#
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with the License.
# You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language governing permissions
# and limitations under the License.
"""A decoder whose blocks differ."""
from transformers import PretrainedConfig


class ElastiformConfig(PretrainedConfig):
    """Block i has block_heads[i] query heads over block_key_value_heads[i] key and value heads (0: no attention) and an FFN of
    block_ffn[i] columns (0: none)."""

    model_type = "elastiform"
    keys_to_ignore_at_inference = ["past_key_values", "cache"]

    def __init__(self, vocab_size=256, hidden_size=32, head_dim=16, block_heads=(2,), block_key_value_heads=(2,), block_ffn=(64,),
                 max_position_embeddings=128, norm="rmsnorm", norm_eps=1e-5, ffn_kind="swiglu", positions="rope", rope_theta=10000.0,
                 rotary_scaling=None, biases=False, use_cache=True, initializer_range=0.02, tie_word_embeddings=True, **kwargs):
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.head_dim = head_dim
        self.block_heads = list(block_heads)
        self.block_key_value_heads = list(block_key_value_heads)
        self.block_ffn = list(block_ffn)
        self.max_position_embeddings = max_position_embeddings
        self.norm = norm
        self.norm_eps = norm_eps
        self.ffn_kind = ffn_kind
        self.positions = positions
        self.rope_theta = rope_theta
        self.rotary_scaling = rotary_scaling
        self.biases = biases
        self.use_cache = use_cache
        self.initializer_range = initializer_range
        # What tools that know one number for all blocks ask for.
        kwargs["num_hidden_layers"] = len(self.block_heads)
        kwargs["num_attention_heads"] = max(self.block_heads)
        kwargs["num_key_value_heads"] = max(self.block_key_value_heads)
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)
)";

constexpr std::string_view kModeling = R"(# Written by Elastiform beside the weights that it describes.
#
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with the License.
# You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language governing permissions
# and limitations under the License.
"""A decoder whose blocks differ in heads, key and value heads and FFN width: x + attention(norm(x)), then x + ffn(norm(x))."""
import torch
from torch import nn
from torch.nn import functional
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from .configuration_elastiform import ElastiformConfig

# What transformers calls keys and values of earlier tokens: one name until 5.x, another since.
CACHE = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"


class RMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        y = x.float()
        return self.weight * (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)).to(x.dtype)


def make_norm(config):
    if config.norm == "rmsnorm":
        return RMSNorm(config.hidden_size, config.norm_eps)
    return nn.LayerNorm(config.hidden_size, config.norm_eps, bias=config.biases)


def rotate(x, cos, sin):
    """Pairs (i, i + D/2) of x [batch, heads, tokens, D] by their angles, cos and sin [batch, 1, tokens, D/2]."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class Attention(nn.Module):
    def __init__(self, config, heads, key_value_heads, cache_index):
        super().__init__()
        self.head_dim, self.queries, self.cache_index = config.head_dim, heads // key_value_heads, cache_index
        width, inner, shared = config.hidden_size, heads * config.head_dim, key_value_heads * config.head_dim
        self.q_proj = nn.Linear(width, inner, bias=config.biases)
        self.k_proj = nn.Linear(width, shared, bias=config.biases)
        self.v_proj = nn.Linear(width, shared, bias=config.biases)
        self.o_proj = nn.Linear(inner, width, bias=config.biases)

    def forward(self, x, angles, mask, cache):
        def heads(y):
            return y.view(*y.shape[:2], -1, self.head_dim).transpose(1, 2)

        q, k, v = heads(self.q_proj(x)), heads(self.k_proj(x)), heads(self.v_proj(x))
        if angles is not None:
            q, k = rotate(q, *angles), rotate(k, *angles)
        if cache is not None:
            k, v = cache.update(k, v, self.cache_index)
        k, v = k.repeat_interleave(self.queries, dim=1), v.repeat_interleave(self.queries, dim=1)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.o_proj(y.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, config, width):
        super().__init__()
        self.kind = config.ffn_kind
        if self.kind == "swiglu":
            self.gate_proj = nn.Linear(config.hidden_size, width, bias=config.biases)
        self.up_proj = nn.Linear(config.hidden_size, width, bias=config.biases)
        self.down_proj = nn.Linear(width, config.hidden_size, bias=config.biases)

    def forward(self, x):
        if self.kind == "swiglu":
            return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return self.down_proj(functional.gelu(self.up_proj(x), approximate="tanh" if self.kind == "gelu_tanh" else "none"))


class Block(nn.Module):
    """cache_index: the place of this block's keys and values among those of the blocks that have attention."""

    def __init__(self, config, index, cache_index):
        super().__init__()
        self.has_attention, self.has_ffn = config.block_heads[index] > 0, config.block_ffn[index] > 0
        if self.has_attention:
            self.input_layernorm = make_norm(config)
            self.self_attn = Attention(config, config.block_heads[index], config.block_key_value_heads[index], cache_index)
        if self.has_ffn:
            self.post_attention_layernorm = make_norm(config)
            self.mlp = FeedForward(config, config.block_ffn[index])

    def forward(self, x, angles, mask, cache):
        if self.has_attention:
            x = x + self.self_attn(self.input_layernorm(x), angles, mask, cache)
        if self.has_ffn:
            x = x + self.mlp(self.post_attention_layernorm(x))
        return x


def frequencies(config, device):
    """Angle of each pair of a head's channels from one position to the next; rotary_scaling may be "linear", or "llama3", which divides
    the slow ones alone."""
    pairs = torch.arange(0, config.head_dim, 2, device=device, dtype=torch.float32)
    plain = config.rope_theta ** (-pairs / config.head_dim)
    rule = config.rotary_scaling
    if rule is None:
        return plain
    if rule["rope_type"] == "linear":
        return plain / rule["factor"]
    waves = rule["original_max_position_embeddings"] * plain / (2 * torch.pi)
    kept = (waves - rule["low_freq_factor"]) / (rule["high_freq_factor"] - rule["low_freq_factor"])
    kept = kept.clamp(0, 1)
    return plain * ((1 - kept) / rule["factor"] + kept)


class Decoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        if config.positions == "learned":
            self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        attends = [heads > 0 for heads in config.block_heads]
        self.layers = nn.ModuleList(Block(config, i, sum(attends[:i])) for i in range(len(attends)))
        self.norm = make_norm(config)

    def angles(self, positions, dtype):
        angles = positions[:, None, :, None].float() * frequencies(self.config, positions.device)
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def forward(self, x, attention_mask, positions, cache):
        tokens = x.shape[1]
        past = cache.get_seq_length() if cache is not None else 0
        if positions is None:
            positions = torch.arange(past, past + tokens, device=x.device)[None]
        angles = None
        if self.config.positions == "learned":
            x = x + self.embed_positions(positions)
        else:
            angles = self.angles(positions, x.dtype)
        own = torch.arange(past, past + tokens, device=x.device)[:, None]
        seen = torch.arange(past + tokens, device=x.device)[None]
        mask = (seen <= own)[None, None]
        if attention_mask is not None:  # a padding token sees itself, so that no row of the softmax is empty
            mask = mask & (attention_mask[:, None, None, -(past + tokens):].bool() | (seen == own)[None, None])
        for layer in self.layers:
            x = layer(x, angles, mask, cache)
        return self.norm(x)


class ElastiformForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = ElastiformConfig
    base_model_prefix = "model"
    _no_split_modules = ["Block"]
    _supports_sdpa = True
    _supports_cache_class = True

    def __init__(self, config):
        super().__init__(config)
        self.model = Decoder(config)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.model.embed_tokens

    def get_output_embeddings(self):
        return None if self.config.tie_word_embeddings else self.lm_head

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, inputs_embeds=None, labels=None,
                use_cache=None, logits_to_keep=0, cache=None, **kwargs):
        x = self.model.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        use_cache = self.config.use_cache if use_cache is None else use_cache
        cache = past_key_values if cache is None else cache
        if use_cache and cache is None:
            cache = DynamicCache()
        x = self.model(x, attention_mask, position_ids, cache)
        weight = self.model.embed_tokens.weight if self.config.tie_word_embeddings else self.lm_head.weight
        logits = functional.linear(x[:, -logits_to_keep:] if isinstance(logits_to_keep, int) else x[:, logits_to_keep], weight)
        loss = None
        if labels is not None:
            loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100)
        return CausalLMOutputWithPast(loss=loss, logits=logits, **{CACHE: cache if use_cache else None})
)";

}  // namespace

std::string_view configuration_module() { return kConfiguration; }
std::string_view modeling_module() { return kModeling; }

}  // namespace elastiform::hugging_face
