#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/result.h"
#include "window/host.h"

namespace flexins::window {

/// A mapping of (part of) an application's shared object into the engine; unmapped with its last
/// user. What it needs of the object is checked: memory-backed (a page of anything else could block
/// us for ever), long enough, aligned.
class ObjectMapping {
 public:
  /// Maps what `segment` names. Mappings that coincide are shared within one `owner`: inode numbers
  /// of memfds can recur, so one tenant's object must never stand for another's.
  /// Errors: EINVAL, EACCES, ENOMEM (see open_window).
  static base::Result<std::shared_ptr<ObjectMapping>> map(const HostSegment& segment,
                                                          const void* owner);
  ~ObjectMapping();
  ObjectMapping(const ObjectMapping&) = delete;
  ObjectMapping& operator=(const ObjectMapping&) = delete;

  [[nodiscard]] std::byte* data() const { return data_; }
  /// The application can take pages away; a touch may raise SIGBUS.
  [[nodiscard]] bool can_vanish() const { return can_vanish_; }

 private:
  ObjectMapping(std::byte* data, uint64_t length, bool can_vanish)
      : data_(data), length_(length), can_vanish_(can_vanish) {}

  std::byte* data_;
  uint64_t length_;
  bool can_vanish_;
};

}  // namespace flexins::window
