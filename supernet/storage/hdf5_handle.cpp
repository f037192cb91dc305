#include "supernet/storage/hdf5_handle.hpp"

namespace elastiform::hdf5 {
namespace {

std::recursive_mutex& library_lock() {
  static std::recursive_mutex lock;
  return lock;
}

}  // namespace

Call::Call() : lock_(library_lock()) { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }

Handle text_type() {
  Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type.get(), H5T_VARIABLE);
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  return type;
}

std::string take_text(char* text) {
  if (text == nullptr) return {};
  std::string result(text);
  H5free_memory(text);
  return result;
}

}  // namespace elastiform::hdf5
