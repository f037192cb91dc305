// The journal's file: a header of 24 bytes (magic, version, number of the first record, CRC-32C of the three), then records of a
// 16-byte head (number, length, CRC-32C of both and of the text) and the text. Numbers go on after clear(), so a record is never mistaken
// for an older one.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "kernels/errors.hpp"
#include "supernet/storage/durable_file.hpp"
#include "supernet/storage/file_descriptor.hpp"

namespace elastiform {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "our files are little-endian");

constexpr char kMagic[8] = {'e', 'f', 'j', 'o', 'u', 'r', 'n', '\n'};
constexpr std::uint32_t kVersion = 1;
constexpr std::int64_t kMaxBytes = std::int64_t{4} << 30;  // it is read into memory; a sparse file may claim any size

struct FileHead {
  char magic[8];
  std::uint64_t first = 0;
  std::uint32_t version = 0, crc = 0;
};
struct RecordHead {
  std::uint64_t sequence = 0;
  std::uint32_t length = 0, crc = 0;
};
static_assert(sizeof(FileHead) == 24 && sizeof(RecordHead) == 16);

// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78; RFC 3720 appendix B.4), a byte at a time: a round's record is a few KiB.
constexpr std::array<std::uint32_t, 256> kCrcTable = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0u);
    table[i] = crc;
  }
  return table;
}();

std::uint32_t crc32c(const void* data, std::size_t bytes, std::uint32_t crc = 0) {
  crc = ~crc;
  for (std::size_t i = 0; i < bytes; ++i) crc = (crc >> 8) ^ kCrcTable[(crc ^ static_cast<const unsigned char*>(data)[i]) & 0xFF];
  return ~crc;
}

std::uint32_t crc_of(const RecordHead& head, std::string_view record) {
  return crc32c(record.data(), record.size(), crc32c(&head, offsetof(RecordHead, crc)));
}

std::string empty_journal(std::uint64_t first) {
  FileHead head;
  std::memcpy(head.magic, kMagic, sizeof kMagic);
  head.first = first;
  head.version = kVersion;
  head.crc = crc32c(&head, offsetof(FileHead, crc));
  return std::string(reinterpret_cast<const char*>(&head), sizeof head);
}

/// What is whole in a journal.
struct Content {
  std::uint64_t next = 0;  // number of the next record
  std::size_t good = 0;    // bytes up to the end of the last whole record
  std::size_t size = 0;
};

/// The record at byte `at`, if it fits the file.
bool record_at(const std::string& bytes, std::size_t at, RecordHead& head, std::string_view& text) {
  if (bytes.size() - at < sizeof head) return false;
  std::memcpy(&head, bytes.data() + at, sizeof head);
  if (head.length > bytes.size() - at - sizeof head) return false;
  text = std::string_view(bytes.data() + at + sizeof head, head.length);
  return true;
}

/// Whether a whole record stands anywhere behind the last of `content`. Then its end is no torn one: what was synced is damaged.
bool has_whole_record_after(const Content& content, const std::string& bytes) {
  const std::uint64_t most = (content.size - content.good) / sizeof(RecordHead);  // records that fit there
  // Every byte may begin a record. In honest files hardly one looks like a head; a file made of heads must not cost size² in checksums.
  std::size_t budget = 16 * bytes.size();
  for (std::size_t at = content.good; at < bytes.size(); ++at) {
    RecordHead head;
    std::string_view text;
    if (!record_at(bytes, at, head, text) || head.sequence < content.next || head.sequence - content.next > most) continue;
    if (text.size() > budget) return true;
    budget -= text.size();
    if (head.crc == crc_of(head, text)) return true;
  }
  return false;
}

Content scan(const std::string& bytes, const std::string& path, const std::function<void(std::uint64_t, std::string_view)>& each) {
  FileHead head;
  if (bytes.size() < sizeof head || std::memcmp(bytes.data(), kMagic, sizeof kMagic) != 0)
    throw InputError({path, "an Elastiform journal", bytes.empty() ? "an empty file" : "another kind of file", ""});
  std::memcpy(&head, bytes.data(), sizeof head);
  if (head.crc != crc32c(&head, offsetof(FileHead, crc))) throw InputError({path, "an Elastiform journal", "a damaged header", ""});
  if (head.version > kVersion)
    throw InputError({path, "journal version " + std::to_string(kVersion), std::to_string(head.version), "use a newer elastiform"});
  Content content{head.first, sizeof head, bytes.size()};
  RecordHead record;
  std::string_view text;
  while (record_at(bytes, content.good, record, text) && record.sequence == content.next && record.crc == crc_of(record, text)) {
    if (each) each(record.sequence, text);
    ++content.next;
    content.good += sizeof record + text.size();
  }
  return content;
}

