#pragma once

#include <sys/types.h>

#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "base/unique_fd.h"
#include "window/adoption.h"
#include "window/client.h"
#include "window/maps.h"

namespace flexins::window {

/// Which windows may be offered.
struct ClientSettings {
  bool shared = true;
  bool adopted = true;
  /// FLEXINS_ADOPT and FLEXINS_WINDOW.
  static ClientSettings from_environment();
};

/// The WindowClient of a real process.
class LocalClient final : public WindowClient {
 public:
  explicit LocalClient(ClientSettings settings) : settings_(settings) {}

  base::Result<Preparation> prepare(uint64_t address, uint64_t length, bool need_write,
                                    bool on_demand) override;
  void release(uint64_t ticket) override;
  int memory_descriptor() override;

  void note_unmapped(uint64_t address, uint64_t length);
  void note_dontneed(uint64_t address, uint64_t length);
  void leave_out_of_fork(bool out);

  void before_fork();
  void after_fork_in_parent();
  void after_fork_in_child();

 private:
  struct Ticket {
    std::vector<base::UniqueFd> objects;
    std::vector<RunTable::Share> shares;
  };

  void offer_shared(std::span<const Mapping> mappings, uint64_t begin, uint64_t end,
                    bool need_write, Ticket& ticket, std::vector<ClientSegment>& segments);
  void offer_adopted(std::span<const Mapping> mappings, uint64_t begin, uint64_t end,
                     Ticket& ticket, std::vector<ClientSegment>& segments);

  const ClientSettings settings_;
  std::mutex mutex_;
  Adoption adoption_;
  std::unordered_map<uint64_t, Ticket> tickets_;
  uint64_t last_ticket_ = 0;
  base::UniqueFd memory_fd_;
  pid_t memory_pid_ = 0;
};

}  // namespace flexins::window
