package main

// peersIntro opens docs/benchmarks.md.
const peersIntro = `Martlet beside Dovecot, Cyrus and Postfix from Debian's packages, on one machine, in one
run, with the same bytes, over the same client (` + "`martlet bench`" + `). Each figure is the median
of %d round(s), each on fresh servers, whose order turns from round to round. A delivery run
lasts %g s; the large mailbox has %d messages. Client and server share the processors.
Every delivery that is counted is on disk: all servers sync before they answer.

The ratio is Martlet's figure against the **best** of the others on that line in the same
round: above 1, Martlet is faster or smaller. It is the median of the rounds, and beside it
stand the lowest and the highest. What is below 2.0 is in bold, and explained further down.

`

// peersNotes close docs/benchmarks.md before the configurations.
const peersNotes = `
With other numbers, and to write the report again from what a run has left:

` + "```" + `
go build -o bin/martlet ./cmd/martlet
go run ./test/peers/benchpeers -rounds 5 -messages 100000 -raw bin/bench-peers.jsonl
go run ./test/peers/benchpeers -from bin/bench-peers.jsonl
` + "```" + `

` + "`-quick`" + ` runs everything with small numbers in a few minutes, ` + "`-help`" + ` names the other flags.
How the figures change with the size of the mailbox and of the store is in
[benchmarks-growth.md](benchmarks-growth.md).

## What to know when reading it

- The loop is closed: a connection sends the next request when it has the answer to the last
  one. The client reads everything and parses little.
- The small message has 1.4 KB. "13 KB in the mean" is a mix: half of the messages have 2 KB, a
  third 6 KB, and one in twenty 80 KB or more, with an attachment. Every message has a
  Message-ID of its own, since Cyrus drops those it has seen.
- The large mailbox was filled before the server was started. "Cold" is the request that comes
  first after a restart of the server, with the files still in the system's memory; "warm" is
  the median of those that follow it.
- Memory is the proportional share (PSS) of all processes of the server, so that pages which
  processes have in common count once. That of a connection in IDLE is what the server has
  more than before they came. Dovecot hibernates its sessions before it is
  measured, for which fs.inotify.max_user_instances is raised as its log asks.
- Postfix accepts mail by SMTP and leaves it in its queue: it is the measure of taking
  responsibility for a message, without delivering it. Martlet has it in the mailbox when it
  answers.
- Sign-in is outside of all measured times but its own. Dovecot's static password is the cheapest
  there is; Cyrus looks in its database; Martlet's is argon2, with what a session
  has proved remembered.
- Of flags that change, Dovecot syncs nothing to disk by default; Martlet syncs before it answers
  STORE, as it does for mail.
- Cyrus leaves Nagle's algorithm on: what an answer ends with may wait for the client to
  acknowledge what came before, which the system's client does after 40 ms.
- Disk is in blocks, indexes included, after a restart; a message to 100 recipients counts once.
- "-" is a line that the server cannot do.
`
