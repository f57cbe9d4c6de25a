#!/usr/bin/python3
"""Plants defects in the code that cleans up, one at a time, and says which test finds each: `tests/run defects [WORD...]`,
only those whose name has one of the words; --check only sees whether they fit into the code. What no test finds is a missing
test. Works on copies, in build/defects."""

import concurrent.futures
import os
import queue
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORKERS = (os.cpu_count() or 1) + 1  # most tests wait now and then
SQL, CODE = "lib/cleanup/sql", "lib/cleanup"

# What a defect is looked for with, the quick ones first.
OF_SWAPS = ["test_interleavings.py -k swap", "test_histories.py", "test_swap.py", "test_swap_mishaps.py",
            "test_swap_dependents.py test_swap_features.py test_swap_what_stays.py test_swap_rights.py",
            "test_swap_hard_cases.py test_swap_locks.py test_swap_behind_a_pooler.py test_swap_on_odd_ground.py",
            "test_every_fault.py -k swap", "test_rehearsal.py test_odd_settings.py test_clock.py"]
OF_DELETIONS = ["test_interleavings.py -k delete", "test_delete.py", "test_delete_rights.py test_locked_rows.py",
                "test_every_fault.py -k delete", "test_cleanup_roles.py test_throttle.py test_odd_settings.py"]
OF_RUNS = ["test_cleanup_command.py", "test_clock.py", "test_every_fault.py", "test_swap.py", "test_delete.py"]

# The tests that are about a defect, which look first.
AIMED = {
    "triggers: not for replication's sessions": "test_swap_hard_cases.py -k replication",
    "function: what can't be noted is not counted": "test_swap_mishaps.py -k could_not_be_noted",
    "function: waits for the log without a limit": "test_swap_mishaps.py -k locked_log",
    "function: runs as whoever writes": "test_swap_rights.py -k may_only_write",
    "function: TRUNCATE is not noted": "test_swap.py -k truncated_in_the_middle",
    "function: an error is the client's": "test_swap_mishaps.py -k stops_no_client",
    "function: others may call it": "test_swap_dependents.py -k stranger_may_not_use",
    "copy: those of one moment are cut": "test_swap_hard_cases.py -k of_one_time",
    "copy: the last moment is copied again": "test_swap_hard_cases.py -k of_one_time",
    "copy: a second is left out after each chunk": "test_swap_hard_cases.py -k of_one_time",
    "copy: goes on from the first of a chunk": "test_swap_hard_cases.py -k of_one_time",
    "indexes: the deferred ones are left out": "test_swap.py -k table_is_the_same",
    "log: emptied where it should be collapsed": "test_swap_hard_cases.py -k many_changes",
    "drain: a damaged key is believed": "test_swap_on_odd_ground.py -k lack_at_the_end",
    "drain: a TRUNCATE is taken for damage": "test_swap.py -k truncated_in_the_middle",
    "comparison: left out": "test_swap_hard_cases.py -k compared_again",
    "comparison: counts alone": "test_swap_hard_cases.py -k compared_again",
    "comparison: a TRUNCATE is taken for damage": "test_interleavings.py -k removal_of_all",
    "exchange: a TRUNCATE is overlooked": "test_swap_mishaps.py -k exchange_waits",
    "exchange: what was not noted is overlooked": "test_swap_mishaps.py -k exchange_waits",
    "exchange: however much has changed": "test_swap_mishaps.py -k exchange_waits",
    "exchange: what was altered is not looked at": "test_swap_mishaps.py -k exchange_waits",
    "exchange: under a weaker lock": "test_swap_features.py -k last_moment",
    "exchange: an altered table is taken": "test_swap_features.py -k last_moment",
    "exchange: a copy that differs is taken": "test_swap_dependents.py test_strangers_helpers.py",
    "exchange: autovacuum stays off": "test_swap.py -k table_is_the_same",
    "two runs: whose turn it is is not looked at": "test_swap_mishaps.py -k made_anew",
    "two runs: one that lives is taken over": "test_swap_behind_a_pooler.py",
    "two runs: the lock's answer is not looked at": "test_swap.py -k two_at_once",
    "resumed: whatever became of it": "test_swap_hard_cases.py -k altered_since",
    "resumed: whatever is to be kept": "test_swap.py -k another_keep",
    "resumed: after the copy as if compared": "test_swap.py -k dump_under_way",
    "waits: not for old snapshots": "test_swap.py -k old_snapshot",
    "waits: not for those that have written": "test_swap_what_stays.py -k until_it_is_gone",
    "removal: the triggers stay": "test_swap.py -k abort_removes",
    "loss: what stays is not told": "test_swap_behind_a_pooler.py -k come_back",
    "loss: a new connection is not introduced": "test_swap.py -k dropped_connection",
    "loss: what may be left is not told": "test_swap_what_stays.py -k where_nobody",
    "loss: ends the run": "test_swap.py -k dropped_connection",
    "clock: not doubted": "test_clock.py -k before_the_work",
    "deletion: the cutoff is a second ahead": "test_delete.py -k at_the_cutoff",
    "deletion: beside another one": "test_delete.py -k just_begun",
    "answers: a warning ends a long statement": "test_swap_hard_cases.py -k warning",
}

