package main

import (
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/bench"
)

// mailbox are the scenarios that ask something of the large mailbox, in order: those
// that change it come last.
var mailbox = []string{"select", "first-page", "fetch-flags", "fetch-envelope", "fetch-bodystructure", "fetch-size", "headers",
	"fetch-whole", "search-unseen", "search-subject", "search-text", "sort-date", "sort-subject", "thread", "store"}

// changed are those that change it a little before each request.
var changed = []string{"changedsince", "qresync", "qresync-100"}

// asked adds both. Of the second, ten requests are enough: changes take longer.
func (c *course) asked(o bench.Options) {
	c.add(leg{opt: o, on: filled, restart: true}, mailbox...)
	o.Repeat = 1
	c.add(leg{opt: o, on: filled, restart: true}, changed...)
}

// course collects legs in groups.
type course struct {
	p     plan
	legs  []leg
	group int
}

// next begins a group: what follows runs on a server of its own.
func (c *course) next() { c.group++ }

// add adds a leg for each of the names that are wanted.
func (c *course) add(l leg, names ...string) {
	for _, n := range names {
		if len(c.p.only) > 0 && !slices.Contains(c.p.only, n) {
			continue
		}
		one := l
		one.names, one.group = []string{n}, c.group
		one.title = n + l.title
		c.legs = append(c.legs, one)
	}
}

// calm gives servers the time to come to rest that Dovecot takes to hibernate sessions.
func calm(o bench.Options) bench.Options {
	o.Settle = 10 * time.Second
	return o
}

// options are what all legs have in common.
func (p plan) options() bench.Options {
	return bench.Options{Duration: p.duration, Messages: p.messages, Idle: p.idle, IdleCPU: p.idleCPU, Repeat: p.repeat,
		Watch: 10 * time.Second}
}

// legs returns the runs beside the rivals.
func (p plan) legs() []leg {
	c := &course{p: p}
	base, mixed := p.options(), p.options()
	mixed.Sizes = bench.Mixed
	receivers := []string{"martlet", "postfix"}

	// Memory first, while the server has none left over from other work.
	idle := []string{"martlet", "maildir", "mdbox"}
	c.add(leg{opt: calm(base), restart: true, servers: idle}, "idle-memory")
	c.add(leg{opt: calm(base), restart: true, once: true, servers: []string{"cyrus"}}, "idle-memory") // it takes a minute
	c.next()
	c.add(leg{opt: base}, "lmtp", "append", "multiappend")
	c.add(leg{opt: base, spread: true, title: ", ten accounts"}, "lmtp")
	c.add(leg{opt: mixed, spread: true, title: ", ten accounts, mix"}, "lmtp")
	c.add(leg{opt: mixed, title: ", mix"}, "append")
	c.add(leg{opt: base, spread: true, title: ", ten accounts", servers: receivers}, "smtp")
	c.add(leg{opt: mixed, spread: true, title: ", ten accounts, mix", servers: receivers}, "smtp")
	c.next()
	hear := base
	hear.Repeat = 1 // ten deliveries; Dovecot takes half a second to tell of one
	c.add(leg{opt: hear}, "announce")
	c.add(leg{opt: few(base), tls: true}, "handshake")
	c.next()
	c.asked(base)
	c.add(leg{opt: base, on: filled, restart: true}, "open-memory")
	c.add(leg{opt: base, on: filled, tls: true, title: " with TLS"}, "fetch-envelope", "fetch-whole")
	c.next()
	disk := base
	disk.DiskBytes = 50_000_000
	c.add(leg{opt: disk, on: unsynced, restart: true, once: true, spread: true, accounts: crowd}, "disk")
	return c.legs
}

// crowd is how many accounts there are where one message goes to a hundred.
const crowd = 100

// few asks for fewer connections than deliveries have.
func few(o bench.Options) bench.Options {
	o.Connections = []int{1, 10}
	return o
}

// growthLegs returns the runs of growth. Those that take a store of many gigabytes, or
// ten thousand connections, are Martlet's alone.
func (p plan) growthLegs() []leg {
	c := &course{p: p}
	base := p.options()
	own := []string{"martlet"}
	c.add(leg{opt: calm(base), restart: true, once: true}, "idle-memory", "idle-cpu")
	c.next()
	c.add(leg{opt: calm(base), restart: true, once: true, tls: true, title: " with TLS"}, "idle-memory")
	for _, n := range p.sizes {
		c.next()
		o := base
		o.Messages = n
		o.Colds = 3
		if n >= 1_000_000 {
			o.Repeat, o.Colds = 1, 1
		}
		c.asked(o)
		c.add(leg{opt: o, on: filled, restart: true}, "open-memory")
		if n == p.middle() {
			c.add(leg{opt: few(o), on: filled, tls: true, title: " with TLS"}, "fetch-envelope", "fetch-whole", "append", "handshake")
			c.add(leg{opt: few(o), on: filled}, "append")
		}
	}
	c.next()
	grow := base
	grow.GrowBytes, grow.Sizes, grow.Interval = p.grow, bench.Mixed, 2*time.Second
	c.add(leg{opt: grow, patience: 20 * time.Minute, spread: true, once: true, servers: own}, "grow")
	c.add(leg{opt: base, restart: true, once: true, servers: own, title: " with the grown store"}, "restart")
	c.next()
	disk := base
	disk.DiskBytes = 200_000_000
	c.add(leg{opt: disk, on: unsynced, restart: true, once: true, spread: true, accounts: crowd, servers: own}, "disk")
	return c.legs
}

// middle is the size at which TLS is looked at: the greatest up to 100,000.
func (p plan) middle() int {
	out := p.sizes[0]
	for _, n := range p.sizes {
		if n <= 100_000 {
			out = max(out, n)
		}
	}
	return out
}
