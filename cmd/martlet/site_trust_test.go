package main

import (
	"log/slog"
	"testing"

	"github.com/martlet-mail/martlet/internal/conf"
)

// A resolver elsewhere that is said to check DNSSEC is believed by the doctor and by the
// commands of the DNS, too, not only by the queue.
func TestResolverThatValidatesIsBelieved(t *testing.T) {
	cfg := &conf.Config{Queue: conf.Queue{Resolver: "192.0.2.53:53"}}
	for _, validates := range []bool{false, true} {
		cfg.Queue.ResolverValidates = validates
		if got := resolverOptions(cfg, slog.New(slog.DiscardHandler)).TrustAD; got != validates {
			t.Errorf("validates %t, believed %t", validates, got)
		}
	}
}
