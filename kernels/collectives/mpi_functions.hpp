#pragma once

namespace elastiform {

/// What this program asks of MPI. mpi_module.cpp, the one file that includes mpi.h, fills it in a shared library of its own, which is loaded
/// only under a launcher of MPI: the program starts without MPI installed. Plain C, so nothing else crosses the border. Functions return 0,
/// or an error of MPI that error_text explains.
struct MpiFunctions {
  int rank, size;
  int machine_ranks;  // on this machine
  int machine_rank;
  void* machine_memory;  // kMachineBytes that the ranks of this machine share, all zero at first

  // Messages of at most kMostBytes, each with a request that is numbered from 0 on and free when it is done.
  int (*start_send)(int request, int to, const void* bytes, int count, int tag);
  int (*start_receive)(int request, int from, void* bytes, int count, int tag);
  int (*test)(int request, int* done);

  int (*barrier)();
  int (*end)();  // by all ranks; nothing may follow
  void (*abort)(int status);
  void (*error_text)(int error, char* text, int size);

  static constexpr int kMostBytes = 1 << 30;
  static constexpr int kMachineBytes = 1 << 16;
};

/// The module's one symbol. Starts MPI; nullptr with a reason in `text` when it cannot be started.
using StartMpi = const MpiFunctions* (*)(char* text, int size);
inline constexpr const char* kStartMpi = "elastiform_start_mpi";

}  // namespace elastiform
