package main

// growthIntro opens docs/benchmarks-growth.md.
const growthIntro = `How the figures of [benchmarks.md](benchmarks.md) change while a mailbox grows to %s
messages, and while the store grows to many gigabytes. The scenarios, the client and the
configurations are the same; Dovecot's mdbox stands beside Martlet where it takes part.
Both axes of the charts are scales of powers: a line that rises by one step for each step
to the right is linear. Martlet's lines are whole, Dovecot's are dashed.
`

const grownText = `Mail of 13 KB in the mean is delivered to ten accounts of %s by LMTP over %d connections:
%s messages in %.0f s, %.0f per second on average.
`

const idleText = `"Net" is what the server has more with the connections than before they came. Processor
time is that of ten seconds in which nothing happens.

`

const tlsText = `The same requests, and the same mail, over a plain connection and over TLS.

`

const diskText = `Blocks that came to be used on the disk, indexes included, for each byte of mail put in.

`

// growthNotes close docs/benchmarks-growth.md.
const growthNotes = `
or, with other sizes, and to write the report again from what a run has left,

` + "```" + `
go build -o bin/martlet ./cmd/martlet
go run ./test/peers/benchpeers -growth -sizes 1000,10000,100000,1000000 -grow-bytes 10000000000
go run ./test/peers/benchpeers -growth -from bin/bench-growth.jsonl
` + "```" + `
`
