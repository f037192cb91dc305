#include "supernet/storage/user_block.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <stdexcept>
#include <system_error>
#include <vector>

#include "kernels/errors.hpp"
#include "supernet/sha256.hpp"

namespace elastiform {
namespace {

constexpr std::string_view kMagic = "elastiform-hdf5 ";
constexpr std::string_view kHdf5Signature = "\x89HDF\r\n\x1a\n";
constexpr std::uint64_t kVersion = 1;
constexpr std::size_t kMaxKind = 64;

std::size_t read_at(int file, char* into, std::size_t bytes, std::uint64_t offset, const std::string& path) {
  std::size_t done = 0;
  while (done < bytes) {
    const ssize_t got = ::pread(file, into + done, bytes - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_system_error("read", path);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

std::string head_of(std::string_view kind, std::uint64_t payload) {
  return std::string(kMagic) + std::to_string(kVersion) + "\nkind " + std::string(kind) + "\npayload " + std::to_string(payload) + "\n";
}

std::string checksum(int file, const std::string& head, std::uint64_t payload, const std::string& path) {
  Sha256 sum;
  sum.add(head);
  std::vector<char> buffer(1 << 20);
  for (std::uint64_t at = 0; at < payload;) {
    const std::size_t got = read_at(file, buffer.data(), std::min<std::uint64_t>(buffer.size(), payload - at), kUserBlockBytes + at, path);
    if (got == 0) throw InputError({path, "a file that nobody shortens meanwhile", "a shorter one", ""});
    sum.add(buffer.data(), got);
    at += got;
  }
  return sum.hex();
}

std::string block_of(const std::string& head, const std::string& sum) {
  std::string block = head + "sha256 " + sum + "\n";
  block.resize(kUserBlockBytes, '\0');
  return block;
}

/// Takes "NAME VALUE\n" off the front; an empty value means that the line is not there.
std::string take_line(std::string_view& text, std::string_view name) {
  const std::size_t end = text.find('\n');
  if (end == std::string_view::npos || !text.starts_with(name)) return {};
  const std::string value(text.substr(name.size(), end - name.size()));
  text.remove_prefix(end + 1);
  return value;
}

bool parse_number(const std::string& text, std::uint64_t& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

std::string foreign_kind(int file, std::string_view block, std::uint64_t size, const std::string& path) {
  if (size == 0) return "an empty file";
  if (kMagic.starts_with(block.substr(0, kMagic.size()))) return "a truncated file";
  for (std::uint64_t at = 0; at + kHdf5Signature.size() <= size && at <= (1u << 20); at = at == 0 ? 512 : at * 2) {
    std::array<char, 8> signature{};
    if (read_at(file, signature.data(), signature.size(), at, path) == 8 && std::string_view(signature.data(), 8) == kHdf5Signature)
      return "an HDF5 file of another program";
  }
  return "another kind of file";
}

FileDescriptor open_regular(const std::string& path, std::uint64_t& size) {
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));  // a pipe must not block here
  if (!file.is_open()) throw InputError({path, "a file that can be read", std::generic_category().message(errno), ""});
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) throw_system_error("read", path);
  if (S_ISDIR(status.st_mode)) throw InputError({path, "an Elastiform HDF5 file", "a folder", ""});
  if (!S_ISREG(status.st_mode)) throw InputError({path, "an Elastiform HDF5 file", "no regular file", ""});
  size = static_cast<std::uint64_t>(status.st_size);
  return file;
}

}  // namespace

void seal_user_block(const std::string& path, std::string_view kind) {
  if (kind.empty() || kind.size() > kMaxKind || kind.find('\n') != std::string_view::npos) throw std::logic_error("kind of a file");
  const FileDescriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  struct stat status {};
  if (!file.is_open() || ::fstat(file.get(), &status) != 0) throw_system_error("finish", path);
  const std::uint64_t payload = static_cast<std::uint64_t>(status.st_size) - kUserBlockBytes;
  const std::string head = head_of(kind, payload);
  write_all(file.get(), block_of(head, checksum(file.get(), head, payload, path)), path);
}

VerifiedFile open_verified(const std::string& path, std::string_view kind) {
  const std::string ours = kind.empty() ? "an Elastiform HDF5 file" : "an Elastiform " + std::string(kind) + " file";
  const auto refuse = [&](const std::string& found, const std::string& remedy = "") { return InputError({path, ours, found, remedy}); };
  VerifiedFile result;
  result.file = open_regular(path, result.bytes);
  std::string block(std::min<std::uint64_t>(kUserBlockBytes, result.bytes), '\0');
  block.resize(read_at(result.file.get(), block.data(), block.size(), 0, path));
  if (!block.starts_with(kMagic)) throw refuse(foreign_kind(result.file.get(), block, result.bytes, path));
  if (result.bytes < kUserBlockBytes) throw refuse("a truncated file");

  std::string_view rest(block);
  std::uint64_t version = 0, payload = 0;
  if (!parse_number(take_line(rest, kMagic), version)) throw refuse("a damaged header");
  if (version > kVersion)
    throw InputError({path, "format version " + std::to_string(kVersion) + " or older", std::to_string(version), "use a newer elastiform"});
  result.kind = take_line(rest, "kind ");
  if (!parse_number(take_line(rest, "payload "), payload)) throw refuse("a damaged header");
  const std::string sum = take_line(rest, "sha256 ");
  const std::string head = head_of(result.kind, payload);
  if (block_of(head, sum) != block) throw refuse("a damaged header");
  if (result.bytes - kUserBlockBytes != payload)
    throw refuse(result.bytes - kUserBlockBytes < payload ? "a truncated file" : "a file with something after its end");
  if (checksum(result.file.get(), head, payload, path) != sum)
    throw refuse("a damaged file (its SHA-256 differs)", "take another copy or an earlier checkpoint");
  if (!kind.empty() && kind != result.kind) throw refuse("a " + result.kind + " file");
  return result;
}

}  // namespace elastiform
