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
On one machine a second node cannot add processors: it shows what the nodes cost each other, not what a second machine
brings. Where the limit is, is in the table above: who uses the processors.
`

// notes close the report before the configurations.
const notes = "\n`-quick` runs everything once, in short, in a few minutes; `go run ./test/peers/benchcluster -help` names the other flags, and\n" +
	"`-from bin/bench-cluster.jsonl` writes this page again from what a run has left.\n"
