#pragma once

#include <cstdint>
#include <string>

#include "base/random.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "daemon/neighbour_hello.h"

namespace flexins::daemon {

/// The directory where engines of one machine meet: a file `secret`, by which it is known wherever
/// it is mounted, and a socket for each engine, called by its number.
class NeighbourPlace {
 public:
  /// Makes the directory (0700) and the secret if they are missing, removes sockets of engines
  /// that are no more, and listens. Errors: what the system or protocol::check_runtime_dir say.
  static base::Result<NeighbourPlace> enter(const std::string& directory,
                                            base::RandomSource& random);
  NeighbourPlace(NeighbourPlace&& other) noexcept;
  NeighbourPlace& operator=(NeighbourPlace&&) = delete;
  /// Removes the socket.
  ~NeighbourPlace();

  [[nodiscard]] const Secret& secret() const { return secret_; }
  [[nodiscard]] uint64_t engine() const { return engine_; }
  [[nodiscard]] int listener() const { return listener_.get(); }
  /// A connection to the engine with that number. Errors: ENOENT, ECONNREFUSED, EAGAIN …
  [[nodiscard]] base::Result<base::UniqueFd> connect(uint64_t engine) const;

 private:
  NeighbourPlace() = default;
  [[nodiscard]] std::string socket_path(uint64_t engine) const;

  std::string directory_;
  Secret secret_{};
  uint64_t engine_ = 0;
  base::UniqueFd listener_;
};

[[nodiscard]] Secret make_secret(base::RandomSource& random);

}  // namespace flexins::daemon
