#!/usr/bin/python3
"""Plants defects in the code that cleans up, one at a time, and sees whether the test that is about it finds each: `tests/run
defects [WORD...]`, only those whose name has one of the words; --check only sees whether they, and the tests, are there. What no
test finds is a missing test, and if another one finds it, the list names the wrong one. Works on copies, in build/defects."""

import concurrent.futures
import os
import queue
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
WORKERS = (os.cpu_count() or 1) + 1  # most tests wait now and then
TESTS = "tests/integration"
SQL, CODE, HOOK = "lib/cleanup/sql", "lib/cleanup", "plugin"

# What else a defect is looked for with, the quick ones first.
OF_SWAPS = ["test_interleavings.py -k swap", "test_histories.py", "test_swap.py", "test_swap_mishaps.py",
            "test_swap_dependents.py test_swap_features.py test_swap_what_stays.py test_swap_rights.py",
            "test_swap_hard_cases.py test_swap_locks.py test_swap_behind_a_pooler.py test_swap_on_odd_ground.py",
            "test_every_fault.py -k swap", "test_rehearsal.py test_odd_settings.py test_clock.py"]
OF_DELETIONS = ["test_interleavings.py -k delete", "test_delete.py", "test_delete_rights.py test_locked_rows.py",
                "test_every_fault.py -k delete", "test_cleanup_roles.py test_throttle.py test_odd_settings.py"]
OF_FULL = ["test_full.py", "test_every_fault.py -k full", "test_cleanup_roles.py test_odd_settings.py test_clock.py"]
OF_RUNS = ["test_cleanup_command.py", "test_clock.py", "test_every_fault.py", "test_swap.py", "test_delete.py"]
OF_THE_HOOK = ["test_hook.py", "test_secrets.py test_plugin.py test_fleet.py"]

INTERLEAVING = "test_interleavings.py::test_every_interleaving[READ COMMITTED-simple-swap]"


class Defect(NamedTuple):
    name: str
    file: str
    there: str  # once
    instead: str
    test: str  # that is about it
    others: list = OF_SWAPS  # should that fail to find it


