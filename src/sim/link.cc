#include "sim/link.h"

namespace flexins::sim {

namespace {

constexpr uint8_t kEcnMask = 0x03;
constexpr uint8_t kEcnCongestion = 0x03;

}  // namespace

bool Link::offer(Frame* frame) {
  if (!has_room(frame->link_bytes())) return false;
  // RoCE marks whatever passes; senders that are not ECN capable (00) are left alone.
  if (settings_.ecn_bytes > 0 && queued_bytes_ > settings_.ecn_bytes &&
      (frame->traffic_class & kEcnMask) != 0) {
    frame->traffic_class |= kEcnCongestion;
    ++marked_;
  }
  queue_.push_back(frame);
  queued_bytes_ += frame->link_bytes();
  start();
  return true;
}

void Link::pause(bool paused) {
  paused_ = paused;
  start();
}

void Link::start() {
  if (sending_ || paused_ || queue_.empty()) return;
  sending_ = true;
  Frame* frame = queue_.front();
  queue_.pop_front();
  queued_bytes_ -= frame->link_bytes();
  const base::TimeNs bits_ns =
      uint64_t{frame->link_bytes()} * 8 * base::kSecond / settings_.bits_per_second;
  events_.after(bits_ns, *this, kSent);
  events_.after(bits_ns + settings_.delay_ns, *this, reinterpret_cast<uint64_t>(frame));
  if (listener != nullptr) listener->on_departure(*this, *frame, events_.now());
}

void Link::on_event(uint64_t what, base::TimeNs now) {
  switch (what) {
    case kSent:
      sending_ = false;
      start();
      return;
    case kPause: return pause(true);
    case kGo: return pause(false);
    default: to_.arrive(reinterpret_cast<Frame*>(what), *this, now);
  }
}

}  // namespace flexins::sim
