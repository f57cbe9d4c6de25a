// With whose rights expired sessions are deleted. The table's owner can have code of his run by a
// DELETE (triggers, expressions of indexes, row security...), so it is always run as the owner: by
// himself, in the server's jail for him (see as_owner.hpp), or by a function of his.
#pragma once

#include <string>
#include <vector>

#include "pg/connection.hpp"

namespace django_session::sessions {

struct DeleteAccess {
  enum class Way {
    own,       ///< we are the owner
    as_owner,  ///< we may become the owner, and so have more rights than he: in the jail
    function,  ///< django_session_delete_expired() of conf.d/roles.sql; we have no rights beyond
               ///< his
  };
  struct Obstacle {
    std::string object, reason;
  };

  /// A trigger that fires at DELETE, whose function sets no search_path: it runs under ours.
  struct Trigger {
    std::string name, function;  ///< quoted
    bool is_contained = false;   ///< what it does is undone with its transaction
  };

  Way way = Way::own;
  std::string owner;                ///< quoted
  std::string function;             ///< its full name, quoted; for Way::function alone
  std::string function_oid;         ///< decimal
  std::vector<Obstacle> obstacles;  ///< none: it is possible
  std::vector<Trigger> triggers;

  /// "trigger t runs f(), ...": what to do where they don't find what they name; empty where there
  /// are none.
  std::string about_triggers() const;
};

/// `oid`: the table's, decimal. Reads the catalogue alone. Throws pg::Error; where the table is
/// gone, of Kind::statement.
DeleteAccess delete_access(pg::Connection& connection, const std::string& oid,
                           pg::Deadline deadline);

}  // namespace django_session::sessions
