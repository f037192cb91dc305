#pragma once

// The calls of NCCL that nccl_link.cpp makes: the library's, or its twin's on the host.
#ifdef ELASTIFORM_WITH_NCCL
#include <nccl.h>
#else
#include "kernels/collectives/nccl_on_host.hpp"
#endif
