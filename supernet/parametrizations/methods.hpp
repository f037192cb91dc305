#pragma once

#include "supernet/parametrizations/parametrization.hpp"

namespace elastiform {

// One a file, in the order of the registry.
const Parametrization& full_parametrization();
const Parametrization& bitfit_parametrization();
const Parametrization& lora_parametrization();
const Parametrization& ssf_parametrization();
const Parametrization& adapter_parametrization();
const Parametrization& prompt_parametrization();
const Parametrization& prefix_parametrization();

/// InputError unless there are targets, and the model has them.
void check_targets(const ModelConfig& model);

}  // namespace elastiform
