#pragma once

#include <cstddef>

/// Which paths lead to our device, and where they lead instead. No allocation, no lock; errno stays
/// as it is.

namespace flexins::preload {

/// Longest tree root and longest redirected path; what is longer is left alone.
inline constexpr size_t kMaxRoot = 512;
inline constexpr size_t kMaxPath = 1024;

/// The path to hand to the C library in place of the one that the program gave. Holds its own
/// buffer: keep it on the stack for the time of the call.
class Redirect {
 public:
  explicit Redirect(const char* path) : path_(path) {
    // Nearly all paths are none of ours: two characters decide.
    if (path != nullptr && path[0] == '/' &&
        (path[1] == 's' || path[1] == 'd' || path[1] == '/' || path[1] == '.')) {
      look_up();
    }
  }
  Redirect(const Redirect&) = delete;
  Redirect& operator=(const Redirect&) = delete;

  [[nodiscard]] const char* path() const { return path_; }
  /// The path is that of our character device, and path() of its stand-in.
  [[nodiscard]] bool stands_for_node() const { return stands_for_node_; }
  /// … and the device is that of rdma_cm (cm_channel.h).
  [[nodiscard]] bool stands_for_cm() const { return stands_for_cm_; }

 private:
  void look_up();
  void look_up_merged(const char* directory, const char* rest);

  const char* path_;
  bool stands_for_node_ = false;
  bool stands_for_cm_ = false;
  char buffer_[kMaxPath];
};

/// Is there a tree to show? Without one, everything passes through.
bool active();

/// The directory that holds the tree, into `out` of kMaxRoot bytes; false where there is no tree.
bool engine_directory(char* out);

/// The inverse, for answers: a path inside the tree becomes what it would be without us ("/sys/…"),
/// in place; it never grows. Leaves other paths alone.
void restore_path(char* path);

}  // namespace flexins::preload
