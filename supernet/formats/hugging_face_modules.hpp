#pragma once

#include <string_view>

namespace elastiform::hugging_face {

/// The Python files of a folder whose blocks differ: configuration_elastiform.py and modeling_elastiform.py, which transformers 4.53 and 5
/// load with trust_remote_code=True.
std::string_view configuration_module();
std::string_view modeling_module();

}  // namespace elastiform::hugging_face
