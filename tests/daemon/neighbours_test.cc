#include "daemon/neighbours.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "daemon/cm_bridge.h"
#include "daemon/engine_dir.h"
#include "engine/engine.h"
#include "port/local_port.h"
#include "port/udp_port.h"

namespace flexins::daemon {
namespace {

class Folder {
 public:
  Folder() {
    char name[] = "/tmp/flexins-neighbours-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] std::string path(const std::string& name = "place") const {
    return path_ + "/" + name;
  }
  [[nodiscard]] size_t sockets() const {
    size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(path())) {
      if (entry.path().extension() == ".sock") ++count;
    }
    return count;
  }

 private:
  std::string path_;
};

wire::IpAddress loopback(unsigned number) {
  const auto pid = static_cast<uint32_t>(::getpid());
  const uint8_t octets[4] = {127, static_cast<uint8_t>(16 + (pid >> 14) % 200),
                             static_cast<uint8_t>(pid >> 6),
                             static_cast<uint8_t>((pid & 63) * 4 + number)};
  return wire::IpAddress::from_v4(octets);
}

/// An engine with a network and a control thread that a test turns by hand.
class Host {
 public:
  Host(unsigned number, const std::string& directory) : address(loopback(number)) {
    port::UdpPortConfig udp;
    udp.addresses = {address};
    auto opened = port::UdpPort::open(udp);
    EXPECT_TRUE(opened.ok());
    udp_ = std::move(*opened);
    port = std::make_unique<port::ShmPort>(*udp_);
    engine::EngineConfig config;
    config.addresses = {{address, "lo", 4096}};
    config.local = &local_;
    config.network = port.get();
    config.random = &random_;
    config.management = &bridge_;
    engine_ = engine::Engine::create(config);
    WorkerOptions options;
    options.poll_fds = port->poll_fds();
    worker = std::make_unique<WorkerThread>(*engine_, options);
    started = neighbours.start(directory, *worker, *port);
  }
  ~Host() { neighbours.stop(); }

  void turn() {
    CmBridge::Mad mad;
    bridge_.clear();
    while (bridge_.take(mad)) {
      last_mad = mad;
      if (hears) neighbours.on_mad(mad.source, mad.destination, mad.bytes);
    }
    neighbours.look_at_clock(monotonic_now());
    loop.run_once(base::kMillisecond);
  }
  void send(const Host& to, const NeighbourMad& mad) {
    std::array<std::byte, wire::kMadBytes> bytes;
    emit_neighbour_mad(mad, bytes);
    wire::Path path;
    path.source = address;
    path.destination = to.address;
    worker->call([&](engine::Engine& engine) {
      EXPECT_TRUE(engine.send_mad(path, bytes, monotonic_now()).ok());
    });
  }

  wire::IpAddress address;
  bool hears = true;  ///< datagrams get through to its neighbours
  CmBridge::Mad last_mad{};
  std::unique_ptr<port::ShmPort> port;
  base::Result<void> started;
  EventLoop loop;

 private:
  base::SystemRandom random_;
  port::LocalPort local_;
  std::unique_ptr<port::UdpPort> udp_;
  CmBridge bridge_;
  std::unique_ptr<engine::Engine> engine_;

 public:
  std::unique_ptr<WorkerThread> worker;
  Neighbours neighbours{loop};
};

/// Turns all until `done` or 20 s have passed.
template <typename Done>
bool turn_until(std::initializer_list<Host*> hosts, Done done) {
  const base::TimeNs end = monotonic_now() + 20 * base::kSecond;
  while (!done()) {
    if (monotonic_now() > end) return false;
    for (Host* host : hosts) host->turn();
  }
  return true;
}

bool both_ready(const Host& a, const Host& b) {
  return a.neighbours.size() == 1 && b.neighbours.size() == 1;
}

TEST(NeighbourHello, ReadsWhatItWrote) {
  NeighbourMad mad;
  mad.kind = NeighbourMad::Kind::kAnswer;
  mad.place.fill(7);
  mad.engine = 0x0123'4567'89ab'cdef;
  mad.token.fill(9);
  std::array<std::byte, wire::kMadBytes> bytes;
  emit_neighbour_mad(mad, bytes);
  EXPECT_EQ(parse_neighbour_mad(bytes), mad);
  // Every field that says what it is matters: version, class, method, attribute, OUI.
  for (const size_t at : {0u, 1u, 2u, 3u, 17u, 37u, 38u, 39u}) {
    auto other = bytes;
    other[at] ^= std::byte{0x40};
    EXPECT_EQ(parse_neighbour_mad(other), std::nullopt) << "byte " << at;
  }
}

TEST(NeighbourPlace, IsOneForAllWhoEnterIt) {
  const Folder folder;
  base::SystemRandom random;
  auto a = NeighbourPlace::enter(folder.path(), random);
  auto b = NeighbourPlace::enter(folder.path(), random);
  auto other = NeighbourPlace::enter(folder.path("other"), random);
  ASSERT_TRUE(a.ok() && b.ok() && other.ok());
  EXPECT_EQ(a->secret(), b->secret());
  EXPECT_NE(a->secret(), other->secret());
  EXPECT_NE(a->engine(), b->engine());
  EXPECT_TRUE(a->connect(b->engine()).ok());
  EXPECT_EQ(a->connect(other->engine()).error().code, ENOENT);
}

TEST(NeighbourPlace, IsClosedToOthers) {
  const Folder folder;
  base::SystemRandom random;
  {
    auto place = NeighbourPlace::enter(folder.path(), random);
    ASSERT_TRUE(place.ok());
    for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
      struct stat facts {};
      ASSERT_EQ(::stat(entry.path().c_str(), &facts), 0);
      EXPECT_EQ(facts.st_mode & 0077, 0u) << entry.path();
    }
    EXPECT_EQ(folder.sockets(), 1u);
  }
  EXPECT_EQ(folder.sockets(), 0u);
  ASSERT_EQ(::chmod(folder.path().c_str(), 0777), 0);
  EXPECT_EQ(NeighbourPlace::enter(folder.path(), random).error().code, EACCES);
}

