#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "base/time.h"
#include "sim/frame.h"
#include "sim/random.h"

namespace flexins::sim {

/// Everything that happened in a run, as one number: packets delivered, completions, faults.
class Trace {
 public:
  template <typename... Words>
  void note(Words... words) {
    ((hash_ = Random::mix(hash_ ^ static_cast<uint64_t>(words))), ...);
  }
  void note_frame(const Frame& frame, base::TimeNs now);
  [[nodiscard]] uint64_t hash() const { return hash_; }

 private:
  uint64_t hash_ = 0x6c62'272e'07bb'0142;
};

/// A pcapng file of the frames that hosts sent, or that were lost on the way.
class FrameFile {
 public:
  /// Errors: what the system says of `path`.
  static base::Result<std::unique_ptr<FrameFile>> create(const std::string& path);
  ~FrameFile();
  FrameFile(const FrameFile&) = delete;
  FrameFile& operator=(const FrameFile&) = delete;

  void write(const Frame& frame, base::TimeNs now, bool inbound, const char* comment);

 private:
  struct Closer;
  explicit FrameFile(void* file) : file_(file) {}
  void* file_;  ///< FILE
};

}  // namespace flexins::sim