/// scan() of a journal that may end in a torn record, but has no damage before its end.
Content check(const std::string& bytes, const std::string& path) {
  const Content content = scan(bytes, path, nullptr);
  if (content.good < content.size && has_whole_record_after(content, bytes)) {
    const std::string at = std::to_string(content.good);
    throw InputError({path, "a whole record at byte " + at, "a damaged one with more records behind it",
                      "restore the file, or keep a copy beside it and give up what follows: truncate -s " + at + " " + path});
  }
  return content;
}

std::string read_whole(int file, const std::string& path) {
  struct stat status {};
  if (::fstat(file, &status) != 0) throw_system_error("read", path);
  if (!S_ISREG(status.st_mode)) throw InputError({path, "an Elastiform journal", "no regular file", ""});
  if (status.st_size > kMaxBytes) throw InputError({path, "a journal of at most 4 GiB", std::to_string(status.st_size) + " bytes", ""});
  std::string bytes(static_cast<std::size_t>(status.st_size), '\0');
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = ::pread(file, bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_system_error("read", path);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  bytes.resize(done);
  return bytes;
}

}  // namespace

struct Journal::State {
  std::string path;
  FileDescriptor file;
  std::uint64_t next = 0, committed_next = 0;
  std::size_t size = 0;  // of the file: whole, committed records
  std::string pending;
  bool torn = false;  // bytes of a failed commit may stand behind `size`

  void open() {
    file = FileDescriptor(::open(path.c_str(), O_RDWR | O_APPEND | O_CLOEXEC | O_NONBLOCK));  // a pipe must not block here
    if (!file.is_open()) throw_system_error("open", path);
  }
  bool cut() { return !(torn = ::ftruncate(file.get(), static_cast<off_t>(size)) != 0); }
};

Journal::Journal(const std::string& path) : state_(std::make_unique<State>()) {
  state_->path = path;
  if (::access(path.c_str(), F_OK) != 0) write_durably(path, empty_journal(0));
  state_->open();
  const Content content = check(read_whole(state_->file.get(), path), path);
  state_->next = state_->committed_next = content.next;
  state_->size = content.good;
  if (content.good < content.size && (!state_->cut() || ::fsync(state_->file.get()) != 0)) throw_system_error("cut the torn end of", path);
}

Journal::~Journal() = default;

void Journal::append(std::string_view record) {
  if (record.size() > UINT32_MAX) throw std::length_error("journal record of more than 4 GiB");
  RecordHead head{state_->next++, static_cast<std::uint32_t>(record.size()), 0};
  head.crc = crc_of(head, record);
  state_->pending.append(reinterpret_cast<const char*>(&head), sizeof head).append(record);
}

void Journal::commit() {
  const std::string pending = std::exchange(state_->pending, {});
  if (pending.empty()) return;
  try {
    if (pending.size() > static_cast<std::uint64_t>(kMaxBytes) - state_->size) throw std::length_error("journal of more than 4 GiB");
    // What is appended behind half a record would look like damage.
    if (state_->torn && !state_->cut()) throw_system_error("cut the torn end of", state_->path);
    fail_point();
    write_all(state_->file.get(), std::string_view(pending).substr(0, pending.size() / 2), state_->path);
    fail_point();
    write_all(state_->file.get(), std::string_view(pending).substr(pending.size() / 2), state_->path);
    fail_point();
    if (::fdatasync(state_->file.get()) != 0) throw_system_error("sync", state_->path);
    fail_point();
  } catch (...) {
    state_->cut();  // a full disk leaves half a record
    state_->next = state_->committed_next;
    throw;
  }
  state_->size += pending.size();
  state_->committed_next = state_->next;
}

std::size_t Journal::bytes() const { return state_->size - sizeof(FileHead); }

void Journal::clear() {
  write_durably(state_->path, empty_journal(state_->committed_next));
  state_->open();
  state_->pending.clear();
  state_->next = state_->committed_next;
  state_->size = sizeof(FileHead);
  state_->torn = false;
}

void Journal::read(const std::string& path, const std::function<void(std::uint64_t, std::string_view)>& each) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.is_open() && errno == ENOENT) return;
  if (!file.is_open()) throw InputError({path, "a readable journal", std::generic_category().message(errno), ""});
  const std::string bytes = read_whole(file.get(), path);
  check(bytes, path);  // nothing is handed out of a damaged file
  scan(bytes, path, each);
}

}  // namespace elastiform
