// test_ptx: whether a GPU's instructions do what their twins do on which all other tests of the kernels stand (./dev gpu-check).
#include <cstdio>
#include <exception>
#include <set>

#include "tests/gpu/instructions.hpp"

int main() {
  try {
    const std::vector<std::uint32_t> gpu = elastiform::cuda::bits_of_instructions(),
                                     host = elastiform::cuda_on_host::bits_of_instructions();
    std::size_t different = gpu.size() == host.size() ? 0 : 1;
    for (std::size_t i = 0; i < gpu.size() && i < host.size(); ++i) {
      if (gpu[i] == host[i]) continue;
      if (++different <= 20) std::printf("word %zu: 0x%08x on the GPU, 0x%08x on the host\n", i, gpu[i], host[i]);
    }
    std::printf("%zu of %zu words differ\n", different, host.size());
    // Results that are all alike would agree with anything.
    return different == 0 && std::set<std::uint32_t>(host.begin(), host.end()).size() > 65536 ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "test_ptx: %s\n", error.what());
    return 1;
  }
}
