// What collectd gets of a database whose readings take longer than its interval: the server takes
// the connection and says nothing.
#include "plugin/watched_database.hpp"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <CppUTest/TestHarness.h>

using namespace django_session::plugin;
using namespace std::chrono_literals;

namespace {

/// Listens on a port of this host; the kernel takes connections, and nobody answers.
class SilentServer {
 public:
  SilentServer() : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    bind(socket_, reinterpret_cast<sockaddr*>(&address), size);
    listen(socket_, 20);
    getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
  }
  ~SilentServer() { close(socket_); }
  SilentServer(const SilentServer&) = delete;
  SilentServer& operator=(const SilentServer&) = delete;
  std::string port() const { return std::to_string(port_); }

 private:
  int socket_;
  int port_ = 0;
};

struct Received {
  std::mutex mutex;
  std::vector<std::string> lines;
  std::vector<Output::Time> downs;  ///< of `up` = 0
  std::size_t response_times = 0;

  Output output(const std::shared_ptr<Received>& self) {
    return {[self](const Samples& samples, Output::Time time) {
              const std::lock_guard lock(self->mutex);
              for (const Sample& sample : samples) {
                if (sample.type_instance == "up" && sample.value == 0) self->downs.push_back(time);
                if (std::string(sample.type) == "response_time") ++self->response_times;
              }
            },
            [self](LogLevel, const std::string& line) {
              const std::lock_guard lock(self->mutex);
              self->lines.push_back(line);
            }};
  }
  std::size_t count_of(const std::function<std::size_t(const Received&)>& what) {
    const std::lock_guard lock(mutex);
    return what(*this);
  }
  std::size_t readings() {
    return count_of([](const Received& r) { return r.response_times; });
  }
  std::size_t down_count() {
    return count_of([](const Received& r) { return r.downs.size(); });
  }
};

void wait_until(const std::function<bool()>& condition) {
  for (int i = 0; i < 1000 && !condition(); ++i) std::this_thread::sleep_for(5ms);
  CHECK_TRUE(condition());
}

}  // namespace

TEST_GROUP(WatchedDatabase) {
  SilentServer server;
  std::shared_ptr<Received> received = std::make_shared<Received>();
  ReadingPool pool{[](const std::string&) {}};

  std::shared_ptr<WatchedDatabase> watched(double timeout_seconds) {
    DatabaseSettings settings;
    settings.connection.dbname = settings.database = settings.instance = "site";
    settings.connection.host = "127.0.0.1";
    settings.connection.port = server.port();
    settings.timeout_seconds = timeout_seconds;
    return std::make_shared<WatchedDatabase>(settings, received->output(received));
  }
  void read(const std::shared_ptr<WatchedDatabase>& database) {
    database->read_in(pool, [] {});
  }
};

TEST(WatchedDatabase, returns_at_once_and_is_down_after_its_timeout) {
  const auto database = watched(1);
  read(database);
  LONGS_EQUAL(0, received->readings());
  wait_until([this] { return received->readings() == 1; });
  LONGS_EQUAL(1, received->down_count());
  LONGS_EQUAL(1, received->lines.size());
  STRCMP_EQUAL("site: timed out while connecting to 127.0.0.1", received->lines[0].c_str());
}

TEST(WatchedDatabase, starts_no_second_reading_beside_one_that_is_late) {
  const auto database = watched(0.4);
  for (int i = 0; i < 5; ++i) read(database);
  wait_until([this] { return received->readings() == 1; });
  std::this_thread::sleep_for(500ms);
  LONGS_EQUAL(1, received->readings());
  LONGS_EQUAL(1, received->down_count());
}

TEST(WatchedDatabase, says_at_each_interval_that_it_is_still_down) {
  const auto database = watched(0.4);
  read(database);
  wait_until([this] { return received->readings() == 1; });
  // One of the first reading, and three beside the second.
  wait_until([&] {
    read(database);
    return received->down_count() >= 4;
  });
  wait_until([this] { return received->readings() >= 2; });
  const std::lock_guard lock(received->mutex);
  CHECK_COMPARE(received->downs.size(), >, received->response_times);
  for (std::size_t i = 1; i < received->downs.size(); ++i)  // collectd drops what isn't later
    CHECK_TRUE(received->downs[i - 1] < received->downs[i]);
  LONGS_EQUAL(1, received->lines.size());
}

TEST(WatchedDatabase, says_nothing_after_it_was_closed) {
  const auto database = watched(0.2);
  read(database);
  database->close();
  CHECK_TRUE(pool.stop(ReadingPool::Clock::now() + 5s));
  LONGS_EQUAL(0, received->readings());
  LONGS_EQUAL(0, received->lines.size());
}
