// What collectd is given: a measurement as values of its built-in types.
#pragma once

#include <string>
#include <vector>

#include "core/measurement.hpp"

namespace django_session::plugin {

struct Sample {
  const char* type;           ///< of collectd's own types.db
  std::string type_instance;  ///< "" for none
  double value;
  bool is_counter = false;  ///< DERIVE instead of GAUGE
};

using Samples = std::vector<Sample>;

Sample sample_of(PluginValue value, double number);

/// All but what needs the database's size. Unknown values are left out.
Samples samples_of(const Measurement& measurement, const Findings& findings);

/// The database's size and the table's share of it.
Samples database_samples_of(const Findings& findings);

}  // namespace django_session::plugin
