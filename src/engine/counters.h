#pragma once

#include <cstdint>
#include <vector>

#include "port/port.h"

namespace flexins::engine {

/// What the worker counted since its start; drops by reason. Written by the worker only.
struct EngineCounters {
  uint64_t steps = 0;
  uint64_t work_requests = 0;
  uint64_t completions = 0;
  uint64_t packets_received = 0;
  uint64_t packets_sent = 0;
  uint64_t trains_sent = 0;
  uint64_t drop_malformed = 0;
  uint64_t drop_unknown_opcode = 0;
  uint64_t drop_bad_pkey = 0;
  uint64_t drop_unknown_qpn = 0;
  uint64_t departed_answers = 0;  ///< acknowledgements given again for QPs that are gone
  uint64_t drop_no_group = 0;     ///< multicast to a group that has no members here
  uint64_t drop_no_flow = 0;      ///< raw frames that no rule wants
  uint64_t drop_bad_frame = 0;    ///< raw frames shorter than an Ethernet header
  uint64_t multicast_echoes = 0;  ///< our own multicasts, come back from the network
  uint64_t drop_withdrawn = 0;    ///< built, then its memory or QP went away before it could leave
  uint64_t mads_received = 0;
  uint64_t mads_sent = 0;
  uint64_t drop_mad_opcode = 0;  ///< for queue pair 1, but no lone datagram
  uint64_t drop_mad_qkey = 0;
  uint64_t drop_mad_length = 0;
  uint64_t drop_mad_refused = 0;  ///< the communication manager has no room or is not there
  uint64_t drop_mad_port_full = 0;
  uint64_t submission_bad_qpn = 0;
  uint64_t submission_bad_kind = 0;
  uint64_t submission_bad_length = 0;
  uint64_t submission_refused = 0;  ///< state takes none
  uint64_t submission_overflow = 0;
  uint64_t cq_overruns = 0;
  uint64_t completions_lost = 0;  ///< of CQs that were to ignore overruns

  [[nodiscard]] std::vector<port::Counter> rows() const;
};

}  // namespace flexins::engine
