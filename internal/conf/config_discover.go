package conf

import (
	"strings"
	"time"
)

// Discover says how "martlet discover" looks for the settings of other providers.
type Discover struct {
	// How long it may take at most.
	Deadline Duration `toml:"deadline" default:"8s"`

	// URL of a collection of autoconfig files, to which the domain is added; it is told which
	// domains are looked for, and nothing else. Empty asks none.
	Database string `toml:"database" default:"https://autoconfig.thunderbird.net/v1.1/"`

	// File with providers of your own, in the form of the built-in table (docs/discover.md);
	// what it says goes before everything else. Empty has none.
	Overrides Path `toml:"overrides" default:""`

	// Connect to addresses that are not public, too: only for a network of your own in which
	// nobody else names hosts.
	AllowPrivate bool `toml:"allow_private" default:"false"`

	// DNS server to ask, as host:port; empty asks that of queue.resolver, or of the system.
	Resolver Address `toml:"resolver" default:""`
}

func (r *reader) checkDiscover(d *Discover) {
	if d.Database != "" && !strings.HasPrefix(d.Database, "https://") {
		r.fail("discover.database", "is a URL that begins with https://, or empty")
	}
	if d.Deadline < Duration(time.Second) || d.Deadline > Duration(5*time.Minute) {
		r.fail("discover.deadline", "is between 1s and 5m")
	}
}
