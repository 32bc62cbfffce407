#include "engine/counters.h"

namespace flexins::engine {

std::vector<port::Counter> EngineCounters::rows() const {
  return {
      {"steps", steps},
      {"work_requests", work_requests},
      {"completions", completions},
      {"packets_received", packets_received},
      {"packets_sent", packets_sent},
      {"trains_sent", trains_sent},
      {"drop_malformed", drop_malformed},
      {"drop_unknown_opcode", drop_unknown_opcode},
      {"drop_bad_pkey", drop_bad_pkey},
      {"drop_unknown_qpn", drop_unknown_qpn},
      {"departed_answers", departed_answers},
      {"drop_no_group", drop_no_group},
      {"drop_no_flow", drop_no_flow},
      {"drop_bad_frame", drop_bad_frame},
      {"multicast_echoes", multicast_echoes},
      {"drop_withdrawn", drop_withdrawn},
      {"mads_received", mads_received},
      {"mads_sent", mads_sent},
      {"drop_mad_opcode", drop_mad_opcode},
      {"drop_mad_qkey", drop_mad_qkey},
      {"drop_mad_length", drop_mad_length},
      {"drop_mad_refused", drop_mad_refused},
      {"drop_mad_port_full", drop_mad_port_full},
      {"submission_bad_qpn", submission_bad_qpn},
      {"submission_bad_kind", submission_bad_kind},
      {"submission_bad_length", submission_bad_length},
      {"submission_refused", submission_refused},
      {"submission_overflow", submission_overflow},
      {"cq_overruns", cq_overruns},
      {"completions_lost", completions_lost},
  };
}

}  // namespace flexins::engine
