package main

// intro opens docs/benchmarks-cluster.md.
const intro = `What it costs to keep mailboxes on PostgreSQL instead of in the data folder, what a second node
adds, and how far nodes are from each other. All on one machine, in one run, over the same client
(` + "`martlet bench`" + `, [bench.md](bench.md)): clients, nodes and databases share its processors, so that a
database on a machine of its own would leave the nodes more. Each figure is the median of %d round(s), each on fresh
servers in turning order; a run of deliveries or of the mix lasts %g s. Single nodes of Dovecot and
Cyrus stand beside it for scale.
`

// limits follow the table of two nodes.
const limits = `
On one machine a second node cannot add processors. Who uses them is in the table above: with fifty connections nearly both
are in use, half by nodes and two fifths by the database. With every account at one node, two nodes therefore
do about as much as one; on machines of their own nodes add up until the database's
processors, or the syncs of its log, are used up, and then another group is what helps.

Where two nodes deliver to the same few accounts without a pause they take each account from each other with each commit: commits of
several deliveries become commits of one, and who comes too late runs again. That is the price of having no owner of an account, and
matters to accounts that get hundreds of messages a second.
`

// notes close the report before the configurations.
const notes = "\n`-quick` runs everything once, in short, in a few minutes; `go run ./test/peers/benchcluster -help` names the other flags, and\n" +
	"`-from bin/bench-cluster.jsonl` writes this page again from what a run has left.\n"
