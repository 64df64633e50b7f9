package main

import (
	"testing"

	"github.com/martlet-mail/martlet/internal/conf"
)

// What the file leaves to the engine is what one on a database needs: with less the shards
// of some busy accounts are read again in turn.
func TestSharedEngineHasItsMemory(t *testing.T) {
	for text, want := range map[string]int64{"": 256 << 20, `cache = "40MiB"`: 40 << 20} {
		cfg, err := conf.Parse("memory", []byte("[store]\nengine = \"postgres\"\nurl = \"postgres://db/m\"\n"+text))
		if err != nil {
			t.Fatal(err)
		}
		if got := (&house{cfg: cfg}).sharedOptions().CacheBytes; got != want {
			t.Errorf("%q: %d bytes, want %d", text, got, want)
		}
	}
}
