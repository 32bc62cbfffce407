#include "transport/qp.h"

#include <cerrno>
#include <new>

#include "transport/rc_qp.h"
#include "transport/uc_qp.h"
#include "transport/ud_qp.h"

namespace flexins::transport {

namespace {

base::Error invalid(const char* why) { return {EINVAL, why}; }

template <typename Kind>
base::Result<std::unique_ptr<Qp>> make(const QpConfig& config) {
  std::unique_ptr<Kind> qp(new (std::nothrow) Kind(config));
  if (qp == nullptr || !qp->allocate()) {
    return base::Error{ENOMEM, "no memory for a queue pair's send queue"};
  }
  return std::unique_ptr<Qp>(std::move(qp));
}

}  // namespace

base::Result<std::unique_ptr<Qp>> Qp::create(const QpConfig& config) {
  using base::Limits;
  if (config.max_send_wr > Limits::kMaxSendWr) return invalid("max_send_wr is too large");
  if (config.max_send_sge > Limits::kMaxSge) return invalid("max_send_sge is too large");
  if (config.max_inline_bytes > Limits::kMaxInlineBytes) {
    return invalid("max_inline_data is too large");
  }
  if (config.regions == nullptr || config.send_cq == nullptr || config.receive_cq == nullptr ||
      config.receives == nullptr || config.observer == nullptr) {
    return invalid("queue pair lacks a region table, completion queue, receive source or observer");
  }
  switch (config.type) {
    case base::QpType::kReliable:
    case base::QpType::kXrcSend: return make<RcQp>(config);
    case base::QpType::kXrcReceive:
      if (config.domain == nullptr) return invalid("an XRC target lacks its domain");
      return make<RcQp>(config);
    case base::QpType::kUnreliable: return make<UcQp>(config);
    case base::QpType::kDatagram:
    case base::QpType::kRawPacket:
    case base::QpType::kReceiveQueue: return make<UdQp>(config);
    default: return invalid("queue pair type is not supported");
  }
}

}  // namespace flexins::transport
