#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "supernet/activation_plan.hpp"
#include "supernet/data/data_options.hpp"

namespace elastiform {

/// [train] of a recipe.
struct TrainOptions {
  std::int64_t steps = 1000;
  int sequences = 16;    // B, sequences of a micro-batch
  int accumulation = 1;  // micro-batches a step
  std::uint64_t seed = 0;
  std::string init = "xavier";    // of inits(): first weights, where the residual rule has none of its own
  std::string precision = "f32";  // f32 | bf16 | fp16 | bf16-pure | fp8 (precisions()); the optimizer's state is float32
  double loss_scale = 65536;      // fp16: what losses are first multiplied by
  int fp8_window = 1024;          // fp8: steps whose largest magnitudes set a scale; at least until the largest subnet has returned
  // exact | 8bit | 4bit | 2bit | auto: what backward may read instead of the activations themselves (ActivationChoices). auto: 2 bits where
  // memory is short, up to 8 where it is not.
  std::string activations = "exact";
  std::int64_t activation_bytes = 0;  // that they may take, for one worker; 0: what costs a tenth of a step. Not with exact
  // Where an optimizer's usual values differ from these, its row in the registry sets them.
  std::string optimizer = "adamw";  // of optimizers()
  double rate = 2e-3;               // peak learning rate
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double momentum = 0.9;              // sgd, lars
  bool nesterov = false;              // sgd
  double trust = 1e-3;                // lars: τ
  double decay = 0.1;                 // decoupled weight decay, matrices only
  double dropout = 0;                 // of the embedding and of what branches add to the residual stream, while training; [0, 1)
  double label_smoothing = 0;         // ε of (1-ε)·onehot + ε/V, while training; [0, 1)
  Augmentation augmentation;          // of images: crop, flip, mixup, cutmix
  std::string policy = "lazy-local";  // dense | lazy-global | lazy-local | catch-up
  std::int64_t band_warmup = 20;      // updates over which a band's own rate rises after it is first met; 0: none
  std::string step_rule = "plain";    // of step_rules()
  double rho = 0.05;                  // sam, looksam, esam: length of the step uphill
  bool adaptive = false;              // sam, looksam, esam: measured in units of each weight; then rho is about 10 times as large
  std::int64_t look_every = 5;        // looksam: steps from one of SAM's to the next
  double look_share = 0.7;            // looksam: α
  double uphill_share = 0.5;          // esam: of the weights, that take the step uphill; (0, 1]
  double sharp_share = 0.5;           // esam: of a micro-batch's sequences, that the second pass covers; (0, 1]
  std::string scale_rate = "none";    // none | linear | sqrt: of the sequences of a step over base_sequences
  std::int64_t base_sequences = 16;   // for which `rate` is meant
  double ema = 0;                     // decay of a running average of the weights; 0: none
  bool noise_scale = false;           // estimate the gradient's noise from micro-batches; needs accumulation of 2 or more
  std::string schedule = "wsd";       // constant | wsd | cosine
  double warmup = 0.02;               // share of the steps
  double cooldown = 0.3;              // wsd: share of the steps that decay linearly to final_rate
  double final_rate = 0.0;            // share of `rate` at the end (wsd, cosine)
  double clip = 1.0;                  // global norm after the mean over subnets; 0: none
  std::string tokens = "all";         // all | random_ltd | importance: what blocks between a subnet's first and last one process of a batch
  double tokens_kept = 0.5;           // share of the context that they do; random_ltd: at first
  int tokens_step = 16;               // kept tokens of a sequence are a multiple of it
  double tokens_full = 0.7;           // random_ltd: share of the steps after which they process all
  std::int64_t log_every = 100;       // steps between losses of smallest, middle and largest on the search split
  std::int64_t log_segments = 1;      // segments of the search split that these losses use
  std::int64_t checkpoint_every = 500;
  std::optional<Subnet> teacher;  // [teacher]: what the frozen teacher is of the model's kind; its weights come from the run's folder
  bool operator==(const TrainOptions&) const = default;
};

/// Whether a list of keys, separated by blanks, has that one: what rows of registries say they read.
bool names_key(std::string_view keys, std::string_view key);

/// Throws InputError where train.noise_scale has one size of batches only; `where` is the key's place.
void check_noise_scale(const TrainOptions& options, const std::string& where);

/// Of train.activations. Throws InputError for another word.
/// offloads: the machine has somewhere else for activations; InputError where they are compressed, as gradients would depend on it.
ActivationChoices activation_choices(const TrainOptions& options, bool offloads = false);

/// Of all its micro-batches.
inline std::int64_t sequences_of_step(const TrainOptions& options) { return std::int64_t{options.sequences} * options.accumulation; }

/// One stage of a recipe: which subnets a step trains and against what.
struct Stage {
  double share = 1;                  // of the steps; all stages add up to 1
  std::int64_t steps = 0;            // resolved from share
  std::string sampler = "balanced";  // largest | balanced | sandwich
  std::string objective = "labels";  // of objectives()
  double largest = 0, smallest = 0;  // balanced: share of steps that draw an endpoint instead
  int random = 1;                    // sandwich: balanced draws beside largest and smallest
  double teacher_weight = 0.5;       // labels+largest, labels+teacher: weight of the teacher's logits; labels get the rest
  double hidden_weight = 0;          // the same and teacher: of the distance of final hidden states, beside all else
  double temperature = 1;
  double mask_ratio = 0.75;       // masked_patches: share of an image's patches that is hidden
  bool normalize_patches = true;  // masked_patches: what is guessed has mean 0 and variance 1 in every patch
  bool operator==(const Stage&) const = default;
};

/// Splits `steps` by the shares, the last stage taking what rounding leaves. Throws InputError (where: "recipe: stage").
void resolve_stages(std::vector<Stage>& stages, std::int64_t steps);

}  // namespace elastiform
