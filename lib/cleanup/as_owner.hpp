// What has to run in the name of a table's owner: in the server's own jail, so that code of his
// that it sets off (a CHECK function, a trigger, an index expression) can do no more than he can,
// whatever our role.
//
// SET ROLE alone is no jail: such code may RESET ROLE. What fills a materialized view runs as the
// view's owner in a "security-restricted operation" (PostgreSQL's documentation, CREATE
// MATERIALIZED VIEW): no change of role, nothing that waits for COMMIT (deferred triggers, cursors
// WITH HOLD), no temporary objects, and all settings are what they were when it ends. So the work
// is a function that such a view calls, and both are gone before the transaction ends. About 2 ms.
#pragma once

#include <string>
#include <vector>

#include "pg/connection.hpp"

namespace django_session::sessions {

/// Where a block has no session at hand, no error of it can quote one.
enum class WorksOn { sessions, definitions };

/// A piece of work as SQL, to be put into a transaction after `SET LOCAL ROLE owner`.
struct OwnersWork {
  std::string define;  ///< makes the function; runs nothing
  std::string run;     ///< runs it and removes all trace of it
};

/// `schema`: quoted, one in which the owner may create; `name`: not quoted, unlike any other, of
/// [a-z0-9_]; `block`: a PL/pgSQL block, which may write and make tables. It reports by
/// RAISE INFO 'djs: one=% two=%', values without spaces: see report_of(). What a constraint or a
/// type refuses is an error without the values.
OwnersWork as_owner(const std::string& schema, const std::string& name, const std::string& block,
                    WorksOn on = WorksOn::sessions);

/// The same block, run by this role itself, outside of any jail.
std::string as_ourselves(const std::string& block);

/// What the block has reported since the last call: one column for each name, the latest values.
/// They are the owner's word: to be checked before they become part of SQL.
pg::Row report_of(pg::Connection& connection);

/// The same of the reports' texts.
pg::Row read_report(const std::vector<std::string>& infos);

}  // namespace django_session::sessions
