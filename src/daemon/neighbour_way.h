#pragma once

#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "daemon/worker_thread.h"
#include "port/shm_port.h"
#include "port/shm_ring.h"

namespace flexins::daemon {

/// Both rings of a way and both wake descriptors: memory that one engine makes and the other maps.
class NeighbourWay {
 public:
  NeighbourWay() = default;
  ~NeighbourWay() { close(); }
  /// Back to the beginning.
  void close();
  NeighbourWay(const NeighbourWay&) = delete;
  NeighbourWay& operator=(const NeighbourWay&) = delete;

  /// Makes rings and our wake descriptor; `out`: what the other engine is to be sent. Errors:
  /// ENOMEM and what eventfd says.
  base::Result<void> make(std::vector<base::UniqueFd>& out);
  /// Maps the rings that came (memory, wake descriptor), and makes our wake descriptor; `out`: what
  /// is to be sent back. Errors: EINVAL for what is not sealed memory of the right size, or no
  /// eventfd.
  base::Result<void> take(std::vector<base::UniqueFd> in, std::vector<base::UniqueFd>& out);
  /// The wake descriptor that came back. Errors: EINVAL.
  base::Result<void> finish(std::vector<base::UniqueFd> in);

  /// On the worker, between two steps. Errors: as ShmPort::add and WorkerThread::add_sleeper.
  base::Result<void> open(WorkerThread& worker, port::ShmPort& port, const wire::IpAddress& local,
                          const wire::IpAddress& remote);
  /// On the worker, between two steps; before the memory goes.
  void shut(WorkerThread& worker, port::ShmPort& port, const wire::IpAddress& local,
            const wire::IpAddress& remote);

 private:
  base::Result<void> make_wake_fd(std::vector<base::UniqueFd>& out);
  base::Result<void> map(int fd);
  base::Result<void> take_wake_fd(base::UniqueFd fd);

  port::ShmRingLayout* rings_ = nullptr;  ///< two
  bool made_here_ = false;                ///< the first of them is ours to write
  base::UniqueFd our_wake_;
  base::UniqueFd their_wake_;
};

}  // namespace flexins::daemon
