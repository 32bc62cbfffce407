#include "integrity/session.h"

#include <arpa/inet.h>
#include <unistd.h>

#include <algorithm>

namespace integrity {

using example::fail;

namespace {

/// Every so many rounds all memory is compared, not only the part that the round could touch.
constexpr uint64_t kFullCheckRounds = 32;
/// Receives have this bit in their work request id, besides their place in the plan.
constexpr uint64_t kReceive = 1ull << 32;

ibv_wr_opcode opcode_of(Kind kind) {
  switch (kind) {
    case Kind::kWrite: return IBV_WR_RDMA_WRITE;
    case Kind::kWriteImmediate: return IBV_WR_RDMA_WRITE_WITH_IMM;
    case Kind::kRead: return IBV_WR_RDMA_READ;
    case Kind::kSend: return IBV_WR_SEND;
    case Kind::kCompareSwap: return IBV_WR_ATOMIC_CMP_AND_SWP;
    case Kind::kFetchAdd: return IBV_WR_ATOMIC_FETCH_AND_ADD;
    case Kind::kSendImmediate: break;
  }
  return IBV_WR_SEND_WITH_IMM;
}

unsigned flags_of(const Operation& operation) {
  unsigned flags = 0;
  if (operation.is_signalled) flags |= IBV_SEND_SIGNALED;
  if (operation.is_inline) flags |= IBV_SEND_INLINE;
  if (operation.is_fenced) flags |= IBV_SEND_FENCE;
  if (operation.is_solicited && operation.takes_receive()) flags |= IBV_SEND_SOLICITED;
  return flags;
}

}  // namespace

Session::Session(const example::Settings& settings, const example::Socket& socket,
                 const Orders& orders, bool is_client)
    : socket_(socket), connection_(settings, socket), side_(is_client ? 1 : 0) {
  limits_.unreliable = orders.unreliable != 0;
  limits_.seed = orders.seed;
  limits_.size_max = orders.size_max;
  limits_.large_max = orders.large_max;
  limits_.area_bytes = orders.large_max + 2 * orders.size_max + (64 << 10);
  limits_.areas = std::size(example::kSources);
  limits_.sge_max = std::min(connection_.sge_max(), socket.exchange(connection_.sge_max()));
  limits_.inline_max =
      std::min(connection_.inline_max(), socket.exchange(connection_.inline_max()));
  for (const example::Source source : example::kSources) {
    const Area& area = areas_.emplace_back(source, limits_.area_bytes);
    ibv_mr* region = regions_.emplace_back(connection_.share(area.data(), area.bytes()));
    example::RemoteMemory ours;
    ours.address = reinterpret_cast<uint64_t>(area.data());
    ours.length = area.bytes();
    ours.rkey = region->rkey;
    remote_.push_back(socket.exchange(ours));
  }
}

bool Session::play_round(bool go_on) {
  const bool both_go_on = socket_.exchange(static_cast<uint8_t>(go_on)) != 0 && go_on;
  if (!both_go_on) return false;
  const Plan plan = make_plan(limits_, totals_.rounds);
  prepare_memory(plan);
  if (!plan.posts_receives_late[side_]) post_receives(plan);
  barrier("before");
  if (plan.posts_receives_late[side_]) {
    usleep(2000);
    post_receives(plan);
  }
  post_operations(plan);
  wait_for_completions(plan);
  // Now ours are done; after the barrier the other side's are too.
  barrier("after");
  expect_results(plan);
  check_memory(plan);
  ++totals_.rounds;
  return true;
}

/// Fills what we send and what the other side fetches.
void Session::prepare_memory(const Plan& plan) {
  for (const Operation& operation : plan.posted[side_]) {
    if (operation.fetches()) continue;
    uint64_t start = 0;
    for (const Piece& piece : operation.local) {
      areas_[piece.area].store(piece, operation.pattern, start);
      start += piece.length;
    }
  }
  for (const Operation& operation : plan.posted[1 - side_]) {
    if (!operation.fetches()) continue;
    const Piece& source = operation.peer.front();
    areas_[source.area].store(source, operation.pattern, 0);
  }
}

std::vector<ibv_sge> Session::gather_list(const std::vector<Piece>& pieces) const {
  std::vector<ibv_sge> list;
  list.reserve(pieces.size());
  for (const Piece& piece : pieces) {
    list.push_back({reinterpret_cast<uint64_t>(areas_[piece.area].data() + piece.offset),
                    static_cast<uint32_t>(piece.length), regions_[piece.area]->lkey});
  }
  return list;
}

void Session::post_receives(const Plan& plan) {
  const std::vector<Operation>& operations = plan.posted[1 - side_];
  for (size_t i = 0; i < operations.size(); ++i) {
    if (!operations[i].takes_receive()) continue;
    ibv_recv_wr request = {};
    request.wr_id = kReceive | i;
    std::vector<ibv_sge> list;
    // A WRITE with immediate uses up a receive, but none of its memory.
    if (operations[i].kind != Kind::kWriteImmediate) list = gather_list(operations[i].peer);
    request.sg_list = list.data();
    request.num_sge = static_cast<int>(list.size());
    connection_.post_receive(&request);
  }
}

/// Everything in one chain: the provider has to take it apart.
void Session::post_operations(const Plan& plan) {
  const std::vector<Operation>& operations = plan.posted[side_];
  std::vector<ibv_send_wr> requests(operations.size());
  std::vector<std::vector<ibv_sge>> lists;
  for (size_t i = 0; i < operations.size(); ++i) {
    const Operation& operation = operations[i];
    std::vector<ibv_sge>& list = lists.emplace_back(gather_list(operation.local));
    ibv_send_wr& request = requests[i];
    request = {};
    request.wr_id = i;
    request.next = i + 1 < requests.size() ? &requests[i + 1] : nullptr;
    request.sg_list = list.data();
    request.num_sge = static_cast<int>(list.size());
    request.opcode = opcode_of(operation.kind);
    request.send_flags = flags_of(operation);
    if (operation.has_immediate()) request.imm_data = htonl(operation.immediate);
    if (!operation.peer.empty()) {
      const Piece& target = operation.peer.front();
      const uint64_t address = remote_[target.area].address + target.offset;
      if (operation.is_atomic()) {
        request.wr.atomic.remote_addr = address;
        request.wr.atomic.rkey = remote_[target.area].rkey;
        request.wr.atomic.compare_add = operation.compare_add;
        request.wr.atomic.swap = operation.swap;
      } else {
        request.wr.rdma.remote_addr = address;
        request.wr.rdma.rkey = remote_[target.area].rkey;
      }
    }
    totals_.operations[static_cast<size_t>(operation.kind)] += 1;
    totals_.bytes[static_cast<size_t>(operation.kind)] += operation.length;
  }
  if (!requests.empty()) connection_.post_send(requests.data());
}

/// Completions must come in the order of posting, and just those that were asked for.
void Session::wait_for_completions(const Plan& plan) {
  std::vector<size_t> sends;
  std::vector<size_t> receives;
  for (size_t i = 0; i < plan.posted[side_].size(); ++i) {
    if (plan.posted[side_][i].is_signalled) sends.push_back(i);
  }
  for (size_t i = 0; i < plan.posted[1 - side_].size(); ++i) {
    if (plan.posted[1 - side_][i].takes_receive()) receives.push_back(i);
  }
  size_t sends_done = 0;
  size_t receives_done = 0;
  while (sends_done < sends.size() || receives_done < receives.size()) {
    const ibv_wc completion = connection_.wait();
    const uint64_t index = completion.wr_id & ~kReceive;
    const bool is_receive = (completion.wr_id & kReceive) != 0;
    const std::vector<size_t>& order = is_receive ? receives : sends;
    size_t& done = is_receive ? receives_done : sends_done;
    if (done == order.size() || order[done] != index) {
      fail("round %lu: completion of %s %lu out of order", totals_.rounds,
           is_receive ? "receive" : "send", index);
    }
    ++done;
    if (is_receive) check_receive(plan, completion, index);
  }
}

void Session::check_receive(const Plan& plan, const ibv_wc& completion, size_t index) const {
  const Operation& operation = plan.posted[1 - side_][index];
  const ibv_wc_opcode opcode =
      operation.kind == Kind::kWriteImmediate ? IBV_WC_RECV_RDMA_WITH_IMM : IBV_WC_RECV;
  if (completion.opcode != opcode || completion.byte_len != operation.length) {
    fail("round %lu, %s %zu: receive says opcode %d, %u bytes instead of %lu", totals_.rounds,
         to_string(operation.kind).data(), index, completion.opcode, completion.byte_len,
         operation.length);
  }
  const bool has_immediate = (completion.wc_flags & IBV_WC_WITH_IMM) != 0;
  if (has_immediate != operation.has_immediate() ||
      (has_immediate && ntohl(completion.imm_data) != operation.immediate)) {
    fail("round %lu, %s %zu: wrong immediate", totals_.rounds, to_string(operation.kind).data(),
         index);
  }
}

/// Notes what the round must have changed in our memory.
void Session::expect_results(const Plan& plan) {
  for (const Operation& operation : plan.posted[side_]) {
    if (!operation.fetches()) continue;
    uint64_t start = 0;
    for (const Piece& piece : operation.local) {
      areas_[piece.area].expect(piece.offset, piece.length, operation.pattern, start);
      start += piece.length;
    }
  }
  for (const Operation& operation : plan.posted[1 - side_]) {
    if (operation.kind == Kind::kRead) continue;
    if (operation.is_atomic()) {
      const uint64_t word = result_of(operation);
      areas_[operation.peer.front().area].expect(operation.peer.front().offset, &word, sizeof word);
      continue;
    }
    uint64_t start = 0;
    for (const Piece& piece : operation.peer) {
      const uint64_t length = std::min(piece.length, operation.length - start);
      areas_[piece.area].expect(piece.offset, length, operation.pattern, start);
      start += length;
    }
  }
}

void Session::check_memory(const Plan& plan) const {
  size_t touched = 0;
  for (int side = 0; side < 2; ++side) {
    for (const Operation& operation : plan.posted[side]) {
      for (const Piece& piece : side == side_ ? operation.local : operation.peer) {
        touched = std::max(touched, piece.offset + piece.length);
      }
    }
  }
  const bool all = totals_.rounds % kFullCheckRounds == 0;
  const size_t end = all ? limits_.area_bytes : touched + 4096;
  for (uint32_t i = 0; i < areas_.size(); ++i) {
    const int64_t wrong = areas_[i].first_difference(end);
    if (wrong < 0) continue;
    const auto offset = static_cast<size_t>(wrong);
    fprintf(stderr, "%s side, round %lu, seed %lu: byte %zu of area %u (%s) is %02x, not %02x\n",
            side_ == 1 ? "client" : "server", totals_.rounds, limits_.seed, offset, i,
            areas_[i].name().data(), static_cast<unsigned>(areas_[i].data()[offset]),
            static_cast<unsigned>(areas_[i].expected(offset)));
    for (int side = 0; side < 2; ++side) {
      for (const Operation& operation : plan.posted[side]) {
        for (const Piece& piece : side == side_ ? operation.local : operation.peer) {
          if (piece.area != i || offset < piece.offset || offset >= piece.offset + piece.length) {
            continue;
          }
          fprintf(stderr, "  %zu bytes into a piece of %lu of a %s of %lu bytes, posted by %s\n",
                  offset - piece.offset, piece.length, to_string(operation.kind).data(),
                  operation.length, side == side_ ? "this side" : "the other side");
        }
      }
    }
    fail("wrong data");
  }
}

void Session::barrier(const char* where) const {
  const uint64_t theirs = socket_.exchange(totals_.rounds);
  if (theirs != totals_.rounds)
    fail("%s round %lu: the other is in %lu", where, totals_.rounds, theirs);
}

}  // namespace integrity
