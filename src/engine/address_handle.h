#pragma once

#include "base/ids.h"
#include "transport/interfaces.h"

namespace flexins::engine {

/// An address handle: a way that datagrams of QPs in its protection domain may take.
struct AddressHandle {
  base::PdId pd;
  transport::DatagramTarget target;
};

}  // namespace flexins::engine
