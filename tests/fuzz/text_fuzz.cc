#include <string_view>

#include "base/check.h"
#include "daemon/admin.h"
#include "daemon/config.h"
#include "daemon/fault_json.h"

/// Text that people and programs write: a line for the admin socket, or a configuration file.
/// Nothing may crash or throw; what is accepted is within its bounds.

namespace flexins::daemon {
namespace {

/// An engine that reads its faults and does nothing.
class Backend final : public AdminBackend {
 public:
  Json status(std::optional<uid_t>) override { return Json::object(); }
  base::Result<Json> faults(const Json& set) override {
    if (!set.is_object()) return Json::object();
    auto read = apply_faults({}, set);
    if (!read) return read.error();
    FLEXINS_CHECK(read->loss >= 0 && read->loss <= 1);
    return faults_to_json(*read);
  }
  base::Result<Json> start_capture(const std::string& file) override {
    FLEXINS_CHECK(!file.empty());
    return Json::object();
  }
  base::Result<Json> stop_capture() override { return Json::object(); }
  void stop() override {}
};

void try_admin(std::string_view line, uid_t uid) {
  Backend backend;
  Admin admin(backend, 0);
  const nlohmann::json answer = admin.answer(line, PeerCredentials{uid, 1});
  FLEXINS_CHECK(answer.is_object());
  // As the server writes it.
  FLEXINS_CHECK(!answer.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).empty());
}

void try_config(std::string_view text) {
  auto config = apply_toml(Config{}, text, "fuzz.toml");
  if (config) static_cast<void>(check_config(*config));
}

}  // namespace
}  // namespace flexins::daemon

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 3) {
    case 0: flexins::daemon::try_admin(text, 0); break;
    case 1: flexins::daemon::try_admin(text, 1000); break;
    default: flexins::daemon::try_config(text); break;
  }
  return 0;
}
