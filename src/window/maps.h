#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace flexins::window {

/// One line of /proc/self/maps.
struct Mapping {
  uint64_t begin = 0;
  uint64_t end = 0;
  uint64_t offset = 0;
  dev_t device = 0;
  ino_t inode = 0;  ///< 0: no file
  bool readable = false;
  bool writable = false;
  bool executable = false;
  bool shared = false;
  bool plain = false;  ///< heap, or memory without a name or with one given by prctl

  /// Memory that only this process has and that nothing but the program's stores made.
  [[nodiscard]] bool private_memory() const {
    return plain && inode == 0 && readable && writable && !executable && !shared;
  }
};

/// False when `line` is not of the form that proc(5) describes.
bool parse_mapping(std::string_view line, Mapping& out);

/// All mappings of this process, by address. Empty when /proc cannot be read.
std::vector<Mapping> read_mappings();

/// Those that [begin, end) touches.
std::span<const Mapping> mappings_within(std::span<const Mapping> all, uint64_t begin,
                                         uint64_t end);

/// The whole file, or what of it could be read; files of /proc have no size.
std::string read_whole(const char* path);

}  // namespace flexins::window
