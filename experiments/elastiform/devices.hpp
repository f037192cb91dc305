#pragma once

namespace elastiform {

/// Says how the devices of --device are made: `cuda` by the module elastiform_cuda.so beside the program, loaded when it is asked for, so
/// that nothing else needs CUDA; `cuda-on-host` by this program.
void offer_devices();

}  // namespace elastiform
