#include "daemon/daemon.h"

#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/fault_guard.h"
#include "daemon/addresses.h"
#include "daemon/log.h"
#include "port/interface.h"
#include "protocol/runtime_dir.h"
#include "protocol/sysfs_tree.h"

namespace flexins::daemon {
namespace {

constexpr base::TimeNs kDrainLimit = 2 * base::kSecond;
constexpr base::TimeNs kDrainLook = 20 * base::kMillisecond;
/// Ethernet header and a VLAN tag: of a frame, beyond the interface's MTU.
constexpr uint32_t kFrameHeaderBytes = 18;

/// What a kernel would have burnt into a NIC: random, marked as locally administered.
uint64_t make_node_guid(base::RandomSource& random) {
  return (random.next() & 0x00ff'ffff'ffff'ffff) | uint64_t{0x02} << 56;
}

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
}

}  // namespace

Daemon::Daemon(const Config& config, EngineDir dir)
    : config_(config),
      dir_(std::move(dir)),
      admin_(*this, ::geteuid()),
      neighbours_(loop_),
      sessions_(loop_, environment_, config.sessions_max),
      cm_server_(loop_, cm_bridge_),
      admin_server_(loop_, admin_),
      started_(monotonic_now()) {}

Daemon::~Daemon() {
  // The worker outlives what speaks to it, the engine outlives the worker.
  sessions_.stop_listening();
  cm_server_.stop_listening();
  cm_server_.close_all();
  sessions_.close_all();
  neighbours_.stop();
  worker_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(protocol::sysfs_tree_path(dir_.path()), ignored);
}

base::Result<std::unique_ptr<Daemon>> Daemon::start(const Config& config) {
  if (!config.runtime_dir.empty()) {
    ::setenv("FLEXINS_RUNTIME_DIR", config.runtime_dir.c_str(), /*overwrite=*/1);
  }
  auto runtime_dir = protocol::prepare_runtime_dir();
  if (!runtime_dir) {
    return base::Error{runtime_dir.error().code,
                       runtime_dir.error().message +
                           "; name a directory of your own with --runtime-dir or "
                           "FLEXINS_RUNTIME_DIR"};
  }
  auto dir = EngineDir::claim(*runtime_dir, config.engine_name);
  if (!dir) return dir.error();
  if (auto log = start_log(config, dir->path()); !log) return log.error();
  base::install_fault_guard();
  try {
    std::unique_ptr<Daemon> daemon(new Daemon(config, std::move(dir).value()));
    if (auto opened = daemon->open_ports(); !opened) return opened.error();
    daemon->start_worker();
    daemon->find_neighbours(*runtime_dir);
    if (auto opened = daemon->open_sockets(); !opened) return opened.error();
    daemon->watch_signals();
    daemon->watch_links();
    return daemon;
  } catch (const std::system_error& error) {
    return base::Error{error.code().value(), error.what()};
  }
}

base::Result<void> Daemon::open_ports() {
  auto addresses = choose_addresses(config_.addresses);
  if (!addresses) return addresses.error();
  addresses_ = std::move(addresses).value();
  auto ports = PortStack::open(addresses_, config_.receive_buffer_bytes);
  if (!ports) return ports.error();
  ports_ = std::move(ports).value();
  return {};
}

void Daemon::start_worker() {
  environment_.windows = &windows_;
  environment_.limits = config_.limits;
  environment_.port = port_state(addresses_);
  environment_.node_guid = make_node_guid(random_);
  environment_.incarnation = random_.next();
  engine::EngineConfig engine;
  engine.addresses = addresses_;
  engine.local = ports_->local();
  engine.network = ports_->network();
  engine.raw = ports_->raw();
  if (auto interface = port::interface_of(addresses_.front().address)) {
    engine.frame_bytes_max = interface->mtu_bytes + kFrameHeaderBytes;
    engine.raw_loops_back = interface->loopback;
  }
  engine.random = &random_;
  engine.management = &cm_bridge_;
  engine.peer_window_bytes = config_.peer_window_bytes;
  engine.read_chunk_bytes = config_.read_chunk_bytes;
  engine_ = engine::Engine::create(engine);
  WorkerOptions options;
  options.idle.spin_max_ns = config_.idle_spin_us_max * base::kMicrosecond;
  options.idle.yield_ns = config_.idle_yield_us * base::kMicrosecond;
  options.spin_for_ever = config_.spin;
  options.cpu = config_.cpu;
  options.poll_fds = ports_->poll_fds();
  worker_ = std::make_unique<WorkerThread>(*engine_, options);
  environment_.worker = worker_.get();
  CmServiceConfig cm;
  cm.node_guid = environment_.node_guid;
  cm.addresses = addresses_;
  cm_server_.start(cm, *worker_, [this](const CmBridge::Mad& mad) {
    return neighbours_.on_mad(mad.source, mad.destination, mad.bytes);
  });
}

void Daemon::find_neighbours(const std::string& runtime_dir) {
  if (!config_.neighbours) return;
  const std::string directory = config_.neighbours_directory.empty() ? runtime_dir + "/neighbours"
                                                                     : config_.neighbours_directory;
  if (auto started = neighbours_.start(directory, *worker_, ports_->neighbours()); !started) {
    spdlog::warn("{}; engines of this machine are reached over the network",
                 started.error().message);
    return;
  }
  environment_.on_destination = [this](const base::AddressVector& to) {
    const auto remote = wire::IpAddress::from_gid(to.destination_gid.data());
    const bool ours =
        std::any_of(addresses_.begin(), addresses_.end(),
                    [&](const engine::LocalAddress& local) { return local.address == remote; });
    if (ours || to.source_gid_index >= addresses_.size()) return;
    neighbours_.want(addresses_[to.source_gid_index].address, remote);
  };
}

base::Result<void> Daemon::show_device() {
  protocol::SysfsDevice device;
  device.node_guid = environment_.node_guid;
  device.firmware_version = FLEXINS_VERSION;
  device.description = fmt::format("FlexiNS {} at {}", config_.engine_name, host_name());
  device.port = environment_.port;
  return protocol::write_sysfs_tree(protocol::sysfs_tree_path(dir_.path()), device);
}

base::Result<void> Daemon::open_sockets() {
  if (auto shown = show_device(); !shown) return shown;
  // Root's engine serves everybody; elsewhere the directory keeps others out.
  const mode_t mode = ::geteuid() == 0 ? 0666 : 0600;
  auto admin = listen_at(protocol::admin_socket_path(dir_.path()), SOCK_STREAM, mode);
  if (!admin) return admin.error();
  admin_server_.listen(std::move(admin).value());
  auto cm = listen_at(protocol::cm_socket_path(dir_.path()), SOCK_SEQPACKET, mode);
  if (!cm) return cm.error();
  cm_server_.listen(std::move(cm).value());
  // Last, as it is by this one that an engine is found.
  auto session = listen_at(protocol::session_socket_path(dir_.path()), SOCK_SEQPACKET, mode);
  if (!session) return session.error();
  sessions_.listen(std::move(session).value());
  return {};
}

void Daemon::watch_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  signals_.reset(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_.valid()) throw std::system_error(errno, std::generic_category(), "signalfd");
  loop_.add(signals_.get(), EPOLLIN, [this](uint32_t) { on_signal(); });
}

