// With whose rights expired sessions are deleted. The table's owner can have code of his run by a
// DELETE (triggers, expressions of indexes, row security...), so it is always run as the owner: by
// himself, in the server's jail for him (see as_owner.hpp), or by a function of his.
#pragma once

#include <string>
#include <vector>

#include "cleanup/run.hpp"

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
  /// In PL/pgSQL, which catches errors: what is caught is not in the server's log with its values.
  bool in_a_block = false;
  std::string owner;     ///< quoted
  std::string function;  ///< its full name, quoted; for Way::function alone
  Oid function_oid;
  std::vector<Obstacle> obstacles;  ///< none: it is possible
  std::vector<Trigger> triggers;

  /// "trigger t calls f(), ...": what to do where they don't find what they name; empty where there
  /// are none.
  std::string about_triggers() const;
  /// The words for a DELETE that was refused: with about_triggers() where something isn't found,
  /// for then it may be our search_path that keeps a trigger from it.
  std::string why_it_failed(const pg::Error& error) const;
};

/// To the run's table. Reads the catalogue alone. Throws pg::Error; where the table is gone, of
/// Kind::statement.
DeleteAccess delete_access(Run& run);

}  // namespace django_session::sessions