TEST(NeighbourPlace, RemovesSocketsOfTheDead) {
  const Folder folder;
  base::SystemRandom random;
  auto living = NeighbourPlace::enter(folder.path(), random);
  ASSERT_TRUE(living.ok());
  { auto dead = listen_at(folder.path() + "/0123456789abcdef.sock", SOCK_SEQPACKET, 0600); }
  EXPECT_EQ(folder.sockets(), 2u);
  auto next = NeighbourPlace::enter(folder.path(), random);
  ASSERT_TRUE(next.ok());
  EXPECT_EQ(folder.sockets(), 2u);
  EXPECT_TRUE(next->connect(living->engine()).ok());
}

base::UniqueFd memory(size_t bytes, int seals) {
  base::UniqueFd fd(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(bytes)), 0);
  EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, seals), 0);
  return fd;
}

TEST(NeighbourWay, TakesNothingButSealedMemoryOfItsSize) {
  constexpr size_t kBytes = 2 * sizeof(port::ShmRingLayout);
  const auto take = [](base::UniqueFd first, base::UniqueFd second) {
    NeighbourWay way;
    std::vector<base::UniqueFd> in;
    std::vector<base::UniqueFd> out;
    in.push_back(std::move(first));
    in.push_back(std::move(second));
    auto taken = way.take(std::move(in), out);
    return taken ? 0 : taken.error().code;
  };
  const auto event = [] { return base::UniqueFd(::eventfd(0, EFD_CLOEXEC)); };
  constexpr int kBoth = F_SEAL_SHRINK | F_SEAL_GROW;
  EXPECT_EQ(take(memory(kBytes, kBoth), event()), 0);
  EXPECT_EQ(take(memory(kBytes - 4096, kBoth), event()), EINVAL);
  EXPECT_EQ(take(memory(kBytes, F_SEAL_GROW), event()), EINVAL) << "it could be truncated";
  EXPECT_EQ(take(event(), event()), EINVAL);
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const base::UniqueFd reader(ends[0]);
  EXPECT_EQ(take(memory(kBytes, kBoth), base::UniqueFd(ends[1])), EINVAL)
      << "a full pipe would hold the worker";
}

TEST(Neighbours, FindEachOtherAndLoseEachOther) {
  const Folder folder;
  Host a(0, folder.path());
  {
    Host b(1, folder.path());
    ASSERT_TRUE(a.started.ok() && b.started.ok());
    a.neighbours.want(a.address, b.address);
    ASSERT_TRUE(turn_until({&a, &b}, [&] { return both_ready(a, b); }));
  }
  ASSERT_TRUE(turn_until({&a}, [&] { return a.neighbours.size() == 0; }));
  // Whoever comes next at that address is found anew, at once.
  Host c(1, folder.path());
  a.neighbours.want(a.address, c.address);
  EXPECT_TRUE(turn_until({&a, &c}, [&] { return both_ready(a, c); }));
}

TEST(Neighbours, BothMayAskAtOnce) {
  const Folder folder;
  for (int round = 0; round < 10; ++round) {
    Host a(0, folder.path());
    Host b(1, folder.path());
    a.neighbours.want(a.address, b.address);
    b.neighbours.want(b.address, a.address);
    ASSERT_TRUE(turn_until({&a, &b}, [&] { return both_ready(a, b); }));
  }
}

TEST(Neighbours, LostDatagramsAreSentAgain) {
  const Folder folder;
  Host a(0, folder.path());
  Host b(1, folder.path());
  b.hears = false;
  a.neighbours.want(a.address, b.address);
  ASSERT_TRUE(turn_until({&a, &b}, [&] { return parse_neighbour_mad(b.last_mad.bytes); }));
  b.hears = true;
  // The answer may be lost as well: the next Hello has it repeated.
  a.hears = false;
  ASSERT_TRUE(turn_until({&a, &b}, [&] { return parse_neighbour_mad(a.last_mad.bytes); }));
  a.hears = true;
  EXPECT_TRUE(turn_until({&a, &b}, [&] { return both_ready(a, b); }));
}

