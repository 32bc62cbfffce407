#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "scenario.h"
#include "wire/headers.h"
#include "wire/internet.h"

/// A capture as the two ends saw it.

namespace flexins::interop {

/// A packet that one end sent.
struct Captured {
  size_t number = 0;  ///< in the file, from 1
  bool from_client = false;
  wire::DatagramHeaders outer;
  wire::Headers headers;
  std::vector<std::byte> transport;  ///< BTH to ICRC
  std::vector<std::byte> payload;    ///< without pad
};

/// All packets of one connection.
struct Capture {
  std::vector<Captured> packets;
  wire::IpAddress client;
  wire::IpAddress server;
  base::Qpn client_qpn;
  base::Qpn server_qpn;
  uint64_t memory_address = 0;  ///< of the server's memory
  uint32_t memory_key = 0;
};

/// Reads the file of `scenario`. Throws std::runtime_error where it is not what it should be.
[[nodiscard]] Capture read_capture(const Scenario& scenario);

/// A packet as it reaches the other end.
struct Arrival {
  const Captured* packet = nullptr;
  std::vector<std::byte> transport;
};

/// Applies a scenario's faults to its packets, in the order in which they were sent.
class Wire {
 public:
  explicit Wire(const Scenario& scenario);
  /// What arrives once `packet` has been sent: it, nothing, or more than one.
  [[nodiscard]] std::vector<Arrival> carry(const Captured& packet);

 private:
  const Scenario& scenario_;
  std::vector<uint32_t> seen_;  ///< for each fault
  std::vector<Arrival> held_;
};

/// For messages: number, opcode, PSN, syndrome and length.
[[nodiscard]] std::string describe(const Captured& packet);

}  // namespace flexins::interop
