// A mutex of which clang checks that it is held wherever what it guards is used (preset `locks`).
// The standard library's own lacks the annotations; with other compilers they are nothing.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#ifdef __clang__
#define DJANGO_SESSION_CHECKED(attribute) __attribute__((attribute))
#else
#define DJANGO_SESSION_CHECKED(attribute)
#endif

/// Of a member: used only while the mutex is held.
#define GUARDED_BY(mutex) DJANGO_SESSION_CHECKED(guarded_by(mutex))
/// Of a function: called only while the mutex is held. It is held again when the function returns.
#define REQUIRES(mutex) DJANGO_SESSION_CHECKED(requires_capability(mutex))
/// Of a function: never called by a thread that holds the mutex.
#define EXCLUDES(mutex) DJANGO_SESSION_CHECKED(locks_excluded(mutex))

namespace django_session {

/// Held by means of a Lock.
class DJANGO_SESSION_CHECKED(capability("mutex")) Mutex {
 private:
  friend class Lock;
  friend class Unlocked;
  friend class Condition;

  void lock() DJANGO_SESSION_CHECKED(acquire_capability()) { mutex_.lock(); }
  void unlock() DJANGO_SESSION_CHECKED(release_capability()) { mutex_.unlock(); }

  std::mutex mutex_;
};

/// Holds a mutex as long as it lives.
class DJANGO_SESSION_CHECKED(scoped_lockable) Lock {
 public:
  explicit Lock(Mutex& mutex) DJANGO_SESSION_CHECKED(acquire_capability(mutex)) : mutex_(mutex) {
    mutex.lock();
  }
  ~Lock() DJANGO_SESSION_CHECKED(release_capability()) { mutex_.unlock(); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  Mutex& mutex_;
};

/// Lets go of a mutex that is held, as long as it lives.
class DJANGO_SESSION_CHECKED(scoped_lockable) Unlocked {
 public:
  explicit Unlocked(Mutex& mutex) DJANGO_SESSION_CHECKED(release_capability(mutex))
      : mutex_(mutex) {
    mutex.unlock();
  }
  ~Unlocked() DJANGO_SESSION_CHECKED(release_capability()) { mutex_.lock(); }
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;

 private:
  Mutex& mutex_;
};

/// What another thread may change while this one waits. A wait may also end for no reason: wait in
/// a loop that looks at what is waited for.
class Condition {
 public:
  void wait(Mutex& mutex) REQUIRES(mutex) {
    Held held(mutex);
    condition_.wait(held.lock);
  }

  /// False if `time` has come.
  bool wait_until(Mutex& mutex, std::chrono::steady_clock::time_point time) REQUIRES(mutex) {
    Held held(mutex);
    return condition_.wait_until(held.lock, time) == std::cv_status::no_timeout;
  }

  void notify_one() { condition_.notify_one(); }
  void notify_all() { condition_.notify_all(); }

 private:
  /// A mutex that is held, as the standard library's condition wants it.
  struct Held {
    explicit Held(Mutex& mutex) : lock(mutex.mutex_, std::adopt_lock) {}
    ~Held() { lock.release(); }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    std::unique_lock<std::mutex> lock;
  };

  std::condition_variable condition_;
};

}  // namespace django_session
