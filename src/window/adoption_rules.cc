#include "window/adoption_rules.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <string>
#include <string_view>

#include "base/unique_fd.h"

namespace flexins::window {
namespace {

/// smaps walks every present page below the range; beyond this resident size it costs too much.
constexpr uint64_t kFlagsResidentPagesMax = (4ull << 30) / 4096;
constexpr uint64_t kPage = 4096;
/// What libc keeps about a thread, on either side of the thread pointer.
constexpr uint64_t kThreadBlockBytes = 4096;
constexpr unsigned long kPolicyOfAddress = 2;  // MPOL_F_ADDR

/// The number behind `label` in `text`, or `otherwise`.
uint64_t number_after(std::string_view text, std::string_view label, uint64_t otherwise) {
  const size_t found = text.find(label);
  if (found == std::string_view::npos) return otherwise;
  text.remove_prefix(found + label.size());
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  uint64_t value = otherwise;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

/// Pinned pages (io_uring buffers, other devices) must stay where they are; locked ones were asked
/// to. Which ones is not told, so there must be none.
bool holds_pages() {
  const std::string status = read_whole("/proc/self/status");
  return number_after(status, "VmLck:", 0) != 0 || number_after(status, "VmPin:", 0) != 0;
}

bool too_many_mappings(size_t count) {
  const std::string limit = read_whole("/proc/sys/vm/max_map_count");
  return count > number_after(limit, "", 65'530) / 2;
}

/// True when the memory has a NUMA policy that is not simply the thread's.
bool bound_to_node(uint64_t address) {
  int own = 0;
  int there = 0;
  return ::syscall(SYS_get_mempolicy, &own, nullptr, 0, nullptr, 0) == 0 &&
         ::syscall(SYS_get_mempolicy, &there, nullptr, 0, address, kPolicyOfAddress) == 0 &&
         own != there;
}

bool has_flag(std::string_view flags, std::string_view flag) {
  for (size_t at = flags.find(flag); at != std::string_view::npos; at = flags.find(flag, at + 1)) {
    if (at % 3 == 0) return true;  // "ab cd ef "
  }
  return false;
}

}  // namespace

AdoptionRules::AdoptionRules(std::span<const Mapping> mappings, uint64_t begin, uint64_t end) {
  const auto within = mappings_within(mappings, begin, end);
  const bool any = std::any_of(within.begin(), within.end(),
                               [](const Mapping& mapping) { return mapping.private_memory(); });
  none_ = !any || too_many_mappings(mappings.size()) || holds_pages();
  if (none_) return;
  read_flags(begin, end);
  find_own_memory(mappings);
}

void AdoptionRules::find_own_memory(std::span<const Mapping> mappings) {
  const auto here = reinterpret_cast<uint64_t>(__builtin_frame_address(0));
  const auto around = mappings_within(mappings, here, here + 1);
  // Without its bounds (a coroutine's stack, say) all of the mapping counts as stack.
  if (!around.empty()) own_[0] = {around[0].begin, around[0].end};
  pthread_attr_t attributes;
  void* lowest = nullptr;
  size_t length = 0;
  // The first thread's stack is a mapping with a name, and slow to ask for.
  if (!around.empty() && around[0].plain &&
      ::pthread_getattr_np(::pthread_self(), &attributes) == 0) {
    (void)::pthread_attr_getstack(&attributes, &lowest, &length);
    ::pthread_attr_destroy(&attributes);
    const auto begin = reinterpret_cast<uint64_t>(lowest);
    if (begin <= here && here < begin + length) own_[0] = {begin, begin + length};
  }
  // The kernel places a program's first large blocks right below the thread-local data, in one
  // mapping with it: only the pages in use are spared. A failing system call stores to errno.
  const auto locals = reinterpret_cast<uint64_t>(__builtin_thread_pointer());
  const auto error = reinterpret_cast<uint64_t>(&errno);
  own_[1] = {std::min(locals, error) - kThreadBlockBytes,
             std::max(locals, error) + kThreadBlockBytes};
}

std::vector<AdoptionRules::Range> AdoptionRules::allowed(const Mapping& mapping, uint64_t begin,
                                                         uint64_t end) const {
  std::vector<Range> parts;
  if (none_ || !mapping.private_memory() || refused_.contains(mapping.begin) ||
      bound_to_node(mapping.begin)) {
    return parts;
  }
  parts.push_back({begin, end});
  for (const Range& own : own_) {
    const uint64_t from = own.begin / kPage * kPage;
    const uint64_t to = (own.end + kPage - 1) / kPage * kPage;
    std::vector<Range> left;
    for (const Range& part : parts) {
      if (part.begin < std::min(part.end, from))
        left.push_back({part.begin, std::min(part.end, from)});
      if (std::max(part.begin, to) < part.end) left.push_back({std::max(part.begin, to), part.end});
    }
    parts = std::move(left);
  }
  return parts;
}

void AdoptionRules::read_flags(uint64_t begin, uint64_t end) {
  const std::string sizes = read_whole("/proc/self/statm");
  if (number_after(sizes, " ", 0) > kFlagsResidentPagesMax) return;
  const std::string text = read_whole("/proc/self/smaps");
  std::string_view rest = text;
  Mapping mapping;
  while (!rest.empty() && mapping.begin < end) {
    const size_t length = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, length);
    constexpr std::string_view kLabel = "VmFlags: ";
    if (line.starts_with(kLabel)) {
      const std::string_view flags = line.substr(kLabel.size());
      if (mapping.end > begin) {
        // Wiped in a child, locked, device memory, huge pages: a memfd has none of that.
        for (const std::string_view flag : {"wf", "lo", "io", "pf", "ht"}) {
          if (has_flag(flags, flag)) refused_.insert(mapping.begin);
        }
        if (has_flag(flags, "dc")) left_out_of_fork_.insert(mapping.begin);
      }
    } else {
      (void)parse_mapping(line, mapping);
    }
    rest.remove_prefix(std::min(length + 1, rest.size()));
  }
}

}  // namespace flexins::window
