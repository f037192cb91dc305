// The one file that knows MPI, a shared library by itself (mpi_functions.hpp).
#define OMPI_SKIP_MPICXX 1  // the old C++ interface would ask for a library of its own
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <cstring>
#include <vector>

#include "kernels/collectives/mpi_functions.hpp"

namespace elastiform {
namespace {

std::vector<MPI_Request> requests;
MPI_Comm machine = MPI_COMM_NULL;
MPI_Win window = MPI_WIN_NULL;

MPI_Request* request_of(int number) {
  const std::size_t at = static_cast<std::size_t>(number);
  if (at >= requests.size()) requests.resize(at + 1, MPI_REQUEST_NULL);
  return &requests[at];
}

void error_text(int error, char* text, int size) {
  char full[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(error, full, &length);
  std::strncpy(text, full, static_cast<std::size_t>(size) - 1);
  text[size - 1] = '\0';
}

int end() {
  if (window != MPI_WIN_NULL) MPI_Win_free(&window);
  if (machine != MPI_COMM_NULL) MPI_Comm_free(&machine);
  return MPI_Finalize();
}

/// Memory of the first rank on the machine, seen by all of them.
int share_memory(MpiFunctions& functions) {
  int error = MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine);
  if (error == MPI_SUCCESS) error = MPI_Comm_rank(machine, &functions.machine_rank);
  if (error == MPI_SUCCESS) error = MPI_Comm_size(machine, &functions.machine_ranks);
  void* mine = nullptr;
  const MPI_Aint bytes = functions.machine_rank == 0 ? MpiFunctions::kMachineBytes : 0;
  if (error == MPI_SUCCESS) error = MPI_Win_allocate_shared(bytes, 1, MPI_INFO_NULL, machine, &mine, &window);
  MPI_Aint size = 0;
  int unit = 1;
  if (error == MPI_SUCCESS) error = MPI_Win_shared_query(window, 0, &size, &unit, &functions.machine_memory);
  if (error == MPI_SUCCESS && functions.machine_rank == 0) std::memset(functions.machine_memory, 0, MpiFunctions::kMachineBytes);
  return error == MPI_SUCCESS ? MPI_Barrier(machine) : error;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const MpiFunctions* elastiform_start_mpi(char* text, int size) {
  static MpiFunctions functions{};
  int level = 0;
  int error = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &level);
  if (error == MPI_SUCCESS) error = MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  if (error == MPI_SUCCESS) error = MPI_Comm_rank(MPI_COMM_WORLD, &functions.rank);
  if (error == MPI_SUCCESS) error = MPI_Comm_size(MPI_COMM_WORLD, &functions.size);
  if (error == MPI_SUCCESS) error = share_memory(functions);
  if (error != MPI_SUCCESS) {
    error_text(error, text, size);
    return nullptr;
  }
  if (level < MPI_THREAD_FUNNELED) {  // ours compute, one of them calls MPI
    std::strncpy(text, "it allows no threads (MPI_THREAD_FUNNELED)", static_cast<std::size_t>(size) - 1);
    return nullptr;
  }
  functions.start_send = [](int request, int to, const void* bytes, int count, int tag) {
    return MPI_Isend(bytes, count, MPI_BYTE, to, tag, MPI_COMM_WORLD, request_of(request));
  };
  functions.start_receive = [](int request, int from, void* bytes, int count, int tag) {
    return MPI_Irecv(bytes, count, MPI_BYTE, from, tag, MPI_COMM_WORLD, request_of(request));
  };
  functions.test = [](int request, int* done) { return MPI_Test(request_of(request), done, MPI_STATUS_IGNORE); };
  functions.barrier = [] { return MPI_Barrier(MPI_COMM_WORLD); };
  functions.end = end;
  functions.abort = [](int status) { MPI_Abort(MPI_COMM_WORLD, status); };
  functions.error_text = error_text;
  return &functions;
}

}  // namespace elastiform
