#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "base/time.h"
#include "daemon/event_loop.h"
#include "daemon/neighbour_hello.h"
#include "daemon/neighbour_place.h"
#include "daemon/neighbour_way.h"
#include "daemon/worker_thread.h"
#include "port/shm_port.h"

namespace flexins::daemon {

/// Finds engines of this machine behind the addresses that programs want to reach, and gives the
/// port ways through shared memory to them. neighbour_hello.h has the exchange. Control thread.
class Neighbours {
 public:
  /// `loop` outlives this.
  explicit Neighbours(EventLoop& loop) : loop_(loop) {}
  ~Neighbours();
  Neighbours(const Neighbours&) = delete;
  Neighbours& operator=(const Neighbours&) = delete;

  /// From now on looks for neighbours and is found. `worker` and `port` outlive stop(). Errors: as
  /// NeighbourPlace::enter.
  base::Result<void> start(const std::string& directory, WorkerThread& worker, port::ShmPort& port);
  /// Takes all ways back. Before the worker ends.
  void stop();

  /// A program will send from `local` to `remote`, an address of somebody else.
  void want(const wire::IpAddress& local, const wire::IpAddress& remote);
  /// True: it was one of ours.
  bool on_mad(const wire::IpAddress& source, const wire::IpAddress& destination,
              std::span<const std::byte, wire::kMadBytes> mad);

  /// Does what is due, and returns how long nothing will be.
  base::TimeNs look_at_clock(base::TimeNs now);
  /// Neighbours with a way to them.
  [[nodiscard]] size_t size() const;

 private:
  enum class State : uint8_t {
    kAsked,    ///< said Hello; waits for Greeting and Answer
    kOffered,  ///< sent the rings; waits for Accept
    kGreeted,  ///< has read a Hello; waits for the Offer
    kReady,
    kAbsent,  ///< nobody of this machine, as it seems
  };
  /// A pair of addresses, and how far the engines at both have come.
  struct Neighbour {
    wire::IpAddress local;
    wire::IpAddress remote;
    State state = State::kAsked;
    uint32_t hellos = 0;
    base::TimeNs due = base::kNever;  ///< of the next Hello, or of giving up
    Secret our_token{};
    std::optional<Secret> their_token;
    base::UniqueFd socket;
    NeighbourWay way;
  };
  /// Connected, and has not said yet for which pair.
  struct Stranger {
    base::UniqueFd socket;
    base::TimeNs due = 0;
  };

  Neighbour* find(const wire::IpAddress& local, const wire::IpAddress& remote);
  Neighbour* find_socket(int fd);
  Neighbour* make(const wire::IpAddress& local, const wire::IpAddress& remote);
  void say_hello(Neighbour& neighbour, base::TimeNs now);
  void send(const Neighbour& neighbour, NeighbourMad::Kind kind);
  void on_hello(const wire::IpAddress& local, const wire::IpAddress& remote,
                const NeighbourMad& hello);
  void accept_some();
  void serve_stranger(int fd);
  void serve(int fd);
  void on_message(Neighbour& neighbour, const NeighbourMessage& message,
                  std::vector<base::UniqueFd> fds);
  void offer(Neighbour& neighbour);
  void take_offer(Neighbour& neighbour, const NeighbourMessage& message,
                  std::vector<base::UniqueFd> fds);
  void ready(Neighbour& neighbour);
  /// Ends the way and the connection, if there are any; `until`: nobody asks again before.
  void give_up(Neighbour& neighbour, base::TimeNs until);

  EventLoop& loop_;
  base::SystemRandom random_;
  std::optional<NeighbourPlace> place_;
  WorkerThread* worker_ = nullptr;
  port::ShmPort* port_ = nullptr;
  std::vector<std::unique_ptr<Neighbour>> neighbours_;
  std::vector<Stranger> strangers_;
};

}  // namespace flexins::daemon