# Not here is what makes no difference, since something else stands behind it: which entry a collapsed log keeps (after that all
# keys in it are copied again), that a drain compares what was stored (the definitions, or all rows, are compared after it), that
# a swap whose triggers are off is not resumed (their mark isn't what it was), that a batch has the cutoff twice (servers that
# lack a fix of 2025 find a row that was saved meanwhile by its old address), that a rewrite asks for its right (the plan has),
# that the table is locked before its triggers are made or dropped (CREATE and DROP TRIGGER ask for the same lock), that a lost
# slot is passed over (on Debian's server it has no position), and that the hook's policy starts one cleanup at a time (so does
# its thread).
DEFECTS = [Defect(*fields) for fields in (
    ("triggers: an INSERT is not noted", f"{SQL}/attach_triggers.sql", "AFTER INSERT OR UPDATE ON", "AFTER UPDATE ON",
     INTERLEAVING),
    ("triggers: an UPDATE is not noted", f"{SQL}/attach_triggers.sql", "AFTER INSERT OR UPDATE ON", "AFTER INSERT ON",
     INTERLEAVING),
    ("triggers: a DELETE of a live session is not noted", f"{SQL}/attach_triggers.sql", "WHEN (OLD.expire_date >= %L",
     "WHEN (OLD.expire_date < %L", INTERLEAVING),
    ("triggers: not for replication's sessions", f"{SQL}/attach_triggers.sql",
     "ENABLE ALWAYS TRIGGER djs_{oid}_changed,\n    ENABLE ALWAYS TRIGGER djs_{oid}_deleted,", "ENABLE TRIGGER djs_{oid}_changed,",
     "test_swap_hard_cases.py::test_what_replication_changes_is_noted_too[a save]"),
    ("function: the former key is not noted", f"{SQL}/create_trigger_function.sql",
     "TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND NEW.session_key <> OLD.session_key)", "TG_OP = 'DELETE'", INTERLEAVING),
    ("function: whatever was saved is said to live", f"{SQL}/create_trigger_function.sql",
     "NEW.expire_date >= %3$L::timestamptz)", "true OR %3$L IS NULL)", INTERLEAVING),
    ("function: what can't be noted is not counted", f"{SQL}/create_trigger_function.sql",
     "PERFORM nextval(%5$s::oid::regclass);", "PERFORM %5$s;",
     "test_swap_mishaps.py::test_what_could_not_be_noted_is_not_lost[a unique index]"),
    ("function: waits for the log without a limit", f"{SQL}/create_trigger_function.sql", "SET lock_timeout = {lock_ms} ", "",
     "test_swap_mishaps.py::test_nobody_waits_for_a_locked_log"),
    ("function: runs as whoever writes", f"{SQL}/create_trigger_function.sql", "LANGUAGE plpgsql SECURITY DEFINER",
     "LANGUAGE plpgsql", "test_swap_rights.py::test_what_a_role_changes_that_may_only_write_is_noted"),
    ("function: TRUNCATE is not noted", f"{SQL}/create_trigger_function.sql", "IF TG_OP = 'TRUNCATE' THEN",
     "IF TG_OP = 'NONE' THEN", "test_swap.py::test_truncated_in_the_middle_the_sessions_stay_away[copied AS (]"),
    ("function: an error is the client's", f"{SQL}/create_trigger_function.sql",
     "EXCEPTION WHEN OTHERS OR assert_failure THEN", "EXCEPTION WHEN assert_failure THEN",
     "test_swap_mishaps.py::test_an_interrupted_swap_stops_no_client[column of the log renamed]"),
    ("function: others may call it", f"{SQL}/create_trigger_function.sql",
     "EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', item.function, item.grantee);", "NULL;",
     "test_swap_dependents.py::test_a_stranger_may_not_use_the_function_and_refers_to_no_helper"),
    ("copy: those of one moment are cut", f"{SQL}/copy.sql", "t.expire_date <= (SELECT", "t.expire_date < (SELECT",
     "test_swap_hard_cases.py::test_many_sessions_of_one_time_are_copied"),
    ("copy: the last moment is copied again", f"{SQL}/copy.sql", "\n    WHERE t.expire_date > (SELECT", "\n    WHERE t.expire_date >= (SELECT",
     "test_swap_hard_cases.py::test_many_sessions_of_one_time_are_copied"),
    ("copy: a second is left out after each chunk", f"{SQL}/copy.sql", "copied_until = chunk.last,",
     "copied_until = chunk.last + interval '1 second',",
     "test_swap_hard_cases.py::test_many_sessions_of_one_time_are_copied"),
    ("copy: a chunk has no end", f"{SQL}/copy.sql", "AND t.expire_date <= (SELECT chunk.last FROM chunk)", "",
     "test_swap_hard_cases.py::test_many_sessions_of_one_time_are_copied"),
    ("indexes: what changed meanwhile stays", f"{SQL}/build_indexes.sql",
     "DELETE FROM ONLY {shadow} s USING changed WHERE s.session_key = changed.k",
     "DELETE FROM ONLY {shadow} s USING changed WHERE s.session_key = changed.k AND false", INTERLEAVING),
    ("indexes: what changed is not copied again", f"{SQL}/build_indexes.sql",
     "WHERE t.session_key = changed.k AND t.expire_date >=", "WHERE t.session_key = changed.k AND false AND t.expire_date >=",
     INTERLEAVING),
    ("indexes: the deferred ones are left out", f"{SQL}/build_indexes.sql", "EXECUTE item.statement;", "NULL;",
     "test_swap.py::test_the_table_is_the_same_afterwards"),
    ("log: emptied where it should be collapsed", f"{SQL}/collapse_log.sql", "w.live FROM taken w ORDER",
     "w.live FROM taken w WHERE false ORDER",
     "test_swap_hard_cases.py::test_many_changes_neither_bloat_the_new_table_nor_the_log"),
    ("drain: expired sessions are brought along", f"{SQL}/drain.sql",
     "ON t.session_key = noted.k AND t.expire_date >= (SELECT m.cutoff FROM {state} m)", "ON t.session_key = noted.k",
     INTERLEAVING),
    ("drain: what is gone stays in the copy", f"{SQL}/drain.sql", "WHERE s.session_key = p.k AND NOT p.there",
     "WHERE s.session_key = p.k AND NOT p.there AND false", INTERLEAVING),
    ("drain: a copy is not replaced", f"{SQL}/drain.sql", "DO UPDATE SET ({columns}) = ROW ({excluded})",
     "DO NOTHING /* {excluded} */", INTERLEAVING),
    ("drain: entries are taken but not read", f"{SQL}/drain.sql", "SELECT {c} FROM present p WHERE p.there\n    ON",
     "SELECT {c} FROM present p WHERE p.there AND false\n    ON", INTERLEAVING),
    ("drain: a damaged key is believed", f"{SQL}/drain.sql", "IF item.missing > 0 THEN", "IF false THEN",
     "test_swap_on_odd_ground.py::test_sessions_that_the_primary_key_comes_to_lack_at_the_end_are_not_lost"),
    ("drain: a TRUNCATE is taken for damage", f"{SQL}/drain.sql", "    {check_unchanged}\n",
     "    IF false THEN {check_unchanged} END IF;\n",
     "test_swap.py::test_truncated_in_the_middle_the_sessions_stay_away[doubtful AS (]"),
    ("comparison: left out", f"{SQL}/verify.sql", "IF item.t_rows <> item.s_rows OR item.t_hashes <> item.s_hashes THEN",
     "IF false THEN",
     "test_swap_hard_cases.py::test_what_another_run_has_compared_is_compared_again[sessions deleted from the copy]"),
    ("comparison: without the log", f"{SQL}/verify.sql", "SELECT DISTINCT l.k FROM ONLY {log} l WHERE NOT l.truncated",
     "SELECT DISTINCT l.k FROM ONLY {log} l WHERE l.truncated", INTERLEAVING),
    ("comparison: counts alone", f"{SQL}/verify.sql", " OR item.t_hashes <> item.s_hashes THEN", " THEN",
     "test_swap_hard_cases.py::test_what_another_run_has_compared_is_compared_again[a copy that holds something else]"),
    ("comparison: a TRUNCATE is taken for damage", f"{SQL}/verify.sql", "    {check_unchanged}\n",
     "    IF false THEN {check_unchanged} END IF;\n",
     "test_interleavings.py::test_a_removal_of_all_before_every_message[swap-TRUNCATE]"),
    ("exchange: a TRUNCATE is overlooked", f"{SQL}/exchange.sql", "OR EXISTS (SELECT FROM ONLY {log} l WHERE l.truncated)", "",
     "test_swap_mishaps.py::test_what_happens_while_the_exchange_waits_is_noticed[a truncation]"),
    ("exchange: what was not noted is overlooked", f"{SQL}/exchange.sql", "OR {trigger_mark} IS DISTINCT FROM run.triggers",
     "OR {trigger_mark} IS NULL",
     "test_swap_mishaps.py::test_what_happens_while_the_exchange_waits_is_noticed[a change that can't be noted]"),
    ("exchange: the last changes are left out", f"{SQL}/exchange.sql", "ELSIF item.keys > 0 THEN", "ELSIF item.keys < 0 THEN",
     "test_swap_mishaps.py::test_what_clients_do_while_the_exchange_waits_is_brought_along"),
    ("exchange: however much has changed", f"{SQL}/exchange.sql", "IF item.keys > {most_keys} THEN", "IF false THEN",
     "test_swap_mishaps.py::test_what_happens_while_the_exchange_waits_is_noticed[many changes]"),
    ("exchange: what was altered is not looked at", f"{SQL}/exchange.sql", "IF {stamp} IS DISTINCT FROM run.stamp THEN",
     "IF {stamp} IS NULL THEN", "test_swap_mishaps.py::test_what_happens_while_the_exchange_waits_is_noticed[a right]"),
    ("exchange: under a weaker lock", f"{CODE}/swap_sql.cpp",
     '"SET LOCAL statement_timeout = {};\\n{}LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE;',
     '"SET LOCAL statement_timeout = {};\\n{}LOCK TABLE ONLY {} IN EXCLUSIVE MODE;',
     "test_swap_features.py::test_what_is_altered_in_the_last_moment_is_not_lost[0]"),
    ("exchange: an altered table is taken", f"{SQL}/prepare_exchange.sql", "\n  {compare_original}\n",
     "\n  IF false THEN {compare_original} END IF;\n",
     "test_swap_features.py::test_what_is_altered_in_the_last_moment_is_not_lost[0]"),
    ("exchange: a copy that differs is taken", f"{SQL}/prepare_exchange.sql", "\n  {compare_shadow}\n",
     "\n  IF false THEN {compare_shadow} END IF;\n",
     "test_swap_dependents.py::test_what_others_make_of_the_helpers_meanwhile_stops_nothing[new]"),
    ("exchange: autovacuum stays off", f"{SQL}/prepare_exchange.sql",
     "EXECUTE format('ALTER TABLE %s RESET (autovacuum_enabled)', run.shadow::regclass);", "",
     INTERLEAVING),
    ("two runs: whose turn it is is not looked at", f"{CODE}/swap_sql.cpp", "  WHERE m.run_id = {run_id};\n  IF NOT FOUND THEN",
     "  WHERE true;\n  IF NOT FOUND THEN", "test_swap_mishaps.py::test_one_whose_state_others_have_made_anew_is_left_to_them"),
    ("two runs: one that lives is taken over", f"{CODE}/swap_state.cpp",
     "for (bool lived = true; row.run_id != swap_.names.run_id && (lived || row.lives());) {",
     "for (bool lived = false; lived;) {", "test_swap_behind_a_pooler.py::test_a_long_vacuum_does_not_make_it_look_dead"),
    ("two runs: the lock's answer is not looked at", f"{CODE}/cleanup.cpp", "while (!try_to_claim(scope)) {",
     "while (!try_to_claim(scope) && false) {", "test_swap.py::test_of_two_at_once_one_does_it", OF_RUNS),
    ("resumed: whatever became of it", f"{SQL}/read_state.sql", "AND {original_lines} = m.definition AS intact",
     "OR {original_lines} IS NOT NULL AS intact",
     "test_swap_hard_cases.py::test_a_table_that_was_altered_since_is_not_resumed_but_begun_anew"),
    ("resumed: whatever is to be kept", f"{CODE}/swap_state.cpp",
     "row.keep_seconds == static_cast<double>(swap_.run.options().keep.count());", "true;",
     "test_swap.py::test_a_run_with_another_keep_begins_anew"),
    ("resumed: after the copy as if compared", f"{CODE}/swap_phase.hpp", "Phase::catching_up, true, true},",
     "Phase::ready, true, true},", "test_swap.py::test_a_dump_under_way_is_waited_for_and_is_complete"),
    ("waits: not for old snapshots", f"{CODE}/swap.cpp", "    if (!old) return;\n", "    return;\n",
     "test_swap.py::test_an_old_snapshot_is_waited_for"),
    ("waits: not for those that have written", f"{CODE}/swap.cpp", "if (!has_old_writers(run_, mark)) return;", "return;",
     "test_swap_what_stays.py::test_what_keeps_the_replaced_table_is_named_until_it_is_gone"),
    ("removal: the triggers stay", f"{SQL}/remove_triggers.sql", "EXECUTE format('DROP TRIGGER %I ON %s'", "PERFORM format('%I %s'",
     "test_swap.py::test_abort_removes_what_is_left"),
    ("loss: what stays is not told", f"{CODE}/swap_state.cpp", "if (!swap_.run.is_connected()) return what_is_left();",
     'if (!swap_.run.is_connected()) return "";', "test_swap_behind_a_pooler.py::test_a_server_that_does_not_come_back"),
    ("loss: a new connection is not introduced", f"{CODE}/run.cpp",
     '  connection_->set_own_functions(fmt::format("djs_{}_", id_));\n', "",
     "test_swap.py::test_a_dropped_connection_is_made_anew"),
    ("loss: what may be left is not told", f"{CODE}/swap_state.cpp", 'return swap_.run.is_connected() ? "" : kSomeMayBeLeft;',
     'return "";', "test_swap_what_stays.py::test_what_may_be_left_is_told_where_nobody_answers_any_more"),
    ("loss: ends the run", f"{CODE}/cleanup.cpp", "if (!lost || ++losses > kMostLosses ||", "if (!lost || ++losses > 0 ||",
     "test_swap.py::test_a_dropped_connection_is_made_anew", OF_RUNS),
    ("clock: not doubted", f"{CODE}/cleanup.cpp", "if (const auto doubt = doubt_about_the_clock(run_))",
     "if (const auto doubt = doubt_about_the_clock(run_); doubt && doubt->empty())",
     "test_clock.py::test_a_clock_that_is_set_before_the_work_begins_stops_it[delete]", OF_RUNS),
    ("deletion: the cutoff is a second ahead", f"{CODE}/planner.cpp",
     '"SELECT ((now() - {} * interval \'1 second\') AT', '"SELECT ((now() + interval \'1 s\' - {} * interval \'1 second\') AT',
     "test_delete.py::test_what_expires_at_the_cutoff_or_right_after_it_stays", OF_DELETIONS),
    ("deletion: beside another one", f"{SQL}/batch.sql", "WHERE (SELECT turn.is_ours FROM turn) AND", "WHERE",
     "test_delete.py::test_beside_another_that_has_just_begun_no_session_is_deleted", OF_DELETIONS),
    ("answers: a warning ends a long statement", "lib/pg/connection.cpp",
     "if (answers_nothing(arrived_.get())) arrived_.reset();", "",
     "test_swap_hard_cases.py::test_a_warning_in_the_midst_of_a_long_statement_ends_no_run"),
    ("deletion: what was held is not tried again", f"{CODE}/batch_delete.cpp", "    try_what_was_left();\n",
     "    if (false) try_what_was_left();\n",
     "test_locked_rows.py::test_what_is_held_for_a_moment_goes_in_the_same_run", OF_DELETIONS),
    ("deletion: what is held is not told", f"{CODE}/batch_delete.cpp", "    undeleted_.locked += held_;\n", "",
     "test_delete.py::test_a_row_that_somebody_holds_is_left_and_the_others_go", OF_DELETIONS),
    ("deletion: replicas are not waited for", f"{CODE}/batch_delete.cpp", "    wait_for_replicas(run_);\n    stop_if",
     "    stop_if", "test_delete.py::test_a_slot_that_holds_back_wal_stops_it", OF_DELETIONS),
    ("deletion: under a swap that lives", f"{CODE}/batch_delete.cpp", "    stop_if_a_swap_lives(run_, access_);\n", "",
     "test_delete.py::test_a_deletion_makes_way_for_a_swap_that_began_meanwhile[owner]", OF_DELETIONS),
    ("deletion: beside another one as if it were done", f"{CODE}/batch_delete.cpp", "if (!report.is_locked && !report.is_ours)",
     "if (!report.is_locked && !report.is_ours && false)",
     "test_delete.py::test_beside_another_that_has_just_begun_no_session_is_deleted", OF_DELETIONS),
    ("deletion: with more rights than the owner's", f"{CODE}/delete_sql.cpp", '"SET LOCAL ROLE " + access.owner + ";\\n" +',
     '"/* " + access.owner + " */\\n" +', "test_delete_rights.py::test_the_owners_code_runs_as_the_owner[before each row-postgres]",
     OF_DELETIONS),
    ("deletion: a trial deletes", f"{CODE}/delete_sql.cpp", "if (order.trial) transaction.end = Transaction::End::roll_back;", "",
     "test_plan.py::test_to_try_a_delete_deletes_nothing", OF_DELETIONS),
    ("deletion: whoever's function is called", f"{CODE}/delete_sql.cpp", 'same_functions(run, access, "1 / count(*)")',
     'same_functions(run, access, "count(*)")',
     "test_delete_rights.py::test_a_function_that_takes_the_owners_place_in_a_run_is_not_called", OF_DELETIONS),
    ("deletion: the table's lock is not asked for", f"{CODE}/delete_sql.cpp", "\nLOCK TABLE ONLY {table} IN ROW EXCLUSIVE MODE;\n",
     "\n", "test_delete.py::test_a_locked_table_is_waited_for_and_the_holder_is_named[owner]", OF_DELETIONS),
    ("reclaim: VACUUM's lock was not granted, and it is done", f"{CODE}/reclaim.cpp", "patience::kVacuumsLock); }))",
     "patience::kVacuumsLock); }) && false)", "test_delete.py::test_a_vacuum_that_never_gets_its_lock_names_the_holder",
     OF_DELETIONS),
    ("reclaim: whatever an old snapshot spoils", f"{CODE}/reclaim.cpp", "if (!holder.empty()) return", "if (false) return",
     "test_delete.py::test_an_old_snapshot_is_named_and_what_it_spoils_is_not_tried", OF_DELETIONS),
    ("reclaim: the end of the table is cut off", f"{CODE}/reclaim.cpp", "TRUNCATE FALSE", "TRUNCATE TRUE",
     "test_delete.py::test_the_end_of_the_table_is_not_cut_off", OF_DELETIONS),
    ("reindex: what a stopped one left stays", f"{CODE}/reindex.cpp", "    drop_leftovers(run);\n    throw;", "    throw;",
     "test_delete.py::test_an_index_build_that_is_stopped_leaves_nothing", OF_DELETIONS),
    ("reindex: others' invalid indexes go", f"{CODE}/reindex.cpp", " AND c.relname ~ '_cc(new|old)[0-9]*$'", "",
     "test_delete.py::test_somebody_elses_invalid_index_stays", OF_DELETIONS),
    ("reindex: what is there twice gets into the log", f"{CODE}/reindex.cpp", 'if (twice->number("twice") == 0.0) return "";',
     'if (twice->number("twice") >= 0.0) return "";',
     "test_delete.py::test_what_a_unique_index_holds_twice_is_not_in_the_servers_log", OF_DELETIONS),
    ("reindex: what can't be checked is rebuilt", f"{CODE}/reindex.cpp", "  if (!twice)\n",
     '  if (!twice) return "";\n  if (!twice)\n', "test_delete.py::test_who_may_not_look_for_keys_rebuilds_no_unique_index",
     OF_DELETIONS),
    ("reclaim: under a swap that lives", f"{CODE}/cleanup.cpp", "const auto look = [&] { stop_if_a_swap_lives(run_, access); };",
     "const auto look = [] {};", "test_delete.py::test_no_index_is_rebuilt_under_a_swap_that_began_meanwhile", OF_DELETIONS),
    ("full: rewrites once more for its ANALYZE", f"{CODE}/vacuum_full.cpp", "if (!granted_all && !is_rewritten(run, former_file))",
     "if (!granted_all && !(is_rewritten(run, former_file) && false))",
     "test_full.py::test_whoever_comes_before_its_analyze_causes_no_second_rewrite", OF_FULL),
    ("full: whatever an old snapshot spoils", f"{CODE}/vacuum_full.cpp", "  if (!holder.empty())\n",
     "  if (!holder.empty() && false)\n", "test_full.py::test_an_old_snapshot_makes_it_useless_and_is_named", OF_FULL),
    ("full: everybody queues behind it for long", f"{CODE}/vacuum_full.cpp", "run.options().lock_timeout,\n",
     "patience::kVacuumsLock,\n",
     "test_full.py::test_a_reader_in_a_transaction_is_waited_for_without_stopping_the_others", OF_FULL),
    ("locks: autovacuum is not made to give way", f"{SQL}/lock_against_vacuum.sql",
     "LOCK TABLE ONLY {locked} IN SHARE UPDATE EXCLUSIVE MODE;", "/* {locked} */", "test_swap.py::test_an_autovacuum_gives_way"),
    ("locks: the helpers' are waited for under the table's", f"{CODE}/swap_sql.cpp",
     'fmt::format("LOCK TABLE ONLY {}, {} IN ACCESS EXCLUSIVE MODE;\\n",', 'fmt::format("/* {} {} */\\n",',
     "test_swap_locks.py::test_who_reads_the_state_is_not_waited_for_under_the_tables_lock"),
    ("locks: a helper's is not asked for", f"{CODE}/swap_sql.cpp", "      LOCK TABLE ONLY {name} IN ACCESS SHARE MODE;\n",
     "      NULL; -- {name}\n",
     "test_swap_mishaps.py::test_what_changes_while_its_lock_is_waited_for_is_noticed[copying-renamed-djs_{oid}_state]"),
    ("locks: the one against autovacuum is kept", f"{SQL}/lock_against_vacuum.sql",
     "\nROLLBACK TO SAVEPOINT against_vacuum;\n", "\n",
     "test_swap_locks.py::test_who_analyzes_while_triggers_are_removed_is_not_cancelled_for_a_deadlock"),
    ("locks: the table's is waited for after deadlock_timeout, too", f"{CODE}/swap_sql.cpp",
     "exchange.define + fill<sql::shorten_wait>(names, limits) +", "exchange.define +",
     "test_swap_locks.py::test_nobody_who_waits_for_a_renamed_index_is_cancelled_for_a_deadlock"),
    ("locks: the log's is not asked for", f"{SQL}/create_trigger_function.sql",
     "LOCK TABLE ONLY %1$s.djs_{oid}_log IN ROW EXCLUSIVE MODE;", "NULL;",
     "test_strangers_helpers.py::test_a_client_who_waits_for_the_log_writes_into_nothing_that_has_come_instead",
     [*OF_SWAPS, "test_strangers_helpers.py"]),
    ("removal: the state's lock is not asked for", f"{SQL}/remove.sql",
     "        EXECUTE format('LOCK TABLE ONLY %s IN ACCESS SHARE MODE', item.name);\n", "",
     "test_strangers_helpers.py::test_a_removal_that_waits_for_the_state_reads_nothing_that_has_come_instead",
     [*OF_SWAPS, "test_strangers_helpers.py"]),
    ("full: autovacuum is not made to give way", f"{CODE}/vacuum_full.cpp", "if (!displace_autovacuum(run)) return false;",
     "if (false && !displace_autovacuum(run)) return false;", "test_full.py::test_autovacuum_on_the_table_steps_aside", OF_FULL),
    ("reindex: under a swap that lives", f"{CODE}/reindex.cpp", "    look_around();\n",
     "    if (run.id().empty()) look_around();\n",
     "test_delete.py::test_no_index_is_rebuilt_under_a_swap_that_began_beside_the_vacuum", OF_DELETIONS),
    ("lag: the archiver's unfinished file counts", f"{SQL}/wal_readers.sql", " + is_archived::int)", ")",
     "test_throttle.py::test_the_unfinished_file_of_wal_is_not_late", OF_DELETIONS),
    ("lag: an archiver that only fails is not seen", f"{SQL}/wal_readers.sql",
     "substring(last_failed_wal FROM '^[0-9A-F]{24}')", "NULL",
     "test_throttle.py::test_an_archiver_that_fails_is_named", OF_DELETIONS),
    ("lag: nobody looks at what waits for the archiver", f"{CODE}/replicas.cpp",
     "if (reader.kind == WalReader::Kind::archiver && !reader.bytes_behind)\n      reader", "if (reader.name == \"nobody\") reader",
     "test_throttle.py::test_an_archiver_without_a_command_is_noticed", OF_DELETIONS),
    ("lag: how far a standby is behind does not matter", f"{SQL}/wal_readers.sql",
     "pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) AS", "pg_wal_lsn_diff(replay_lsn, replay_lsn) AS",
     "test_throttle.py::test_a_standby_that_falls_behind_is_waited_for", OF_DELETIONS),
    ("lag: who waits loses the lease", f"{CODE}/replicas.cpp", "    if (meanwhile) meanwhile();\n",
     "    if (meanwhile && run.id().empty()) meanwhile();\n",
     "test_delete.py::test_a_swap_that_waits_for_a_slot_keeps_its_lease", OF_SWAPS),
    ("hook: obeys whatever host", f"{HOOK}/hook.cpp", 'return host_ == "*" || host_ == name.host;', "return true;",
     "test_hook.py::test_the_server_obeys_nobody_but_the_host_it_was_told", OF_THE_HOOK),
    ("hook: obeys forged values", f"{HOOK}/hook.cpp", "if (is_false(name)) return shared_", "if (is_false(name)) shared_",
     "test_hook.py::test_a_packet_that_names_this_host_is_not_believed[{'Host': '*'}]", OF_THE_HOOK),
    ("hook: all clean at once", f"{HOOK}/cleanup_turns.hpp", "queue_.front() == ticket && running_ < at_once_",
     "queue_.front() == ticket", "test_hook.py::test_no_more_cleanups_at_once_than_allowed", OF_THE_HOOK),
    ("hook: what was of no use is tried again soon", "lib/core/cleanup_policy.cpp", "if (cause_alerts_ && !got_on(result))",
     "if (cause_alerts_ && !got_on(result) && false)", "test_hook.py::test_a_missing_right_is_refused_and_not_tried_again_soon",
     OF_THE_HOOK),
    ("hook: outside of the Window", "lib/core/cleanup_policy.cpp", "if (!in_window(now.minute_of_day)) {",
     "if (!in_window(now.minute_of_day) && false) {", "test_hook.py::test_nothing_starts_outside_the_window", OF_THE_HOOK),
    ("hook: the last outcome is not told", f"{HOOK}/hook.cpp", "  attempt([&] { tell_end(result, stop); });\n", "",
     "test_hook.py::test_a_program_that_is_not_there_is_a_failure", OF_THE_HOOK),
    ("hook: that a failure is over is not told", f"{HOOK}/hook.cpp", "  if (!decision.trouble) return;\n", "  return;\n",
     "test_hook.py::test_the_end_of_a_failure_is_notified", OF_THE_HOOK),
    ("hook: what another one does is a failure", f"{HOOK}/hook.cpp", "  if (result.left_to_another) return;\n  ++cleanups;",
     "  ++cleanups;", "test_hook.py::test_a_cleanup_elsewhere_is_neither_useless_nor_a_failure", OF_THE_HOOK),
    ("hook: one that is under way is forgotten", f"{HOOK}/hook.cpp",
     "  attempt([&] { keep_past(); });\n  attempt([&] { tell_start", "  attempt([&] { tell_start",
     "test_hook.py::test_waits_outlast_a_kill_in_the_middle_of_a_cleanup", OF_THE_HOOK),
    ("hook: a Command outlives collectd", f"{HOOK}/command_runner.cpp", "      killed_ = true;\n      kill(-guard_, SIGKILL);\n",
     "      killed_ = true;\n", "test_hook.py::test_collectd_stops_in_time_with_a_command_that_does_not_listen", OF_THE_HOOK),
    ("hook: a Command has no time limit", f"{HOOK}/command_runner.cpp", "} else if (now >= time_is_over_ && !kill_at_) {",
     "} else if (now >= time_is_over_ && !kill_at_ && false) {",
     "test_hook.py::test_a_command_is_ended_at_its_time_limit_and_readings_go_on_meanwhile", OF_THE_HOOK),
    ("measuring: what it is notified of is kept", "lib/pg/connection.cpp", "PQfreemem(notification);\n", "(void)notification;\n",
     "test_measuring_rights.py::test_what_the_owners_code_has_us_listen_to_takes_no_memory", []),
    ("measuring: by a path that was left behind", "lib/measure/probe.cpp", "search_path_ ? connection_->literal(*search_path_) : \"\"",
     "search_path_ && false ? connection_->literal(*search_path_) : \"\"",
     "test_measuring_rights.py::test_a_reading_is_of_the_same_table_whatever_search_path_the_owners_code_sets", []),
    ("waits: an exchange that is slow blames others", f"{CODE}/swap_lock.cpp", "tries.too_slow = error.statement_timed_out();", "",
     "test_swap_locks.py::test_an_exchange_that_takes_too_long_blames_nobody"),
    ("limits: the role's statement timeout stays", "lib/measure/transaction.cpp", "SET LOCAL statement_timeout = {3};\n", "",
     "test_server_limits.py::test_a_setting_of_the_role_changes_nothing[statement_timeout = '5ms'-swap]"),
    ("waits: who kept a statement waiting is not asked", f"{CODE}/long_statement.cpp", "stopped.blocked_by = pulse.blocked_by(connection);",
     "", "test_delete.py::test_a_vacuum_that_waits_is_cancelled_by_a_signal", OF_DELETIONS),
    ("deletion: a deferred trigger, by the function", f"{CODE}/delete_access.cpp",
     'refuse_deferred(row.optional_text("trigger_with_our_rights"), access);\n', "",
     "test_delete_rights.py::test_what_waits_for_the_commit_is_refused_by_name[django_session_cleaner]", OF_DELETIONS),
)]