# Not here is what makes no difference, since something else stands behind it: which entry a collapsed log keeps (after that all
# keys in it are copied again), that a drain compares what was stored (the definitions, or all rows, are compared after it), that
# a swap whose triggers are off is not resumed (their mark isn't what it was), and that a batch has the cutoff twice (servers that
# lack a fix of 2025 find a row that was saved meanwhile by its old address).
# name, file, what is there (once), what is put in its place; and what to look with, where it isn't the swap's tests.
DEFECTS = [
    ("triggers: an INSERT is not noted", f"{SQL}/attach_triggers.sql", "AFTER INSERT OR UPDATE ON", "AFTER UPDATE ON"),
    ("triggers: an UPDATE is not noted", f"{SQL}/attach_triggers.sql", "AFTER INSERT OR UPDATE ON", "AFTER INSERT ON"),
    ("triggers: a DELETE of a live session is not noted", f"{SQL}/attach_triggers.sql", "WHEN (OLD.expire_date >= %L",
     "WHEN (OLD.expire_date < %L"),
    ("triggers: not for replication's sessions", f"{SQL}/attach_triggers.sql",
     "ENABLE ALWAYS TRIGGER djs_{oid}_changed,\n    ENABLE ALWAYS TRIGGER djs_{oid}_deleted,", "ENABLE TRIGGER djs_{oid}_changed,"),
    ("function: the former key is not noted", f"{SQL}/create_trigger_function.sql",
     "TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND NEW.session_key <> OLD.session_key)", "TG_OP = 'DELETE'"),
    ("function: whatever was saved is said to live", f"{SQL}/create_trigger_function.sql",
     "NEW.expire_date >= %3$L::timestamptz)", "true OR %3$L IS NULL)"),
    ("function: what can't be noted is not counted", f"{SQL}/create_trigger_function.sql",
     "PERFORM nextval(%5$s::oid::regclass);", "PERFORM %5$s;"),
    ("function: waits for the log without a limit", f"{SQL}/create_trigger_function.sql", "SET lock_timeout = {lock_ms} ", ""),
    ("function: runs as whoever writes", f"{SQL}/create_trigger_function.sql", "LANGUAGE plpgsql SECURITY DEFINER",
     "LANGUAGE plpgsql"),
    ("function: TRUNCATE is not noted", f"{SQL}/create_trigger_function.sql", "IF TG_OP = 'TRUNCATE' THEN",
     "IF TG_OP = 'NONE' THEN"),
    ("function: an error is the client's", f"{SQL}/create_trigger_function.sql",
     "EXCEPTION WHEN OTHERS OR assert_failure THEN", "EXCEPTION WHEN assert_failure THEN"),
    ("function: others may call it", f"{SQL}/create_trigger_function.sql",
     "EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', item.function, item.grantee);", "NULL;"),
    ("copy: those of one moment are cut", f"{SQL}/copy.sql", "ROWS WITH TIES", "ROWS ONLY"),
    ("copy: the last moment is copied again", f"{SQL}/copy.sql", "WHERE t.expire_date > (SELECT", "WHERE t.expire_date >= (SELECT"),
    ("copy: a second is left out after each chunk", f"{SQL}/copy.sql", "copied_until = reached.moment,",
     "copied_until = reached.moment + interval '1 second',"),
    ("copy: goes on from the first of a chunk", f"{SQL}/copy.sql", "ORDER BY chunk.moment DESC LIMIT 1",
     "ORDER BY chunk.moment LIMIT 1"),
    ("indexes: what changed meanwhile stays", f"{SQL}/build_indexes.sql",
     "DELETE FROM ONLY {shadow} s USING changed WHERE s.session_key = changed.k",
     "DELETE FROM ONLY {shadow} s USING changed WHERE s.session_key = changed.k AND false"),
    ("indexes: what changed is not copied again", f"{SQL}/build_indexes.sql",
     "WHERE t.session_key = changed.k AND t.expire_date >=", "WHERE t.session_key = changed.k AND false AND t.expire_date >="),
    ("indexes: the deferred ones are left out", f"{SQL}/build_indexes.sql", "EXECUTE item.statement;", "NULL;"),
    ("log: emptied where it should be collapsed", f"{SQL}/collapse_log.sql", "w.live FROM taken w ORDER",
     "w.live FROM taken w WHERE false ORDER"),
    ("drain: expired sessions are brought along", f"{SQL}/drain.sql",
     "ON t.session_key = noted.k AND t.expire_date >= (SELECT m.cutoff FROM {state} m)", "ON t.session_key = noted.k"),
    ("drain: what is gone stays in the copy", f"{SQL}/drain.sql", "WHERE s.session_key = p.k AND NOT p.there",
     "WHERE s.session_key = p.k AND NOT p.there AND false"),
    ("drain: a copy is not replaced", f"{SQL}/drain.sql", "DO UPDATE SET ({columns}) = ROW ({excluded})",
     "DO NOTHING /* {excluded} */"),
    ("drain: entries are taken but not read", f"{SQL}/drain.sql", "SELECT {c} FROM present p WHERE p.there\n    ON",
     "SELECT {c} FROM present p WHERE p.there AND false\n    ON"),
    ("drain: a damaged key is believed", f"{SQL}/drain.sql", "IF item.missing > 0 THEN", "IF false THEN"),
    ("drain: a TRUNCATE is taken for damage", f"{SQL}/drain.sql", "    {check_unchanged}\n",
     "    IF false THEN {check_unchanged} END IF;\n"),
    ("comparison: left out", f"{SQL}/verify.sql", "IF item.t_rows <> item.s_rows OR item.t_hashes <> item.s_hashes THEN",
     "IF false THEN"),
    ("comparison: without the log", f"{SQL}/verify.sql", "SELECT DISTINCT l.k FROM ONLY {log} l WHERE NOT l.truncated",
     "SELECT DISTINCT l.k FROM ONLY {log} l WHERE l.truncated"),
    ("comparison: counts alone", f"{SQL}/verify.sql", " OR item.t_hashes <> item.s_hashes THEN", " THEN"),
    ("comparison: a TRUNCATE is taken for damage", f"{SQL}/verify.sql", "    {check_unchanged}\n",
     "    IF false THEN {check_unchanged} END IF;\n"),
    ("exchange: a TRUNCATE is overlooked", f"{SQL}/exchange.sql", "OR EXISTS (SELECT FROM ONLY {log} l WHERE l.truncated)", ""),
    ("exchange: what was not noted is overlooked", f"{SQL}/exchange.sql", "OR {trigger_mark} IS DISTINCT FROM run.triggers",
     "OR {trigger_mark} IS NULL"),
    ("exchange: the last changes are left out", f"{SQL}/exchange.sql", "ELSIF item.keys > 0 THEN", "ELSIF item.keys < 0 THEN"),
    ("exchange: however much has changed", f"{SQL}/exchange.sql", "IF item.keys > {most_keys} THEN", "IF false THEN"),
    ("exchange: what was altered is not looked at", f"{SQL}/exchange.sql", "IF {stamp} IS DISTINCT FROM run.stamp THEN",
     "IF {stamp} IS NULL THEN"),
    ("exchange: under a weaker lock", f"{CODE}/swap_sql.cpp",
     '"SET LOCAL statement_timeout = {};\\n{}LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE "',
     '"SET LOCAL statement_timeout = {};\\n{}LOCK TABLE ONLY {} IN EXCLUSIVE "'),
    ("exchange: an altered table is taken", f"{SQL}/prepare_exchange.sql", "\n  {compare_original}\n",
     "\n  IF false THEN {compare_original} END IF;\n"),
    ("exchange: a copy that differs is taken", f"{SQL}/prepare_exchange.sql", "\n  {compare_shadow}\n",
     "\n  IF false THEN {compare_shadow} END IF;\n"),
    ("exchange: autovacuum stays off", f"{SQL}/prepare_exchange.sql",
     "EXECUTE format('ALTER TABLE %s RESET (autovacuum_enabled)', run.shadow::regclass);", ""),
    ("two runs: whose turn it is is not looked at", f"{CODE}/swap_sql.cpp", "  WHERE m.run_id = {run_id};\n  IF NOT FOUND THEN",
     "  WHERE true;\n  IF NOT FOUND THEN"),
    ("two runs: one that lives is taken over", f"{CODE}/swap_state.cpp",
     "for (bool lived = true; row.run_id != swap_.names.run_id && (lived || row.lives());) {",
     "for (bool lived = false; lived;) {"),
    ("two runs: the lock's answer is not looked at", f"{CODE}/cleanup.cpp", "while (!try_to_claim(scope)) {",
     "while (!try_to_claim(scope) && false) {", OF_RUNS),
    ("resumed: whatever became of it", f"{SQL}/read_state.sql", "AND {original_lines} = m.definition AS intact",
     "OR {original_lines} IS NOT NULL AS intact"),
    ("resumed: whatever is to be kept", f"{CODE}/swap_state.cpp",
     "row.keep_seconds == static_cast<double>(swap_.run.options().keep.count());", "true;"),
    ("resumed: after the copy as if compared", f"{CODE}/swap_phase.hpp", "Phase::catching_up, true, true},",
     "Phase::ready, true, true},"),
    ("waits: not for old snapshots", f"{CODE}/swap.cpp", "    if (!old) return;\n", "    return;\n"),
    ("waits: not for those that have written", f"{CODE}/swap.cpp", "if (!has_old_writers(run_, mark)) return;", "return;"),
    ("removal: the triggers stay", f"{SQL}/remove_triggers.sql", "EXECUTE format('DROP TRIGGER %I ON %s'", "PERFORM format('%I %s'"),
    ("loss: what stays is not told", f"{CODE}/swap_state.cpp", "if (!swap_.run.is_connected()) return what_is_left();",
     'if (!swap_.run.is_connected()) return "";'),
    ("loss: a new connection is not introduced", f"{CODE}/run.cpp",
     '  connection_->set_own_functions(fmt::format("djs_{}_", id_));\n', ""),
    ("loss: what may be left is not told", f"{CODE}/swap_state.cpp", 'return swap_.run.is_connected() ? "" : kSomeMayBeLeft;',
     'return "";'),
    ("loss: ends the run", f"{CODE}/cleanup.cpp", "if (!lost || ++losses > kMostLosses ||", "if (!lost || ++losses > 0 ||",
     OF_RUNS),
    ("clock: not doubted", f"{CODE}/cleanup.cpp", "if (const auto doubt = doubt_about_the_clock(run_))",
     "if (const auto doubt = doubt_about_the_clock(run_); doubt && doubt->empty())", OF_RUNS),
    ("deletion: the cutoff is a second ahead", f"{CODE}/planner.cpp",
     '"SELECT ((now() - {} * interval \'1 second\') AT', '"SELECT ((now() + interval \'1 s\' - {} * interval \'1 second\') AT',
     OF_DELETIONS),
    ("deletion: beside another one", f"{SQL}/batch.sql", "WHERE (SELECT turn.is_ours FROM turn) AND", "WHERE", OF_DELETIONS),
    ("answers: a warning ends a long statement", "lib/pg/connection.cpp",
     "if (PQresultStatus(arrived_.get()) == PGRES_COMMAND_OK) arrived_.reset();", ""),
]


