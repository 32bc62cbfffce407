#include "window/maps.h"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "base/unique_fd.h"

namespace flexins::window {
namespace {

/// Takes a number and the separator behind it off the front of `text`.
template <typename T>
bool take_number(std::string_view& text, int radix, char separator, T& out) {
  const auto result = std::from_chars(text.data(), text.data() + text.size(), out, radix);
  if (result.ec != std::errc{}) return false;
  text.remove_prefix(static_cast<size_t>(result.ptr - text.data()));
  if (separator != '\0') {
    if (text.empty() || text.front() != separator) return false;
    text.remove_prefix(1);
  }
  return true;
}

}  // namespace

bool parse_mapping(std::string_view line, Mapping& out) {
  Mapping read;
  unsigned major_number = 0;
  unsigned minor_number = 0;
  if (!take_number(line, 16, '-', read.begin) || !take_number(line, 16, ' ', read.end)) {
    return false;
  }
  if (line.size() < 5) return false;
  read.readable = line[0] == 'r';
  read.writable = line[1] == 'w';
  read.executable = line[2] == 'x';
  read.shared = line[3] == 's';
  line.remove_prefix(5);
  if (!take_number(line, 16, ' ', read.offset) || !take_number(line, 16, ':', major_number) ||
      !take_number(line, 16, ' ', minor_number) || !take_number(line, 10, '\0', read.inode)) {
    return false;
  }
  read.device = ::makedev(major_number, minor_number);
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  read.plain = line.empty() || line == "[heap]" || line.starts_with("[anon:");
  out = read;
  return true;
}

std::string read_whole(const char* path) {
  std::string text;
  const base::UniqueFd fd(::open(path, O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return text;
  constexpr size_t kStep = 64 * 1024;
  for (;;) {
    const size_t used = text.size();
    text.resize(used + kStep);
    const ssize_t got = ::read(fd.get(), text.data() + used, kStep);
    text.resize(used + (got > 0 ? static_cast<size_t>(got) : 0));
    if (got == 0 || (got < 0 && errno != EINTR)) return text;
  }
}

std::vector<Mapping> read_mappings() {
  std::vector<Mapping> all;
  const std::string text = read_whole("/proc/self/maps");
  std::string_view rest = text;
  while (!rest.empty()) {
    const size_t length = std::min(rest.find('\n'), rest.size());
    Mapping mapping;
    if (parse_mapping(rest.substr(0, length), mapping)) all.push_back(mapping);
    rest.remove_prefix(std::min(length + 1, rest.size()));
  }
  return all;
}

std::span<const Mapping> mappings_within(std::span<const Mapping> all, uint64_t begin,
                                         uint64_t end) {
  const auto first = std::upper_bound(
      all.begin(), all.end(), begin,
      [](uint64_t address, const Mapping& mapping) { return address < mapping.end; });
  auto last = first;
  while (last != all.end() && last->begin < end) ++last;
  return {first, last};
}

}  // namespace flexins::window
