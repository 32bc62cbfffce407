#include "daemon/admin.h"

#include <unistd.h>

#include <cerrno>

namespace flexins::daemon {
namespace {

using Json = nlohmann::json;

Json error_json(const base::Error& error) {
  return {{"error", error.message}, {"errno", error.code}};
}

base::Error invalid(std::string why) { return base::Error{EINVAL, std::move(why)}; }

}  // namespace

Json Admin::answer(std::string_view line, const PeerCredentials& peer) {
  const Json request = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (request.is_discarded()) return error_json(invalid("not JSON"));
  auto result = run(request, peer);
  return result ? std::move(result).value() : error_json(result.error());
}

base::Result<Json> Admin::run(const Json& request, const PeerCredentials& peer) {
  const auto command = request.is_object() ? request.find("command") : request.end();
  if (command == request.end() || !command->is_string()) {
    return invalid("want an object with the string \"command\"");
  }
  const auto& name = command->get_ref<const std::string&>();
  if (name == "ping") return Json{{"pid", ::getpid()}};
  const bool trusted = peer.uid == 0 || peer.uid == owner_;
  if (name == "status") {
    return backend_.status(trusted ? std::nullopt : std::optional<uid_t>(peer.uid));
  }
  if (name != "faults" && name != "capture" && name != "stop") {
    return invalid("there is no command \"" + name + "\"");
  }
  if (trusted) return run_trusted(name, request);
  return base::Error{
      EPERM, name + " is for root and the engine's own user (uid " + std::to_string(owner_) + ")"};
}

base::Result<Json> Admin::run_trusted(const std::string& command, const Json& request) {
  if (command == "capture") return capture(request);
  if (command == "faults") return backend_.faults(request.value("set", Json()));
  backend_.stop();
  return Json{{"pid", ::getpid()}};
}

base::Result<Json> Admin::capture(const Json& request) {
  if (request.contains("stop")) return backend_.stop_capture();
  const auto file = request.find("start");
  if (file == request.end() || !file->is_string()) {
    return invalid("capture wants \"start\" with a file or \"stop\"");
  }
  const auto& path = file->get_ref<const std::string&>();
  if (path.empty() || path.front() != '/') return invalid("the file wants an absolute path");
  return backend_.start_capture(path);
}

}  // namespace flexins::daemon
