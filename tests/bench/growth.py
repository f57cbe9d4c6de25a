"""How `swap` and `delete` grow with the table and with the share that lives, which is better where, and what `auto` chooses.

Better is the method with more bytes given back for what it writes: the bytes that the disk gets back, less those of WAL,
which disk, replicas and archive have to take. Time doesn't count: neither blocks the site. A swap is better only if it is
by WORTH_A_SWAP, since it locks the table for a moment, needs the owner's rights and more room, and isn't for each site.
The measure looks at what was measured, not at what a plan foresees.

What `auto` has chosen is right if README's rule, on the bytes that were measured, says the same. A plan foresees them to
SLACK: that near a limit, either choice is right.
"""

from setting import FOR_CLEANUPS, MB, Table, cleanup, copy_of, cost_of, median_cost, megabytes, new_site, server, tell

WORTH_A_SWAP = 64 * MB  # README's first limit, too: what a deletion would not give back
MOST_REWRITTEN = 0.4    # its second: of all bytes
SLACK = 1.2
METHODS = ("swap", "delete")
HEAD = ["sessions", "live", "size", "`swap`", "WAL", "gives back", "`delete`", "WAL", "gives back", "better", "`auto` chooses",
        "by its rule", "remark"]


def measure(options):
    rows = []
    with server(**FOR_CLEANUPS) as cluster:
        for sessions in options.sizes:
            for live in options.shares:
                rows.append(row_of(cluster, sessions, live, options.rounds))
    return [Table("`swap` and `delete`, by number of sessions and share of live ones", HEAD, rows,
                  [f"Better: what is given back less WAL; a swap, if that is {megabytes(WORTH_A_SWAP)} more than a deletion's."])]


def row_of(cluster, sessions, live, rounds):
    site = new_site(cluster, "grown", sessions, expired_share=1 - live / 100, data_bytes=150)
    try:
        size, chosen = site.sizes()["total"], cleanup(site, "--dry-run")["method"]
        costs = {method: [] for method in METHODS}
        for _ in range(rounds):
            for method in METHODS:
                with copy_of(site, "measured") as copied:
                    costs[method].append(cost_of(copied, lambda it, by=method: cleanup(it, "--method", by)))
    finally:
        cluster.drop_database("grown")
    swap, delete = (median_cost(costs[method]) for method in METHODS)
    better = "swap" if net(swap) - net(delete) >= WORTH_A_SWAP else "delete"
    tell(f"growth: {sessions} sessions, {live:g} % live: {better} is better, auto chooses {chosen}")
    return [f"{sessions:,}", f"{live:g} %", megabytes(size), *figures(swap), *figures(delete), better, chosen,
            verdict(chosen, swap, delete), "" if chosen == better else remark(better, swap, delete)]


def verdict(chosen, swap, delete):
    return "right" if chosen in choices_by_the_rule(swap, delete) else "wrong"


def choices_by_the_rule(swap, delete):
    """Both, near a limit."""
    return {"swap" if pays(swap, delete, slack) else "delete" for slack in (SLACK, 1 / SLACK)}


def pays(swap, delete, slack):
    """`slack`: above 1 it has to by so much more."""
    return swap.back - delete.back >= WORTH_A_SWAP * slack and swap.after * slack <= MOST_REWRITTEN * swap.before


def net(cost):
    return cost.back - cost.wal


def figures(cost):
    return [f"{cost.seconds:.1f} s", megabytes(cost.wal), megabytes(cost.back)]


def remark(better, swap, delete):
    more = net(swap) - net(delete)
    return (f"swap nets {megabytes(more)} more, in {swap.seconds / delete.seconds:.1f} of the time" if better == "swap"
            else f"swap nets only {megabytes(more)} more")
