#include "scenario.h"

namespace flexins::interop {
namespace {

using wire::Opcode;
using Fate = Fault::Kind;

/// One operation of each length that is worth it: nothing, around a word, around packets.
std::vector<Operation> of_all_lengths(Kind kind) {
  return {{kind, 0, 0}, {kind, 0, 1}, {kind, 0, 2}, {kind, 0, 3},
          {kind, 0, 4}, {kind, 1, 0}, {kind, 1, 1}, {kind, 3, 7}};
}
std::vector<Operation> with_immediate(Kind kind) {
  return {{kind, 0, 0}, {kind, 0, 5}, {kind, 1, 0}, {kind, 3, 7}};
}
std::vector<Operation> sends() {
  auto all = of_all_lengths(Kind::kSend);
  all.push_back({Kind::kSendSolicited, 0, 64});
  return all;
}
std::vector<Operation> atomics() {
  return {{Kind::kFetchAdd, 0, 8},
          {Kind::kCompareSwap, 0, 8},
          {Kind::kCompareSwap, 0, 8},
          {Kind::kFetchAdd, 0, 8}};
}
std::vector<Operation> mix() {
  return {{Kind::kWrite, 0, 3000},    {Kind::kRead, 0, 3000},           {Kind::kSend, 0, 3000},
          {Kind::kCompareSwap, 0, 8}, {Kind::kWriteImmediate, 0, 3000}, {Kind::kRead, 0, 1},
          {Kind::kFetchAdd, 0, 8},    {Kind::kSendImmediate, 0, 1},     {Kind::kWrite, 0, 1},
          {Kind::kRead, 0, 3000}};
}

Scenario plain(std::string_view file, std::vector<Operation> operations) {
  Scenario s;
  s.file = file;
  s.operations = std::move(operations);
  return s;
}
Scenario faulty(std::string_view file, std::vector<Operation> operations,
                std::vector<Fault> faults) {
  Scenario s = plain(file, std::move(operations));
  s.faults = std::move(faults);
  return s;
}

std::vector<Scenario> operations_of_each_kind() {
  std::vector<Scenario> all = {
      plain("rc_send", sends()),
      plain("rc_send_imm", with_immediate(Kind::kSendImmediate)),
      plain("rc_write", of_all_lengths(Kind::kWrite)),
      plain("rc_write_imm", with_immediate(Kind::kWriteImmediate)),
      plain("rc_read", of_all_lengths(Kind::kRead)),
      plain("rc_atomic", atomics()),
      plain("rc_psnwrap", {{Kind::kSend, 0, 16},
                           {Kind::kWrite, 2, 7},
                           {Kind::kRead, 2, 7},
                           {Kind::kFetchAdd, 0, 8},
                           {Kind::kSend, 2, 7}}),
  };
  for (const std::string_view file : {"rc_mix", "rc_mix_ipv6", "rc_mix_mtu256"}) {
    Scenario& s = all.emplace_back(plain(file, mix()));
    s.is_pipelined = true;
    if (file.ends_with("256")) s.mtu_bytes = 256;
  }
  return all;
}

std::vector<Scenario> refusals() {
  using base::WcStatus;
  const Operation first = {Kind::kWrite, 0, 8};
  std::vector<Scenario> all = {
      plain("rc_rnr", {{Kind::kSend, 0, 100}, {Kind::kSendImmediate, 3, 7}}),
      plain("rc_nak_rkey_write", {first, {Kind::kWriteBadKey, 3, 7, WcStatus::kRemoteAccess}}),
      plain("rc_nak_rkey_read", {first, {Kind::kReadBadKey, 0, 100, WcStatus::kRemoteAccess}}),
      plain("rc_nak_oob_write",
            {first, {Kind::kWriteOutOfBounds, 0, 100, WcStatus::kRemoteAccess}}),
      plain("rc_nak_invreq_read",
            {{Kind::kSend, 0, 8}, {Kind::kRead, 0, 8, WcStatus::kRemoteInvalidRequest}}),
      plain("rc_nak_toolong", {first, {Kind::kSend, 0, 200, WcStatus::kRemoteOperation}}),
      plain("rc_nak_opfail", {first, {Kind::kSend, 0, 200, WcStatus::kRemoteOperation}}),
  };
  for (Scenario& s : all) {
    s.receives_late = s.file == "rc_rnr";
    s.remote_access = s.file != "rc_nak_invreq_read";
    s.receive_bytes = s.file == "rc_nak_toolong" ? 100 : 0;
    s.bad_receive_key = s.file == "rc_nak_opfail";
  }
  return all;
}

std::vector<Scenario> faults() {
  const auto writes = of_all_lengths(Kind::kWrite);
  const auto reads = of_all_lengths(Kind::kRead);
  std::vector<Scenario> all = {
      faulty("wire_drop_write_middle", writes, {{Opcode::kRcWriteMiddle, 2}}),
      faulty("wire_drop_send_last", sends(), {{Opcode::kRcSendLast, 1}}),
      faulty("wire_drop_send_only_tail", with_immediate(Kind::kSendImmediate),
             {{Opcode::kRcSendOnlyImmediate, 2}}),
      faulty("wire_drop_ack", sends(), {{Opcode::kRcAcknowledge, 3}}),
      faulty("wire_drop_nak", writes, {{Opcode::kRcWriteMiddle, 1}, {Opcode::kRcAcknowledge, 7}}),
      faulty("wire_drop_read_req", reads, {{Opcode::kRcReadRequest, 8}}),
      faulty("wire_drop_readresp_first", reads, {{Opcode::kRcReadResponseFirst, 2}}),
      faulty("wire_drop_readresp_middle", reads, {{Opcode::kRcReadResponseMiddle, 2}}),
      faulty("wire_drop_readresp_last", reads, {{Opcode::kRcReadResponseLast, 2}}),
      faulty("wire_drop_atomic_req", atomics(), {{Opcode::kRcCompareSwap, 1}}),
      faulty("wire_drop_atomic_ack", atomics(), {{Opcode::kRcAtomicAcknowledge, 2}}),
      faulty("wire_dup_atomic_req", atomics(), {{Opcode::kRcFetchAdd, 1, Fate::kDuplicated}}),
      faulty("wire_dup_send", sends(), {{Opcode::kRcSendOnly, 2, Fate::kDuplicated}}),
      faulty("wire_dup_read_req", reads, {{Opcode::kRcReadRequest, 6, Fate::kDuplicated}}),
      faulty("wire_swap_write_middle", writes, {{Opcode::kRcWriteMiddle, 1, Fate::kDelayed}}),
      faulty("wire_swap_readresp", reads, {{Opcode::kRcReadResponseMiddle, 1, Fate::kDelayed}}),
      faulty("wire_flip_payload", sends(), {{Opcode::kRcSendMiddle, 1, Fate::kFlipped, 20}}),
      faulty("wire_flip_bth_resv", sends(), {{Opcode::kRcSendOnly, 2, Fate::kFlipped, 4}}),
      faulty("wire_flip_psn", sends(), {{Opcode::kRcSendOnly, 2, Fate::kFlipped, 11}}),
      faulty("wire_ecn_ce", sends(), {}),
      faulty("wire_mix_drop2", mix(),
             {{Opcode::kRcWriteFirst, 1}, {Opcode::kRcReadResponseLast, 1}}),
  };
  all.back().is_pipelined = true;
  for (Scenario& s : all) {
    if (s.file == "wire_swap_readresp") {
      // Linux waits for its timer; asking again for what is missed at the first response out of
      // order is as right.
      s.recovery_packet = 21;
      s.recovery_psn = 0x11'1109;
    } else if (s.file == "wire_mix_drop2") {
      // What Linux had sent when the NAK reached it depends on its threads.
      s.recovery_packet = 9;
      s.recovery_psn = 0x11'1100;
      s.server_compared_to = 73;
    }
  }
  return all;
}

Scenario window() {
  Scenario s =
      plain("rc_mw_send_inv", {{Kind::kWriteWindow, 0, 100},
                               {Kind::kSendInvalidate, 0, 20},
                               {Kind::kSend, 0, 8},
                               {Kind::kWriteWindow, 0, 100, base::WcStatus::kRemoteAccess}});
  s.has_window = true;
  return s;
}

std::vector<Scenario> unreliable() {
  const auto operations = [](Kind plain_kind, Kind immediate) {
    return std::vector<Operation>{{plain_kind, 0, 0}, {plain_kind, 0, 1}, {plain_kind, 1, 0},
                                  {plain_kind, 3, 7}, {immediate, 0, 7},  {immediate, 3, 7}};
  };
  const auto sends = operations(Kind::kSend, Kind::kSendImmediate);
  std::vector<Scenario> all = {
      plain("uc_send", sends),
      plain("uc_write", operations(Kind::kWrite, Kind::kWriteImmediate)),
      faulty("wire_drop_uc_middle", sends, {{Opcode::kUcSendMiddle, 2}}),
  };
  for (Scenario& s : all) s.type = base::QpType::kUnreliable;
  all.back().lost_operation = 3;
  return all;
}

std::vector<Scenario> datagrams() {
  std::vector<Scenario> all;
  for (const std::string_view file : {"ud_send", "ud_send_ipv6"}) {
    all.push_back(plain(file, {{Kind::kSend, 0, 0},
                               {Kind::kSend, 0, 1},
                               {Kind::kSend, 0, 2},
                               {Kind::kSend, 1, 0},
                               {Kind::kSendImmediate, 0, 7},
                               {Kind::kSendImmediate, 1, 0}}));
    all.back().type = base::QpType::kDatagram;
  }
  return all;
}

}  // namespace

const std::vector<Scenario>& scenarios() {
  static const std::vector<Scenario> kAll = [] {
    std::vector<Scenario> all = operations_of_each_kind();
    for (auto& s : refusals()) all.push_back(std::move(s));
    for (auto& s : faults()) all.push_back(std::move(s));
    all.push_back(window());
    for (auto& s : unreliable()) all.push_back(std::move(s));
    for (auto& s : datagrams()) all.push_back(std::move(s));
    return all;
  }();
  return kAll;
}

bool takes_receive(Kind kind) {
  return kind == Kind::kSend || kind == Kind::kSendImmediate || kind == Kind::kSendSolicited ||
         kind == Kind::kSendInvalidate || kind == Kind::kWriteImmediate;
}

bool names_memory(Kind kind) { return kind == Kind::kWriteImmediate || !takes_receive(kind); }

bool is_atomic(Kind kind) { return kind == Kind::kCompareSwap || kind == Kind::kFetchAdd; }

}  // namespace flexins::interop