void Daemon::watch_links() {
  links_.active = true;
  links_.addresses_present = (1u << addresses_.size()) - 1;
  if (auto opened = link_watch_.open(); !opened) {
    spdlog::warn("{}; programs will not hear of port events", opened.error().message);
    return;
  }
  loop_.add(link_watch_.descriptor(), EPOLLIN, [this](uint32_t) { on_link_change(); });
  on_link_change();
}

void Daemon::on_link_change() {
  link_watch_.drain();
  const LinkState now = look_at_links(addresses_);
  const std::vector<base::AsyncEvent> events = link_events(links_, now);
  if (events.empty()) return;
  links_ = now;
  environment_.port = port_state(addresses_);
  environment_.port.active = now.active ? 1 : 0;
  for (size_t i = 0; i < addresses_.size(); ++i) {
    // The entry stays in its place: an index is what programs keep.
    if ((now.addresses_present >> i & 1) == 0) environment_.port.gids[i].gid = {};
  }
  if (auto shown = show_device(); !shown) spdlog::warn("{}", shown.error().message);
  spdlog::info("the port is {}, {} of {} addresses are there", now.active ? "active" : "down",
               std::popcount(now.addresses_present), addresses_.size());
  worker_->call([&](engine::Engine& engine) {
    for (const base::AsyncEvent event : events) engine.announce(event);
  });
}

void Daemon::run() {
  for (const engine::LocalAddress& local : addresses_) {
    spdlog::info("serving {} on {}, path MTU {}", gid_text(local.address.bytes), local.interface,
                 local.mtu_bytes);
  }
  spdlog::info("engine '{}' is ready in {}", config_.engine_name, dir_.path());
  while (phase_ != Phase::kEnded) {
    const base::TimeNs wait = look_at_clock();
    if (phase_ != Phase::kEnded) loop_.run_once(wait);
  }
  spdlog::info("engine '{}' ends", config_.engine_name);
}

void Daemon::on_signal() {
  signalfd_siginfo signal{};
  if (::read(signals_.get(), &signal, sizeof signal) != sizeof signal) return;
  if (phase_ == Phase::kServing) return begin_draining("a signal");
  spdlog::warn("a second signal: not waiting for running work");
  phase_ = Phase::kEnded;
}

void Daemon::begin_draining(const char* why) {
  if (phase_ != Phase::kServing) return;
  spdlog::info("{}: stopping, {} sessions open", why, sessions_.size());
  sessions_.stop_listening();
  cm_server_.stop_listening();
  phase_ = Phase::kDraining;
  drain_until_ = monotonic_now() + kDrainLimit;
}

base::TimeNs Daemon::look_at_clock() {
  const base::TimeNs now = monotonic_now();
  const base::TimeNs next = std::min(cm_server_.look_at_clock(), neighbours_.look_at_clock(now));
  return std::min(next, phase_ == Phase::kDraining ? look_at_draining(now) : look_at_idleness(now));
}

base::TimeNs Daemon::look_at_idleness(base::TimeNs now) {
  if (config_.exit_when_idle_s < 0) return base::kNever;
  // Whoever watches an engine needs it too.
  if (sessions_.size() + cm_server_.size() + admin_server_.size() > 0) {
    idle_since_ = base::kNever;
    return base::kNever;
  }
  if (idle_since_ == base::kNever) idle_since_ = now;
  const base::TimeNs end =
      idle_since_ + static_cast<base::TimeNs>(config_.exit_when_idle_s) * base::kSecond;
  if (now < end) return end - now;
  begin_draining("nobody needs this engine any more");
  return 0;
}

base::TimeNs Daemon::look_at_draining(base::TimeNs now) {
  if (now < drain_until_ && has_work_under_way()) return kDrainLook;
  phase_ = Phase::kEnded;
  return 0;
}

bool Daemon::has_work_under_way() {
  if (sessions_.size() == 0) return false;
  const engine::EngineInfo info =
      worker_->call([](engine::Engine& engine) { return engine.info(); });
  return std::any_of(info.qps.begin(), info.qps.end(),
                     [](const engine::QpInfo& qp) { return qp.outstanding_sends > 0; });
}

}  // namespace flexins::daemon
