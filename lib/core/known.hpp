// A value, or the reason why there is none.
#pragma once

#include <concepts>
#include <optional>
#include <string>
#include <utility>

namespace django_session {

struct Unknown {
  std::string reason;
};

/// An unknown value is never 0: reading one throws std::bad_optional_access.
template <typename Value>
class Known {
 public:
  template <std::convertible_to<Value> From>
  Known(From&& value) : value_(std::in_place, std::forward<From>(value)) {}
  Known(Unknown unknown) : reason_(std::move(unknown.reason)) {}

  bool has_value() const { return value_.has_value(); }
  explicit operator bool() const { return has_value(); }
  const Value& operator*() const { return value_.value(); }
  const Value* operator->() const { return &value_.value(); }
  const std::optional<Value>& as_optional() const { return value_; }

  const std::string& reason() const { return reason_; }  ///< why it is unknown; empty when known

 private:
  std::optional<Value> value_;
  std::string reason_;
};

}  // namespace django_session
