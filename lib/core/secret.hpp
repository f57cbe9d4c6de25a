// What may be a password in the wrong place: a command line or an option of collectd that isn't
// meant for one. Such text must not be repeated, by us or by libpq or the server that we would hand
// it to.
#pragma once

#include <string>
#include <string_view>

namespace django_session {

/// For a name (of a role, database, service, table): a URI, a connection string, "user:password".
/// (Not '@' alone: roles are called by mail addresses.) A name with ':' or '=' in it can be
/// given where a password has a place of its own.
bool may_hold_password(std::string_view name);

/// The same for a host, or a list of hosts: an IPv6 address has colons, too, and the name of an
/// abstract socket begins with '@'.
bool host_may_hold_password(std::string_view hosts);

/// For a number, a range or a word that can't be read: `text`, cut to 60 bytes and fit to be shown
/// on a line; or "(hidden)" where it may hold a password.
std::string repeatable(std::string_view text);

}  // namespace django_session
