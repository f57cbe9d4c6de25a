// PostgreSQL's number of a table, an index or another object.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>

namespace django_session {

/// A name may come to mean another object, an OID doesn't. 0 stands for none. In SQL and in
/// messages it is decimal.
class Oid {
 public:
  constexpr Oid() = default;
  constexpr explicit Oid(std::uint32_t number) : number_(number) {}

  constexpr explicit operator bool() const { return number_ != 0; }
  constexpr std::uint32_t number() const { return number_; }
  std::string text() const { return fmt::format("{}", number_); }

  friend constexpr bool operator==(Oid, Oid) = default;

 private:
  std::uint32_t number_ = 0;
};

}  // namespace django_session

template <>
struct fmt::formatter<django_session::Oid> : fmt::formatter<std::uint32_t> {
  template <typename Context>
  auto format(django_session::Oid oid, Context& context) const {
    return fmt::formatter<std::uint32_t>::format(oid.number(), context);
  }
};
