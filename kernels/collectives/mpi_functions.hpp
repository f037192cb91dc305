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

  // One message at a time, in pieces of at most kMostBytes.
  int (*start_send)(int to, const void* bytes, int count);
  int (*start_receive)(int from, void* bytes, int count);
  int (*test)(int* done);  // of the one that was started last

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