def misfits():
    """Defects whose text isn't in its file, once: the code has changed."""
    return [name for name, file, old, *_ in DEFECTS if (ROOT / file).read_text().count(old) != 1] + \
        sorted(set(AIMED) - {name for name, *_ in DEFECTS})


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

    def look_for(self, file, old, new, tests):
        """The test that finds it, and passes without it; "does not compile"; or nothing."""
        path = self.folder / file
        text = path.read_text()
        path.write_text(text.replace(old, new))
        try:
            if self.build()[0] != 0:
                return "does not compile"
            found = next(filter(None, (self._first_failure(some.split()) for some in tests)), None)
        finally:
            path.write_text(text)
        if not found:
            return None
        self.build()
        return None if self._first_failure([found]) else found

    def _first_failure(self, words):
        with tempfile.TemporaryDirectory(prefix="defect.") as place:
            os.chmod(place, 0o755)
            code, output = run(["/usr/bin/python3", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *words],
                               self.folder / "tests" / "integration", DJANGO_SESSION_TMP=place, LC_ALL="C.UTF-8",
                               PYTHONDONTWRITEBYTECODE="1", DJANGO_SESSION_BUILD="build/release")
        failed = re.search(r"^FAILED (.+?)(?: - .*)?$", output, re.M)
        if code not in (0, 1) or re.search("^ERROR ", output, re.M):  # which says nothing of the defect
            sys.exit(f"{words}: pytest ended with {code}\n{output[-3000:]}")
        return failed[1] if failed else None


def main(words):
    if misfits():
        sys.exit(f"not in the code any more: {', '.join(misfits())}")
    if words == ["--check"]:
        return
    chosen = [defect for defect in DEFECTS if not words or any(word in defect[0] for word in words)]
    copies = queue.SimpleQueue()
    for number in range(min(WORKERS, len(chosen))):
        copies.put(Copy(number))

    def look_for(defect):
        name, file, old, new, *rest = defect
        copy, start = copies.get(), time.monotonic()
        aimed = [AIMED[name]] if name in AIMED else []
        found = copy.look_for(file, old, new, aimed + (rest[0] if rest else OF_SWAPS))
        copies.put(copy)
        print(f"{'found' if found else 'NOT FOUND'}: {name}: {found or 'by no test'} ({time.monotonic() - start:.0f} s)",
              flush=True)
        return bool(found) and found != "does not compile"
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        verdicts = list(pool.map(look_for, chosen))
    print(f"{sum(verdicts)} passed, {len(verdicts) - sum(verdicts)} failed")
    sys.exit(0 if all(verdicts) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