def misfits():
    """Defects whose text isn't in its file, once, or whose test is gone: the code has changed."""
    return [defect.name for defect in DEFECTS
            if (ROOT / defect.file).read_text().count(defect.there) != 1 or not is_a_test(*defect.test.split("::"))]


def is_a_test(file, name):
    return f"\ndef {name.partition('[')[0]}(" in (ROOT / TESTS / file).read_text()


def run(command, folder, **environment):
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout


class Copy:
    """A copy of the checkout with a build of its own."""

    def __init__(self, number):
        self.folder = ROOT / "build" / "defects" / str(number)
        if not self.folder.exists():
            run(["git", "clone", "-q", ROOT, self.folder], ROOT)
        head = run(["git", "rev-parse", "HEAD"], ROOT)[1].strip()
        run(["git", "fetch", "-q", ROOT, "HEAD"], self.folder)
        run(["git", "checkout", "-q", "-f", head], self.folder)
        run(["cmake", "--preset", "release"], self.folder)
        (self.folder / "build").mkdir(exist_ok=True)
        if not (self.folder / "build" / "postgresql").exists() and (ROOT / "build" / "postgresql").exists():
            (self.folder / "build" / "postgresql").symlink_to(ROOT / "build" / "postgresql")
        self.build()

    def build(self):
        return run(["cmake", "--build", "--preset", "release", "-j1", "--target", "django_session_cleanup",
                    "check_django_session", "django_session", "print_messages", "range_oracle"], self.folder)

    def look_for(self, defect):
        """What becomes of it, and whether that is as it should be."""
        path = self.folder / defect.file
        text = path.read_text()
        path.write_text(text.replace(defect.there, defect.instead))
        try:
            if self.build()[0] != 0:
                return "DOES NOT COMPILE", False
            tests = [[defect.test], *(some.split() for some in defect.others)]
            found = next(filter(None, map(self._first_failure, tests)), None)
        finally:
            path.write_text(text)
        if not found:
            return "NOT FOUND by any test", False
        self.build()
        if self._first_failure([found]):
            return f"FAILS WITHOUT IT, too: {found}", False
        is_aimed = defect.test in (found, found.partition("[")[0])
        return (f"found: {found}" if is_aimed else f"FOUND ELSEWHERE: {found}, and not by {defect.test}"), is_aimed

    def _first_failure(self, words):
        with tempfile.TemporaryDirectory(prefix="defect.") as place:
            os.chmod(place, 0o755)
            code, output = run(["/usr/bin/python3", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *words],
                               self.folder / TESTS, DJANGO_SESSION_TMP=place, LC_ALL="C.UTF-8",
                               PYTHONDONTWRITEBYTECODE="1", DJANGO_SESSION_BUILD="build/release")
        failed = re.search(r"^FAILED (.+?)(?: - .*)?$", output, re.M)
        if code != bool(failed):  # an error, say, which tells nothing of the defect
            sys.exit(f"{words}: pytest ended with {code}\n{output[-3000:]}")
        return failed[1] if failed else None


def main(words):
    if misfits():
        sys.exit(f"not in the code any more: {', '.join(misfits())}")
    if words == ["--check"]:
        return
    chosen = [defect for defect in DEFECTS if not words or any(word in defect.name for word in words)]
    copies = queue.SimpleQueue()
    for number in range(min(WORKERS, len(chosen))):
        copies.put(Copy(number))

    def look_for(defect):
        copy, start = copies.get(), time.monotonic()
        try:
            verdict, is_right = copy.look_for(defect)
        finally:
            copies.put(copy)
        print(f"{defect.name}: {verdict} ({time.monotonic() - start:.0f} s)", flush=True)
        return is_right
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        verdicts = list(pool.map(look_for, chosen))
    print(f"{sum(verdicts)} passed, {len(verdicts) - sum(verdicts)} failed")
    sys.exit(0 if all(verdicts) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
