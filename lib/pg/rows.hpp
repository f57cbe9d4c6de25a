// A query's answer, copied out of libpq so that what reads it is pure and can be tested without a
// server.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/oid.hpp"

namespace django_session::pg {

/// The least and the greatest that is accepted; NaN is not.
struct Bounds {
  double least, most;
  constexpr bool contain(double number) const { return number >= least && number <= most; }
};
/// Rows, bytes or pages: as far as the server counts them.
inline constexpr Bounds kAmount{0, 9e18};
inline constexpr Bounds kShare{0, 1};
/// Seconds since 1970: as far as the server's calendar goes.
inline constexpr Bounds kMoment{-1e13, 1e13};

/// One row: text by column name, nothing for SQL NULL. The typed readers throw std::out_of_range
/// for a column that isn't there, which is our own mistake, and std::runtime_error for text of
/// another type or a number out of bounds: where the owner may have written it, that is his word.
class Row {
 public:
  void set(const std::string& column, std::optional<std::string> text) {
    columns_[column] = std::move(text);
  }

  bool has(const std::string& column) const { return columns_.contains(column); }
  const std::optional<std::string>& optional_text(const std::string& column) const;
  std::string text(const std::string& column) const;  ///< "" for NULL
  std::optional<double> number(const std::string& column) const;
  std::optional<double> number(const std::string& column, Bounds within) const;
  bool flag(const std::string& column) const;  ///< false for NULL
  Oid oid(const std::string& column) const;    ///< none for NULL
  std::vector<Oid> oids(const std::string& column) const;
  /// A PostgreSQL array of numbers, "{1,2.5}"; empty for NULL.
  std::vector<double> numbers(const std::string& column) const;
  std::vector<double> numbers(const std::string& column, Bounds within) const;
  /// What string_agg(..., E'\n') has put together; empty for NULL.
  std::vector<std::string> lines(const std::string& column) const;

 private:
  std::map<std::string, std::optional<std::string>> columns_;
};

using Rows = std::vector<Row>;

}  // namespace django_session::pg
