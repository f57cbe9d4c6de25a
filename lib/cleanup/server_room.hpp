// Where the server keeps a table's parts, and how much is free there: as far as it can be seen from
// here.
#pragma once

#include "cleanup/run.hpp"
#include "core/cleanup_plan.hpp"

namespace django_session::sessions {

/// A server's data folder, and what tells whether the folder of that name here is the same.
struct DataFolder {
  std::string path;    ///< empty where this role may not see it
  std::string port;    ///< the server's
  double started = 0;  ///< epoch
};

/// For the run's table. Nothing is known where the server is elsewhere.
ServerRoom look_at_disks(Run& run, const DataFolder& folder);

}  // namespace django_session::sessions
