// What the catalogue says against a method.
#pragma once

#include <vector>

#include "cleanup/delete_access.hpp"
#include "cleanup/run.hpp"
#include "core/cleanup.hpp"

namespace django_session::sessions {

/// Of all methods but the swap, and of all of them together. Of the run's table, as the next one.
std::vector<Refusal> general_refusals(Run& run, const DeleteAccess& access);

/// Of the swap alone; asked again before the exchange.
std::vector<Refusal> swap_refusals(Run& run);

}  // namespace django_session::sessions
