// Bounds a call that can't be bounded from inside.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "core/mutex.hpp"
#include "pg/deadline.hpp"

namespace django_session::pg {

/// A call running in a thread of its own. libpq resolves names, asks LDAP and Kerberos and reads
/// files with calls that know no time limit; a thread is the only way to stop waiting for them. A
/// call given up runs on alone, owns all that it uses, and its result is dropped when it arrives.
template <class Result>
class BoundedCall {
 public:
  /// Throws std::system_error when no thread can be started.
  explicit BoundedCall(std::function<Result()> call) : shared_(std::make_shared<Shared>()) {
    std::thread([shared = shared_, call = std::move(call)] {
      Result result = call();
      const Lock lock(shared->mutex);
      shared->result = std::move(result);
      shared->ended.notify_all();
    }).detach();
  }

  /// The result, once; nothing if it hasn't arrived by the deadline (wait again, or give the call
  /// up by dropping this).
  std::optional<Result> wait(Deadline deadline) {
    const Lock lock(shared_->mutex);
    while (!shared_->result && shared_->ended.wait_until(shared_->mutex, deadline.time())) continue;
    return std::exchange(shared_->result, std::nullopt);
  }

 private:
  struct Shared {
    Mutex mutex;
    Condition ended;
    std::optional<Result> result GUARDED_BY(mutex);
  };
  std::shared_ptr<Shared> shared_;
};

}  // namespace django_session::pg
