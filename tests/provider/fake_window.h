#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include "window/client.h"

namespace flexins::provider {

/// A window client that hands out what a test wants and counts what it gets back.
class FakeWindow final : public window::WindowClient {
 public:
  static FakeWindow& get();

  base::Result<window::Preparation> prepare(uint64_t address, uint64_t length, bool need_write,
                                            bool on_demand) override;
  void release(uint64_t ticket) override { tickets.erase(ticket); }
  int memory_descriptor() override { return -1; }

  std::set<uint64_t> tickets;  ///< prepared and not released
  std::vector<window::ClientSegment> segments;
  bool last_need_write = false;
  int fail_with = 0;

 private:
  uint64_t next_ = 1;
};

}  // namespace flexins::provider