TEST(Neighbours, OtherPlacesAreOtherMachines) {
  const Folder folder;
  Host a(0, folder.path("here"));
  Host b(1, folder.path("there"));
  a.neighbours.want(a.address, b.address);
  ASSERT_TRUE(turn_until({&a, &b}, [&] { return parse_neighbour_mad(b.last_mad.bytes); }));
  for (int i = 0; i < 50; ++i) {
    a.turn();
    b.turn();
  }
  EXPECT_EQ(a.neighbours.size() + b.neighbours.size(), 0u);
}

/// Whoever sees the directory still cannot speak for an address at which it does not receive.
TEST(Neighbours, AreNotBelievedWithoutReadingWhatWasSentToTheirAddress) {
  const Folder folder;
  Host b(1, folder.path());
  Host liar(2, folder.path());
  base::SystemRandom random;
  auto place = NeighbourPlace::enter(folder.path(), random);
  ASSERT_TRUE(place.ok());
  // A Hello that seems to come from an address that is not the liar's (loopback(3)).
  NeighbourMad hello;
  hello.place = place->secret();
  hello.engine = place->engine();
  hello.token = make_secret(random);
  std::array<std::byte, wire::kMadBytes> bytes;
  emit_neighbour_mad(hello, bytes);
  EXPECT_TRUE(b.neighbours.on_mad(loopback(3), b.address, bytes));
  base::UniqueFd socket(::accept4(place->listener(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_TRUE(socket.valid()) << "b has greeted";
  // The Answer with b's token went to loopback(3); the liar has to guess it.
  NeighbourMessage offer;
  offer.ring_version = port::kShmRingVersion;
  offer.kind = NeighbourMessage::Kind::kOffer;
  offer.token = make_secret(random);
  ASSERT_EQ(::send(socket.get(), &offer, sizeof offer, 0), static_cast<ssize_t>(sizeof offer));
  for (int i = 0; i < 20; ++i) b.turn();
  EXPECT_EQ(b.neighbours.size(), 0u);
  NeighbourMessage greeting;
  char byte = 0;
  EXPECT_EQ(::recv(socket.get(), &greeting, sizeof greeting, 0),
            static_cast<ssize_t>(sizeof greeting));
  EXPECT_EQ(::recv(socket.get(), &byte, 1, 0), 0) << "b has hung up";
}

TEST(Neighbours, AGreetingNeedsTheTokenOfAHello) {
  const Folder folder;
  Host a(0, folder.path());
  base::SystemRandom random;
  auto place = NeighbourPlace::enter(folder.path(), random);
  ASSERT_TRUE(place.ok());
  // Nobody answers at loopback(3); somebody who has not read the Hello tries to.
  a.neighbours.want(a.address, loopback(3));
  uint64_t number = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    if (entry.path().extension() != ".sock") continue;
    const uint64_t found = std::stoull(entry.path().stem().string(), nullptr, 16);
    if (found != place->engine()) number = found;
  }
  auto socket = place->connect(number);
  ASSERT_TRUE(socket.ok());
  NeighbourMessage greeting;
  greeting.ring_version = port::kShmRingVersion;
  greeting.token = make_secret(random);
  ASSERT_EQ(::send(socket->get(), &greeting, sizeof greeting, 0),
            static_cast<ssize_t>(sizeof greeting));
  for (int i = 0; i < 10; ++i) a.turn();
  char byte = 0;
  EXPECT_EQ(::recv(socket->get(), &byte, 1, MSG_DONTWAIT), 0) << "a has hung up";
}

TEST(Neighbours, GarbageOnTheSocketEndsThatConnectionOnly) {
  const Folder folder;
  Host a(0, folder.path());
  base::SystemRandom random;
  auto place = NeighbourPlace::enter(folder.path(), random);
  ASSERT_TRUE(place.ok());
  std::mt19937 noise(5);
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    if (entry.path().extension() != ".sock") continue;
    const uint64_t number = std::stoull(entry.path().stem().string(), nullptr, 16);
    for (int round = 0; round < 40 && number != place->engine(); ++round) {
      auto socket = place->connect(number);
      ASSERT_TRUE(socket.ok());
      std::vector<char> bytes(1 + noise() % 100);
      for (char& byte : bytes) byte = static_cast<char>(noise());
      [[maybe_unused]] const ssize_t sent = ::send(socket->get(), bytes.data(), bytes.size(), 0);
      a.turn();
      a.turn();
    }
  }
  Host b(1, folder.path());
  a.neighbours.want(a.address, b.address);
  EXPECT_TRUE(turn_until({&a, &b}, [&] { return both_ready(a, b); }));
}

}  // namespace
}  // namespace flexins::daemon
