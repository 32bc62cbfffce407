#include "fake_window.h"

namespace flexins::provider {

FakeWindow& FakeWindow::get() {
  static FakeWindow instance;
  return instance;
}

base::Result<window::Preparation> FakeWindow::prepare(uint64_t, uint64_t, bool need_write, bool) {
  if (fail_with != 0) return base::Error{fail_with, "as told"};
  last_need_write = need_write;
  window::Preparation prepared;
  prepared.ticket = next_++;
  prepared.segments = segments;
  tickets.insert(prepared.ticket);
  return prepared;
}

}  // namespace flexins::provider

namespace flexins::window {
WindowClient& WindowClient::instance() { return provider::FakeWindow::get(); }
}  // namespace flexins::window
